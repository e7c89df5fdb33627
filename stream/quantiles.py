"""Percentiles of a stream of durations in fixed memory: exact at first, within 0.5 % for ever."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Quantiles"]

_EXACT = 4096  # values kept as they are; a session of windows at 4 Hz stays exact for 17 minutes
_LOWEST = 1e-3  # smallest magnitude told apart, 1 us if the unit is ms
_RATIO = 1.005  # width of a bin
_BINS = math.ceil(math.log(1e10) / math.log(_RATIO))  # up to 1e7, i.e. 3 h in ms


class Quantiles:
    """Percentiles of all the values added so far.

    The first 4,096 values are kept, so that a short session reports what NumPy would. After that
    they move into bins 0.5 % wide: the memory stays the same over a night, and a percentile is off
    by half a bin. Values below 0.001 (and negative ones, which a wrong clock can produce) share
    the lowest bin there; the smallest and the largest value are always exact.
    """

    def __init__(self) -> None:
        self.n = 0
        self.smallest = math.inf
        self.largest = -math.inf
        self._exact: list[float] = []
        self._counts: NDArray[np.int64] | None = None

    def add(self, value: float) -> None:
        """Take one value in; a value that is not finite is left out."""
        if not math.isfinite(value):
            return
        self.n += 1
        self.smallest = min(self.smallest, value)
        self.largest = max(self.largest, value)
        if self._counts is None:
            self._exact.append(value)
            if len(self._exact) == _EXACT:
                self._counts = np.zeros(_BINS, np.int64)
                for item in self._exact:
                    self._counts[_bin(item)] += 1
                self._exact = []
        else:
            self._counts[_bin(value)] += 1

    def percentile(self, percent: float) -> float | None:
        """Return a percentile, or None before the first value."""
        if not self.n:
            return None
        if self._counts is None:
            return float(np.percentile(self._exact, percent))
        rank = percent / 100.0 * (self.n - 1)
        index = int(np.searchsorted(np.cumsum(self._counts), rank, side="right"))
        middle = _LOWEST * math.pow(_RATIO, index + 0.5)
        return min(max(middle, self.smallest), self.largest)

    def summary(self) -> dict[str, float | None]:
        """Return p50 and p99, rounded to a nanosecond of a millisecond unit."""
        return {name: _rounded(self.percentile(p)) for name, p in (("p50", 50.0), ("p99", 99.0))}


def _bin(value: float) -> int:
    if value <= _LOWEST:
        return 0
    return min(int(math.log(value / _LOWEST) / math.log(_RATIO)), _BINS - 1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
