"""One figure of the table of honesty: what was found, what it has to be, and whether it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Figure", "mean_and_error"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table."""

    check: str  # which check it belongs to
    what: str
    found: str
    bound: str = ""  # "": shown only
    met: bool | None = None  # None: there is no bound

    def row(self) -> dict[str, str]:
        """Return the cells of the table."""
        verdict = {True: "PASS", False: "short", None: ""}[self.met]
        return {
            "check": self.check,
            "what": self.what,
            "found": self.found,
            "bound": self.bound,
            "": verdict,
        }


def mean_and_error(values: Sequence[float] | NDArray[np.floating]) -> tuple[float, float]:
    """Return the mean over seeds, and its standard error."""
    rows = np.asarray(values, np.float64)
    if len(rows) < 2:
        return float(rows.mean()), float("nan")
    return float(rows.mean()), float(rows.std(ddof=1) / np.sqrt(len(rows)))
