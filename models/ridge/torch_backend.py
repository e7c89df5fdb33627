"""The same ridge by torch, on the processor or on an NVIDIA GPU; only this file needs torch.

torch has no reduction to a band, but a GPU is at its best with Cholesky factors of many matrices at
once: here each penalty has its own factor. Folds, centring and results are those of
`models.ridge.solver`, exact as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import DeviceError
from models.ridge.folds import Folds
from models.ridge.gram import Array
from models.ridge.path import AlphaPath
from models.ridge.solver import HeldOut, Method

__all__ = ["TorchEngine"]

_PIECE_BYTES = 256 * 2**20
_FACTOR_BYTES = 2 * 2**30  # Cholesky factors at a time


class TorchEngine:
    """Ridge by torch; see `models.ridge.solver.NumpyEngine` for the parameters.

    Raises
    ------
    DeviceError
        If torch, or the GPU that was asked for, cannot be had.
    """

    def __init__(
        self, x: Array, y: Array, *, fit_intercept: bool, device: Literal["cpu", "cuda"]
    ) -> None:
        if find_spec("torch") is None:
            raise DeviceError(
                "backend='torch' needs torch, which is not installed. Install it, or use "
                "backend='numpy'."
            )
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError(
                "backend='cuda' needs an NVIDIA GPU that torch can use, and there is none. Use "
                "backend='numpy'."
            )
        self._torch: Any = torch
        self._intercept = fit_intercept
        self._x, raw = (self._tensor(each, device) for each in (x, y))
        self._mean, self._offset = (self._means(each, fit_intercept) for each in (self._x, raw))
        self._y = raw - self._offset
        if fit_intercept:
            # A constant target is exactly 0 after centring, not nearly: all penalties then tie.
            self._y[:, raw.amax(0) == raw.amin(0)] = 0
        n, n_features = self._x.shape
        self._dual = n_features >= n
        with self._full_precision():
            if self._dual:
                self._gram = self._zeros(n, n)
                for _, piece in self._centred_columns():
                    self._gram.addmm_(piece, piece.T)
            else:
                self._gram, self._cross, _, _ = self._moments(np.arange(n))

    def held_out(self, folds: Folds, alphas: AlphaPath, method: Method) -> HeldOut:
        """Yield what `NumpyEngine.held_out` does; method "blocks" from one inverse per penalty."""
        with self._full_precision():
            if method == "blocks" and not self._is_singular(self._filled(), alphas.nodes.min()):
                yield from self._by_blocks([test for _, test in folds], alphas)
                return
            for train, test in folds:
                yield from self._by_fold(train, test, alphas)

    def weights(self, alphas: NDArray[np.float64]) -> tuple[Array, Array]:
        """Return coefficients (n_targets, n_features) and intercepts (n_targets,)."""
        right = self._y if self._dual else self._cross
        solved = self._torch.empty_like(right)
        with self._full_precision():
            for alpha in np.unique(alphas):
                of = self._torch.as_tensor(np.flatnonzero(alphas == alpha), device=right.device)
                part = self._solve(self._filled(), right[:, of], np.array([alpha]))
                solved[:, of] = next(part)[0]
            if self._dual:
                coef = self._zeros(right.shape[1], self._x.shape[1])
                for columns, piece in self._centred_columns():
                    coef[:, columns] = solved.T @ piece
            else:
                coef = solved.T.contiguous()
            intercept = self._offset - coef @ self._mean
        return coef.cpu().numpy(), intercept.cpu().numpy()

    def _by_fold(
        self, train: NDArray[np.intp], test: NDArray[np.intp], alphas: AlphaPath
    ) -> HeldOut:
        if self._dual:
            a, left, right, offset = self._dual_fold(train, test)
        else:
            a, left, right, offset = self._primal_fold(train, test)
        scale = float(a.diagonal().sum(dtype=self._torch.float64)) / len(a)
        for columns in self._column_pieces(right.shape[1], alphas.size * len(test)):
            solved = self._solve(a, right[:, columns], alphas.nodes)
            at_nodes = np.concatenate([(left @ some).cpu().numpy() for some in solved])
            out = alphas.interpolate(at_nodes, scale=scale)
            out += (offset[columns] + self._offset[columns]).cpu().numpy()
            yield test, columns, out

    def _dual_fold(self, train: NDArray[np.intp], test: NDArray[np.intp]) -> tuple[Any, ...]:
        rows, held = self._index(train), self._index(test)
        a, left, right = self._gram[rows][:, rows], self._gram[held][:, rows], self._y[rows]
        if not self._intercept:
            return a, left, right, self._zeros(right.shape[1])
        mean = a.mean(0, dtype=self._torch.float64)
        grand = mean.mean()
        a = a - (mean[:, None] - grand / 2).to(a.dtype) - (mean - grand / 2).to(a.dtype)
        left = left - left.mean(1, keepdim=True) - (mean - grand).to(a.dtype)
        offset = self._means(right, True)
        return self._fill_null(a), left, right - offset, offset

    def _primal_fold(self, train: NDArray[np.intp], test: NDArray[np.intp]) -> tuple[Any, ...]:
        gram, cross, total, total_y = self._moments(train)
        left = self._x[self._index(test)] - self._mean
        if not self._intercept:
            return gram, left, cross, self._torch.zeros_like(total_y)
        gram -= self._torch.outer(total, total / len(train))
        cross -= self._torch.outer(total, total_y / len(train))
        return gram, left - total / len(train), cross, total_y / len(train)

    def _by_blocks(self, tests: list[NDArray[np.intp]], alphas: AlphaPath) -> HeldOut:
        torch, n = self._torch, len(self._y)
        gram, rows = self._filled(), np.concatenate(tests)
        index = [self._index(test) for test in tests]
        at = np.cumsum([0, *map(len, tests)])
        scale = float(self._gram.diagonal().sum(dtype=torch.float64)) / len(gram)
        null = 1.0 / n if self._intercept else 0.0
        for columns in self._column_pieces(self._y.shape[1], alphas.size * len(rows)):
            y = self._y[:, columns]
            offset = torch.zeros_like(y[self._index(rows)])
            if self._intercept:
                for k, held in enumerate(index):
                    offset[at[k] : at[k + 1]] = -y[held].sum(0) / (n - len(held))
            at_nodes = np.empty((len(alphas.nodes), *offset.shape), self._numpy_dtype)
            for node, alpha in enumerate(alphas.nodes):
                inverse = torch.cholesky_inverse(self._factor(gram, np.array([alpha]))[0])
                fitted = inverse @ (y if self._dual else self._cross[:, columns])
                out = torch.empty_like(offset)
                for k, held in enumerate(index):
                    if self._dual:
                        block = inverse[held][:, held] - null / (scale + float(alpha))
                        residual = fitted[held]
                    else:
                        x = self._x[held] - self._mean
                        block = torch.eye(len(held), dtype=x.dtype, device=x.device) - null
                        block -= x @ inverse @ x.T
                        residual = y[held] - x @ fitted
                    out[at[k] : at[k + 1]] = y[held] - torch.linalg.solve(block, residual)
                at_nodes[node] = (out - offset).cpu().numpy()
            predictions = alphas.interpolate(at_nodes, scale=scale)
            predictions += (offset + self._offset[columns]).cpu().numpy()
            yield rows, columns, predictions

    def _solve(self, a: Any, right: Any, alphas: NDArray[np.float64]) -> Iterator[Any]:
        """Yield (a + alpha)^-1 right of shape (some alphas, n, r) until all alphas are done."""
        torch = self._torch
        step = max(1, _FACTOR_BYTES // max(1, a.element_size() * a.numel()))
        values: Any = None
        for first in range(0, len(alphas), step):
            some = alphas[first : first + step]
            if not self._is_singular(a, some.min()):
                yield torch.cholesky_solve(right, self._factor(a, some))
                continue
            # Directions whose eigenvalue is nothing but rounding get no weight.
            if values is None:
                values, vectors = torch.linalg.eigh(a)
                turned = vectors.T @ right
                kept = values > self._rounding(a)
            for alpha in some:
                inverse = torch.where(kept, 1.0 / (values + float(alpha)), 0.0)
                yield (vectors @ (inverse[:, None] * turned))[None]

    def _factor(self, a: Any, alphas: NDArray[np.float64]) -> Any:
        """Return the Cholesky factors of a + alpha (n_alphas, n, n)."""
        shifted = a.expand(len(alphas), *a.shape).clone()
        shifted.diagonal(dim1=1, dim2=2).add_(
            self._torch.as_tensor(alphas, dtype=a.dtype, device=a.device)[:, None]
        )
        return self._torch.linalg.cholesky(shifted)

    def _rounding(self, a: Any) -> float:
        largest = float(a.abs().sum(0).max())
        eps = float(self._torch.finfo(a.dtype).eps)
        return 4.0 * float(np.sqrt(len(a))) * eps * largest

    def _is_singular(self, a: Any, alpha: float) -> bool:
        """Return whether a + alpha may be singular but for rounding."""
        floor = self._rounding(a)
        if alpha > floor:
            return False
        return float(self._torch.linalg.eigvalsh(a)[0]) + float(alpha) <= floor

    def _filled(self) -> Any:
        return self._fill_null(self._gram) if self._dual and self._intercept else self._gram

    def _fill_null(self, gram: Any) -> Any:
        """Give the direction of the intercept the mean eigenvalue; see `models.ridge.solver`."""
        trace = float(gram.diagonal().sum(dtype=self._torch.float64))
        return gram + trace / len(gram) ** 2

    def _moments(self, rows: NDArray[np.intp]) -> tuple[Any, ...]:
        """Return X'X, X'Y and the sums of X and Y over some rows, X and Y centred."""
        n_features = self._x.shape[1]
        gram = self._zeros(n_features, n_features)
        cross = self._zeros(n_features, self._y.shape[1])
        total, total_y = self._zeros(n_features), self._zeros(self._y.shape[1])
        step = max(1, _PIECE_BYTES // (n_features * self._x.element_size()))
        for first in range(0, len(rows), step):
            index = self._index(rows[first : first + step])
            x, y = self._x[index] - self._mean, self._y[index]
            gram.addmm_(x.T, x)
            cross.addmm_(x.T, y)
            total += x.sum(0)
            total_y += y.sum(0)
        return gram, cross, total, total_y

    def _centred_columns(self) -> Iterator[tuple[slice, Any]]:
        n, n_features = self._x.shape
        step = max(1, _PIECE_BYTES // (n * self._x.element_size()))
        for first in range(0, n_features, step):
            columns = slice(first, min(n_features, first + step))
            yield columns, self._x[:, columns] - self._mean[columns]

    def _column_pieces(self, n_targets: int, rows: int) -> Iterator[slice]:
        step = max(1, _PIECE_BYTES // max(1, rows * self._y.element_size()))
        for first in range(0, n_targets, step):
            yield slice(first, min(n_targets, first + step))

    def _tensor(self, values: Array, device: str) -> Any:
        self._numpy_dtype = values.dtype
        if values.flags.writeable and all(stride > 0 for stride in values.strides):
            return self._torch.from_numpy(values).to(device)
        return self._torch.tensor(values.copy(), device=device)

    def _index(self, rows: NDArray[np.intp]) -> Any:
        return self._torch.as_tensor(rows, device=self._x.device)

    def _zeros(self, *shape: int) -> Any:
        return self._torch.zeros(shape, dtype=self._x.dtype, device=self._x.device)

    def _means(self, values: Any, wanted: bool) -> Any:
        if not wanted:
            return self._torch.zeros_like(values[0])
        return values.mean(0, dtype=self._torch.float64).to(values.dtype)

    @contextmanager
    def _full_precision(self) -> Iterator[None]:
        """Keep TF32 off, whose products are right to 1e-3 only."""
        matmul = self._torch.backends.cuda.matmul
        before, matmul.allow_tf32 = matmul.allow_tf32, False
        try:
            yield
        finally:
            matmul.allow_tf32 = before
