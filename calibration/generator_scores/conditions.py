"""Does a generator make what it was asked for: cosines, classes, factors, identity, and its decay.

The cosine is that of the training encoder, whose vector was the condition; classes, factors and
identity are the judge's, an encoder of another seed that no part of the generator was trained with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.honest.identify import n_way_top_k, ranks, similarities
from models.errors import SettingError

__all__ = [
    "ErrorCurve",
    "RankCorrelation",
    "corrupted",
    "error_curve",
    "factor_ranks",
    "mean_cosine",
    "n_way_identity",
    "rank_correlation",
]

Rows = NDArray[np.floating]
Labels = NDArray[np.str_] | Sequence[str]


@dataclass(frozen=True, slots=True)
class RankCorrelation:
    """How a measured factor follows the one that was asked for, beside what real sounds reach."""

    made: float  # Spearman's r over all sounds
    real: float  # the same of the real sounds that were asked for: what measuring allows
    made_within: float  # mean over classes, so that knowing the class is not enough
    real_within: float
    n: int

    def to_json(self) -> dict[str, float]:
        """Return all of it."""
        return {
            "made": self.made,
            "real": self.real,
            "made_within": self.made_within,
            "real_within": self.real_within,
            "n": self.n,
        }


@dataclass(frozen=True, slots=True)
class ErrorCurve:
    """What is left of the condition when it is given with an error."""

    r: tuple[float, ...]  # cosine of the given to the true condition, falling from 1
    cosine: tuple[float, ...]  # of what is made to the true condition
    accuracy: tuple[float, ...]  # of its class

    @property
    def monotone(self) -> bool:
        """Whether the cosine only falls as the error grows."""
        return all(np.diff(self.cosine) <= 0.0)

    def to_json(self) -> dict[str, object]:
        """Return all of it."""
        return {
            "r": list(self.r),
            "cosine": list(self.cosine),
            "accuracy": list(self.accuracy),
            "monotone": self.monotone,
        }


def mean_cosine(made: Rows, asked: Rows) -> float:
    """Return the mean cosine of each made vector to its own condition, (n, d) both.

    Rows without a length (silence in some encoders) count as 0.

    Raises
    ------
    SettingError
        If the shapes differ.
    """
    a, b = np.asarray(made, np.float64), np.asarray(asked, np.float64)
    if a.shape != b.shape:
        raise SettingError(f"Expected a condition for each made vector, got {a.shape}, {b.shape}.")
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean(np.sum(a * b, axis=1) / np.maximum(norms, 1e-12)))


def rank_correlation(
    asked: NDArray[np.floating],
    made: NDArray[np.floating],
    real: NDArray[np.floating],
    *,
    labels: Labels,
    least: int = 5,
) -> RankCorrelation:
    """Correlate the ranks of a measured factor with those of the factor that was asked for.

    Parameters
    ----------
    asked : array of shape (n,)
        Known factor of the sound whose condition was given; NaN where it has none.
    made, real : arrays of shape (n,)
        The factor measured on the made sound and on the real one; a sound on which it cannot be
        measured (NaN) counts as having the median, so that dropping out is no way to do well.
    labels : sequence of str
        Classes, for the correlations within them.
    least : int
        Sounds that a class must have to count.

    Raises
    ------
    SettingError
        If fewer than `least` sounds have the factor.
    """
    wanted = np.asarray(asked, np.float64)
    has = np.isfinite(wanted)
    if has.sum() < least:
        raise SettingError(
            f"A rank correlation needs at least {least} sounds that have the factor, got "
            f"{int(has.sum())}. Make more sounds."
        )
    names = np.asarray(labels)[has]
    wanted = wanted[has]
    both = [_filled(np.asarray(values, np.float64)[has]) for values in (made, real)]
    whole = [_spearman(wanted, values) for values in both]
    within: list[list[float]] = [[], []]
    for name in np.unique(names):
        own = names == name
        if own.sum() >= least and np.ptp(wanted[own]) > 0:
            for found, values in zip(within, both, strict=True):
                found.append(_spearman(wanted[own], values[own]))
    means = [float(np.mean(found)) if found else float("nan") for found in within]
    return RankCorrelation(whole[0], whole[1], means[0], means[1], int(has.sum()))


def n_way_identity(
    made: Rows, real: Rows, *, n_way: int = 10, labels: Labels | None = None
) -> float:
    """Return how often a made sound is nearest to its own real one among `n_way`; chance 1 / n_way.

    The mean over all choices of the others; ties lose.

    Parameters
    ----------
    made, real : arrays of shape (n, d)
        The judge's vectors; row i of both belongs together.
    n_way : int
    labels : sequence of str, optional
        If given, the others are of the same class: identity beyond the class. Classes of fewer than
        `n_way` sounds are left out.

    Raises
    ------
    SettingError
        If there are fewer sounds than ways.
    """
    groups = np.zeros(len(made), np.int64)
    if labels is not None:
        _, groups = np.unique(np.asarray(labels), return_inverse=True)
    found, weights = [], []
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        if len(own) < n_way and labels is not None:
            continue
        table = similarities(
            np.asarray(made, np.float64)[own], np.asarray(real, np.float64)[own], metric="cosine"
        )
        rank = ranks(table, np.arange(len(own)))
        found.append(n_way_top_k(rank, n_clips=len(own), n_way=n_way, k=1))
        weights.append(len(own))
    if not found:
        raise SettingError(f"No class has the {n_way} sounds that one question needs. Make more.")
    return float(np.average(found, weights=weights))


def corrupted(vectors: Rows, r: float, *, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return unit vectors turned by a random angle of cosine r, as an imperfect decoder gives them.

    Parameters
    ----------
    vectors : array of shape (n, d)
        Unit vectors.
    r : float
        From 0 to 1.
    rng : numpy.random.Generator

    Raises
    ------
    SettingError
        If r is out of range.
    """
    if not 0.0 <= r <= 1.0:
        raise SettingError(f"A vector is corrupted to a cosine from 0 to 1, got {r}.")
    rows = np.asarray(vectors, np.float64)
    aside = rng.standard_normal(rows.shape)
    aside -= np.sum(aside * rows, axis=1, keepdims=True) * rows
    aside /= np.maximum(np.linalg.norm(aside, axis=1, keepdims=True), 1e-12)
    return np.asarray(r * rows + np.sqrt(1.0 - r**2) * aside, np.float32)


