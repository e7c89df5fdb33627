"""Signals whose sender counted its samples: gaps and duplicates are then exact, not guessed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError
from stream.recordings import Segment

__all__ = ["Counted", "counted_segments", "unwrap_count"]


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Which rows are new, when each was taken, and where samples are missing."""

    rows: NDArray[np.intp]  # rows of the recording that are kept
    stamps: NDArray[np.float64]  # (n,) s, of the kept rows
    segments: tuple[Segment, ...]
    warnings: tuple[str, ...]


def unwrap_count(counter: NDArray[Any], modulo: int) -> NDArray[np.int64]:
    """Return the whole count from one that starts again at `modulo`.

    Steps of less than half the modulo back are steps back (duplicates), larger ones a wrap.
    """
    count = np.asarray(counter, dtype=np.float64).astype(np.int64)
    steps = np.diff(count)
    steps = (steps + modulo // 2) % modulo - modulo // 2
    return np.concatenate([count[:1], count[0] + np.cumsum(steps)])


def counted_segments(
    counter: NDArray[Any],
    stamps: NDArray[np.float64],
    modulo: int,
    *,
    what: str,
) -> Counted:
    """Drop duplicates, and cut where the count jumps.

    Parameters
    ----------
    counter : array of shape (n,)
        As received, modulo `modulo`.
    stamps : array of shape (n,)
        Seconds; must go forward where the count does.

    Raises
    ------
    FileError
        If the count is not made of whole numbers, or time goes back.
    """
    if modulo < 2 or not np.isfinite(counter).all() or not (counter == np.round(counter)).all():
        raise FileError(f"{what}: its sample counter holds no counts. The file is damaged.")
    count = unwrap_count(counter, modulo)
    newest = np.maximum.accumulate(np.concatenate([[count[0] - 1], count[:-1]]))
    rows = np.flatnonzero(count > newest)
    warnings = []
    if len(rows) < len(count):
        warnings.append(f"{what}: {len(count) - len(rows)} samples came twice and are left out.")
    count, kept = count[rows], stamps[rows]
    cuts = np.flatnonzero(np.diff(count) > 1) + 1
    bounds = [0, *cuts.tolist(), len(count)]
    segments = tuple(Segment(a, b, int(count[a] - count[0])) for a, b in itertools.pairwise(bounds))
    if not np.isfinite(kept).all():
        raise FileError(f"{what}: not all time stamps are numbers. The file is damaged.")
    kept = _even(kept, count, warnings, what)
    if len(segments) > 1:
        lost = int(count[-1] - count[0] + 1 - len(count))
        warnings.append(f"{what}: {len(segments) - 1} gaps, {lost} samples are missing.")
    return Counted(rows, kept, segments, tuple(warnings))


def _even(
    stamps: NDArray[np.float64], count: NDArray[np.int64], warnings: list[str], what: str
) -> NDArray[np.float64]:
    """Return the stamps as they are if they go forward, else evened over the count."""
    if (np.diff(stamps) > 0).all():
        return stamps
    index = count - count.mean()
    power = float(index @ index)
    slope = float(index @ (stamps - stamps.mean())) / power if power > 0 else 0.0
    if slope <= 0:
        raise FileError(f"{what}: time does not go forward. The file is damaged.")
    warnings.append(f"{what}: time stamps jitter; they were evened.")
    even: NDArray[np.float64] = stamps.mean() + slope * index
    return even
