"""The sender's count of its samples: which came, which are missing, which came again."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Run", "SampleCount"]

_REMEMBERED = 256  # stretches of lost samples that may yet come late


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of a block that follow one another in the sender's count."""

    start: int  # rows
    stop: int
    kind: Literal["next", "behind", "restarted"]
    index: int  # of the first row; unwrapped
    n_lost: int = 0  # missing before it; behind: 0
    n_late: int = 0  # behind: rows that had been given up as lost


class SampleCount:
    """Unwrap a count that starts anyhow, wraps at `modulo`, jumps, repeats and may start again.

    Parameters
    ----------
    modulo : int
        At which the sender's count wraps to 0.
    first_index : int, optional
        Count of the sender's first sample, not wrapped, if it said so.
    """

    def __init__(self, modulo: int, *, first_index: int | None = None) -> None:
        self.modulo = modulo
        self._first = first_index
        self._next: int | None = None  # index expected next, continuous over restarts
        self._next_count = 0  # the same as the sender counts it
        self._lost: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)

    @property
    def next_index(self) -> int:
        """Index of the sample that should come next."""
        return self._next or 0

    def is_next(self, counts: NDArray[Any]) -> bool:
        """Whether a whole block simply follows what came before; the quick and usual case."""
        if self._next is None or counts[0] != self._next_count:
            return False
        n = len(counts)
        if self._next_count + n > self.modulo:
            return False
        return n == 1 or bool((counts[1:] - counts[:-1] == 1).all())

    def advance(self, n: int) -> int:
        """Count `n` samples that follow; return the index of the first."""
        first = self.next_index
        self._next = first + n
        self._next_count = (self._next_count + n) % self.modulo
        return first

    def runs(
        self,
        counts: NDArray[np.generic],
        raw: NDArray[np.float64],
        *,
        last_raw: float,
        period_s: float,
        restarted: bool | None = False,
    ) -> list[Run]:
        """Split a block where its count does not go on by one, and judge each part.

        Parameters
        ----------
        counts : array of shape (n,)
            The counter channel, in the stream's own number format.
        raw : array of shape (n,), float64
            Stamps, s: they tell a count that starts again from samples that are sent again.
        last_raw : float
            Stamp of the last sample before the block, s.
        period_s : float
            Time between samples, s.
        restarted : bool or None
            True: the sender began anew, and so did its count. False: the same sender as before.
            None: a new one, which may have taken the count up.
        """
        whole = self._repair(counts)
        steps = (whole[1:] - whole[:-1]) % self.modulo
        edges = [0, *(np.flatnonzero(steps != 1) + 1).tolist(), len(whole)]
        found = []
        for start, stop in pairwise(edges):
            forward = float(raw[start]) > last_raw + 0.5 * period_s
            parts = self._judge(int(whole[start]), start, stop, forward, period_s, restarted)
            if parts[-1].kind != "behind":
                last_raw = float(raw[stop - 1])
                restarted = False
            found += parts
        return found

    def skip(self, n: int) -> None:
        """Leave out `n` counts, because the stamps say that more was lost than the count tells."""
        self._next = self.next_index + n

    def _judge(
        self,
        count: int,
        start: int,
        stop: int,
        forward: bool,
        period_s: float,
        restarted: bool | None,
    ) -> list[Run]:
        n = stop - start
        if self._next is None:
            self._next = count
            if self._first is not None:
                self._next = self._first + (count - self._first) % self.modulo
            self._next_count = count
            return [Run(start, stop, "next", self.advance(n))]
        ahead = (count - self._next_count) % self.modulo
        behind = self.modulo - ahead
        if restarted:
            return [self._again(count, start, stop)]
        if ahead < self.modulo / 2:
            if ahead:
                self._lost.append((self._next, self._next + ahead))
                self.advance(ahead)
            return [Run(start, stop, "next", self.advance(n), n_lost=ahead)]
        window_s = 1.0 if restarted is None else 2.0
        if forward and (count == 0 or behind * period_s > window_s):
            return [self._again(count, start, stop)]
        index = self._next - behind
        old = min(n, behind)
        late = sum(
            max(0, min(index + old, lost_stop) - max(index, lost_start))
            for lost_start, lost_stop in self._lost
        )
        parts = [Run(start, start + old, "behind", index, n_late=late)]
        if old < n:  # a sender that took up its count a little too early
            parts.append(Run(start + old, stop, "next", self.advance(n - old)))
        return parts

    def _again(self, count: int, start: int, stop: int) -> Run:
        """Begin a count that goes on from the old one, less what is known to be missing."""
        missed = max(0, count - self._first) if self._first is not None else 0
        self._lost.clear()
        self._next = self.next_index + missed
        self._next_count = count
        return Run(start, stop, "restarted", self.advance(stop - start), n_lost=missed)

    def _repair(self, counts: NDArray[np.generic]) -> NDArray[np.int64]:
        """Return whole counts; a damaged one is taken to follow the one before it."""
        values = np.asarray(counts, dtype=np.float64)
        good = np.isfinite(values)
        good &= (values >= 0) & (values < self.modulo) & (values == np.floor(values))
        if good.all():
            return values.astype(np.int64)
        rows = np.arange(len(values))
        if not good.any():
            return (self._next_count + rows) % self.modulo
        source = np.maximum.accumulate(np.where(good, rows, -1))
        source[source < 0] = rows[good][0]
        whole: NDArray[np.int64] = values[source].astype(np.int64) + rows - source
        return whole % self.modulo
