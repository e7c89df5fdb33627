"""The two sizes of the embedded generator, and the modules of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.nets.codec import Codec
from models.nets.dit import Denoiser
from models.nets.vocoder import Vocoder

__all__ = ["LATENT", "SIZES", "Size", "SizeName", "make_codec", "make_denoiser", "make_vocoder"]

SizeName = Literal["tiny", "small"]
LATENT = 32


@dataclass(frozen=True, slots=True)
class Size:
    """Width and depth of each part."""

    codec: tuple[int, int]
    denoiser: tuple[int, int]
    vocoder: tuple[int, int]


SIZES: dict[SizeName, Size] = {
    "tiny": Size(codec=(192, 4), denoiser=(192, 6), vocoder=(128, 6)),
    "small": Size(codec=(256, 4), denoiser=(256, 8), vocoder=(256, 8)),
}


def make_codec(size: SizeName) -> Codec:
    """Return a codec of this size with random weights."""
    width, depth = SIZES[size].codec
    return Codec(width=width, depth=depth, latent=LATENT)


def make_denoiser(size: SizeName) -> Denoiser:
    """Return a denoiser of this size with random weights."""
    width, depth = SIZES[size].denoiser
    return Denoiser(width=width, depth=depth, latent=LATENT)


def make_vocoder(size: SizeName) -> Vocoder:
    """Return a vocoder of this size with random weights."""
    width, depth = SIZES[size].vocoder
    return Vocoder(width=width, depth=depth)
