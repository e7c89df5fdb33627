"""From the stamps that a sender wrote to times on our clock: exact, smooth and never backwards."""

from __future__ import annotations

import math
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
_RATE_SD = 100e-6  # amplifiers keep their rate within some 50 ppm; 200 are within reach
_WIDE_RATE_SD = 5e-3  # for senders whose nominal rate is not the true one
_RATE_KEEPS = 1e-9  # s per sample: what a rate may change across a gap, beyond its own spread
_MEMORY_S = 90.0
_SAME_STAMP_S = 1e-6  # derived stamps differ by the period to within this
_MIN_VARIANCE = 1e-14  # s^2
_NOISE_MEMORY = 300.0  # measurements
_ENOUGH = 20.0  # measurements before the noise is trusted
_CLIP = 25.0  # a single step counts as at most five standard deviations
_HUBER = 4.0  # standard deviations
_WATCH = 1 / 16
_DRIFTING = 1.3  # by chance 1 in 10^12: the mean of 16 residuals has an sd of 0.18
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

    Sample i was taken at a + (period + b) (i - origin). The line is the weighted least-squares fit
    to all stamps since the last `restart`, with exponential forgetting and a Gaussian prior on b;
    stamps that the sender derived from one another count as one measurement. The noise of the
    stamps enters only where the equations are solved, as the weight of that prior, so a poor first
    guess of it does no lasting harm.

    Parameters
    ----------
    sfreq_hz : float
        Nominal rate, above 0.
    rate_sd : float
        Standard deviation of the true rate around the nominal one, relative.
    memory_s : float
        Time constant of the forgetting.
    """

    def __init__(
        self, sfreq_hz: float, *, rate_sd: float = _RATE_SD, memory_s: float = _MEMORY_S
    ) -> None:
        self.nominal_s = 1.0 / sfreq_hz
        self._memory = memory_s * sfreq_hz  # samples
        self._prior_mean = 0.0  # of b, s per sample
        self._prior_sd = rate_sd * self.nominal_s
        self._variance = 0.0  # of one independent stamp, s^2
        self._n_variance = 0.0
        self._forget()

    def _forget(self) -> None:
        self._origin = 0.0  # index at which `_offset` is the time
        self._offset = 0.0
        self._slope = self._prior_mean
        # Weighted sums over past measurements: 1, x, x^2, y, x y; x from the origin, y from the
        # line of nominal slope through (origin, offset).
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        self._mean = self._center = self._runs = 0.0  # the measurement before
        self._drift = 0.0  # mean of recent residuals, in their standard deviations
        self._started = False

    @property
    def started(self) -> bool:
        """Whether `predict` has anything to go by."""
        return self._started

    @property
    def noise_s(self) -> float:
        """Standard deviation of the jitter of one stamp, as seen so far, s."""
        return math.sqrt(self._variance)

    @property
    def noise_known(self) -> bool:
        """Whether enough stamps have come to go by `noise_s`."""
        return self._n_variance > _ENOUGH

    @property
    def period_s(self) -> float:
        """Time from one sample to the next, s, as far as it is known."""
        return self.nominal_s + self._slope

    def predict(self, index: float) -> float:
        """Return when the sample `index` is due, s, on the sender's clock."""
        return self._offset + self.period_s * (index - self._origin)

    def expected(self, first: int, n: int) -> NDArray[np.float64]:
        """Return when `n` samples from `first` on are due, s, shape (n,)."""
        stamps: NDArray[np.float64] = self.predict(first) + self.period_s * np.arange(float(n))
        return stamps

    def restart(self) -> None:
        """Begin a new line and keep what is known about the rate."""
        if self._started:
            spread = self._slope_sd()
            if spread < self._prior_sd:
                self._prior_mean, self._prior_sd = self._slope, math.hypot(spread, _RATE_KEEPS)
        self._forget()

    def update(self, first: int, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take in the stamps of consecutive samples and return them smoothed.

        Parameters
        ----------
        first : int
            Index of the first sample.
        raw : array of shape (n,), float64
            As the sender wrote them, s; n at least 1.

        Returns
        -------
        stamps : array of shape (n,), float64
            On the sender's clock, s. Evenly spaced; may lie before those returned last.
        """
        n = len(raw)
        center, mean = first + (n - 1) / 2, float(raw.mean())
        runs = 1.0
        if n > 1:
            steps = raw[1:] - raw[:-1]
            runs += float(np.count_nonzero(np.abs(steps - self.nominal_s) > _SAME_STAMP_S))
        if not self._started:
            self._started = True
            self._origin, self._offset, self._slope = center, mean, self._prior_mean
            if runs > 2:
                self._learn_noise(float(steps.var()) / 2 * runs / (runs - 1), runs - 1)
            self._sums = (runs, 0.0, 0.0, 0.0, 0.0)
        else:
            self._measure(center, mean, runs)
        self._mean, self._center, self._runs = mean, center, runs
        return self.expected(first, n)

    def _measure(self, center: float, mean: float, runs: float) -> None:
        gone = center - self._center
        change = mean - self._mean - self.period_s * gone
        # What an unknown rate explains is no noise: it would hide the rate for a while.
        excess = max(0.0, change**2 - (gone * self._slope_sd()) ** 2)
        self._learn_noise(excess / (1 / runs + 1 / self._runs), 1.0)
        # An outlier weighs less, by Huber's rule, once it is known what is usual.
        surprise = mean - self.predict(center)
        usual = _HUBER * (self.noise_s / math.sqrt(runs) + _SAME_STAMP_S)
        weight = runs
        if self.noise_known and abs(surprise) > usual:
            weight *= usual / abs(surprise)
        # Move the origin here, and the line of reference to the present offset.
        s1, sx, sxx, sy, sxy = self._sums
        step = center - self._origin
        fade = math.exp(-abs(gone) / self._memory)
        expected = self._offset + self.nominal_s * step
        sxx += step * (step * s1 - 2 * sx)
        sxy -= step * sy
        sx -= step * s1
        s1, sx, sxx, sy, sxy = s1 * fade + weight, sx * fade, sxx * fade, sy * fade, sxy * fade
        sy += weight * (mean - expected)
        self._origin = center
        # Solve [[s1, sx], [sx, sxx + k]] (a, b) = (sy, sxy + k prior), k the prior's weight.
        prior = max(self._variance, _MIN_VARIANCE) / self._prior_sd**2
        determinant = s1 * (sxx + prior) - sx * sx
        moment = sxy + prior * self._prior_mean
        offset = ((sxx + prior) * sy - sx * moment) / determinant
        self._slope = (s1 * moment - sx * sy) / determinant
        self._offset = expected + offset
        self._sums = (s1, sx, sxx, sy - offset * s1, sxy - offset * sx)
        self._watch(surprise, runs)

    def _learn_noise(self, variance: float, weight: float) -> None:
        if self.noise_known:
            variance = min(variance, _CLIP * self._variance + _MIN_VARIANCE)
        self._n_variance = min(self._n_variance + weight, _NOISE_MEMORY)
        self._variance += (variance - self._variance) * min(1.0, weight / self._n_variance)

    def _watch(self, surprise: float, runs: float) -> None:
        """Forget faster while the stamps lie to one side of the line: its rate is wrong."""
        usual = self.noise_s / math.sqrt(runs) + _SAME_STAMP_S
        self._drift += (max(-4.0, min(4.0, surprise / usual)) - self._drift) * _WATCH
        if self.noise_known and abs(self._drift) > _DRIFTING:
            self._sums = tuple(0.7 * item for item in self._sums)  # type: ignore[assignment]
            self._prior_sd = max(self._prior_sd, _WIDE_RATE_SD * self.nominal_s)
            self._drift *= 0.5

    def _slope_sd(self) -> float:
        s1, sx, sxx, _, _ = self._sums
        variance = max(self._variance, _MIN_VARIANCE)
        information = (sxx - sx * sx / max(s1, 1e-9)) / variance + self._prior_sd**-2
        return 1 / math.sqrt(information)
