"""NumPy files from bytes, without pickle and without trusting the size that their header claims."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_npy", "write_npy"]


def read_npy(data: bytes, *, dtype: np.dtype[Any], ndim: int) -> NDArray[Any]:
    """Return the array in an `.npy` file, read-only and without a copy.

    Raises
    ------
    ValueError
        If it is not exactly one C-ordered array of this dtype and number of dimensions.
    """
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"format version {version} instead of (1, 0)")
    shape, fortran, came = np.lib.format.read_array_header_1_0(file)
    if fortran or came != dtype or len(shape) != ndim:
        order = "Fortran" if fortran else "C"
        raise ValueError(f"{came} {shape} in {order} order instead of {dtype} with {ndim} axes")
    start = file.tell()
    if any(length < 0 for length in shape) or math.prod(shape) * dtype.itemsize != (
        len(data) - start
    ):
        raise ValueError(f"{len(data) - start} bytes instead of the {shape} that it claims")
    array: NDArray[Any] = np.frombuffer(data, dtype, offset=start).reshape(shape)
    return array


def write_npy(array: NDArray[Any]) -> bytes:
    """Return the bytes of an `.npy` file; the same array gives the same bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), (1, 0), allow_pickle=False)
    return buffer.getvalue()
