"""Are the sounds that are made spread as real ones are: Frechet distances, few steps against many.

The distance is taken in the space of the judge, an encoder that neither the generator nor its
conditions have anything to do with. A distance depends on the number of sounds, so that of one half
of the real ones to the other stands beside each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.honest.audio_metrics import frechet_distance
from models.errors import SettingError

__all__ = ["Fidelity", "few_against_many", "fidelity", "split_half"]

Rows = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Frechet distance of made sounds to real ones, over several noises."""

    distance: float  # mean over seeds
    spread: float  # standard deviation over seeds, NaN for one
    each: tuple[float, ...]  # per seed
    split_half: float  # one half of the real sounds against the other
    n_real: int
    n_made: int  # of each seed

    def to_json(self) -> dict[str, object]:
        """Return all of it."""
        return {
            "distance": self.distance,
            "spread": self.spread,
            "each": list(self.each),
            "split_half": self.split_half,
            "n_real": self.n_real,
            "n_made": self.n_made,
        }


def fidelity(
    real: Rows, made: Sequence[Rows], *, rng: np.random.Generator, n_splits: int = 5
) -> Fidelity:
    """Return the distance of each set of made sounds to the real ones.

    Parameters
    ----------
    real : array of shape (n, d)
        The judge's vectors of real sounds.
    made : sequence of arrays of shape (m, d)
        Of made sounds, one for each seed of the noise.
    rng : numpy.random.Generator
        Splits the real ones.
    n_splits : int

    Raises
    ------
    SettingError
        If nothing was made, or there are fewer than 4 real sounds.
    """
    if not made:
        raise SettingError("A distance needs at least one set of made sounds, got none.")
    each = tuple(frechet_distance(real, rows) for rows in made)
    return Fidelity(
        distance=float(np.mean(each)),
        spread=float(np.std(each, ddof=1)) if len(each) > 1 else float("nan"),
        each=each,
        split_half=split_half(real, rng=rng, n_splits=n_splits),
        n_real=len(real),
        n_made=min(len(rows) for rows in made),
    )


def split_half(real: Rows, *, rng: np.random.Generator, n_splits: int = 5) -> float:
    """Return the mean distance of a random half of the real sounds to the other half.

    Raises
    ------
    SettingError
        If there are fewer than 4 sounds.
    """
    if len(real) < 4 or n_splits < 1:
        raise SettingError(
            f"Halves need at least 4 real sounds and 1 split, got {len(real)} and {n_splits}."
        )
    half = len(real) // 2
    distances = []
    for _ in range(n_splits):
        order = rng.permutation(len(real))
        distances.append(frechet_distance(real[order[:half]], real[order[half : 2 * half]]))
    return float(np.mean(distances))


def few_against_many(few: Fidelity, many: Fidelity) -> float:
    """Return the distance with few steps over that with many: 1 if nothing is lost.

    Raises
    ------
    SettingError
        If they were taken over different numbers of sounds, which distances depend on.
    """
    if (few.n_made, few.n_real) != (many.n_made, many.n_real):
        raise SettingError(
            f"Distances over {few.n_made} and {many.n_made} made sounds ({few.n_real} and "
            f"{many.n_real} real ones) cannot be compared. Make as many of both."
        )
    return few.distance / many.distance
