"""Causally filtered EEG samples with their recent past, for phase-locked decoding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.features import Feature, check_samples
from models.spec import SampleSpec

__all__ = ["LaggedExtractor", "LaggedPlan", "batch_lagged", "hold_last", "plan_lagged"]


@dataclass(frozen=True, slots=True, eq=False)
class LaggedPlan:
    """A `SampleSpec` at a given rate, in whole samples."""

    sos: NDArray[np.float64]  # (sections, 6)
    state: NDArray[np.float64]  # (sections, 2), filter state after a constant 1 for ever
    every: int  # samples of the stream from one kept sample to the next
    n_lags: int  # kept samples in a feature vector
    hop: int  # kept samples from one vector to the next


def plan_lagged(spec: SampleSpec, *, sfreq_hz: float) -> LaggedPlan:
    """Turn a specification into a filter and whole numbers of samples.

    Parameters
    ----------
    spec : SampleSpec
        `high_pass_hz` 0 leaves the high-pass out, an infinite `low_pass_hz` the low-pass.
    sfreq_hz : float

    Returns
    -------
    plan : LaggedPlan

    Raises
    ------
    SettingError
        If the rate is no whole multiple, the filter would alias or is empty, or a length is off.
    """
    from scipy.signal import butter, sosfilt_zi  # slow to import

    every = round(sfreq_hz / spec.rate_hz) if spec.rate_hz > 0 else 0
    if every < 1 or abs(every * spec.rate_hz - sfreq_hz) > 1e-3 * sfreq_hz:
        raise SettingError(
            f"Expected the stream's rate to be a whole multiple of samples.rate_hz, got "
            f"{sfreq_hz:g} and {spec.rate_hz:g} Hz. Resample, or choose another rate_hz."
        )
    hop = round(spec.hop_s * spec.rate_hz)
    if hop < 1 or abs(hop - spec.hop_s * spec.rate_hz) > 1e-6 * hop:
        raise SettingError(
            f"Expected samples.hop_s to be a whole multiple of {1 / spec.rate_hz:g} s, "
            f"got {spec.hop_s:g}."
        )
    if not (np.isfinite(spec.past_s) and spec.past_s >= 0):
        raise SettingError(f"Expected samples.past_s of 0 s or more, got {spec.past_s}.")
    low, high = spec.high_pass_hz, spec.low_pass_hz
    if not 0 <= low < high or (np.isfinite(high) and high > spec.rate_hz / 2):
        raise SettingError(
            f"Expected 0 <= high_pass_hz < low_pass_hz <= rate_hz / 2 = {spec.rate_hz / 2:g} Hz, "
            f"got {low:g} and {high:g}: what lies above would fold back into the kept samples."
        )
    if spec.order < 1:
        raise SettingError(f"Expected a filter of order 1 or more, got {spec.order}.")
    if not np.isfinite(high) and every > 1:
        raise SettingError("Expected a finite samples.low_pass_hz, since samples are left out.")
    sos = np.array([[1.0, 0.0, 0.0, 1.0, 0.0, 0.0]])  # passes all
    # A low-pass at the stream's own Nyquist frequency is none.
    limited = np.isfinite(high) and high < sfreq_hz / 2
    if low > 0 and limited:
        sos = butter(spec.order, [low, high], "bandpass", fs=sfreq_hz, output="sos")
    elif low > 0:
        sos = butter(spec.order, low, "highpass", fs=sfreq_hz, output="sos")
    elif limited:
        sos = butter(spec.order, high, "lowpass", fs=sfreq_hz, output="sos")
    sos = np.asarray(sos, dtype=np.float64)
    return LaggedPlan(
        sos=sos,
        state=np.asarray(sosfilt_zi(sos), dtype=np.float64),
        every=every,
        # From t - past_s to t, both included.
        n_lags=round(spec.past_s * spec.rate_hz) + 1,
        hop=hop,
    )


class LaggedExtractor:
    """Streaming lagged samples (lags x channels), oldest first; see `FeatureExtractor`.

    The filter starts as if the first sample had been there for ever, so that an electrode's offset
    makes no transient. Of the filtered samples, the first and then every k-th are kept; a vector
    ends with the newest kept sample. Its start and stop tell the samples it was taken from; the
    filter remembers, ever more faintly, those before. A value that is not finite would stay in the
    filter for ever; the channel's last good one (or 0) stands in for it.

    Parameters
    ----------
    spec : SampleSpec
    sfreq_hz : float
    n_channels : int

    Raises
    ------
    SettingError
        If the specification cannot be met at this rate.
    """

    def __init__(self, spec: SampleSpec, *, sfreq_hz: float, n_channels: int) -> None:
        self._plan = plan_lagged(spec, sfreq_hz=sfreq_hz)
        self._rate_hz = spec.rate_hz
        self._n_channels = n_channels
        self._state: NDArray[np.float64] | None
        self._last: NDArray[np.float64]
        self._kept: NDArray[np.float32]
        self.reset()

    @property
    def shape(self) -> tuple[int, ...]:
        """(lags, channels), oldest lag first."""
        return (self._plan.n_lags, self._n_channels)

    @property
    def n_features(self) -> int:
        """Lags times channels."""
        return self._plan.n_lags * self._n_channels

    @property
    def labels(self) -> tuple[str, ...]:
        """E.g. "-0.4 s, channel 3"."""
        lags = range(self._plan.n_lags - 1, -1, -1)
        channels = range(self._n_channels)
        return tuple(f"{-lag / self._rate_hz:.4g} s, channel {c}" for lag in lags for c in channels)

    @property
    def window_samples(self) -> int:
        """Samples of the stream from the oldest to the newest kept one."""
        return (self._plan.n_lags - 1) * self._plan.every + 1

    @property
    def hop_samples(self) -> int:
        """Samples of the stream from one vector to the next."""
        return self._plan.hop * self._plan.every

    def push(self, samples: ArrayLike) -> list[Feature]:
        """Take samples (n, n_channels) and return the vectors that they complete."""
        from scipy.signal import sosfilt

        array = check_samples(samples, self._n_channels)
        if len(array) == 0:
            return []
        plan = self._plan
        signal = hold_last(array, self._last)
        self._last = signal[-1]
        if self._state is None:
            self._state = plan.state[:, :, np.newaxis] * signal[0]
        state: NDArray[np.float64] = self._state
        filtered, self._state = sosfilt(plan.sos, signal, axis=0, zi=state)
        at = -self._seen % plan.every  # next sample to be kept
        self._seen += len(array)
        self._kept = np.concatenate((self._kept, filtered[at :: plan.every].astype(np.float32)))
        features = []
        first = self._next - self._dropped  # row of the next vector's oldest sample
        while first + plan.n_lags <= len(self._kept):
            values = self._kept[first : first + plan.n_lags].ravel()
            values.setflags(write=False)
            start = self._first + self._next * plan.every
            features.append(Feature(start, start + self.window_samples, values))
            self._next += plan.hop
            first += plan.hop
        drop = min(first, len(self._kept))
        self._kept = self._kept[drop:]
        self._dropped += drop
        return features

    def reset(self, *, first: int = 0) -> None:
        """Forget all samples; the next one gets the index `first`."""
        self._first = first
        self._seen = 0  # samples since the reset
        self._next = 0  # kept sample that the next vector begins with
        self._dropped = 0  # kept samples that no vector needs any more
        self._kept = np.zeros((0, self._n_channels), dtype=np.float32)
        self._last = np.zeros(self._n_channels)
        self._state = None


def hold_last(samples: NDArray[np.float32], last: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return samples in float64, each value that is not finite replaced by the one before it.

    Parameters
    ----------
    samples : array of shape (n, n_channels)
    last : array of shape (n_channels,)
        What stands before the first sample.
    """
    signal = samples.astype(np.float64)
    good = np.isfinite(signal)
    if good.all():
        return signal
    held = np.concatenate((last[np.newaxis], signal))
    newest = np.where(good, np.arange(1, len(signal) + 1)[:, np.newaxis], 0)
    return np.take_along_axis(held, np.maximum.accumulate(newest, axis=0), axis=0)


def batch_lagged(
    spec: SampleSpec, samples: NDArray[np.float32], *, sfreq_hz: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Lagged samples of a whole recording, see `models.features.batch_features`."""
    from scipy.signal import sosfilt

    plan = plan_lagged(spec, sfreq_hz=sfreq_hz)
    n_channels = samples.shape[1]
    if len(samples) == 0:
        return (
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
            np.zeros((0, plan.n_lags * n_channels), np.float32),
        )
    signal = hold_last(samples, np.zeros(n_channels))
    filtered, _ = sosfilt(plan.sos, signal, axis=0, zi=plan.state[:, :, np.newaxis] * signal[0])
    kept = np.asarray(filtered)[:: plan.every]
    firsts = np.arange(0, len(kept) - plan.n_lags + 1, plan.hop)
    values = kept[firsts[:, np.newaxis] + np.arange(plan.n_lags)]  # (vectors, lags, channels)
    starts = firsts * plan.every
    stops = starts + (plan.n_lags - 1) * plan.every + 1
    return starts, stops, values.reshape(len(firsts), plan.n_lags * n_channels).astype(np.float32)
