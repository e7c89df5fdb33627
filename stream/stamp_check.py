"""Whether stamps that jump mean lost samples, a clock that was set, or nothing."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stream.clock import ClockMap
from stream.timeline import Timeline

__all__ = ["Repeats", "StampCheck", "mend_stamps"]

_SD = 5.0  # standard deviations of the jitter: 1 in 10^6 by chance, and then the next ones disagree
_COUNTED_S = 0.1  # where samples are counted, smaller jumps of the stamps only pull the line along
_LEARNING_S = 0.05  # least jump that counts before the jitter is known
_LEARNING_SD = 20.0
_SPIKES_LAST_S = 10.0
_CONFIRM = 4  # measurements that must agree
_AGREE_S = 2e-3
_RECENT = 64  # pulls among which repeated stamps are looked for


class StampCheck:
    """Watches how far stamps lie from the line that `ClockMap` has learned.

    A late packet jumps once and is back at the next; a sender that was stopped stamps its whole
    backlog late, each part less than the one before; lost samples shift all that follow by the
    same time. So a jump is judged only when a few measurements can be compared.
    """

    def __init__(self, clock: ClockMap, *, counted: bool) -> None:
        self._clock = clock
        self._counted = counted
        self._spike = 0.0  # size of single jumps of late, s: nothing to wonder at
        self._shifts: list[float] = []

    @property
    def limit_s(self) -> float:
        """Smallest jump of a single measurement that is looked into, s."""
        clock = self._clock
        if not clock.noise_known:
            return max(0.75 * clock.nominal_s, _LEARNING_SD * clock.noise_s, _LEARNING_S)
        limit = max(0.75 * clock.nominal_s, _SD * clock.noise_s, 1.5 * self._spike)
        return max(limit, _COUNTED_S) if self._counted else limit

    def edges(self, raw: NDArray[np.float64]) -> list[int]:
        """Rows of a block where its stamps jump ahead, with 0 and its length around them."""
        n = len(raw)
        if self._counted or n == 1:
            return [0, n]
        jumps = raw[1:] - raw[:-1] > self._clock.nominal_s + 1.5 * self.limit_s
        return [0, *(np.flatnonzero(jumps) + 1).tolist(), n] if jumps.any() else [0, n]

    def shift(self, first: int, raw: NDArray[np.float64]) -> float:
        """Return how much later than due these stamps are, s."""
        return float(raw.mean()) - self._clock.predict(first + (len(raw) - 1) / 2)

    def suspicious(self, shift: float, *, period_s: float) -> bool:
        """Whether a jump must be looked into; small ones let old spikes be forgotten."""
        if abs(shift) <= self.limit_s:
            self._spike *= max(0.0, 1 - period_s / _SPIKES_LAST_S)
            return False
        return True

    def judge(self, shift: float, *, at_once: bool) -> float | None:
        """Add a measurement to those under suspicion and say what they mean.

        Returns
        -------
        shift : float or None
            The jump, s, if they agree on one; 0.0 if it was a late packet or a backlog;
            None if more measurements are needed.
        """
        self._shifts.append(shift)
        if abs(shift) <= self.limit_s and len(self._shifts) > 1:
            largest = max(map(abs, self._shifts))
            self._spike = max(self._spike, min(largest, 10 * _LEARNING_S))
            self._shifts.clear()
            return 0.0
        if len(self._shifts) < _CONFIRM and not at_once:
            return None
        recent = np.array(self._shifts[-_CONFIRM:])
        if np.ptp(recent) <= max(_AGREE_S, 0.5 * self._clock.nominal_s, _SD * self._clock.noise_s):
            self._shifts.clear()
            return float(np.median(recent))
        del self._shifts[:-_CONFIRM]
        return 0.0  # a backlog: each one is less late; the line knows better

    def reset(self) -> None:
        """Forget what was under suspicion."""
        self._shifts.clear()


class Repeats:
    """Knows samples that are sent twice where nothing counts them."""

    def __init__(self, scale: ArrayLike) -> None:
        self._scale = scale
        self._recent: deque[NDArray[np.float64]] = deque([np.zeros(0)], maxlen=_RECENT)

    def remember(self, raw: NDArray[np.float64]) -> None:
        """Note the stamps of samples that are delivered."""
        self._recent.append(raw)

    def count(
        self, block: NDArray[np.generic], raw: NDArray[np.float64], timeline: Timeline
    ) -> int:
        """Return how many leading rows have come before, stamps and values alike to the bit."""
        if len(raw) < 2 or not (raw[1:] > raw[:-1]).all():
            return 0  # a sender whose stamps stand still has not sent anything twice
        recent = np.concatenate(self._recent)
        places = np.flatnonzero(recent == raw[0])
        if not len(places):
            return 0
        start = int(places[-1])
        n = min(len(recent) - start, len(raw))
        if not np.array_equal(recent[start : start + n], raw[:n]):
            return 0
        position = timeline.span()[1] - (len(recent) - start)
        before = timeline.copy(position, position + n, first=0, segment=0)
        values = np.empty((n, block.shape[1]), np.float32)
        np.multiply(block[:n], self._scale, out=values, casting="unsafe")
        same = before is not None and np.array_equal(before.samples, values, equal_nan=True)
        return n if same else 0


def mend_stamps(raw: NDArray[np.float64], *, due: float, period_s: float) -> NDArray[np.float64]:
    """Put a likely time in place of stamps that are no numbers.

    Parameters
    ----------
    raw : array of shape (n,), float64
        Some or all of them NaN or infinite.
    due : float
        When the first is due, s; used if none is good.
    period_s : float
        Time between samples, s.
    """
    good = np.isfinite(raw)
    rows = np.arange(len(raw))
    if not good.any():
        return np.asarray(due + period_s * rows, dtype=np.float64)
    nearest = rows[good][np.abs(rows[:, None] - rows[good]).argmin(axis=1)]
    return np.asarray(raw[nearest] + period_s * (rows - nearest), dtype=np.float64)
