"""The sparse form of a linear decoder: equal to the dense one, small, accepted in a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from export.bundle import load_bundle, save_bundle
from export.onnx_linear import linear_onnx, sparse_linear_onnx
from export.runtime import open_decoder, open_runner
from models.errors import SettingError
from models.ridge.selected import SelectedRidge
from tests.export.bundles import DIM, N_FEATURES, direct_parts, retrieval_parts

Array = NDArray[Any]


def random_decoder(seed: int, n_features: int, n_out: int, k: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    indices = np.array([rng.choice(n_features, k, replace=False) for _ in range(n_out)])
    return indices, rng.standard_normal((n_out, k)), rng.standard_normal(n_out)


def dense(indices: Array, values: Array, n_features: int) -> Array:
    weights = np.zeros((n_features, len(indices)))
    np.put_along_axis(weights, indices.T, values.T, axis=0)
    return weights


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_features=st.integers(1, 60),
    share=st.floats(0, 1),
    n_out=st.integers(1, 9),
    normalise=st.booleans(),
)
def test_the_sparse_form_equals_the_product_with_dense_weights(
    seed: int,
    n_features: int,
    share: float,
    n_out: int,
    normalise: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    k = max(1, round(share * n_features))
    indices, values, bias = random_decoder(seed, n_features, n_out, k)
    path = tmp_path_factory.getbasetemp() / "sparse.onnx"
    path.write_bytes(
        sparse_linear_onnx(indices, values, bias, n_features=n_features, normalise=normalise)
    )
    x = np.random.default_rng(seed + 1).standard_normal((1, n_features)).astype(np.float32)
    out = open_runner(path).run({"features": x})["embedding"]
    weights = dense(indices, values, n_features)
    expected = x.astype(np.float64) @ weights + bias
    # Rounding is of the size of what is added up, though the sum, or its norm, may be small.
    rounding = 1e-6 * max(1.0, (np.abs(x) @ np.abs(weights) + np.abs(bias)).max())
    if normalise:
        rounding /= np.linalg.norm(expected)
        expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(out, expected, rtol=0, atol=rounding)


def test_of_a_whole_cortex_it_keeps_two_megabytes(tmp_path: Path) -> None:
    indices, values, bias = random_decoder(1, 60_784, 512, 500)
    data = sparse_linear_onnx(indices, values, bias, n_features=60_784, normalise=True)
    assert values.size * 4 == 1_024_000
    assert len(data) < 2 * values.size * 4 + 5_000  # weights, as much of indices, the bias
    assert data == sparse_linear_onnx(
        indices.astype("u4"), values.copy(), bias, n_features=60_784, normalise=True
    )
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    (tmp_path / "d.onnx").write_bytes(data)
    x = np.random.default_rng(2).standard_normal((1, 60_784)).astype(np.float32)
    out = open_runner(tmp_path / "d.onnx").run({"features": x})["embedding"]
    expected = np.einsum("tk,tk->t", x[0, indices].astype("f8"), values) + bias
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(out[0], expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["retrieval", "direct"])
def test_a_bundle_takes_it(kind: str, tmp_path: Path) -> None:
    parts = retrieval_parts() if kind == "retrieval" else direct_parts()
    rng = np.random.default_rng(3)
    x = rng.standard_normal((40, N_FEATURES))
    y = x @ parts.weights + rng.standard_normal((40, parts.weights.shape[1]))
    model = SelectedRidge(4, [1.0]).fit(x, y)
    options: dict[str, Any] = (
        {"normalise": True} if kind == "retrieval" else {"output": "mel", "shape": (3, 4)}
    )
    data = sparse_linear_onnx(
        model.indices_,
        model.values_,
        np.atleast_1d(model.intercept_),
        n_features=N_FEATURES,
        **options,
    )
    save_bundle(tmp_path / "b", parts.manifest, {**parts.files, "decoder.onnx": data})
    runner = open_decoder(load_bundle(tmp_path / "b"))
    (out,) = runner.run({"features": x[:1].astype(np.float32)}).values()
    expected = model.predict(x[:1]).ravel()
    if kind == "retrieval":
        assert len(expected) == DIM
        expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(out.ravel(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"indices": np.array([[0, 5]])}, "0 to n_features"),
        ({"indices": np.array([[-1, 1]])}, "0 to n_features"),
        ({"indices": np.array([[0.0, 1.0]])}, "integer"),
        ({"indices": np.array([0, 1])}, "n_out, k"),
        ({"values": np.ones((1, 3))}, "n_out, k"),
        ({"values": np.array([[np.inf, 1.0]])}, "finite"),
        ({"bias": np.ones(2)}, "n_out"),
        ({"shape": (2,)}, "does not hold"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    good: dict[str, Any] = {
        "indices": np.array([[0, 1]]),
        "values": np.ones((1, 2)),
        "bias": np.ones(1),
        "n_features": 5,
    }
    sparse_linear_onnx(**good)
    with pytest.raises(SettingError, match=words):
        sparse_linear_onnx(**{**good, **change})


def test_zero_stays_finite_and_the_dense_form_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "d.onnx"
    data = sparse_linear_onnx(
        np.array([[0], [2]]), np.ones((2, 1)), np.zeros(2), n_features=3, normalise=True
    )
    path.write_bytes(data)
    out = open_runner(path).run({"features": np.zeros((1, 3), np.float32)})
    np.testing.assert_array_equal(out["embedding"], 0)
    names = [
        node.op_type
        for node in onnx.load_from_string(linear_onnx(np.ones((3, 2)), np.ones(2))).graph.node
    ]
    assert names == ["Gemm", "Reshape"]
