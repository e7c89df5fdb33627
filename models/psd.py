"""Power spectral density of a sliding window, equal to SciPy's and several times as fast.

Each Welch segment is tapered and transformed once, when a window first needs it, and kept for the
windows after; a hop then costs one segment, not all of the window's. Everything is computed in
float64: EEG has spectra over ten decades, on offsets of 10^5 uV, and float32 transforms lose the
small bins in the rounding of the large ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.features import Feature, check_samples
from models.psd_plan import PsdPlan, plan_psd
from models.spec import PsdSpec

__all__ = ["PsdExtractor", "SlidingPsd", "batch_power", "batch_psd", "to_values"]

# Channels worked on together: their segments stay in a core's second-level cache (32 x 1000 x 8 B).
_BLOCK = 32
# Most that the segments kept for later windows may take; reached only by hops of a few samples.
_CACHE_BYTES = 256 * 1024**2
_TINY = float(np.finfo(np.float32).tiny)  # floor of the logarithm, V^2/Hz


class SlidingPsd:
    """Linear power of each complete window, from segments that are transformed once.

    Parameters
    ----------
    spec : PsdSpec
    sfreq_hz : float
    n_channels : int

    Raises
    ------
    SettingError
        If the specification cannot be met at this rate.
    """

    def __init__(self, spec: PsdSpec, *, sfreq_hz: float, n_channels: int) -> None:
        self.plan = plan = plan_psd(spec, sfreq_hz=sfreq_hz)
        self._spec = spec
        self._history = np.zeros((n_channels, 2 * plan.window + plan.hop))  # channels apart
        self._segments = _Segments(spec, plan, n_channels)
        self.reset()

    def reset(self, *, first: int = 0) -> None:
        """Forget all samples; the next one gets the index `first`."""
        self._base = self._end = first  # indices of the first sample kept, and of the next one
        self._start = first  # first sample of the next window
        self._offset: NDArray[np.float64] | None = None
        self._segments.reset()

    def push(self, samples: NDArray[np.float32]) -> list[tuple[int, NDArray[np.float64]]]:
        """Take samples (n, n_channels); return (start, power (n_channels, n_bins)) of each window.

        The power arrays are new ones.
        """
        if len(samples) and self._offset is None:
            self._offset = samples[0].astype(np.float64)
            if self._spec.detrend == "none":
                self._offset[:] = 0.0
        done = []
        at = 0
        while at < len(samples):
            if self._end - self._base == self._history.shape[1]:
                self._drop()
            used = self._end - self._base
            n = min(len(samples) - at, self._history.shape[1] - used)
            # Detrending takes the offset off in any case; taking the first sample's here costs
            # little, keeps the rounding small on a large offset, and a dead channel exactly 0.
            np.subtract(
                samples[at : at + n].T,
                self._offset[:, np.newaxis],  # type: ignore[index]
                out=self._history[:, used : used + n],
            )
            at += n
            self._end += n
            while self._start + self.plan.window <= self._end:
                window = self._history[:, self._start - self._base :][:, : self.plan.window]
                done.append((self._start, self._segments.power(window)))
                self._start += self.plan.hop
        return done

    def _drop(self) -> None:
        """Make room: no window to come begins before the next one."""
        kept = min(self._start, self._end)
        n = self._end - kept
        self._history[:, :n] = self._history[:, kept - self._base :][:, :n]
        self._base = kept


class _Segments:
    """Powers of the segments of successive windows, each transformed once."""

    def __init__(self, spec: PsdSpec, plan: PsdPlan, n_channels: int) -> None:
        self._plan = plan
        self._n_channels = n_channels
        self._average = _median if spec.average == "median" else _mean
        self._detrend = _Detrend(spec.detrend, plan)
        n_bins = len(plan.freqs_hz)
        # Segment j of a window is segment j - shift of the window `chains` later. Where the steps
        # never meet, or would meet only among more segments than memory should hold, each window
        # is computed whole; the result is the same.
        common = math.gcd(plan.hop, plan.step)
        self._chains, self._shift = plan.step // common, plan.hop // common
        n_bytes = self._chains * plan.n_segments * n_channels * n_bins * 8
        if self._shift >= plan.n_segments or n_bytes > _CACHE_BYTES:
            self._chains, self._shift = 1, plan.n_segments
        self._powers = np.zeros((self._chains, plan.n_segments, n_channels, n_bins))
        block = min(_BLOCK, n_channels)
        self._work = np.zeros((block, plan.segment))
        self._spectrum = np.zeros((block, plan.segment // 2 + 1), dtype=np.complex128)
        self.reset()

    def reset(self) -> None:
        """Start again with the first window."""
        self._window = 0
        self._known = [0] * self._chains  # segments computed so far, in each chain

    def power(self, window: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the power (n_channels, n_bins) of the next window (n_channels, samples)."""
        n = self._plan.n_segments
        turn, chain = divmod(self._window, self._chains)
        first = turn * self._shift  # number, in this chain, of the window's first segment
        slots = self._powers[chain]
        for number in range(max(first, self._known[chain]), first + n):
            at = (number - first) * self._plan.step
            self._transform(window[:, at : at + self._plan.segment], slots[number % n])
        self._known[chain] = first + n
        self._window += 1
        power = self._average([slots[number % n] for number in range(first, first + n)])
        power *= self._plan.scale
        return power

    def _transform(self, segment: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        """Write |FFT|^2 of one tapered, detrended segment (n_channels, samples)."""
        for at in range(0, self._n_channels, len(self._work)):
            part = segment[at : at + len(self._work)]
            work, spectrum = self._work[: len(part)], self._spectrum[: len(part)]
            self._detrend.transform(part, work, spectrum)
            flat = spectrum.view(np.float64)[
                :, 2 * self._plan.bins.start : 2 * self._plan.bins.stop
            ]
            np.multiply(flat, flat, out=flat)
            np.add(flat[:, ::2], flat[:, 1::2], out=out[at : at + len(part)])


class _Detrend:
    """The FFT of tapered segments without their mean or line."""

    def __init__(self, kind: str, plan: PsdPlan) -> None:
        self._taper = plan.taper
        self._kind = kind
        n = plan.segment
        ramp = np.arange(n) - (n - 1) / 2.0
        self._ramp = ramp / max(float(np.sqrt(ramp @ ramp)), 1.0)  # unit length; n = 1: zero
        # A cosine-sum taper leaves a mean in a few bins only: it is taken off there, at the cost
        # of those bins, rather than from every sample.
        response = np.fft.rfft(plan.taper)
        touched = np.flatnonzero(np.abs(response) > 1e-15 * np.abs(response).max())
        self._sparse = kind == "constant" and len(touched) <= 8
        self._touched, self._response = touched, response[touched]

    def transform(
        self,
        segment: NDArray[np.float64],
        work: NDArray[np.float64],
        spectrum: NDArray[np.complex128],
    ) -> None:
        """Write the spectrum (n, n_bins) of segments (n, samples); `work` is overwritten."""
        if self._kind == "none":
            np.multiply(segment, self._taper, out=work)
            np.fft.rfft(work, out=spectrum)
            return
        mean = segment.mean(axis=1, keepdims=True)  # (n, 1)
        if self._sparse:
            np.multiply(segment, self._taper, out=work)
            np.fft.rfft(work, out=spectrum)
            spectrum[:, self._touched] -= mean * self._response
            return
        np.subtract(segment, mean, out=work)
        if self._kind == "linear":
            # einsum, not BLAS: its sums do not depend on where in memory the segment lies.
            slope = np.einsum("ct,t->c", work, self._ramp)[:, np.newaxis]
            work -= slope * self._ramp
        np.multiply(work, self._taper, out=work)
        np.fft.rfft(work, out=spectrum)


class PsdExtractor:
    """Streaming PSD features (bins x channels), see `models.features.FeatureExtractor`.

    Parameters
    ----------
    spec : PsdSpec
    sfreq_hz : float
    n_channels : int

    Raises
    ------
    SettingError
        If the specification cannot be met at this rate.
    """

    def __init__(self, spec: PsdSpec, *, sfreq_hz: float, n_channels: int) -> None:
        self._sliding = SlidingPsd(spec, sfreq_hz=sfreq_hz, n_channels=n_channels)
        self._log10 = spec.log10
        self._n_channels = n_channels

    @property
    def freqs_hz(self) -> NDArray[np.float64]:
        """Frequencies of the bins (n_bins,)."""
        return self._sliding.plan.freqs_hz

    @property
    def shape(self) -> tuple[int, ...]:
        """(bins, channels)."""
        return (len(self.freqs_hz), self._n_channels)

    @property
    def n_features(self) -> int:
        """Bins times channels."""
        return len(self.freqs_hz) * self._n_channels

    @property
    def labels(self) -> tuple[str, ...]:
        """E.g. "10 Hz, channel 3"."""
        channels = range(self._n_channels)
        return tuple(f"{hz:.6g} Hz, channel {c}" for hz in self.freqs_hz for c in channels)

    @property
    def window_samples(self) -> int:
        """Samples that one window spans."""
        return self._sliding.plan.window

    @property
    def hop_samples(self) -> int:
        """Samples from one window to the next."""
        return self._sliding.plan.hop

    def push(self, samples: ArrayLike) -> list[Feature]:
        """Take samples (n, n_channels) and return the windows that they complete."""
        array = check_samples(samples, self._n_channels)
        span = self.window_samples
        return [
            Feature(start, start + span, to_values(power, log10=self._log10))
            for start, power in self._sliding.push(array)
        ]

    def reset(self, *, first: int = 0) -> None:
        """Forget all samples; the next one gets the index `first`."""
        self._sliding.reset(first=first)


def to_values(power: NDArray[np.float64], *, log10: bool) -> NDArray[np.float32]:
    """Power (n_channels, n_rows) -> feature vector (n_rows * n_channels,), read-only."""
    if log10:
        power = np.log10(np.maximum(power, _TINY))
    # Rounded before it is turned round: half the memory to walk across.
    values = power.astype(np.float32).T.ravel()
    values.setflags(write=False)
    return values


def batch_psd(
    spec: PsdSpec, samples: NDArray[np.float32], *, sfreq_hz: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """PSD features of a whole recording by SciPy, see `models.features.batch_features`."""
    starts, stops, power = batch_power(spec, samples, sfreq_hz=sfreq_hz)
    values = power.transpose(0, 2, 1).reshape(len(starts), -1)  # (windows, bins * channels)
    if spec.log10:
        values = np.log10(np.maximum(values, _TINY))
    return starts, stops, values.astype(np.float32)


def batch_power(
    spec: PsdSpec, samples: NDArray[np.float32], *, sfreq_hz: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return starts, stops and linear power (n_windows, n_channels, n_bins) by SciPy."""
    import scipy.signal

    welch: Any = scipy.signal.welch  # its stubs do not know detrend="linear"
    plan = plan_psd(spec, sfreq_hz=sfreq_hz)
    starts = np.arange(0, len(samples) - plan.window + 1, plan.hop)
    power = np.empty((len(starts), samples.shape[1], len(plan.freqs_hz)))
    for row, start in enumerate(starts):
        _, density = welch(
            samples[start : start + plan.window].astype(np.float64),
            fs=sfreq_hz,
            window=plan.taper,
            noverlap=plan.segment - plan.step,
            detrend=False if spec.detrend == "none" else spec.detrend,
            scaling=spec.scaling,
            average=spec.average,
            axis=0,
        )
        power[row] = density[plan.bins].T * (plan.scale > 0)  # 0 Hz without a taper, see there
    return starts, starts + plan.window, power


def _mean(powers: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    total = powers[0].copy()
    for power in powers[1:]:
        total += power
    total /= len(powers)
    return total


def _median(powers: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Median over segments, over its bias for exponential variates (Allen et al. 2012, app. B)."""
    even = 2.0 * np.arange(1, (len(powers) - 1) // 2 + 1)
    bias = 1.0 + np.sum(1.0 / (even + 1.0) - 1.0 / even)
    median: NDArray[np.float64] = np.median(np.stack(powers), axis=0)
    median /= bias
    return median
