"""The kinds of decoder chain that a bundle can hold, each with its numbers and its files.

==============  ==========================================================================
kind            path
==============  ==========================================================================
direct          features -> mel frames -> phase recovery
retrieval       features -> embedding -> nearest sound of a library
semantic        features -> embedding -> generator
coarse-to-fine  features -> embedding -> acoustic tokens -> generator
==============  ==========================================================================

In the last two the generator makes new sound from noise, or begins from the library's sound that is
nearest to the embedding (`RetrievedStart`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from models.errors import SettingError
from models.mel import MelSpec
from models.stretch import CONDITION_DIM, TOKEN_DIM, TOKENS_PER_STEP

__all__ = [
    "GENERATOR_FILE",
    "ChainSpec",
    "CoarseToFineChain",
    "DirectChain",
    "EmbeddingSpec",
    "GeneratedChain",
    "LibraryFiles",
    "RetrievalChain",
    "RetrievedStart",
    "SemanticChain",
    "TokenSpec",
    "VocoderSpec",
    "chain_files",
    "chain_numbers",
    "check_chain",
    "library_of",
]

GENERATOR_FILE = "generator.json"
_MOST_STEPS = 10_000  # of tokens for one window: 27 minutes


@dataclass(frozen=True, slots=True)
class VocoderSpec:
    """How a direct chain turns mel frames into sound."""

    kind: Literal["rtisi-la"] = "rtisi-la"
    look_ahead: int = 3  # frames
    iterations: int = 8  # for each frame


@dataclass(frozen=True, slots=True)
class DirectChain:
    """Features to mel frames to sound."""

    mel: MelSpec
    frames_per_window: int  # frames that the decoder gives for one window
    vocoder: VocoderSpec = VocoderSpec()
    decoder: str = "decoder.onnx"
    kind: Literal["direct"] = "direct"


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """The space that a chain decodes to."""

    name: str  # e.g. "clap" or "mel-envelope"
    dim: int


@dataclass(frozen=True, slots=True)
class LibraryFiles:
    """The files of a library of sounds (`export.library`)."""

    json: str = "library.json"
    audio: str = "library.flac"
    embeddings: str = "library.npy"


@dataclass(frozen=True, slots=True)
class RetrievalChain:
    """Features to an embedding to the nearest sound of a library."""

    embedding: EmbeddingSpec
    library: LibraryFiles = LibraryFiles()
    crossfade_s: float = 0.05
    decoder: str = "decoder.onnx"
    kind: Literal["retrieval"] = "retrieval"


@dataclass(frozen=True, slots=True)
class RetrievedStart:
    """A library whose nearest sound the generator begins from."""

    library: LibraryFiles = LibraryFiles()
    latents: str = "library_latents.npy"  # of all its sounds (`export.library_latents`)
    strength: float = field(kw_only=True)
    """1: all from noise, so that the library serves for targets only; 0: the sound that was found
    as it is; between, how much of it is made anew."""


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """The acoustic tokens that are decoded for each window."""

    steps: int
    """Steps of 160 ms, from the beginning of the window's sound; the last goes on if it is longer.
    Each has `TOKENS_PER_STEP` tokens. Full-size checkpoints get what they take: AudioLDM 2 its 8
    pooled tokens (1), or a multiple of 8 steps that are pooled live; its speech model 64 steps."""
    dim: int = TOKEN_DIM

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the tokens of a window: (8 steps, dim), in order of time, then of band."""
        return TOKENS_PER_STEP * self.steps, self.dim


@dataclass(frozen=True, slots=True)
class SemanticChain:
    """Features to an embedding to a generator."""

    embedding: EmbeddingSpec
    generator: str = GENERATOR_FILE
    start: RetrievedStart | None = None
    seed: int = 0  # of the generator's noise
    decoder: str = "decoder.onnx"
    kind: Literal["semantic"] = "semantic"


@dataclass(frozen=True, slots=True)
class CoarseToFineChain:
    """Features to an embedding, both to acoustic tokens, all of these to a generator."""

    embedding: EmbeddingSpec
    tokens: TokenSpec
    generator: str = GENERATOR_FILE
    start: RetrievedStart | None = None
    seed: int = 0  # of the generator's noise
    decoder: str = "decoder.onnx"  # features (1, n) -> embedding (1, dim)
    acoustic: str = "acoustic.onnx"  # features, embedding -> tokens (1, 8 steps, 768)
    kind: Literal["coarse-to-fine"] = "coarse-to-fine"


