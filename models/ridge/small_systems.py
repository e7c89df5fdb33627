"""Many small symmetric systems (G + alpha I) w = g in threads: LAPACK without Python's lock.

SciPy's LAPACK functions keep the interpreter's lock while they compute, so two threads take as long
as one. The same routines are public as function pointers (`scipy.linalg.cython_lapack`); called
through ctypes they run side by side. Each thread owns one `SmallSystems`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SmallSystems", "blas_threads", "lapack_call", "lapack_routine", "usable_cores"]

# Columns that DORMTR handles at a time; LAPACK asks for this many times its block size.
_BLOCK = 64


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def blas_threads(n_threads: int) -> Iterator[None]:
    """Let each BLAS or LAPACK call use `n_threads` threads meanwhile.

    Small systems are solved in our own threads; with threads of BLAS beneath them, a reduction of
    500 x 500 took 240 ms instead of 7 (two cores, others busy on them).
    """
    # SciPy brings a BLAS of its own; only those that are loaded by now are limited.
    import scipy.linalg.cython_lapack  # noqa: F401
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(limits=n_threads, user_api="blas"):
        yield


@cache
def lapack_routine(name: str) -> Any:
    """Return a LAPACK routine as a C function of pointers; calls do not hold Python's lock."""
    from scipy.linalg import cython_lapack

    capsules: dict[str, Any] = dict(cython_lapack.__pyx_capi__)
    capsule = capsules[name]
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    signature = name_of(capsule)
    n_arguments = signature.count(b",") + 1
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)
    return prototype(pointer_of(capsule, signature))


def lapack_call(routine: Any, numbers: NDArray[np.int64], *arguments: Any) -> int:
    """Call a LAPACK routine and return its `info`.

    Parameters
    ----------
    routine : from `lapack_routine`
    numbers : array of shape (8,), int64
        Where integer arguments and `info` are put; one for each thread. LAPACK may read 32 or 64
        bits of each: on little-endian machines both are right.
    arguments : bytes (one letter), int (at most 7) or contiguous arrays
        All but the last, `info`.
    """
    pointers: list[Any] = []
    address = numbers.ctypes.data
    used = 0
    for argument in arguments:
        if isinstance(argument, bytes):
            pointers.append(ctypes.c_char_p(argument))
        elif isinstance(argument, int):
            numbers[used] = argument
            pointers.append(address + 8 * used)
            used += 1
        else:
            pointers.append(argument.ctypes.data)
    numbers[7] = 0
    routine(*pointers, address + 56)
    return int(numbers[7])


