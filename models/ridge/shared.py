"""A linear decoder with one penalty for all outputs, chosen by the correlation of held-out folds.

Neighbouring windows of one clip are nearly the same row; folds through a clip would prefer far too
small a penalty. Folds are therefore stretches of whole groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from models.ridge.estimator import Ridge
from models.ridge.folds import group_folds
from models.ridge.gram import column_means, inner_gram, outer_gram
from models.ridge.resolvent import Resolvent

__all__ = ["LinearFit", "column_correlations", "fit_shared", "ridge_predictions"]


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


def fit_shared(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    groups: NDArray[np.integer],
    *,
    alphas: Sequence[float],
    n_folds: int = 5,
) -> LinearFit:
    """Fit a ridge regression with an unpenalised intercept; one penalty for all outputs.

    Parameters
    ----------
    x : array of shape (n, n_features)
    y : array of shape (n, n_out)
    groups : array of shape (n,), int
        Clip (trial, session) of each row; rows are in the order of time.
    alphas : sequence of float
        Penalties to choose from; of equal ones the larger wins.
    n_folds : int
        Folds of neighbouring groups.

    Raises
    ------
    SettingError
        If there are too few groups or no positive penalty, or the shapes do not fit.
    """
    if not alphas or min(alphas) <= 0:
        raise SettingError(f"Ridge needs positive penalties, got {list(alphas)}.")
    folds = group_folds(len(x), n_folds, groups=groups, neighbours_together=True)
    model = Ridge(
        list(alphas),
        cv=folds,
        alpha_per_target=False,
        metric="correlation",
        dtype=np.float64,
        keep_held_out=True,
    ).fit(x, np.asarray(y).reshape(len(y), -1))
    weights, bias = model.weights()
    chosen = float(np.asarray(model.alpha_)[0])
    held_out = np.asarray(model.held_out_, np.float64)
    if len(alphas) > 1:
        means = model.cv_scores_.mean(axis=1)
    else:
        means = [np.mean(column_correlations(held_out, np.asarray(y, np.float64)))]
    scores = {alpha: float(mean) for alpha, mean in zip(alphas, means, strict=True)}
    return LinearFit(weights, bias, chosen, scores, held_out)


def ridge_predictions(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x_new: NDArray[np.float64],
    *,
    alphas: Sequence[float],
) -> NDArray[np.float64]:
    """Return what ridge regressions of (x, y) say of new rows: (n_alphas, n_new, n_out).

    One reduction serves all penalties and all outputs.
    """
    mean, offset = column_means(x, wanted=True), column_means(y, wanted=True)
    centred, right, new = x - mean, y - offset, x_new - mean
    if x.shape[1] > len(x):
        resolvent, left = Resolvent(outer_gram(x, mean)), centred @ new.T
    else:
        resolvent, left, right = Resolvent(inner_gram(centred)), new.T, centred.T @ right
    left, right = np.ascontiguousarray(resolvent.turn(left).T), resolvent.turn(right)
    return np.stack([left @ resolvent.solve(right, alpha) + offset for alpha in alphas])


def column_correlations(predicted: NDArray[Any], measured: NDArray[Any]) -> NDArray[np.float64]:
    """Return Pearson's correlation over rows of each column; 0 for a constant one.

    Parameters
    ----------
    predicted, measured : arrays of shape (n, n_columns)
    """
    p, m = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    p, m = p - p.mean(axis=0), m - m.mean(axis=0)
    norm = np.linalg.norm(p, axis=0) * np.linalg.norm(m, axis=0)
    cross = np.sum(p * m, axis=0)
    return np.asarray(np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 1e-12))
