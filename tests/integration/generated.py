"""Bundles with a generator over the signal of sessions; every part of the path is the true one.

The generator is a few matrices, there in no time, or the true networks one block deep, untrained:
what these make is noise with a timbre, continuous from stretch to stretch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from export.bundle import save_bundle, standardise_file
from export.chains import CoarseToFineChain, RetrievedStart, SemanticChain
from export.generator_files import read_generator_card
from export.library import LibrarySound, library_files
from export.library_latents import frames_of_sound, latents_file
from export.manifest import EmbeddingSpec, Manifest, SoundSpec, TokenSpec
from export.onnx_linear import linear_onnx
from models.features import make_extractor
from models.spec import InputSpec, StandardiseSpec
from tests.integration.sessions import CHANNELS, RATE_HZ, SFREQ_HZ, SPEC

__all__ = ["FRAME", "HOP_S", "KINDS", "Kind", "exported_generator", "write_all", "write_generated"]

FRAME = 640
STEPS = 2  # of tokens for a window

Kind = Literal["semantic", "semantic from a sound", "coarse-to-fine"]
KINDS: tuple[Kind, ...] = ("semantic", "semantic from a sound", "coarse-to-fine")
# The last one's windows are of several stretches, and longer than their tokens.
HOP_S: dict[Kind, float] = {"semantic": 0.1, "semantic from a sound": 0.1, "coarse-to-fine": 0.5}


def exported_generator(folder: Path) -> Path:
    """Export untrained networks to a folder; takes seconds for each of their graphs."""
    from export.generator_export import export_generator
    from export.generator_folder import Checks
    from tests.export.shallow import shallow_trained

    checks = Checks(conditions=1, streams=1, accept=True)
    export_generator(shallow_trained(), folder, stretches=(4, 16), checks=checks)
    return folder


def write_all(home: Path, generator: Path) -> dict[Kind, Path]:
    """Write a bundle of every kind."""
    return {
        kind: write_generated(home / kind.replace(" ", "-"), generator, kind, hop_s=HOP_S[kind])
        for kind in KINDS
    }


def write_generated(
    folder: Path, generator: Path, kind: Kind, *, hop_s: float = 0.1, seed: int = 5
) -> Path:
    """Write a bundle with random decoders."""
    spec = replace(SPEC, hop_s=hop_s)
    rng = np.random.default_rng(11)
    n = make_extractor(spec, sfreq_hz=SFREQ_HZ, n_channels=len(CHANNELS)).n_features
    embedding = EmbeddingSpec("clap", 512)
    files: dict[str, bytes | Path] = {
        "decoder.onnx": linear_onnx(
            rng.normal(size=(n, 512)), rng.normal(size=512), normalise=True
        ),
        "standardise.npy": standardise_file(np.full(n, -12.0), np.ones(n)),
    }
    card = read_generator_card(generator)
    files |= {name: generator / name for name in card.live_files()}
    if kind == "coarse-to-fine":
        chain: SemanticChain | CoarseToFineChain = CoarseToFineChain(
            embedding, TokenSpec(STEPS), seed=seed
        )
        files["acoustic.onnx"] = _acoustic(rng, n)
    elif kind == "semantic":
        chain = SemanticChain(embedding, seed=seed)
    else:
        chain = SemanticChain(embedding, start=RetrievedStart(strength=0.5), seed=seed)
        files |= _library(rng)
    manifest = Manifest(
        name="generated",
        participant="sub-test",
        created="2026-11-20T21:00:00+00:00",
        input=InputSpec("eeg", len(CHANNELS), SFREQ_HZ, channels=CHANNELS),
        features=spec,
        standardise=StandardiseSpec(),
        chain=chain,
        sound=SoundSpec(RATE_HZ, hop_s),
        fill_max_s=0.05,
    )
    save_bundle(folder, manifest, files)
    return folder


def _acoustic(rng: np.random.Generator, n_features: int) -> bytes:
    from calibration.acoustic.low_rank import TokenBasis
    from calibration.acoustic.ridge import AcousticRidge

    places, rank, token_rank = 8 * STEPS, 3, 4
    basis = TokenBasis(
        mean=rng.standard_normal((places, 768)).astype(np.float32),
        directions=np.linalg.qr(rng.standard_normal((768, token_rank)))[0].astype(np.float32),
        components=rng.standard_normal((rank, places * token_rank)).astype(np.float32),
    )
    weights = (rng.standard_normal((n_features + 512, rank)) / 20).astype(np.float32)
    return AcousticRidge(weights, np.zeros(rank, np.float32), basis, n_features).onnx()


def _library(rng: np.random.Generator) -> dict[str, bytes]:
    time_s = np.arange(RATE_HZ) / RATE_HZ
    sounds = [
        LibrarySound(f"{f} Hz", (0.2 * np.sin(2 * np.pi * f * time_s)).astype(np.float32), "tone")
        for f in (220, 440, 880)
    ]
    made = library_files(sounds, rng.standard_normal((3, 512)), sample_rate_hz=RATE_HZ)
    n = frames_of_sound(RATE_HZ, samples_per_frame=FRAME)
    made["library_latents.npy"] = latents_file([rng.standard_normal((n, 32)) for _ in sounds])
    return made
