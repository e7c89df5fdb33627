"""Scores of held-out predictions for each penalty and target, and the choice among penalties."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from models.ridge.gram import Array

__all__ = ["HeldOutScores", "Metric", "best_alphas", "check_metric"]

Metric: TypeAlias = Literal["r2", "neg_mse", "correlation"]


def check_metric(metric: str) -> None:
    """Raise SettingError if there is no such metric."""
    if metric not in get_args(Metric):
        raise SettingError(f"Expected metric to be one of {get_args(Metric)}, got {metric!r}.")


class HeldOutScores:
    """Adds up what the scores need, fold by fold, so that no prediction has to be kept.

    Parameters
    ----------
    metric : {"r2", "neg_mse", "correlation"}
    n_alphas : int
    y : array of shape (n_samples, n_targets)
    """

    def __init__(self, metric: Metric, n_alphas: int, y: Array) -> None:
        self._metric = metric
        self._y = y
        self._mean = y.mean(axis=0, dtype=np.float64).astype(y.dtype)
        shape = (n_alphas, y.shape[1])
        self._error, self._p, self._pp, self._py = (np.zeros(shape) for _ in range(4))
        self._t, self._tt, self._n = (np.zeros(y.shape[1]) for _ in range(3))

    def add(self, rows: NDArray[np.intp], columns: slice, predictions: Array) -> None:
        """Take predictions of shape (n_alphas, n_rows, n_columns) for targets held out."""
        truth = self._y[rows, columns] - self._mean[columns]
        self._n[columns] += len(rows)
        self._t[columns] += truth.sum(axis=0, dtype=np.float64)
        self._tt[columns] += np.square(truth).sum(axis=0, dtype=np.float64)
        for k, prediction in enumerate(predictions):
            moved = prediction - self._mean[columns]
            if self._metric == "correlation":
                self._p[k, columns] += moved.sum(axis=0, dtype=np.float64)
                self._py[k, columns] += (moved * truth).sum(axis=0, dtype=np.float64)
                self._pp[k, columns] += np.square(moved).sum(axis=0, dtype=np.float64)
            else:
                moved -= truth
                self._error[k, columns] += np.square(moved, out=moved).sum(0, dtype=np.float64)

    def result(self) -> NDArray[np.float64]:
        """Return the scores (n_alphas, n_targets), larger is better; see `Ridge` for each."""
        n = np.maximum(self._n, 1.0)
        spread = self._tt - self._t**2 / n
        if self._metric == "neg_mse":
            return -self._error / n
        if self._metric == "r2":
            return 1.0 - np.divide(
                self._error, spread, out=np.ones_like(self._error), where=spread > 0
            )
        own = np.maximum(self._pp - self._p**2 / n, 0.0)
        norm = np.sqrt(own * spread)
        # A constant has no correlation; what is left of one after rounding must not pretend to.
        floor = float(np.finfo(self._y.dtype).eps) * np.sqrt(np.maximum(self._pp, 0.0) * self._tt)
        cross = self._py - self._p * self._t / n
        return np.divide(cross, norm, out=np.zeros_like(cross), where=norm > floor)


def best_alphas(
    scores: NDArray[np.float64], alphas: NDArray[np.float64], *, per_target: bool
) -> NDArray[np.intp]:
    """Return the row of the best score for each target; of equal ones, that of the larger alpha.

    With one penalty for all, the mean over targets decides.
    """
    if not per_target:
        scores = np.broadcast_to(scores.mean(axis=1, keepdims=True), scores.shape)
    order = np.argsort(-alphas, kind="stable")
    return np.asarray(order[np.argmax(scores[order], axis=0)], np.intp)
