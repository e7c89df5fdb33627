"""One symmetric matrix brought to tridiagonal form, kept as plain arrays that a file can hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from models.ridge.gram import Array
from models.ridge.small_systems import blas_threads, lapack_call, lapack_routine, usable_cores

__all__ = ["Reduction"]

_BLOCK = 64


@dataclass(frozen=True, slots=True, eq=False)
class Reduction:
    """A = Q T Q' with T tridiagonal; then (A + alpha)^-1 is cheap for any alpha > 0."""

    reflectors: Array  # (n, n), LAPACK's xSYTRD with uplo "L", as columns of Fortran's order
    scales: Array  # (n - 1,)
    diagonal: Array  # (n,) of T
    beside: Array  # (n - 1,)

    @classmethod
    def of(cls, matrix: Array) -> Self:
        """Reduce a symmetric matrix (n, n), float32 or float64; it is overwritten."""
        n = len(matrix)
        diagonal, beside = np.empty(n, matrix.dtype), np.zeros(max(n - 1, 1), matrix.dtype)
        scales = np.zeros_like(beside)
        work = np.empty(_BLOCK * n, matrix.dtype)
        with blas_threads(usable_cores()):
            lapack_call(
                lapack_routine(_letter(matrix) + "sytrd"), np.zeros(8, np.int64),
                b"L", n, matrix, n, diagonal, beside, scales, work, len(work),
            )  # fmt: skip
        return cls(matrix, scales, diagonal, beside)

    def turn(self, rows: Array, *, back: bool = False) -> Array:
        """Return Q' r, or Q r, for each row r: (m, n)."""
        n = len(self.diagonal)
        out = np.array(rows, self.reflectors.dtype, order="C")
        if len(out) == 0:
            return out
        work = np.empty(_BLOCK * max(len(out), _BLOCK) + _BLOCK * (_BLOCK + 1), out.dtype)
        lapack_call(
            lapack_routine(_letter(out) + "ormtr"), np.zeros(8, np.int64),
            b"L", b"L", b"N" if back else b"T", n, len(out), self.reflectors, n,
            self.scales, out, n, work, len(work),
        )  # fmt: skip
        return out

    def solve(self, turned: Array, alphas: NDArray[np.float64]) -> Array:
        """Return (T + alpha)^-1 t for each row t and each alpha: (n_alphas, m, n).

        Raises
        ------
        SettingError
            If A + alpha is not positive beyond rounding.
        """
        n = len(self.diagonal)
        out = np.empty((len(alphas), *turned.shape), turned.dtype)
        solve = lapack_routine(_letter(turned) + "ptsv")
        for row, alpha in zip(out, alphas, strict=True):
            row[:] = turned
            diagonal, beside = self.diagonal + turned.dtype.type(alpha), self.beside.copy()
            if lapack_call(solve, np.zeros(8, np.int64), n, len(row), diagonal, beside, row, n):
                raise SettingError(
                    f"The penalty {alpha:g} is too small for these data in {turned.dtype}: the "
                    "system is singular. Use a larger alpha, or float64."
                )
        return out


def _letter(array: Array) -> str:
    return "s" if array.dtype == np.float32 else "d"
