"""Delayed copies of features, run by run, and the response of each voxel that they give.

A delay never reaches over the boundary of a run: stacking runs first and delaying then puts the end
of one story before the start of the next, and its responses leak into the next one's rows.
For brain features that run live, see `n_delays` of `models.spec.TrMeanSpec`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["DelayedRuns", "HrfFit", "delay_runs", "delayed", "fit_hrf"]


def delayed(
    values: NDArray[np.floating], delays: Sequence[int]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Return copies of a run's rows beside each other, each some rows later.

    Parameters
    ----------
    values : array of shape (n, n_features)
        Of one run.
    delays : sequence of int
        Row t of the copy with delay d is row t - d of `values`: positive delays look back, as
        stimulus features do that explain a brain; negative ones ahead, as brain features do that
        a stimulus is decoded from.

    Returns
    -------
    rows : array of shape (n, n_delays * n_features), the dtype of `values`
        The first delay comes first. 0 where the run has no such row.
    whole : array of shape (n,), bool
        Rows that have all their delays within the run.

    Raises
    ------
    SettingError
        If values are not two-dimensional, or delays are none, not whole or repeated.
    """
    array = np.asarray(values)
    lags = _check_delays(delays)
    if array.ndim != 2:
        raise SettingError(f"Expected values of shape (n, n_features), got {array.shape}.")
    n, n_features = array.shape
    rows = np.zeros((n, len(lags) * n_features), array.dtype)
    whole = np.ones(n, bool)
    t = np.arange(n)
    for k, lag in enumerate(lags):
        inside = (t - lag >= 0) & (t - lag < n)
        rows[inside, k * n_features : (k + 1) * n_features] = array[t[inside] - lag]
        whole &= inside
    return rows, whole


@dataclass(frozen=True, slots=True, eq=False)
class DelayedRuns:
    """Delayed rows of several runs, one after another."""

    rows: NDArray[np.floating]  # (n, n_delays * n_features)
    run: NDArray[np.int64]  # (n,) number of the run
    index: NDArray[np.int64]  # (n,) row within the run


def delay_runs(
    runs: Sequence[NDArray[np.floating]],
    delays: Sequence[int],
    *,
    edges: Literal["drop", "zero"] = "drop",
) -> DelayedRuns:
    """Delay the rows of each run by itself, then bring the runs together.

    Parameters
    ----------
    runs : sequence of arrays of shape (n, n_features)
    delays : sequence of int
        See `delayed`.
    edges : {"drop", "zero"}
        Rows that lack a delay are left out, or keep 0 in its place (z-scored features: the mean).

    Raises
    ------
    SettingError
        If there is no run, runs differ in their features, or no row has all delays.
    """
    if edges not in ("drop", "zero"):
        raise SettingError(f"Expected edges 'drop' or 'zero', got {edges!r}.")
    if not runs or len({np.shape(run)[-1] for run in runs}) != 1:
        raise SettingError("Expected runs with the same features, and at least one.")
    parts, numbers, indices = [], [], []
    for number, values in enumerate(runs):
        rows, whole = delayed(values, delays)
        keep = np.flatnonzero(whole) if edges == "drop" else np.arange(len(rows))
        parts.append(rows[keep])
        numbers.append(np.full(len(keep), number))
        indices.append(keep)
    if not sum(map(len, parts)):
        raise SettingError(
            f"No run is longer than the delays {list(delays)}. Take fewer delays, or longer runs."
        )
    return DelayedRuns(
        np.concatenate(parts),
        np.concatenate(numbers).astype(np.int64),
        np.concatenate(indices).astype(np.int64),
    )


@dataclass(frozen=True, slots=True, eq=False)
class HrfFit:
    """How each voxel answers in time, and to what."""

    delays: NDArray[np.int64]  # (n_delays,) volumes
    hrf: NDArray[np.float64]  # (n_delays, n_voxels), largest magnitude 1 and positive; 0: no answer
    weights: NDArray[np.float64]  # (n_features, n_voxels) what a voxel answers to
    separable: NDArray[np.float64]  # (n_voxels,) share of the weights' power that hrf x weights has
    score: NDArray[np.float64]  # (n_voxels,) held-out score of the best penalty
    tr_s: float

    @property
    def lag_s(self) -> NDArray[np.float64]:
        """Centre of the positive part of each response, s, (n_voxels,); NaN where there is none."""
        power = np.maximum(self.hrf, 0.0) ** 2
        total = power.sum(axis=0)
        centre = (power * self.delays[:, None]).sum(axis=0)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(total > 0, centre / total, np.nan) * self.tr_s)


