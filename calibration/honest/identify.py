"""Telling clips apart by what was decoded: clip level, window level, n-way and rank.

A clip heard by several people is one candidate; windows of one clip never make a clip look known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.scores import Identification, correlations, cosines, identification
from models.errors import SettingError

__all__ = [
    "ClipTable",
    "Metric",
    "clip_table",
    "n_way_top_k",
    "ranks",
    "score_if_own",
    "similarities",
    "window_identification",
]

Metric: TypeAlias = Literal["correlation", "cosine"]
Rows: TypeAlias = NDArray[np.float64]

# Equal targets must tie; a matrix product gives them results that differ in the last digit.
_DECIMALS = 12
_CHUNK = 512  # windows compared at once: 512 x 5,000 float64 are 20 MB


@dataclass(frozen=True, slots=True, eq=False)
class ClipTable:
    """Predictions and targets averaged over the windows of each clip.

    One row for each person and clip, one column for each clip.
    """

    predictions: Rows  # (n_rows, d)
    targets: Rows  # (n_clips, d)
    clip: NDArray[np.str_]  # (n_clips,)
    label: NDArray[np.str_]  # (n_clips,)
    own: NDArray[np.int64]  # (n_rows,) column of the clip that was heard
    previous: NDArray[np.int64]  # (n_rows,) column of the clip before; -1: not among them
    person: NDArray[np.str_]  # (n_rows,)
    row_of: NDArray[np.int64]  # (n_windows,) row of each window

    def average(self, values: Rows) -> Rows:
        """Return the mean over windows, row by row, of other values than the predictions."""
        return _group_means(values, self.row_of, len(self.own))


def clip_table(predictions: Rows, samples: Samples, *, units: NDArray[np.str_]) -> ClipTable:
    """Average windows to clips.

    Parameters
    ----------
    predictions : array of shape (n, d)
    samples : Samples
        Their windows, in the same order.
    units : array of shape (n,)
        What is told apart: the clip of each window, or a block of a long one.
    """
    clip, own = np.unique(units, return_inverse=True)
    person, who = np.unique(samples.person, return_inverse=True)
    key, first, row_of = np.unique(
        who * len(clip) + own, return_index=True, return_inverse=True
    )  # ordered by person, then clip
    column = {str(name): k for k, name in enumerate(clip)}
    where = np.full(len(samples), -1, np.int64)
    for k, name in enumerate(samples.previous_clip):
        where[k] = column.get(str(name), -1)
    _, example = np.unique(own, return_index=True)
    return ClipTable(
        predictions=_group_means(predictions, row_of, len(key)),
        targets=_group_means(samples.y, own, len(clip)),
        clip=clip,
        label=samples.label[example],
        own=np.asarray(key % len(clip), np.int64),
        previous=where[first],
        person=person[key // len(clip)],
        row_of=np.asarray(row_of, np.int64),
    )


def similarities(predictions: Rows, targets: Rows, *, metric: Metric) -> Rows:
    """Return how every prediction resembles every target, rounded so that equal targets tie."""
    compare = correlations if metric == "correlation" else cosines
    return np.asarray(np.round(compare(predictions, targets), _DECIMALS))


def score_if_own(similarity: Rows) -> Rows:
    """Return the identification of each row if each column were its own target, ties at one half.

    Parameters
    ----------
    similarity : array of shape (n, m)

    Returns
    -------
    score : array of shape (n, m)
        Column `own` of row i is `identification(...).each[i]`; a permutation only picks others.
    """
    from scipy.stats import rankdata

    return np.asarray((rankdata(similarity, axis=1) - 1.0) / (similarity.shape[1] - 1))


def ranks(similarity: Rows, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank of each row's own target, 1 the best; ties lose. (n,)."""
    value = similarity[np.arange(len(own)), own][:, None]
    return np.asarray(np.sum(similarity >= value, axis=1), np.int64)


def n_way_top_k(rank: NDArray[np.int64], *, n_clips: int, n_way: int, k: int) -> float:
    """Return how often the own clip is among the best `k` of `n_way`, the others drawn at random.

    The mean over all draws, by the hypergeometric distribution, so that no seed is involved.

    Parameters
    ----------
    rank : array of shape (n,)
        Rank of the own clip among all clips, 1 the best.
    n_clips : int
        Number of clips in all.
    n_way : int
        Candidates in one question, the own clip included.
    k : int
        How many answers are given; chance is k / n_way.

    Raises
    ------
    SettingError
        If not 1 <= k < n_way <= n_clips.
    """
    from scipy.stats import hypergeom

    if not 1 <= k < n_way <= n_clips:
        raise SettingError(
            f"Top {k} of {n_way} needs 1 <= k < n_way <= {n_clips} clips. Choose fewer ways."
        )
    return float(np.mean(hypergeom.cdf(k - 1, n_clips - 1, rank - 1, n_way - 1)))


def window_identification(
    predictions: Rows, samples: Samples, *, metric: Metric, exclude_same_clip: bool = True
) -> Identification:
    """Identify every window among the windows of the same person.

    Parameters
    ----------
    predictions : array of shape (n, d)
    samples : Samples
    metric : str
    exclude_same_clip : bool
        Hold a window only against windows of other clips: neighbours of one clip overlap in time
        and content, and losing to them says nothing.

    Raises
    ------
    SettingError
        If a window has nothing to be held against.
    """
    each, strict = np.empty(len(samples)), 0.0
    _, clip = np.unique(samples.clip, return_inverse=True)
    for person in np.unique(samples.person):
        mine = np.flatnonzero(samples.person == person)
        for start in range(0, len(mine), _CHUNK):
            rows = mine[start : start + _CHUNK]
            table = similarities(predictions[rows], samples.y[mine], metric=metric)
            other = clip[rows][:, None] != clip[mine][None, :] if exclude_same_clip else None
            own = np.arange(start, start + len(rows))
            result = identification(table, own=own, candidates=other)
            each[rows] = result.each
            strict += result.strict * len(rows)
    return Identification(strict / len(samples), float(np.mean(each)), len(samples), each)


def _group_means(values: Rows, group: NDArray[np.int64], n_groups: int) -> Rows:
    total = np.zeros((n_groups, values.shape[1]))
    np.add.at(total, group, np.asarray(values, np.float64))
    return np.asarray(total / np.bincount(group, minlength=n_groups)[:, None])
