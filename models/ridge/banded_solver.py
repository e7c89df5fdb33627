"""Ridge with a weight for each band of columns: one reduction for each candidate and fold.

Giving band b the penalty alpha / g_b is to scale its columns by sqrt(g_b) and to use alpha. Kernels
of the bands, or the Gram matrix of all columns, are made once; each candidate g only scales them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from models.ridge.folds import Folds
from models.ridge.gram import Array, column_means, outer_gram
from models.ridge.path import AlphaPath
from models.ridge.resolvent import Resolvent

__all__ = ["BandedEngine"]

_PREDICTION_BYTES = 128 * 2**20


class BandedEngine:
    """Solutions for any weights of the bands.

    Parameters
    ----------
    x : array of shape (n_samples, n_features)
    y : array of shape (n_samples, n_targets)
        Of the same dtype.
    bands : sequence of index arrays
        Columns of each band; together every column once.
    fit_intercept : bool
    """

    def __init__(
        self, x: Array, y: Array, bands: Sequence[NDArray[np.intp]], *, fit_intercept: bool
    ) -> None:
        self._intercept = fit_intercept
        self._x_mean = column_means(x, wanted=fit_intercept)
        self._y_mean = column_means(y, wanted=fit_intercept)
        self._bands = bands
        self._x, self._y = x - self._x_mean, y - self._y_mean
        self._y[:, fit_intercept & (np.ptp(y, axis=0) == 0)] = 0
        self._dual = x.shape[1] >= len(x)
        if self._dual:
            self._grams = [outer_gram(x[:, band], self._x_mean[band]) for band in bands]

    def held_out(
        self, folds: Folds, path: AlphaPath, weights: NDArray[np.float64]
    ) -> Iterator[tuple[NDArray[np.intp], slice, Array]]:
        """Yield (rows, columns, predictions (n_alphas, n_rows, n_columns)), each sample held out.

        Parameters
        ----------
        folds : list of (training, held-out)
        path : AlphaPath
        weights : array of shape (n_bands,)
            g, 0 or more; a band with 0 takes no part.
        """
        for train, test in folds:
            a, left, right, offset = self._system(train, test, weights)
            resolvent = Resolvent(a)
            left = np.ascontiguousarray(resolvent.turn(left.T).T)
            right = resolvent.turn(right)
            bytes_each = path.size * len(test) * right.itemsize
            step = max(1, _PREDICTION_BYTES // max(1, bytes_each))
            for start in range(0, right.shape[1], step):
                columns = slice(start, min(right.shape[1], start + step))
                at_nodes = np.stack(
                    [left @ resolvent.solve(right[:, columns], float(a)) for a in path.nodes]
                )
                out = path.interpolate(at_nodes, scale=resolvent.scale)
                out += offset[columns] + self._y_mean[columns]
                yield test, columns, out

    def weights(
        self, columns: NDArray[np.intp], alphas: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> tuple[Array, Array]:
        """Return coefficients (n_columns, n_features) and intercepts of some targets.

        Parameters
        ----------
        columns : array of int
            Which targets.
        alphas : array of shape (n_columns,)
        weights : array of shape (n_bands,)
            g, the same for these targets.
        """
        everything = np.arange(len(self._x))
        a, _, right, offset = self._system(everything, everything[:0], weights)
        resolvent = Resolvent(a)
        right = resolvent.turn(right[:, columns])
        solved = np.empty_like(right)
        for alpha in np.unique(alphas):
            mine = alphas == alpha
            solved[:, mine] = resolvent.solve(right[:, mine], float(alpha))
        solved = resolvent.turn_back(solved)
        scale = self._scale(weights)
        coef = (self._x.T @ solved).T * scale**2 if self._dual else solved.T * scale
        centre, target = self._x_mean.astype(np.float64), self._y_mean[columns].astype(np.float64)
        rest = self._x.mean(axis=0, dtype=np.float64) if self._intercept else 0.0
        intercept = target + offset[columns] - coef @ (centre + rest)
        return np.ascontiguousarray(coef, self._x.dtype), intercept.astype(self._x.dtype)

    def _scale(self, weights: NDArray[np.float64]) -> Array:
        """Return sqrt(g) for each column."""
        scale = np.empty(self._x.shape[1], self._x.dtype)
        for band, weight in zip(self._bands, weights, strict=True):
            scale[band] = np.sqrt(weight)
        return scale

    def _system(
        self, train: NDArray[np.intp], test: NDArray[np.intp], weights: NDArray[np.float64]
    ) -> tuple[Array, Array, Array, Array]:
        """Return A, L, R and o with predictions L (A + alpha)^-1 R + o for the samples `test`."""
        y = self._y[train]
        offset = y.mean(axis=0) if self._intercept else np.zeros_like(y[0])
        y = y - offset
        if self._dual:
            gram, left = self._kernel(train, train, weights), self._kernel(test, train, weights)
            if self._intercept:
                mean = gram.mean(axis=0, dtype=np.float64)
                grand = mean.mean()
                gram -= (mean[:, np.newaxis] - grand / 2).astype(gram.dtype)
                gram -= (mean - grand / 2).astype(gram.dtype)
                left -= left.mean(axis=1, dtype=np.float64, keepdims=True).astype(gram.dtype)
                left -= (mean - grand).astype(gram.dtype)
                # The direction of the intercept: nothing has a part in it, but A gets regular.
                gram += float(np.trace(gram, dtype=np.float64)) / len(gram) ** 2
            return gram, left, y, offset
        x = self._x[train]
        centre = x.mean(axis=0) if self._intercept else np.zeros_like(x[0])
        scale = self._scale(weights)
        x = (x - centre) * scale
        return x.T @ x, (self._x[test] - centre) * scale, x.T @ y, offset

    def _kernel(
        self, rows: NDArray[np.intp], columns: NDArray[np.intp], weights: NDArray[np.float64]
    ) -> Array:
        total = np.zeros((len(rows), len(columns)), self._x.dtype)
        for gram, weight in zip(self._grams, weights, strict=True):
            if weight > 0 and len(rows):
                total += self._x.dtype.type(weight) * gram[np.ix_(rows, columns)]
        return total
