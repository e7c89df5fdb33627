"""Exact ridge solutions for many penalties: predictions for held-out folds, and weights.

With X centred, K = X X' (dual) or X'X (primal), whichever is smaller, the ridge solution needs
(K + alpha)^-1 only. Two exact ways to the held-out predictions:

folds
    For each fold, K of the training samples is cut out of K and centred anew (dual), or the
    held-out part is taken off it (primal); one reduction for each fold, then one product for each
    penalty.
blocks
    One reduction of the whole K. With M = the inverse of K + alpha on vectors orthogonal to the
    intercept, the held-out residuals of fold b are (M_bb)^-1 (M y)_b. In the primal form
    M = (I - H) / alpha with the hat matrix H. Best for many small folds, leaving one out above all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.ridge.band import BANDWIDTH
from models.ridge.folds import Folds
from models.ridge.gram import (
    Array,
    centred_columns,
    column_means,
    inner_gram,
    outer_gram,
    pieces,
)
from models.ridge.path import AlphaPath
from models.ridge.resolvent import Resolvent

__all__ = ["Engine", "HeldOut", "Method", "NumpyEngine", "choose_method"]

Method: TypeAlias = Literal["folds", "blocks"]
HeldOut: TypeAlias = Iterator[tuple[NDArray[np.intp], slice, Array]]

_PREDICTION_BYTES = 256 * 2**20


def choose_method(shape: tuple[int, ...], n_targets: int, *, folds: Folds, n_alphas: int) -> Method:
    """Return which of the two ways needs fewer operations for X of this shape; nothing is timed."""
    n_samples, n_features = shape
    if not all(len(train) + len(test) == n_samples for train, test in folds):
        return "folds"
    dual = n_features >= n_samples
    size = float(min(n_samples, n_features))
    by_fold = 0.0
    by_block = 6 * size**3 + (0.0 if dual else 2 * n_samples * size**2)
    for train, test in folds:
        n_test = len(test)
        m = float(len(train)) if dual else size
        # The reduction counts double: half of it waits for memory.
        by_fold += 8 / 3 * m**3 + 4 * m**2 * (n_targets + n_test)
        by_fold += n_alphas * m * n_targets * (2 * n_test + 6 * BANDWIDTH)
        by_block += n_alphas * size * n_test * (2 * n_test + 2 * n_targets + 6 * BANDWIDTH)
        by_block += n_alphas * (n_test**3 / 3 + 2 * n_test**2 * n_targets)
        if not dual:
            by_fold += n_test * size**2
    return "folds" if by_fold <= by_block else "blocks"


class Engine(Protocol):
    """What a backend does for `models.ridge.estimator.Ridge`."""

    def held_out(self, folds: Folds, alphas: AlphaPath, method: Method) -> HeldOut:
        """Yield (rows, columns, predictions (n_alphas, n_rows, n_columns)), each sample held out.

        Predictions are those of models that never saw the rows. A row comes once for each fold
        that holds it out; the columns are targets, all of them in pieces.
        """

    def weights(self, alphas: NDArray[np.float64]) -> tuple[Array, Array]:
        """Return coefficients (n_targets, n_features) and intercepts (n_targets,).

        Parameters
        ----------
        alphas : array of shape (n_targets,)
            The penalty of each target.
        """


class NumpyEngine:
    """Ridge on the processor, by NumPy and LAPACK.

    Parameters
    ----------
    x : array of shape (n_samples, n_features)
        Kept as it is; never copied as a whole.
    y : array of shape (n_samples, n_targets)
        Of the same dtype.
    fit_intercept : bool
    """

    def __init__(self, x: Array, y: Array, *, fit_intercept: bool) -> None:
        self._x, self._intercept = x, fit_intercept
        self._mean, self._offset = (column_means(each, wanted=fit_intercept) for each in (x, y))
        self._y = y - self._offset
        # A constant target is exactly 0 after centring, not nearly: all penalties then tie.
        self._y[:, fit_intercept & (np.ptp(y, axis=0) == 0)] = 0
        self._dual = x.shape[1] >= len(x)
        if self._dual:
            self._gram = outer_gram(x, self._mean)
        else:
            self._gram, self._cross, _, _ = self._moments(np.arange(len(x)))
        self._whole: Resolvent | None = None

    def held_out(self, folds: Folds, alphas: AlphaPath, method: Method) -> HeldOut:
        """Yield held-out predictions; see `Engine`."""
        # Where K + alpha is singular but for rounding, its blocks tell nothing.
        if method == "blocks" and self._reduced().resolves(float(alphas.nodes.min())):
            yield from self._by_blocks([test for _, test in folds], alphas)
            return
        for train, test in folds:
            yield from self._by_fold(train, test, alphas)

    def weights(self, alphas: NDArray[np.float64]) -> tuple[Array, Array]:
        """Return coefficients and intercepts; see `Engine`."""
        whole = self._reduced()
        turned = whole.turn(self._y if self._dual else self._cross)
        for alpha in np.unique(alphas):
            of = np.flatnonzero(alphas == alpha)
            turned[:, of] = whole.solve(turned[:, of], float(alpha))
        solved = whole.turn_back(turned)  # (n_samples or n_features, n_targets)
        if self._dual:
            left = np.ascontiguousarray(solved.T)
            coef = np.empty((left.shape[0], self._x.shape[1]), self._x.dtype)
            for columns, piece in centred_columns(self._x, self._mean):
                coef[:, columns] = left @ piece
        else:
            coef = np.ascontiguousarray(solved.T)
        return coef, self._offset - coef @ self._mean

    def _reduced(self) -> Resolvent:
        """Return the resolvent of the whole K."""
        if self._whole is None:
            gram = self._gram.copy()
            if self._dual and self._intercept:
                _fill_null(gram)
            self._whole = Resolvent(gram)
        return self._whole

    def _rows(self, rows: NDArray[np.intp]) -> Array:
        """Return centred samples (n_rows, n_features); for the primal form only."""
        return self._x[rows] - self._mean

    def _moments(self, rows: NDArray[np.intp]) -> tuple[Array, Array, Array, Array]:
        """Return X'X, X'Y and the sums of X and Y over some rows, X and Y centred."""
        n_features, n_targets = self._x.shape[1], self._y.shape[1]
        gram = np.zeros((n_features, n_features), self._x.dtype)
        cross = np.zeros((n_features, n_targets), self._x.dtype)
        total, total_y = np.zeros(n_features), np.zeros(n_targets)
        for piece in pieces(len(rows), n_features * self._x.itemsize):
            x, y = self._rows(rows[piece]), self._y[rows[piece]]
            gram += inner_gram(x)
            cross += x.T @ y
            total += x.sum(axis=0, dtype=np.float64)
            total_y += y.sum(axis=0, dtype=np.float64)
        return gram, cross, total.astype(gram.dtype), total_y.astype(gram.dtype)

    def _by_fold(
        self, train: NDArray[np.intp], test: NDArray[np.intp], alphas: AlphaPath
    ) -> HeldOut:
        """Yield the predictions for one fold: left (A + alpha)^-1 right, A of the training part."""
        if self._dual:
            a, left, right, offset = self._dual_fold(train, test)
        else:
            a, left, right, offset = self._primal_fold(train, test)
        resolvent = Resolvent(a)
        left = np.ascontiguousarray(resolvent.turn(left.T).T)
        right = resolvent.turn(right)
        for columns in _column_pieces(right.shape[1], alphas.size * len(test), right.itemsize):
            shape = (len(alphas.nodes), len(test), columns.stop - columns.start)
            at_nodes = np.empty(shape, right.dtype)
            for k, alpha in enumerate(alphas.nodes):
                np.matmul(left, resolvent.solve(right[:, columns], float(alpha)), out=at_nodes[k])
            out = alphas.interpolate(at_nodes, scale=resolvent.scale)
            out += offset[columns] + self._offset[columns]
            yield test, columns, out

    def _dual_fold(
        self, train: NDArray[np.intp], test: NDArray[np.intp]
    ) -> tuple[Array, Array, Array, Array]:
        a = self._gram[np.ix_(train, train)]
        left = self._gram[np.ix_(test, train)]
        right = self._y[train]
        if not self._intercept:
            return a, left, right, np.zeros(right.shape[1], right.dtype)
        mean = a.mean(axis=0, dtype=np.float64)
        grand = mean.mean()
        a -= (mean[:, np.newaxis] - grand / 2).astype(a.dtype)
        a -= (mean - grand / 2).astype(a.dtype)
        left -= left.mean(axis=1, dtype=np.float64, keepdims=True).astype(a.dtype)
        left -= (mean - grand).astype(a.dtype)
        _fill_null(a)
        offset = right.mean(axis=0, dtype=np.float64).astype(right.dtype)
        return a, left, right - offset, offset

    def _primal_fold(
        self, train: NDArray[np.intp], test: NDArray[np.intp]
    ) -> tuple[Array, Array, Array, Array]:
        left = self._rows(test)
        if len(train) + len(test) == len(self._x) and len(test) <= len(train):
            gram, cross, total, total_y = self._moments(test)
            gram, cross = self._gram - gram, self._cross - cross
            # Over all samples both sums are 0 when centred.
            total, total_y = -total, -total_y
        else:
            gram, cross, total, total_y = self._moments(train)
        if not self._intercept:
            return gram, left, cross, np.zeros_like(total_y)
        gram -= np.outer(total, total / len(train))
        cross -= np.outer(total, total_y / len(train))
        return gram, left - total / len(train), cross, total_y / len(train)

    def _by_blocks(self, tests: Sequence[NDArray[np.intp]], alphas: AlphaPath) -> HeldOut:
        """Yield the predictions for all folds from one reduction."""
        whole = self._reduced()
        n = len(self._x)
        right = whole.turn(self._y if self._dual else self._cross)
        for some in _batches(tests, n):
            rows = np.concatenate(some)
            bounds = np.cumsum([0, *map(len, some)])
            if self._dual:
                unit = np.zeros((n, len(rows)), right.dtype)
                unit[rows, np.arange(len(rows))] = 1.0
                side = whole.turn(unit)  # (size, n_rows)
            else:
                side = whole.turn(self._rows(rows).T)
            inverses = [self._inverse_blocks(whole, side, bounds, float(k)) for k in alphas.nodes]
            for columns in _column_pieces(right.shape[1], alphas.size * len(rows), right.itemsize):
                truth = self._y[rows, columns]
                offset = np.concatenate([self._fold_offset(test, columns) for test in some])
                shape = (len(alphas.nodes), *truth.shape)
                at_nodes = np.empty(shape, right.dtype)
                for k, alpha in enumerate(alphas.nodes):
                    part = side.T @ whole.solve(right[:, columns], float(alpha))
                    residual = part if self._dual else truth - part
                    for block, a, b in zip(inverses[k], bounds[:-1], bounds[1:], strict=True):
                        at_nodes[k, a:b] = truth[a:b] - block @ residual[a:b]
                at_nodes -= offset
                out = alphas.interpolate(at_nodes, scale=whole.scale)
                out += offset + self._offset[columns]
                yield rows, columns, out

    def _fold_offset(self, test: NDArray[np.intp], columns: slice) -> Array:
        """Return the mean of the training part for each held-out row, from that of all, 0."""
        rows = self._y[test, columns]
        if not self._intercept:
            return np.zeros_like(rows)
        total = rows.sum(axis=0, dtype=np.float64)
        mean = (-total / (len(self._y) - len(test))).astype(rows.dtype)
        return np.broadcast_to(mean, rows.shape)

    def _inverse_blocks(
        self, whole: Resolvent, side: Array, bounds: NDArray[np.intp], alpha: float
    ) -> list[Array]:
        """Return for each fold what takes its residuals within the fit to those outside it."""
        solved = whole.solve(side, alpha)
        null = 1.0 / len(self._x) if self._intercept else 0.0
        inverses = []
        for a, b in pairwise(bounds):
            block = side[:, a:b].T @ solved[:, a:b]
            if self._dual:
                # K was given an eigenvalue along the intercept, where M has none.
                block -= null / (_null_scale(self._gram) + alpha)
            else:
                block = np.eye(len(block), dtype=block.dtype) - block - null
            inverses.append(np.asarray(np.linalg.inv(block)))
        return inverses


def _null_scale(gram: Array) -> float:
    return float(np.trace(gram, dtype=np.float64)) / len(gram)


def _fill_null(gram: Array) -> None:
    """Give the direction of the intercept, without variance after centring, the mean eigenvalue.

    Neither targets nor held-out rows have a part in that direction: solutions stay as they are, but
    the matrix is no longer singular when alpha is small.
    """
    gram += _null_scale(gram) / len(gram)


def _column_pieces(n_targets: int, rows: int, itemsize: int) -> Iterator[slice]:
    step = max(1, _PREDICTION_BYTES // max(1, rows * itemsize))
    for start in range(0, n_targets, step):
        yield slice(start, min(n_targets, start + step))


def _batches(tests: Sequence[NDArray[np.intp]], n: int) -> Iterator[list[NDArray[np.intp]]]:
    """Yield folds some at a time: small ones share their solves."""
    batch: list[NDArray[np.intp]] = []
    size = 0
    for test in tests:
        if batch and size + len(test) > max(n // 5, 256):
            yield batch
            batch, size = [], 0
        batch.append(test)
        size += len(test)
    if batch:
        yield batch
