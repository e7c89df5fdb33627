"""Small bundles for tests: every kind of chain, with known weights.

Those with a generator name its files but do not hold them: for what reads the manifest alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle, save_bundle, standardise_file
from export.chains import chain_files
from export.library import LibrarySound, library_files
from export.manifest import (
    ChainSpec,
    CoarseToFineChain,
    DirectChain,
    EmbeddingSpec,
    Manifest,
    RetrievalChain,
    RetrievedStart,
    SemanticChain,
    SoundSpec,
    TokenSpec,
)
from export.onnx_linear import linear_onnx
from models.mel import MelSpec
from models.spec import InputSpec, PsdSpec, StandardiseSpec

__all__ = [
    "Parts",
    "coarse_to_fine_parts",
    "direct_parts",
    "retrieval_parts",
    "semantic_parts",
    "write_retrieval",
]

N_FEATURES = 12
DIM = 6
RATE = 16_000


@dataclass(frozen=True)
class Parts:
    """What `save_bundle` takes, and the weights behind it."""

    manifest: Manifest
    files: dict[str, bytes | Path]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]


def _manifest(chain: ChainSpec) -> Manifest:
    return Manifest(
        name="test",
        participant="sub-01",
        created="2026-11-20T21:00:00+00:00",
        input=InputSpec("eeg", 3, 250.0, channels=("Fz", "Cz", "Pz")),
        features=PsdSpec(),
        standardise=StandardiseSpec(),
        chain=chain,
        sound=SoundSpec(RATE, 0.25),
        lag_s=0.2,
        scores={"auc": 0.75, "folds": [0.7, 0.8]},
        software={"hearback": "0.1.0"},
    )


def retrieval_parts(seed: int = 0) -> Parts:
    """Return a retrieval chain over five sounds."""
    rng = np.random.default_rng(seed)
    sounds = [
        LibrarySound(f"s{i}", rng.uniform(-0.5, 0.5, 300 + i).astype(np.float32), "ab"[i % 2])
        for i in range(5)
    ]
    files: dict[str, bytes | Path] = {
        **library_files(sounds, rng.standard_normal((5, DIM)), sample_rate_hz=RATE)
    }
    weights, bias = rng.standard_normal((N_FEATURES, DIM)), rng.standard_normal(DIM)
    files["decoder.onnx"] = linear_onnx(weights, bias, normalise=True)
    files["standardise.npy"] = standardise_file(np.zeros(N_FEATURES), np.ones(N_FEATURES))
    return Parts(_manifest(RetrievalChain(EmbeddingSpec("test", DIM))), files, weights, bias)


def direct_parts(seed: int = 0) -> Parts:
    """Return a direct chain of 3 frames of 4 mel bands."""
    rng = np.random.default_rng(seed)
    weights, bias = rng.standard_normal((N_FEATURES, 12)), rng.standard_normal(12)
    files: dict[str, bytes | Path] = {
        "decoder.onnx": linear_onnx(weights, bias, output="mel", shape=(3, 4)),
        "standardise.npy": standardise_file(np.zeros(N_FEATURES), np.ones(N_FEATURES)),
    }
    return Parts(_manifest(DirectChain(MelSpec(n_mels=4), 3)), files, weights, bias)


def semantic_parts() -> Parts:
    """Return a semantic chain that begins from retrieved sounds."""
    chain = SemanticChain(EmbeddingSpec("clap", 512), start=RetrievedStart(strength=0.6), seed=7)
    return _generated(chain)


def coarse_to_fine_parts() -> Parts:
    """Return a coarse-to-fine chain that begins from noise."""
    return _generated(CoarseToFineChain(EmbeddingSpec("clap", 512), TokenSpec(steps=2)))


def _generated(chain: SemanticChain | CoarseToFineChain) -> Parts:
    names = ["standardise.npy", *chain_files(chain).values()]
    files: dict[str, bytes | Path] = dict.fromkeys(names, b"")
    return Parts(_manifest(chain), files, np.zeros(0), np.zeros(0))


def write_retrieval(folder: Path) -> Bundle:
    """Write the retrieval bundle to `folder`."""
    parts = retrieval_parts()
    return save_bundle(folder, parts.manifest, parts.files)