class SmallSystems:
    """Solver of symmetric positive systems of one size; it owns its work space, so one per thread.

    Parameters
    ----------
    size : int
        Unknowns, k.
    dtype : numpy dtype
        float32 or float64.
    alphas : array of shape (n_alphas,)
        Penalties of `path`, each 0 or more.
    n_sides : int
        Right-hand sides of `path`.
    """

    def __init__(
        self, size: int, dtype: Any, alphas: NDArray[np.float64], *, n_sides: int = 1
    ) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"Systems are solved in float32 or float64, not {self.dtype}.")
        letter = "s" if self.dtype == np.float32 else "d"
        self._reduce = lapack_routine(f"{letter}sytrd")
        self._rotate = lapack_routine(f"{letter}ormtr")
        self._tridiagonal = lapack_routine(f"{letter}ptsv")
        self._factor = lapack_routine(f"{letter}potrf")
        self._substitute = lapack_routine(f"{letter}potrs")
        self.size, self.alphas, self.n_sides = size, alphas, n_sides
        self._epsilon = float(np.finfo(self.dtype).eps)
        self.matrix = np.empty((size, size), self.dtype)  # symmetric: C order is Fortran order
        self._diagonal = np.empty((len(alphas), size), self.dtype)
        self._beside = np.empty((len(alphas), max(size - 1, 1)), self.dtype)
        self._scales = np.empty(max(size - 1, 1), self.dtype)
        self._work = np.empty(_BLOCK * max(size, len(alphas) * n_sides), self.dtype)
        self._numbers = np.zeros(8, np.int64)

    def path(self, sides: NDArray[Any]) -> NDArray[Any]:
        """Return the solutions for every alpha; `matrix`, filled by the caller, is overwritten.

        G = Q T Q' once, T tridiagonal; then (T + alpha I) z = Q' g is O(k) for each alpha.

        Parameters
        ----------
        sides : array of shape (n_sides, k)

        Returns
        -------
        solutions : array of shape (n_alphas, n_sides, k)
            Where the penalty is lost in rounding and the matrix is singular: of least norm.
        """
        kept = self.matrix.copy()
        d, e = self._diagonal[0], self._beside[0]
        self._call(
            self._reduce, b"L", self.size, self.matrix, self.size, d, e, self._scales, self._work,
            len(self._work),
        )  # fmt: skip
        out = np.empty((len(self.alphas), self.n_sides, self.size), self.dtype)
        out[0] = sides
        self._apply_q(out[0], b"T")
        largest = float(np.max(np.abs(d)) + 2 * (np.max(np.abs(e)) if self.size > 1 else 0.0))
        floor = self.size * self._epsilon * largest
        out[1:], self._diagonal[1:], self._beside[1:] = out[0], d, e
        lost: list[int] = []
        for i, alpha in enumerate(self.alphas):
            pivots = self._diagonal[i]
            pivots += alpha
            failed = self._call(
                self._tridiagonal, self.size, self.n_sides, pivots, self._beside[i], out[i],
                self.size,
            )  # fmt: skip
            if failed or pivots.min() <= floor:
                lost.append(i)
        self._apply_q(out.reshape(-1, self.size), b"N")
        if lost:
            out[lost] = _by_eigenvectors(kept, sides, self.alphas[lost], self._epsilon)
        return out

    def solve(self, sides: NDArray[Any], *, alpha: float) -> NDArray[Any]:
        """Return the solutions (n_sides, k) for one alpha; `matrix` is overwritten."""
        kept = self.matrix.copy()
        out = np.ascontiguousarray(sides, self.dtype).copy()
        diagonal = self.matrix.reshape(-1)[:: self.size + 1]
        floor = self.size * self._epsilon * float(diagonal.max())
        diagonal += alpha
        failed = self._call(self._factor, b"L", self.size, self.matrix, self.size)
        if failed or float(diagonal.min()) ** 2 <= floor:
            least_norm = _by_eigenvectors(kept, sides, np.array([alpha]), self._epsilon)[0]
            return np.asarray(least_norm, self.dtype)
        self._call(
            self._substitute, b"L", self.size, len(out), self.matrix, self.size, out, self.size
        )
        return out

    def _apply_q(self, rows: NDArray[Any], transpose: bytes) -> None:
        """Replace rows (m, k), as columns of a Fortran matrix, by Q or Q' times them."""
        self._call(
            self._rotate, b"L", b"L", transpose, self.size, len(rows), self.matrix, self.size,
            self._scales, rows, self.size, self._work, len(self._work),
        )  # fmt: skip

    def _call(self, routine: Any, *arguments: Any) -> int:
        return lapack_call(routine, self._numbers, *arguments)


def _by_eigenvectors(
    matrix: NDArray[Any], sides: NDArray[Any], alphas: NDArray[np.float64], epsilon: float
) -> NDArray[np.float64]:
    """Solve what rounding made singular: directions below rounding get no weight."""
    values, vectors = np.linalg.eigh(matrix.astype(np.float64))
    rotated = np.asarray(sides, np.float64) @ vectors  # (n_sides, k)
    null = values <= len(values) * epsilon * max(float(values[-1]), 0.0)
    total = np.where(null, 1.0, values) + alphas[:, np.newaxis]  # (n_alphas, k)
    scaled = np.where(null, 0.0, 1.0 / total)[:, np.newaxis] * rotated
    solutions: NDArray[np.float64] = scaled @ vectors.T
    return solutions