def fit_hrf(
    stimulus: Sequence[NDArray[np.floating]],
    brain: Sequence[NDArray[np.floating]],
    *,
    tr_s: float,
    delays: Sequence[int],
    alphas: Sequence[float] = (1e0, 1e1, 1e2, 1e3, 1e4, 1e5),
) -> HrfFit:
    """Fit a finite impulse response for each voxel, and split it into time course and weights.

    A ridge on the delayed features gives weights W (n_delays, n_features) for each voxel, its
    penalty chosen by leaving runs out; their best rank-1 form h w' is the voxel's response h.

    Parameters
    ----------
    stimulus : sequence of arrays of shape (n, n_features)
        Features of what was heard at each volume, one array a run.
    brain : sequence of arrays of shape (n, n_voxels)
        Standardised volumes of the same runs.
    tr_s : float
    delays : sequence of int
        Volumes after the stimulus, e.g. 1 to 6.
    alphas : sequence of float

    Raises
    ------
    SettingError
        If runs do not fit each other, or there are fewer than 2 and several penalties.
    """
    from models.ridge.estimator import Ridge
    from models.ridge.folds import group_folds

    lengths = [(len(s), len(b)) for s, b in zip(stimulus, brain, strict=False)]
    if len(stimulus) != len(brain) or any(a != b for a, b in lengths):
        raise SettingError(
            f"Expected one row of features for each volume of each run, got {lengths} rows in "
            f"{len(stimulus)} and {len(brain)} runs."
        )
    made = delay_runs(stimulus, delays)
    y = np.concatenate([brain[k][made.index[made.run == k]] for k in range(len(brain))])
    n_runs = len(np.unique(made.run))
    cv: Any = 2
    if len(alphas) > 1:
        cv = group_folds(len(y), min(5, n_runs), groups=made.run)
    ridge = Ridge(alphas, cv=cv, metric="correlation").fit(made.rows, y)
    n_delays, n_features = len(delays), stimulus[0].shape[1]
    coef = np.asarray(ridge.coef_, np.float64).reshape(-1, n_delays, n_features)
    score = np.full(len(coef), np.nan)
    if len(alphas) > 1:
        score = np.asarray(ridge.cv_scores_, np.float64).max(axis=0)
    return _separate(coef, np.array(_check_delays(delays)), score, tr_s)


def _separate(
    coef: NDArray[np.float64], delays: NDArray[np.int64], score: NDArray[np.float64], tr_s: float
) -> HrfFit:
    """Return the best h w' for weights of shape (n_voxels, n_delays, n_features)."""
    # From the small Gram matrix over delays: its first eigenvector is the time course.
    gram = coef @ coef.transpose(0, 2, 1)  # (n_voxels, n_delays, n_delays)
    values, vectors = np.linalg.eigh(gram)
    course = vectors[:, :, -1]  # (n_voxels, n_delays)
    # Its sign is free: that in which the largest part points up, as an answer does.
    largest = np.take_along_axis(course, np.abs(course).argmax(axis=1)[:, None], axis=1)
    answered = values[:, -1] > 0
    course = np.where(answered[:, None], course / np.where(largest == 0, 1.0, largest), 0.0)
    norm = np.maximum((course**2).sum(axis=1), 1e-30)
    weights = np.einsum("vdf,vd->vf", coef, course) / norm[:, None]
    total = np.maximum(np.trace(gram, axis1=1, axis2=2), 1e-300)
    share = np.where(answered, values[:, -1] / total, 0.0)
    return HrfFit(delays, course.T, weights.T, share, score, tr_s)


def _check_delays(delays: Sequence[int]) -> list[int]:
    lags = [int(delay) for delay in delays]
    if (
        not lags
        or len(set(lags)) != len(lags)
        or any(a != b for a, b in zip(lags, delays, strict=True))
    ):
        raise SettingError(f"Expected different whole delays, got {list(delays)}.")
    return lags
