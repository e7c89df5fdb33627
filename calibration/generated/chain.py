"""A fitted chain that ends in a generator: its record in the manifest, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calibration.generated.start_library import StartLibrary
from export.chains import (
    CoarseToFineChain,
    EmbeddingSpec,
    GeneratedChain,
    RetrievedStart,
    SemanticChain,
    TokenSpec,
)
from export.generator_files import CARD_FILE, read_generator_card

__all__ = ["FittedGenerator", "generator_bundle_files"]


@dataclass(frozen=True, slots=True, eq=False)
class FittedGenerator:
    """All of a bundle that has to do with its generator."""

    folder: Path  # of the generator
    embedding: EmbeddingSpec
    seed: int = 0  # of the noise
    library: StartLibrary | None = None  # to begin from
    strength: float = 1.0  # of the start
    tokens: TokenSpec | None = None  # coarse-to-fine
    acoustic: bytes | None = None  # likewise: the decoder of tokens, ONNX
    analysis: bool = True  # whether the networks that only scores need go into the bundle

    @property
    def chain(self) -> GeneratedChain:
        """The record in the manifest."""
        start = None if self.library is None else RetrievedStart(strength=self.strength)
        if self.tokens is None:
            return SemanticChain(self.embedding, start=start, seed=self.seed)
        return CoarseToFineChain(self.embedding, self.tokens, start=start, seed=self.seed)

    def files(self) -> dict[str, bytes | Path]:
        """Return what goes into the bundle beside decoder and statistics."""
        chain = self.chain
        made: dict[str, bytes | Path] = dict(
            generator_bundle_files(self.folder, analysis=self.analysis)
        )
        if self.library is not None and chain.start is not None:
            made |= self.library.files(latents=chain.start.latents, names=chain.start.library)
        if isinstance(chain, CoarseToFineChain) and self.acoustic is not None:
            made[chain.acoustic] = self.acoustic
        return made


def generator_bundle_files(folder: Path, *, analysis: bool) -> dict[str, Path]:
    """Return the files of a generator that a bundle holds, by name.

    Parameters
    ----------
    folder : Path
    analysis : bool
        With the networks that only targets and scores need.

    Raises
    ------
    BundleError
        If the folder's card is missing or damaged.
    """
    card = read_generator_card(folder)
    names = (CARD_FILE, *card.files) if analysis else card.live_files()
    return {name: folder / name for name in names}
