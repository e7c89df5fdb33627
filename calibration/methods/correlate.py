"""Pearson's correlation of predictions that folds hold out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.ridge.folds import Folds
from models.ridge.shared import column_correlations

__all__ = ["fold_correlations"]


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