GeneratedChain: TypeAlias = SemanticChain | CoarseToFineChain
ChainSpec: TypeAlias = DirectChain | RetrievalChain | SemanticChain | CoarseToFineChain


def library_of(chain: ChainSpec) -> LibraryFiles | None:
    """Return the files of the chain's library of sounds, None if it has none."""
    if isinstance(chain, RetrievalChain):
        return chain.library
    if isinstance(chain, DirectChain) or chain.start is None:
        return None
    return chain.start.library


def chain_files(chain: ChainSpec) -> dict[str, str]:
    """Return the files that a chain names: place in the manifest -> name."""
    files = {"chain.decoder": chain.decoder}
    if isinstance(chain, GeneratedChain):
        files["chain.generator"] = chain.generator
        if chain.start is not None:
            files["chain.start.latents"] = chain.start.latents
    if isinstance(chain, CoarseToFineChain):
        files["chain.acoustic"] = chain.acoustic
    library = library_of(chain)
    if library is not None:
        where = "chain.library" if isinstance(chain, RetrievalChain) else "chain.start.library"
        files[f"{where}.json"] = library.json
        files[f"{where}.audio"] = library.audio
        files[f"{where}.embeddings"] = library.embeddings
    return files


def chain_numbers(chain: ChainSpec) -> Iterator[tuple[str, float, float, float]]:
    """Yield each number of a chain with the range that it must lie in."""
    if isinstance(chain, DirectChain):
        yield "chain.mel.sample_rate_hz", chain.mel.sample_rate_hz, 1_000, 192_000
        yield "chain.mel.n_fft", chain.mel.n_fft, 2, 1 << 20
        yield "chain.mel.n_mels", chain.mel.n_mels, 1, 4_096
        yield "chain.mel.pad_samples", chain.mel.pad_samples, 0, 1 << 20
        yield "chain.frames_per_window", chain.frames_per_window, 1, 100_000
        yield "chain.vocoder.look_ahead", chain.vocoder.look_ahead, 0, 1_000
        yield "chain.vocoder.iterations", chain.vocoder.iterations, 0, 10_000
        return
    yield "chain.embedding.dim", chain.embedding.dim, 1, 65_536
    if isinstance(chain, RetrievalChain):
        yield "chain.crossfade_s", chain.crossfade_s, 0, 60
        return
    yield "chain.seed", chain.seed, 0, 2**63 - 1
    if chain.start is not None:
        yield "chain.start.strength", chain.start.strength, 0, 1
    if isinstance(chain, CoarseToFineChain):
        yield "chain.tokens.steps", chain.tokens.steps, 1, _MOST_STEPS


def check_chain(chain: ChainSpec, *, sample_rate_hz: int) -> None:
    """Check what holds between the entries of a chain, and with the rate of its sound.

    Raises
    ------
    SettingError
        Naming the first entry that cannot be.
    """
    if isinstance(chain, DirectChain) and chain.mel.sample_rate_hz != sample_rate_hz:
        raise SettingError(
            f"manifest: chain.mel.sample_rate_hz is {chain.mel.sample_rate_hz}, but "
            f"sound.sample_rate_hz is {sample_rate_hz}."
        )
    if isinstance(chain, GeneratedChain):
        if chain.generator != GENERATOR_FILE:
            raise SettingError(
                f"manifest: chain.generator must be {GENERATOR_FILE!r}, as a generator's folder "
                f"has it, not {chain.generator[:80]!r}."
            )
        if chain.embedding.dim != CONDITION_DIM:
            raise SettingError(
                f"manifest: a generator takes embeddings of {CONDITION_DIM} values, but "
                f"chain.embedding.dim is {chain.embedding.dim}."
            )
    if isinstance(chain, CoarseToFineChain) and chain.tokens.dim != TOKEN_DIM:
        raise SettingError(
            f"manifest: a generator takes tokens of {TOKEN_DIM} values, but chain.tokens.dim is "
            f"{chain.tokens.dim}."
        )
    places = chain_files(chain)
    for where, name in places.items():
        other = next((w for w, n in places.items() if n == name and w != where), None)
        if other is not None:
            raise SettingError(f"manifest: {where} and {other} are both {name[:80]!r}.")
