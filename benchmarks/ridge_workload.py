"""The regression problem of the ridge benchmark: brain-like features, few of them informative."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALPHAS", "SIZES", "Size", "workload"]

ALPHAS = np.logspace(2, 7, 20)
_RANK = 64
_INFORMATIVE = 4000
_SNR_X, _SNR_Y = 0.3, 2.0


@dataclass(frozen=True, slots=True)
class Size:
    """Samples, features (voxels), targets; how many features a target may use (0: all)."""

    n: int
    n_features: int
    n_targets: int
    n_selected: int = 0


SIZES = {
    "S": Size(1200, 6000, 64),
    "M": Size(4800, 6700, 512, n_selected=500),
    "L": Size(4800, 60_784, 512),
}


def workload(size: Size, *, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return X (n, n_features) and Y (n, n_targets), float32, columns z-scored.

    A latent of rank 64 is in 4,000 of the features (signal-to-noise ratio 0.3) and in all targets
    (2.0); the other features are noise.
    """
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((size.n, _RANK), dtype=np.float32)
    x = rng.standard_normal((size.n, size.n_features), dtype=np.float32)
    informative = np.sort(rng.permutation(size.n_features)[:_INFORMATIVE])
    mixing = rng.standard_normal((_RANK, len(informative)), dtype=np.float32)
    x[:, informative] += latent @ mixing * np.float32(np.sqrt(_SNR_X / _RANK))
    mixing = rng.standard_normal((_RANK, size.n_targets), dtype=np.float32)
    y = latent @ mixing * np.float32(np.sqrt(_SNR_Y / _RANK))
    y += rng.standard_normal(y.shape, dtype=np.float32)
    for values in (x, y):
        values -= values.mean(axis=0)
        values /= values.std(axis=0)
    return x, y
