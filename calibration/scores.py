"""How well a decoder does, against chance: identification, area under the curve, permutations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = [
    "Identification",
    "area_under_curve",
    "correlations",
    "cosines",
    "identification",
    "null_scores",
    "permutation_p",
    "permute_blocks",
    "shuffled_identification",
]

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Identification:
    """Share of wrong targets that a prediction resembles less than its own, mean over predictions.

    Chance is 0.5. `strict` lets ties lose, as the formula is printed; `ties_half` gives them one
    half, which is what keeps chance at 0.5 when predictions repeat.
    """

    strict: float
    ties_half: float
    n: int
    each: NDArray[np.float64]  # (n,), ties at one half

    @property
    def standard_error(self) -> float:
        """Standard error of `ties_half` over predictions; candidates are shared, so it is rough."""
        if self.n < 2:
            return float("nan")
        return float(np.std(self.each, ddof=1) / np.sqrt(self.n))


def correlations(predictions: Array, targets: Array) -> NDArray[np.float64]:
    """Return the Pearson correlation of every prediction (row) with every target (column).

    Parameters
    ----------
    predictions, targets : arrays of shape (n, d) and (m, d)
        A constant row has no correlation; it counts as 0 with everything.

    Returns
    -------
    r : array of shape (n, m), float64
    """
    return _unit(_centred(predictions)) @ _unit(_centred(targets)).T


def cosines(predictions: Array, targets: Array) -> NDArray[np.float64]:
    """Return the cosine of every prediction (row) with every target (column).

    Parameters
    ----------
    predictions, targets : arrays of shape (n, d) and (m, d)
        A row of zeros has no direction; it counts as 0 with everything.

    Returns
    -------
    cosine : array of shape (n, m), float64
    """
    return _unit(np.asarray(predictions, np.float64)) @ _unit(np.asarray(targets, np.float64)).T


def _centred(rows: Array) -> NDArray[np.float64]:
    """Take each row's mean off; what rounding leaves of a constant row is 0."""
    values = np.asarray(rows, np.float64)
    centred = values - values.mean(axis=1, keepdims=True)
    size = np.max(np.abs(values), axis=1, keepdims=True, initial=0.0)
    return np.asarray(np.where(np.abs(centred) > 1e-13 * size, centred, 0.0))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.where(norm > 1e-12, rows / np.maximum(norm, 1e-12), 0.0))


def identification(
    similarity: NDArray[np.float64],
    *,
    own: NDArray[np.integer[Any]] | None = None,
    candidates: NDArray[np.bool_] | None = None,
) -> Identification:
    """Score a matrix of similarities (Brain2Music, Denk et al. 2023, arXiv:2307.11078).

    acc_i = 1 / (n - 1) * sum_j 1[C_ii > C_ij], averaged over i.

    Parameters
    ----------
    similarity : array of shape (n, m), float64
        C[i, j]: how much prediction i resembles target j.
    own : array of shape (n,), int, optional
        Column of each prediction's own target; without it the matrix is square and i's own is i.
    candidates : array of shape (n, m), bool, optional
        Which wrong targets a prediction is held against (not, for example, other windows of the
        same clip); its own column counts never. All others, if not given.

    Raises
    ------
    SettingError
        If the matrix is not square where it must be, has fewer than 2 columns, or holds NaN, or a
        prediction has no wrong target to be held against.
    """
    n = len(similarity)
    if (
        similarity.ndim != 2
        or (own is None and similarity.shape != (n, n))
        or (own is not None and len(own) != n)
        or n < 1
        or similarity.shape[1] < 2
        or np.isnan(similarity).any()
    ):
        raise SettingError(
            "Identification needs a square matrix of at least 2 rows without NaN (or the column of "
            f"each row's own target), got shape {similarity.shape} with "
            f"{int(np.isnan(similarity).sum())} NaN."
        )
    rows = np.arange(n)
    mine = rows if own is None else np.asarray(own)
    value = similarity[rows, mine][:, None]
    wrong = np.ones(similarity.shape, bool) if candidates is None else candidates.copy()
    wrong[rows, mine] = False
    count = np.sum(wrong, axis=1)
    if not count.all():
        raise SettingError(
            f"Identification needs a wrong target for every prediction, {int(np.sum(count == 0))} "
            f"of {n} have none. Score at least two different clips."
        )
    less = np.sum((similarity < value) & wrong, axis=1)
    equal = np.sum((similarity == value) & wrong, axis=1)
    each = (less + 0.5 * equal) / count
    return Identification(float(np.mean(less / count)), float(np.mean(each)), n, each)


