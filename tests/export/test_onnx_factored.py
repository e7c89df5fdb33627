"""A linear decoder in two factors equals the product of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.onnx_linear import factored_linear_onnx, linear_onnx
from export.runtime import open_runner
from models.errors import SettingError


@pytest.mark.parametrize("normalise", [False, True])
def test_factors_give_what_their_product_gives(tmp_path: Path, normalise: bool) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((40, 3)) / 40, rng.standard_normal((3, 12))
    bias = rng.standard_normal(12)
    x = rng.standard_normal((1, 40)).astype(np.float32)
    made = []
    for name, data in (
        ("factored", factored_linear_onnx(left, right, bias, normalise=normalise)),
        ("whole", linear_onnx(left @ right, bias, normalise=normalise)),
    ):
        (tmp_path / f"{name}.onnx").write_bytes(data)
        made.append(open_runner(tmp_path / f"{name}.onnx").run({"features": x})["embedding"])
    assert made[0].shape == (1, 12)
    np.testing.assert_allclose(made[0], made[1], atol=1e-5)


def test_factors_that_do_not_fit_are_refused() -> None:
    left, right, bias = np.ones((4, 2)), np.ones((2, 3)), np.zeros(3)
    for parts in ((left.T, right, bias), (left, right, bias[:2]), (left, right * np.nan, bias)):
        with pytest.raises(SettingError):
            factored_linear_onnx(*parts)
