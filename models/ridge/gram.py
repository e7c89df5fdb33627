"""Column means and Gram matrices of large arrays, in pieces that need little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Array",
    "centred_columns",
    "column_means",
    "fortran",
    "inner_gram",
    "is_finite",
    "outer_gram",
    "pieces",
    "symmetric",
]

Array: TypeAlias = NDArray[Any]  # float32 or float64, as the caller's data are

_PIECE_BYTES = 64 * 2**20


def fortran(name: str, array: Array) -> Any:
    """Return the BLAS or LAPACK function of this name for the dtype of an array."""
    from scipy.linalg import blas, lapack

    typed = ("s" if array.dtype == np.float32 else "d") + name
    return getattr(blas, typed, None) or getattr(lapack, typed)


def pieces(n: int, bytes_each: int) -> Iterator[slice]:
    """Yield slices of at most `_PIECE_BYTES` that cover n items."""
    step = max(1, _PIECE_BYTES // max(1, bytes_each))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))


def is_finite(values: Array) -> bool:
    """Return whether no value is NaN or infinite."""
    rows = pieces(len(values), max(1, values[:1].size))
    return all(bool(np.isfinite(values[piece]).all()) for piece in rows)


def column_means(x: Array, *, wanted: bool) -> Array:
    """Return the column means, added up in float64; zeros if they are not wanted."""
    if not wanted:
        return np.zeros(x.shape[1], x.dtype)
    total = np.zeros(x.shape[1])
    for rows in pieces(len(x), x.shape[1] * x.itemsize):
        total += x[rows].sum(axis=0, dtype=np.float64)
    return (total / len(x)).astype(x.dtype)


def centred_columns(x: Array, mean: Array) -> Iterator[tuple[slice, Array]]:
    """Yield (columns, x[:, columns] - mean[columns]) piece by piece, C-contiguous."""
    for columns in pieces(x.shape[1], len(x) * x.itemsize):
        yield columns, np.subtract(x[:, columns], mean[columns], order="C")


def outer_gram(x: Array, mean: Array) -> Array:
    """Return (x - mean)(x - mean)' (n_samples, n_samples), each product computed once.

    Columns are centred before they are multiplied: to centre the product instead would lose all
    digits of data whose mean is large against their variance.
    """
    n = len(x)
    gram = np.zeros((n, n), x.dtype, order="F")
    syrk = fortran("syrk", gram)
    for _, piece in centred_columns(x, mean):
        # piece.T is in Fortran's order as it lies; a'a then needs no copy.
        gram = syrk(1.0, piece.T, trans=1, beta=1.0, c=gram, overwrite_c=1, lower=0)
    return symmetric(gram.T)


def inner_gram(rows: Array) -> Array:
    """Return rows' rows (n_features, n_features), each product computed once."""
    if len(rows) == 0:
        return np.zeros((rows.shape[1], rows.shape[1]), rows.dtype)
    syrk = fortran("syrk", rows)
    return symmetric(syrk(1.0, rows.T, trans=0, lower=0).T)


def symmetric(lower: Array) -> Array:
    """Fill the upper triangle of a C-ordered square array from its lower one, in place."""
    step = 512
    for start in range(0, len(lower), step):
        block = slice(start, min(len(lower), start + step))
        upper = np.tril(lower[block, block], -1).T
        lower[block, block] = np.tril(lower[block, block]) + upper
        lower[block, block.stop :] = lower[block.stop :, block].T
    return lower
