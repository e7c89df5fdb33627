"""Symmetric matrices brought to band form once, so that each further penalty costs almost nothing.

A = Q B Q' with orthogonal Q and B of bandwidth w. Then (A + alpha)^-1 R = Q (B + alpha)^-1 Q'R, and
solving with a band is of order n w. A tridiagonal B would do as well, but reaching it needs half
of its 4/3 n^3 operations as matrix-vector products, which wait for memory; to reach a band, all
are matrix products (Bischof, Lang and Sun 2000, "A framework for symmetric band reduction", ACM
TOMS 26:581). Eigenvectors, ten times the price, are never needed.
"""

from __future__ import annotations

import numpy as np

from models.ridge.gram import Array, fortran

__all__ = ["BANDWIDTH", "Reflectors", "reduce_to_band"]

BANDWIDTH = 32
_GROUP = 256  # columns whose reflections are applied together: fewer passes over memory
_ROWS = 512


class Reflectors:
    """The orthogonal matrix Q, as products I - V T V'."""

    def __init__(self) -> None:
        self._blocks: list[tuple[int, Array, Array]] = []  # first row, V (n - row, k), T (k, k)

    def append(self, first: int, v: Array, t: Array) -> None:
        """Add a factor, to the right of the others, that leaves rows before `first` alone."""
        self._blocks.append((first, v, t))

    def turn(self, rows: Array) -> Array:
        """Return Q' rows, for rows of shape (n, r)."""
        out = np.array(rows, order="C")
        for first, v, t in self._blocks:
            out[first:] -= v @ (t.T @ (v.T @ out[first:]))
        return out

    def turn_back(self, rows: Array) -> Array:
        """Return Q rows, for rows of shape (n, r)."""
        out = np.array(rows, order="C")
        for first, v, t in reversed(self._blocks):
            out[first:] -= v @ (t @ (v.T @ out[first:]))
        return out


def reduce_to_band(a: Array, *, bandwidth: int = BANDWIDTH) -> tuple[Array, Reflectors]:
    """Return B and Q with A = Q B Q'.

    Parameters
    ----------
    a : array of shape (n, n)
        Symmetric, C-ordered; overwritten.
    bandwidth : int

    Returns
    -------
    band : array of shape (bandwidth + 1, n)
        ``band[d, j] = B[j + d, j]``, LAPACK's lower band form.
    reflectors : Reflectors
    """
    n, w = len(a), bandwidth
    reflectors = Reflectors()
    start = 0
    while start + w + 1 < n:
        stop = _reduce_group(a, start, w, reflectors)
        start = stop
    band = np.zeros((w + 1, n), a.dtype)
    for distance in range(min(w + 1, n)):
        band[distance, : n - distance] = np.diagonal(a, -distance)
    return band, reflectors


def _reduce_group(a: Array, start: int, w: int, reflectors: Reflectors) -> int:
    """Eliminate below the band in some panels from column `start`; return the next column.

    The trailing matrix is A - V Y' - Y V', and is made only once for the whole group.
    """
    n = len(a)
    v_all = np.zeros((n - start, _GROUP), a.dtype)
    y_all = np.zeros_like(v_all)
    t_all = np.zeros((_GROUP, _GROUP), a.dtype)
    used, column = 0, start
    while used + w <= _GROUP and column + w + 1 < n:
        here, below = column - start, column + w - start  # rows of v_all
        panel = a[column:, column : column + w]
        if used:
            v_here, y_here = v_all[here : here + w, :used], y_all[here : here + w, :used]
            panel -= v_all[here:, :used] @ y_here.T
            panel -= y_all[here:, :used] @ v_here.T
        v, t, r = _qr(panel[w:])
        k = len(t)
        panel[w:] = 0
        panel[w : w + k] = r
        u = a[column + w :, column + w :] @ v
        if used:
            v_old, y_old = v_all[below:, :used], y_all[below:, :used]
            vv = v_old.T @ v
            u -= v_old @ (y_old.T @ v)
            u -= y_old @ vv
            t_all[:used, used : used + k] = -t_all[:used, :used] @ (vv @ t)
        u = u @ t
        u -= v @ (0.5 * (t.T @ (v.T @ u)))
        v_all[below:, used : used + k] = v
        y_all[below:, used : used + k] = u
        t_all[used : used + k, used : used + k] = t
        used, column = used + k, column + w
    offset = column - start
    _subtract(a[column:, column:], v_all[offset:, :used], y_all[offset:, :used])
    reflectors.append(start + w, np.ascontiguousarray(v_all[w:, :used]), t_all[:used, :used].copy())
    return column


def _qr(panel: Array) -> tuple[Array, Array, Array]:
    """Return V (m, k), T (k, k), R (k, w) with panel = (I - V T V') [R; 0]."""
    geqrf = fortran("geqrf", panel)
    factored, tau, _, _ = geqrf(panel)
    k = min(panel.shape)
    v = np.tril(factored[:, :k], -1)
    v[np.arange(k), np.arange(k)] = 1.0
    gram = v.T @ v
    t = np.zeros((k, k), panel.dtype)
    for i in range(k):
        t[:i, i] = -tau[i] * (t[:i, :i] @ gram[:i, i])
        t[i, i] = tau[i]
    return np.ascontiguousarray(v), t, np.triu(factored[:k])


def _subtract(a: Array, v: Array, y: Array) -> None:
    """Subtract V Y' + Y V' from symmetric A: the lower triangle computed, the upper one copied."""
    left, right = np.concatenate((v, y), axis=1), np.concatenate((y, v), axis=1)
    n = len(a)
    for start in range(0, n, _ROWS):
        stop = min(n, start + _ROWS)
        a[start:stop, :stop] -= left[start:stop] @ right[:stop].T
        a[:start, start:stop] = a[start:stop, :start].T
