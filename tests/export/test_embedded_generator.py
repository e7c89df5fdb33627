from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.bundle import Bundle, load_bundle, save_bundle, standardise_file
from export.chains import CoarseToFineChain, RetrievedStart, SemanticChain
from export.generator_files import (
    GeneratorCard,
    GraphEntry,
    StateEntry,
    card_to_json,
    file_entry,
)
from export.library import LibrarySound, library_files
from export.library_latents import latents_file
from export.manifest import EmbeddingSpec, SoundSpec, TokenSpec
from export.npy import write_npy
from export.onnx_linear import linear_onnx
from models.errors import BundleError
from models.stretch import GeneratorFamily, GeneratorSpec
from tests.export.bundles import N_FEATURES, RATE, retrieval_parts

SPEC = GeneratorSpec(
    family="small",
    size="tiny",
    steps=1,
    stretches=(4,),
    held=4,
    conditions=("vector", "tokens"),
    startable=True,
)


def card_files(folder: Path, spec: GeneratorSpec = SPEC) -> dict[str, bytes | Path]:
    """Write the files of a generator that is none: loading a bundle does not run it."""
    rng = np.random.default_rng(0)
    content = {
        "generator-4.onnx": linear_onnx(rng.standard_normal((2, 2)), np.zeros(2)),
        "generator.data": b"weights",
        "generator-state.npy": write_npy(np.zeros(3, np.float32)),
        "generator-golden.npy": write_npy(np.zeros(2560, np.float32)),
        "judge.onnx": linear_onnx(rng.standard_normal((2, 2)), np.zeros(2)),
    }
    folder.mkdir(exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    card = GeneratorCard(
        spec=spec,
        sampler="ping_pong",
        guidance=1.0,
        precision="fp32",
        graphs=(GraphEntry(4, "generator-4.onnx", (1, 1, 40, 32)),),
        state=(StateEntry("prefix", (3,)),),
        silence=(0.0,) * 32,
        licence="CC0-1.0",
        files={
            name: file_entry(folder / name, "scores" if name == "judge.onnx" else "live")
            for name in content
        },
    )
    (folder / "generator.json").write_bytes(card_to_json(card))
    return {path.name: path for path in folder.iterdir()}


def save(
    tmp_path: Path,
    chain: SemanticChain | CoarseToFineChain | None = None,
    *,
    spec: GeneratorSpec = SPEC,
    change: Callable[[dict[str, bytes | Path]], Any] | None = None,
    rate_hz: int = RATE,
) -> Bundle:
    chain = chain or SemanticChain(EmbeddingSpec("clap", 512))
    rng = np.random.default_rng(1)
    files = card_files(tmp_path / "generator", spec)
    files["decoder.onnx"] = linear_onnx(
        rng.standard_normal((N_FEATURES, 512)), np.zeros(512), normalise=True
    )
    files["standardise.npy"] = standardise_file(np.zeros(N_FEATURES), np.ones(N_FEATURES))
    if isinstance(chain, CoarseToFineChain):
        files["acoustic.onnx"] = linear_onnx(rng.standard_normal((2, 2)), np.zeros(2))
    if chain.start is not None:
        sounds = [LibrarySound(f"s{i}", np.full(700, 0.1, np.float32), "a") for i in range(2)]
        files |= library_files(sounds, np.eye(2, 512), sample_rate_hz=RATE)
        files[chain.start.latents] = latents_file([np.zeros((1, 32))] * 2)
    if change is not None:
        change(files)
    manifest = replace(
        retrieval_parts().manifest, chain=chain, sound=SoundSpec(rate_hz, 0.25), files={}
    )
    return save_bundle(tmp_path / "bundle", manifest, files)


def test_bundles_with_a_generator_are_saved_and_loaded(tmp_path: Path) -> None:
    embedding = EmbeddingSpec("clap", 512)
    chains: tuple[SemanticChain | CoarseToFineChain, ...] = (
        SemanticChain(embedding),
        SemanticChain(embedding, start=RetrievedStart(strength=0.5), seed=3),
        CoarseToFineChain(embedding, TokenSpec(4)),
    )
    for number, chain in enumerate(chains):
        folder = tmp_path / str(number)
        folder.mkdir()
        bundle = save(folder, chain)
        assert load_bundle(bundle.path).manifest.chain == chain


@pytest.mark.parametrize(("family", "steps"), [("audioldm2", 1), ("audioldm2-speech", 64)])
def test_tokens_go_into_a_bundle_as_a_full_size_checkpoint_takes_them(
    family: GeneratorFamily, steps: int, tmp_path: Path
) -> None:
    chain = CoarseToFineChain(EmbeddingSpec("clap", 512), TokenSpec(steps))
    spec = replace(SPEC, family=family, conditions=("tokens",))
    bundle = save(tmp_path, chain, spec=spec)
    assert load_bundle(bundle.path).manifest.chain == chain


def test_files_that_only_score_may_be_left_out_and_those_that_run_may_not(tmp_path: Path) -> None:
    save(tmp_path, change=lambda files: files.pop("judge.onnx"))
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(BundleError, match=r"names generator-state\.npy, which is not in"):
        save(other, change=lambda files: files.pop("generator-state.npy"))


def test_a_file_of_another_generator_is_refused(tmp_path: Path) -> None:
    def swap(files: dict[str, bytes | Path]) -> None:
        files["generator.data"] = b"Weights"

    with pytest.raises(BundleError, match=r"another generator\.data than the bundle holds"):
        save(tmp_path, change=swap)


def test_a_card_that_is_damaged_is_refused(tmp_path: Path) -> None:
    def damage(files: dict[str, bytes | Path]) -> None:
        files["generator.json"] = b"{}"

    with pytest.raises(BundleError, match=r"generator\.json"):
        save(tmp_path, change=damage)


@pytest.mark.parametrize(
    ("spec", "chain", "rate_hz", "words"),
    [
        ({}, SemanticChain(EmbeddingSpec("clap", 512)), 48_000, "16000 Hz"),
        (
            {"conditions": ("tokens",), "family": "audioldm2"},
            SemanticChain(EmbeddingSpec("clap", 512)),
            RATE,
            "takes only tokens",
        ),
        (
            {"conditions": ("vector",)},
            CoarseToFineChain(EmbeddingSpec("clap", 512), TokenSpec(2)),
            RATE,
            "takes only vector",
        ),
        (
            {"startable": False},
            SemanticChain(EmbeddingSpec("clap", 512), start=RetrievedStart(strength=0.5)),
            RATE,
            "cannot begin from a retrieved sound",
        ),
        (
            {"conditions": ("vector", "tokens"), "family": "musicldm"},
            SemanticChain(EmbeddingSpec("clap", 512)),
            RATE,
            "needs tokens",
        ),
        (
            {"conditions": ("tokens",), "family": "audioldm2"},
            CoarseToFineChain(EmbeddingSpec("clap", 512), TokenSpec(10)),
            RATE,
            "takes 8 tokens, and the chain decodes 10 steps",
        ),
        (
            {"conditions": ("tokens",), "family": "audioldm2-speech"},
            CoarseToFineChain(EmbeddingSpec("clap", 512), TokenSpec(10)),
            RATE,
            "takes 512 tokens",
        ),
    ],
)
def test_a_generator_that_cannot_do_what_the_chain_wants_is_refused(
    tmp_path: Path,
    spec: dict[str, Any],
    chain: SemanticChain | CoarseToFineChain,
    rate_hz: int,
    words: str,
) -> None:
    with pytest.raises(BundleError, match=words):
        save(tmp_path, chain, spec=replace(SPEC, **spec), rate_hz=rate_hz)


def test_the_library_of_a_start_is_checked_too(tmp_path: Path) -> None:
    def damage(files: dict[str, bytes | Path]) -> None:
        files["library.npy"] = write_npy(np.ones((2, 512), np.float32))

    chain = SemanticChain(EmbeddingSpec("clap", 512), start=RetrievedStart(strength=0.5))
    with pytest.raises(BundleError, match="unit vectors"):
        save(tmp_path, chain, change=damage)
