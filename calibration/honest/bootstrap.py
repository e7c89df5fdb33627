"""How far a score would move with other clips: resampling whole clips, never windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["Interval", "bootstrap_identification", "bootstrap_mean"]

Rows: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """Percentile interval and standard error of a bootstrap."""

    low: float
    high: float
    standard_error: float
    n: int  # resamples
    level: float = 0.95


def bootstrap_identification(
    similarity: Rows,
    own: NDArray[np.int64],
    *,
    n_resamples: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Interval:
    """Resample clips both as questions and as candidates.

    Identification is a mean over pairs of different clips that share rows and columns. A clip
    drawn w times weighs w as question and w as candidate; it is never held against itself, which
    would add ties that no experiment has.

    Parameters
    ----------
    similarity : array of shape (n_rows, n_clips)
    own : array of shape (n_rows,)
        Column of each row's clip.
    n_resamples : int
    rng : numpy.random.Generator
    level : float
        Coverage of the interval.
    """
    n_clips = similarity.shape[1]
    value = similarity[np.arange(len(own)), own][:, None]
    wins = (similarity < value) + 0.5 * (similarity == value)
    wins[np.arange(len(own)), own] = 0.0
    by_clip = np.zeros((n_clips, n_clips))  # people who heard one clip are drawn together
    np.add.at(by_clip, own, wins)
    heard = np.bincount(own, minlength=n_clips).astype(np.float64)
    weights = rng.multinomial(n_clips, np.full(n_clips, 1.0 / n_clips), size=n_resamples)
    weights = weights[np.count_nonzero(weights, axis=1) > 1].astype(np.float64)
    total = np.einsum("ki,ki->k", weights @ by_clip, weights)
    asked = weights * heard
    pairs = asked.sum(axis=1) * weights.sum(axis=1) - np.sum(asked * weights, axis=1)
    return _interval(total / pairs, level)


def bootstrap_mean(
    values: Rows,
    groups: NDArray[np.str_],
    *,
    n_resamples: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Interval:
    """Resample whole groups (clips) of values and take their mean.

    Parameters
    ----------
    values : array of shape (n,)
    groups : array of shape (n,)
    n_resamples : int
    rng : numpy.random.Generator
    level : float

    Raises
    ------
    SettingError
        If there are fewer than 2 groups.
    """
    names, number = np.unique(groups, return_inverse=True)
    n = len(names)
    if n < 2:
        raise SettingError(f"A bootstrap over clips needs at least 2 clips, got {n}.")
    total = np.bincount(number, values, minlength=n)
    count = np.bincount(number, minlength=n)
    weights = rng.multinomial(n, np.full(n, 1.0 / n), size=n_resamples)
    return _interval((weights @ total) / (weights @ count), level)


def _interval(draws: Rows, level: float) -> Interval:
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(draws, [tail, 100.0 - tail])
    return Interval(float(low), float(high), float(np.std(draws, ddof=1)), len(draws), level)
