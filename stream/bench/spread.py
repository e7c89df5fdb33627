"""Percentiles of measured times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import SettingError

__all__ = ["Spread", "spread_ms"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Times, ms."""

    p50: float
    p95: float
    p99: float
    max: float
    n: int

    def to_json(self) -> dict[str, float]:
        """Return them, rounded to a microsecond."""
        values = {"p50": self.p50, "p95": self.p95, "p99": self.p99, "max": self.max}
        return {**{name: round(value, 3) for name, value in values.items()}, "n": self.n}


def spread_ms(seconds: Sequence[float]) -> Spread:
    """Return the percentiles of times in seconds, as milliseconds; NaN ones are left out.

    Raises
    ------
    SettingError
        If there is none.
    """
    values = 1e3 * np.array([value for value in seconds if math.isfinite(value)])
    if not len(values):
        raise SettingError("No time was measured. Measure for longer.")
    p50, p95, p99 = (float(value) for value in np.percentile(values, (50.0, 95.0, 99.0)))
    return Spread(p50, p95, p99, float(values.max()), len(values))
