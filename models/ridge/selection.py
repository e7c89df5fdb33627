"""The features most correlated with each target, found inside every fold from one pass over data.

C = X'Y is added up once. What a fold does not train on is then taken off, so the training part's
covariance is C - C_out - n m_x m_y', and no number that selects has seen a held-out sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns", "Part", "choose", "select_in_parts"]

Array: TypeAlias = NDArray[Any]
Rows: TypeAlias = slice | NDArray[np.intp]

# A variance of this many rounding errors of the whole column's is none: what is left of a column
# that varies in held-out samples only.
_ROUNDINGS = 64.0


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Features and targets less their means over all samples; a sample is a column."""

    x: Array  # (n_features, n), so that a feature's samples lie side by side
    y: Array  # (n_targets, n)
    x_mean: NDArray[np.float64]  # (n_features,) what was taken off
    y_mean: NDArray[np.float64]  # (n_targets,)

    @property
    def n(self) -> int:
        """Samples."""
        return int(self.x.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A training part: its size, its means, and for each target its features and covariances."""

    n: int
    x_mean: Array  # (n_features,), relative to the means of all samples
    y_mean: Array  # (n_targets,)
    indices: NDArray[np.intp]  # (n_targets, k), rising
    cross: Array  # (n_targets, k), sum of (x - mean)(y - mean) over the part
    left_out: Rows | None  # samples that are not in the part; None if it has all
    held_out: Rows | None  # those of them that it is scored on


def choose(strength: Array, k: int) -> NDArray[np.intp]:
    """Return the positions of the k largest values of each row, in rising order.

    Parameters
    ----------
    strength : array of shape (n_targets, n_features)
    k : int
        At most n_features.

    Returns
    -------
    indices : array of shape (n_targets, k), intp
    """
    n_features = strength.shape[1]
    if k >= n_features:
        return np.tile(np.arange(n_features, dtype=np.intp), (len(strength), 1))
    # Not argsort: 500 of 60,784 need no order.
    largest = np.argpartition(strength, n_features - k, axis=1)[:, n_features - k :]
    return np.asarray(np.sort(largest, axis=1), np.intp)


def select_in_parts(
    data: Columns, folds: Sequence[tuple[Rows, Rows]], k: int
) -> tuple[list[Part], Part]:
    """Select k features per target in the training part of each fold, and in all samples.

    Parameters
    ----------
    data : Columns
    folds : sequence of (left_out, held_out)
        Samples that a fold does not train on, and those that it is scored on.
    k : int

    Returns
    -------
    parts : list of Part
        One for each fold.
    whole : Part
        All samples.
    """
    covariance = data.y @ data.x.T  # (n_targets, n_features)
    squares = _squares(data.x)
    floor = _ROUNDINGS * float(np.finfo(data.x.dtype).eps) * squares
    sums = data.x.sum(axis=1), data.y.sum(axis=1)
    parts = []
    for left_out, held_out in folds:
        x_out, y_out = data.x[:, left_out], data.y[:, left_out]
        n = data.n - x_out.shape[1]
        x_mean, y_mean = (sums[0] - x_out.sum(axis=1)) / n, (sums[1] - y_out.sum(axis=1)) / n
        cross = y_out @ x_out.T
        np.subtract(covariance, cross, out=cross)
        cross -= np.multiply.outer(n * y_mean, x_mean)
        part_squares = squares - _squares(x_out) - n * x_mean**2
        parts.append(
            _part(cross, part_squares, floor, k, n, (x_mean, y_mean), (left_out, held_out))
        )
    # Not quite 0: the means that were taken off were rounded.
    x_mean, y_mean = sums[0] / data.n, sums[1] / data.n
    covariance -= np.multiply.outer(data.n * y_mean, x_mean)
    return parts, _part(covariance, squares, floor, k, data.n, (x_mean, y_mean), (None, None))


def _part(
    cross: Array,
    squares: Array,
    floor: Array,
    k: int,
    n: int,
    means: tuple[Array, Array],
    rows: tuple[Rows | None, Rows | None],
) -> Part:
    varies = squares > floor
    # |r| of one target with every feature, but for the target's own norm, which orders nothing.
    scale = np.where(varies, 1.0 / np.sqrt(np.where(varies, squares, 1.0)), 0.0)
    strength = np.abs(cross)
    strength *= scale.astype(cross.dtype)
    indices = choose(strength, k)
    return Part(n, *means, indices, np.take_along_axis(cross, indices, axis=1), *rows)


def _squares(x: Array) -> Array:
    return np.asarray(np.einsum("vn,vn->v", x, x))
