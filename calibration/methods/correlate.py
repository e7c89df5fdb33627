"""Pearson's correlation of columns over rows, and of predictions that folds hold out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.ridge.folds import Folds

__all__ = ["column_correlations", "fold_correlations"]


def column_correlations(predicted: NDArray[Any], measured: NDArray[Any]) -> NDArray[np.float64]:
    """Return Pearson's correlation over rows of each column; 0 for a constant one.

    Parameters
    ----------
    predicted, measured : arrays of shape (n, n_columns)
    """
    p, m = predicted.astype(np.float64), measured.astype(np.float64)
    p, m = p - p.mean(axis=0), m - m.mean(axis=0)
    norm = np.linalg.norm(p, axis=0) * np.linalg.norm(m, axis=0)
    cross = np.sum(p * m, axis=0)
    return np.asarray(np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 1e-12))


def fold_correlations(
    predicted: NDArray[Any], measured: NDArray[Any], *, folds: Folds
) -> NDArray[np.float64]:
    """Return the correlation of held-out predictions with each column, mean over folds.

    Fold by fold, because only then does noise score 0 on average. The intercept of a fold is the
    mean of what it was trained on, low where what it holds out is high: over all folds together
    noise correlates below 0.

    Parameters
    ----------
    predicted, measured : arrays of shape (n, n_columns)
    folds : list of (training, held-out)
        A fold counts as many times as it holds out rows, less one. Rows that none holds out do not
        count.

    Returns
    -------
    r : array of shape (n_columns,), float64
    """
    total, weight = np.zeros(measured.shape[1]), 0
    for _, test in folds:
        total += (len(test) - 1) * column_correlations(predicted[test], measured[test])
        weight += len(test) - 1
    return np.asarray(total / max(weight, 1))