def shuffled_identification(
    similarity: NDArray[np.float64], *, n_permutations: int, seed: int
) -> NDArray[np.float64]:
    """Return the identification (ties at one half) when targets are dealt out anew, many times.

    Returns
    -------
    null : array of shape (n_permutations,), float64
    """
    rng = np.random.default_rng(seed)
    n = len(similarity)
    # Rank once: row i, target j -> what prediction i scores if j were its own.
    less = np.array([[np.sum(row < value) for value in row] for row in similarity])
    equal = np.array([[np.sum(row == value) - 1 for value in row] for row in similarity])
    score = (less + 0.5 * equal) / (n - 1)
    rows = np.arange(n)
    return np.array([score[rows, rng.permutation(n)].mean() for _ in range(n_permutations)])


def permutation_p(observed: float, null: Sequence[float] | Array) -> float:
    """Return (1 + #{null >= observed}) / (N + 1): one-sided, and never zero."""
    values = np.asarray(null, np.float64)
    return float((1 + np.sum(values >= observed)) / (len(values) + 1))


def area_under_curve(scores: Array, positive: NDArray[np.bool_]) -> float:
    """Return the chance that a positive scores above a negative, ties one half (Mann-Whitney).

    Raises
    ------
    SettingError
        If one of the two classes is empty, or the lengths differ.
    """
    values, positive = np.asarray(scores, np.float64), np.asarray(positive, bool)
    n_positive = int(np.sum(positive))
    if values.shape != positive.shape or n_positive in (0, len(values)):
        raise SettingError(
            f"An AUC needs both classes and as many labels as scores, got {values.shape} scores, "
            f"{positive.shape} labels, {n_positive} of them positive."
        )
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2.0  # 1-based, ties share their mean
    rank_sum = float(np.sum(mean_rank[inverse][positive]))
    n_negative = len(values) - n_positive
    return (rank_sum - n_positive * (n_positive + 1) / 2.0) / (n_positive * n_negative)


def permute_blocks(
    groups: NDArray[Any], *, rng: np.random.Generator, within: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """Return row indices with whole blocks in a new order, so that neighbours stay neighbours.

    Rows of one clip are alike; shuffling them one by one makes a null that is far too narrow.

    Parameters
    ----------
    groups : array of shape (n,)
        Block (clip, trial) of each row; the rows of a block keep their order.
    rng : numpy.random.Generator
        Source of the permutation.
    within : array of shape (n,), optional
        Blocks change places only with blocks of the same value (session).

    Returns
    -------
    order : array of shape (n,), int64
        Row k of the permuted data is row `order[k]`.
    """
    groups = np.asarray(groups)
    halls = np.zeros(len(groups), np.int64) if within is None else np.asarray(within)
    order = np.arange(len(groups))
    for hall in np.unique(halls):
        rows = np.flatnonzero(halls == hall)
        _, firsts = np.unique(groups[rows], return_index=True)
        blocks = [rows[groups[rows] == groups[rows][first]] for first in np.sort(firsts)]
        order[rows] = np.concatenate([blocks[k] for k in rng.permutation(len(blocks))])
    return order.astype(np.int64)


def null_scores(
    score: Callable[[NDArray[np.int64]], float],
    groups: NDArray[Any],
    *,
    n_permutations: int,
    seed: int,
    within: NDArray[Any] | None = None,
) -> NDArray[np.float64]:
    """Return `score(order)` for many block permutations of the rows."""
    rng = np.random.default_rng(seed)
    orders = (permute_blocks(groups, rng=rng, within=within) for _ in range(n_permutations))
    return np.array([score(order) for order in orders])
