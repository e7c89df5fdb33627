"""Ridge regression whose penalty is chosen by folds that never split a clip.

Neighbouring windows of one clip are nearly the same row; folds through a clip would prefer far too
small a penalty. The solver is `models.linear`; here is only the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from models.linear import ridge_path

__all__ = [
    "LinearFit",
    "column_correlations",
    "fold_of_groups",
    "ridge_cv",
    "ridge_predictions",
]


@dataclass(frozen=True, slots=True, eq=False)
class LinearFit:
    """A linear decoder y = x W + b, and how its penalty was chosen."""

    weights: NDArray[np.float64]  # (n_features, n_out)
    bias: NDArray[np.float64]  # (n_out,)
    alpha: float
    scores: dict[float, float]  # mean correlation over outputs, held-out folds, for each alpha
    held_out: NDArray[np.float64]  # (n, n_out) predictions for folds held out, at this alpha

    def predict(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return x W + b."""
        return np.asarray(np.asarray(x, np.float64) @ self.weights + self.bias)


def fold_of_groups(groups: NDArray[np.int64], n_folds: int) -> NDArray[np.int64]:
    """Return the fold of each row: runs of neighbouring groups, about equally many in each.

    Raises
    ------
    SettingError
        If there are fewer groups than folds, or fewer than 2 folds.
    """
    names = np.unique(groups)
    if not 2 <= n_folds <= len(names):
        raise SettingError(
            f"{n_folds} folds need at least 2 folds and as many clips, got {len(names)} clips."
        )
    fold_of = np.arange(len(names)) * n_folds // len(names)
    return np.asarray(fold_of[np.searchsorted(names, groups)], np.int64)


def ridge_cv(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    groups: NDArray[np.int64],
    *,
    alphas: Sequence[float],
    n_folds: int = 5,
) -> LinearFit:
    """Fit a ridge regression with an unpenalised intercept; one penalty for all outputs.

    Parameters
    ----------
    x : array of shape (n, n_features)
    y : array of shape (n, n_out)
    groups : array of shape (n,), int64
        Clip (trial, session) of each row, numbered in the order of time.
    alphas : sequence of float
        Penalties to choose from; of equal ones the larger wins.
    n_folds : int
        Folds of neighbouring groups.

    Raises
    ------
    SettingError
        If there are too few groups or no positive penalty, or the shapes do not fit.
    """
    features: NDArray[np.float64] = np.asarray(x, np.float64)
    targets: NDArray[np.float64] = np.asarray(y, np.float64)
    if len(x) != len(y) or len(x) != len(groups) or not alphas or min(alphas) <= 0:
        raise SettingError(
            f"Ridge needs as many rows in x, y and groups and positive penalties, got {x.shape}, "
            f"{y.shape}, {np.shape(groups)} and {list(alphas)}."
        )
    fold = fold_of_groups(groups, n_folds)
    held_out = np.empty((len(alphas), *targets.shape))
    for k in range(n_folds):
        train, test = fold != k, fold == k
        for a, (weights, bias) in enumerate(_ridge_path(features[train], targets[train], alphas)):
            held_out[a, test] = features[test] @ weights + bias
    scores = {
        alpha: float(np.mean(column_correlations(held_out[a], targets)))
        for a, alpha in enumerate(alphas)
    }
    best = max(range(len(alphas)), key=lambda a: (round(scores[alphas[a]], 6), alphas[a]))
    weights, bias = _ridge_path(features, targets, [alphas[best]])[0]
    return LinearFit(weights, bias, alphas[best], scores, held_out[best])


def ridge_predictions(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x_new: NDArray[np.float64],
    *,
    alphas: Sequence[float],
) -> NDArray[np.float64]:
    """Return what ridge regressions of (x, y) say of new rows: (n_alphas, n_new, n_out).

    One eigendecomposition serves all penalties and all outputs.
    """
    return np.stack([x_new @ weights + bias for weights, bias in _ridge_path(x, y, alphas)])


def column_correlations(
    prediction: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the Pearson correlation over rows for each column; constant columns count as 0."""
    p, t = prediction - prediction.mean(axis=0), target - target.mean(axis=0)
    norm = np.linalg.norm(p, axis=0) * np.linalg.norm(t, axis=0)
    return np.asarray(np.where(norm > 1e-12, np.sum(p * t, axis=0) / np.maximum(norm, 1e-12), 0.0))


def _ridge_path(
    x: NDArray[np.float64], y: NDArray[np.float64], alphas: Sequence[float]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return (weights, bias) for each penalty from one eigendecomposition."""
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    return [
        (weights, y_mean - x_mean @ weights)
        for weights in ridge_path(x - x_mean, y - y_mean, alphas)
    ]
