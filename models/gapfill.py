"""Short gaps in a signal, filled by a straight line so that a window need not be given up."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError

__all__ = ["fill_linear"]


def fill_linear(last: ArrayLike, first: ArrayLike, n: int) -> NDArray[np.float32]:
    """Return the `n` samples that lie on a line between two samples, both of them left out.

    Parameters
    ----------
    last, first : arrays of shape (n_channels,)
        The last sample before the gap and the first after it.
    n : int
        Samples missing between them.

    Returns
    -------
    filled : array of shape (n, n_channels), float32

    Raises
    ------
    SettingError
        If n is negative, or the two samples differ in shape.
    """
    before, after = np.asarray(last, dtype=np.float64), np.asarray(first, dtype=np.float64)
    if before.ndim != 1 or before.shape != after.shape:
        raise SettingError(
            f"Expected two samples of the same channels, got shapes {before.shape}, {after.shape}."
        )
    if n < 0:
        raise SettingError(f"Expected 0 or more samples to fill, got {n}.")
    weight = np.arange(1, n + 1)[:, np.newaxis] / (n + 1)  # (n, 1)
    # Two products rather than last + w * difference: exact where both ends are equal and huge.
    return np.asarray(before * (1.0 - weight) + after * weight, dtype=np.float32)
