"""Regression problems for the tests of ridge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["problem"]


def problem(
    n: int, n_features: int, n_targets: int, *, seed: int, dtype: Any = np.float64, mean: float = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return (X, Y) whose targets go from nearly exact to nearly noise."""
    rng = np.random.default_rng(seed)
    x = mean + rng.standard_normal((n, n_features))
    weights = rng.standard_normal((n_features, n_targets)) / np.sqrt(n_features)
    noise = rng.standard_normal((n, n_targets)) * np.logspace(-1, 1, n_targets)
    return x.astype(dtype), (x @ weights + noise + mean).astype(dtype)
