from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.acoustic.low_rank import TokenBasis
from calibration.acoustic.ridge import AcousticRidge
from export.acoustic import open_acoustic
from export.bundle import Bundle
from export.chains import CoarseToFineChain, EmbeddingSpec, TokenSpec
from export.onnx_linear import linear_onnx
from models.errors import BundleError
from tests.export.bundles import N_FEATURES, write_retrieval
from tests.export.test_embedded_generator import save

STEPS = 2


def ridge(*, steps: int = STEPS, embedding: int = 512, mean: float = 0.0) -> AcousticRidge:
    rng = np.random.default_rng(3)
    basis = TokenBasis(
        mean=np.full((8 * steps, 768), mean, np.float32),
        directions=np.linalg.qr(rng.standard_normal((768, 4)))[0].astype(np.float32),
        components=rng.standard_normal((3, 8 * steps * 4)).astype(np.float32),
    )
    weights = rng.standard_normal((N_FEATURES + embedding, 3))
    return AcousticRidge(weights.astype(np.float32), np.zeros(3, np.float32), basis, N_FEATURES)


def bundle_with(tmp_path: Path, acoustic: bytes) -> Bundle:
    chain = CoarseToFineChain(EmbeddingSpec("clap", 512), TokenSpec(STEPS))
    return save(tmp_path, chain, change=lambda files: files.update({"acoustic.onnx": acoustic}))


def test_it_gives_the_tokens_of_features_and_embedding(tmp_path: Path) -> None:
    decoder = ridge()
    runner = open_acoustic(bundle_with(tmp_path, decoder.onnx()))
    rng = np.random.default_rng(5)
    features = rng.standard_normal((1, N_FEATURES)).astype(np.float32)
    embedding = rng.standard_normal((1, 512)).astype(np.float32)
    tokens = runner.run({"features": features, "embedding": embedding})["tokens"]
    assert tokens.shape == (1, 8 * STEPS, 768)
    assert np.allclose(tokens, decoder.predict(features, embedding), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (ridge(steps=3).onnx, r"should have the output \{'tokens': \(1, 16, 768\)\}"),
        (ridge(embedding=400).onnx, r"should have the inputs .*'embedding': \(1, 512\)"),
        (lambda: linear_onnx(np.ones((N_FEATURES, 2)), np.zeros(2)), "should have the inputs"),
        (ridge(mean=np.nan).onnx, "not finite"),
    ],
)
def test_another_decoder_than_the_manifest_describes_is_refused(
    tmp_path: Path, wrong: object, words: str
) -> None:
    assert callable(wrong)
    bundle = bundle_with(tmp_path, wrong())
    with pytest.raises(BundleError, match=words):
        open_acoustic(bundle)


def test_other_chains_have_no_acoustic_decoder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="only coarse-to-fine"):
        open_acoustic(write_retrieval(tmp_path / "b"))
