"""Signals cut at random places, for tests that chunking changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["cut"]


def cut(
    signal: NDArray[np.float32], rng: np.random.Generator, *, longest: int
) -> Iterator[NDArray[np.float32]]:
    """Yield successive pieces of 0 to `longest` rows, each in memory of its own."""
    at = 0
    while at < len(signal):
        n = int(rng.integers(0, longest + 1))
        yield signal[at : at + n].copy()
        at += n
