"""Chains without a generator; tests/integration has those with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.bundle import Bundle, save_bundle
from models.errors import SettingError
from stream.chain import open_chain
from stream.messages import FeatureWindow
from tests.export.bundles import direct_parts, retrieval_parts


def saved(tmp_path: Path, kind: str) -> Bundle:
    parts = retrieval_parts() if kind == "retrieval" else direct_parts()
    return save_bundle(tmp_path / kind, parts.manifest, parts.files)


@pytest.mark.parametrize("kind", ["retrieval", "direct"])
def test_seed_and_strength_are_refused_where_nothing_is_generated(
    tmp_path: Path, kind: str
) -> None:
    bundle = saved(tmp_path, kind)
    with pytest.raises(SettingError, match=f"a {kind} chain.*Leave the seed out"):
        open_chain(bundle, seed=1)
    with pytest.raises(SettingError, match="Leave the strength out"):
        open_chain(bundle, strength=0.5)


@pytest.mark.parametrize("kind", ["retrieval", "direct"])
def test_a_chain_without_a_generator_says_what_runs_and_that_it_made_no_stretch(
    tmp_path: Path, kind: str
) -> None:
    bundle = saved(tmp_path, kind)
    chain = open_chain(bundle)
    chain.warm_up(bundle.n_features)
    assert chain.providers_of == {"decoder": ("CPUExecutionProvider",)}
    assert chain.summary() == {
        "device": "cpu",
        "providers": {"decoder": ["CPUExecutionProvider"]},
    }
    window = FeatureWindow(np.zeros(bundle.n_features, np.float32), 0, 0, 1, 0.0, 1.0)
    condition = chain.decode(window)
    assert condition.tokens is None
    assert (condition.item >= 0) == (kind == "retrieval")


def test_a_tensorrt_that_cannot_be_had_leaves_no_folder_of_engines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain = open_chain(saved(tmp_path, "retrieval"), device="tensorrt")
    if chain.device != "cpu":
        pytest.skip("TensorRT is here")
    assert "tensorrt cannot be had" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["retrieval"]
