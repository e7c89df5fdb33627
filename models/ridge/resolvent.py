"""(A + alpha)^-1 R for one symmetric A >= 0 and many alpha: reduced once, solved cheaply."""

from __future__ import annotations

import numpy as np

from models.ridge.band import BANDWIDTH, reduce_to_band
from models.ridge.gram import Array, fortran

__all__ = ["Resolvent"]

_BLOCK = 4 * BANDWIDTH  # rows that are solved by one matrix product


class Resolvent:
    """The matrices (A + alpha)^-1 of one A, in a basis where A is banded: A = Q B Q'.

    Parameters
    ----------
    a : array of shape (n, n)
        Symmetric, no eigenvalue below 0 except by rounding; overwritten.

    Notes
    -----
    Where alpha is too small to lift the smallest eigenvalue above rounding, B is decomposed after
    all, and directions whose eigenvalue is nothing but rounding get no weight: at alpha 0 this is
    the pseudo-inverse.
    """

    def __init__(self, a: Array) -> None:
        self.n = len(a)
        self.scale = max(float(np.trace(a, dtype=np.float64)) / max(self.n, 1), 0.0)
        self._band, self._reflectors = reduce_to_band(a)
        reach = np.abs(self._band).sum(axis=0, dtype=np.float64)
        for distance in range(1, min(len(self._band), self.n)):
            reach[distance:] += np.abs(self._band[distance, : self.n - distance])
        self._norm = float(reach.max(initial=0.0))  # no eigenvalue is larger
        self._rounding = 4.0 * np.sqrt(self.n) * float(np.finfo(a.dtype).eps) * self._norm
        self._smallest: tuple[float, float] | None = None  # alpha, smallest eigenvalue of B + alpha
        self._eigen: tuple[Array, Array] | None = None

    def turn(self, rows: Array) -> Array:
        """Return Q' rows, for rows of shape (n, r)."""
        return self._reflectors.turn(rows)

    def turn_back(self, rows: Array) -> Array:
        """Return Q rows, for rows of shape (n, r)."""
        return self._reflectors.turn_back(rows)

    def resolves(self, alpha: float) -> bool:
        """Return whether A + alpha is regular beyond rounding."""
        return self._factor(alpha) is not None

    def solve(self, turned: Array, alpha: float) -> Array:
        """Return (B + alpha)^-1 turned, for turned of shape (n, r)."""
        factor = self._factor(alpha)
        if factor is None:
            values, vectors = self._decomposed()
            inverse = np.zeros_like(values)
            kept = values > self._rounding
            inverse[kept] = 1.0 / (values[kept] + alpha)
            out: Array = vectors @ (inverse[:, np.newaxis] * (vectors.T @ turned))
            return out
        return _solve(factor, turned)

    def _factor(self, alpha: float) -> Array | None:
        """Return the band's Cholesky factor, or None where rounding would swamp it."""
        if self._smallest is not None and alpha < self._smallest[0]:
            self._smallest = None
        if self._smallest is not None and alpha + self._smallest[1] <= self._rounding:
            return None
        pbtrf = fortran("pbtrf", self._band)
        shifted = self._band.copy(order="F")
        shifted[0] += alpha
        factor, info = pbtrf(shifted, lower=1, overwrite_ab=1)
        if info != 0:
            return None
        if self._smallest is None:
            self._smallest = (alpha, _smallest_eigenvalue(factor) - alpha)
            if alpha + self._smallest[1] <= self._rounding:
                return None
        return np.asarray(factor)

    def _decomposed(self) -> tuple[Array, Array]:
        """Return eigenvalues and eigenvectors of B."""
        if self._eigen is None:
            dense = np.zeros((self.n, self.n), self._band.dtype)
            for distance in range(min(len(self._band), self.n)):
                rows = np.arange(self.n - distance)
                dense[rows + distance, rows] = self._band[distance, : self.n - distance]
            values, vectors = np.linalg.eigh(dense)
            self._eigen = values, vectors
        return self._eigen


def _smallest_eigenvalue(factor: Array) -> float:
    """Return an estimate, never too small, of the smallest eigenvalue of L L', L banded."""
    pbtrs = fortran("pbtrs", factor)
    # Any start that is not orthogonal to the eigenvector will do; a fixed one repeats exactly.
    vectors = np.random.default_rng(0).standard_normal((factor.shape[1], 4)).astype(factor.dtype)
    growth = 0.0
    for _ in range(4):
        vectors /= np.linalg.norm(vectors, axis=0)
        vectors, _ = pbtrs(factor, vectors, lower=1)
        growth = float(np.linalg.norm(vectors, axis=0).max())
    return 1.0 / growth if growth > 0 else 0.0


def _solve(factor: Array, turned: Array) -> Array:
    """Return (L L')^-1 turned, L banded in LAPACK's lower band form, block by block.

    LAPACK solves bands column by column; with blocks of rows nearly all is matrix products.
    """
    trtri = fortran("trtri", factor)
    n, w = factor.shape[1], len(factor) - 1
    step = max(_BLOCK, w)
    out = np.array(turned, order="C")
    inverses, couplings = [], []
    for start in range(0, n, step):
        stop = min(n, start + step)
        inverse, _ = trtri(_dense(factor, start, stop, start, stop), lower=1)
        inverses.append(inverse)
        reach = min(n, stop + w)  # rows below that see the last w columns of this block
        couplings.append(_dense(factor, stop, reach, max(start, stop - w), stop))
    for k, start in enumerate(range(0, n, step)):
        stop = min(n, start + step)
        out[start:stop] = inverses[k] @ out[start:stop]
        below = couplings[k]
        out[stop : stop + len(below)] -= below @ out[stop - below.shape[1] : stop]
    for k in reversed(range(len(inverses))):
        start, stop = k * step, min(n, (k + 1) * step)
        below = couplings[k]
        out[stop - below.shape[1] : stop] -= below.T @ out[stop : stop + len(below)]
        out[start:stop] = inverses[k].T @ out[start:stop]
    return out


def _dense(factor: Array, top: int, bottom: int, left: int, right: int) -> Array:
    """Return L[top:bottom, left:right] as a full array."""
    distance = np.arange(top, bottom)[:, np.newaxis] - np.arange(left, right)
    inside = (distance >= 0) & (distance < len(factor))
    columns = np.broadcast_to(np.arange(left, right), distance.shape)
    values = factor[np.where(inside, distance, 0), columns]
    return np.where(inside, values, 0).astype(factor.dtype)