def error_curve(
    vectors: Rows,
    make: Callable[[NDArray[np.float32]], tuple[Rows, NDArray[np.bool_]]],
    *,
    rng: np.random.Generator,
    r: Sequence[float] = (1.0, 0.9, 0.7, 0.5),
) -> ErrorCurve:
    """Give conditions with errors of several sizes, and see what is left of the true ones.

    Parameters
    ----------
    vectors : array of shape (n, d)
        True conditions, unit vectors.
    make : callable
        Takes conditions, makes sounds, and returns the training encoder's vectors of these, (n, d),
        and whether the judge hears the right class, (n,).
    rng : numpy.random.Generator
    r : sequence of float
        Cosines of the given to the true conditions.
    """
    cosine, accuracy = [], []
    for level in r:
        heard, right = make(corrupted(vectors, level, rng=rng))
        cosine.append(mean_cosine(heard, vectors))
        accuracy.append(float(np.mean(right)))
    return ErrorCurve(tuple(r), tuple(cosine), tuple(accuracy))


def factor_ranks(
    asked: Mapping[str, NDArray[np.floating]],
    made: Mapping[str, NDArray[np.floating]],
    real: Mapping[str, NDArray[np.floating]],
    *,
    labels: Labels,
) -> dict[str, RankCorrelation]:
    """Return `rank_correlation` for each factor by name."""
    return {
        name: rank_correlation(asked[name], made[name], real[name], labels=labels) for name in asked
    }


def _filled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    middle = float(np.median(values[known])) if known.any() else 0.0
    return np.where(known, values, middle)


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the correlation of ranks, ties sharing theirs; 0 if one does not vary."""
    from scipy.stats import rankdata

    x, y = rankdata(a), rankdata(b)
    if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
