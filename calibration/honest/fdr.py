"""Many tests at once: how many of those called significant may be false (false discovery rate)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["adjusted_p", "significant"]

Rows: TypeAlias = NDArray[np.float64]


def adjusted_p(p: Rows, *, method: Literal["bh", "by"] = "bh") -> Rows:
    """Return p values adjusted for their number; compare them with the rate that is allowed.

    Benjamini and Hochberg (1995, doi:10.1111/j.2517-6161.1995.tb02031.x): the smallest of
    p_(j) m / j over j >= i. Benjamini and Yekutieli (2001, doi:10.1214/aos/1013699998) multiply by
    1 + 1/2 + ... + 1/m, for tests that depend on each other in any way.

    Parameters
    ----------
    p : array of shape (m,)
        NaN (a voxel without a test) stays NaN and does not count.
    method : {"bh", "by"}

    Raises
    ------
    SettingError
        If a p value is outside 0 to 1.
    """
    values = np.asarray(p, np.float64)
    there = ~np.isnan(values)
    tested = values[there]
    if np.any((tested < 0.0) | (tested > 1.0)):
        raise SettingError(
            f"p values must lie in 0 to 1, got {tested.min():.3g} to {tested.max():.3g}."
        )
    m = len(tested)
    order = np.argsort(tested, kind="stable")
    scaled = tested[order] * m / np.arange(1, m + 1)
    if method == "by":
        scaled *= np.sum(1.0 / np.arange(1, m + 1))
    lowest = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    result = np.full(values.shape, np.nan)
    adjusted = np.empty(m)
    adjusted[order] = lowest
    result[there] = adjusted
    return result


def significant(
    p: Rows, *, rate: float = 0.05, method: Literal["bh", "by"] = "bh"
) -> NDArray[np.bool_]:
    """Return which tests to call significant so that at most `rate` of those are false.

    Parameters
    ----------
    p : array of shape (m,)
        NaN is never significant.
    rate : float
    method : {"bh", "by"}

    Raises
    ------
    SettingError
        If a p value or the rate is outside 0 to 1.
    """
    if not 0.0 < rate < 1.0:
        raise SettingError(f"A false discovery rate lies between 0 and 1, got {rate}.")
    return np.asarray(np.nan_to_num(adjusted_p(p, method=method), nan=1.0) <= rate)
