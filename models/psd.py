"""Power spectral density of a sliding window, equal to SciPy's and several times as fast.

Each Welch segment is tapered and transformed once, when a window first needs it, and kept for the
windows after; a hop then costs one segment, not all of the window's. Everything is computed in
float64: EEG has spectra over ten decades, on offsets of 10^5 uV, and float32 transforms lose the
small bins in the rounding of the large ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from models.features import Feature, check_samples
from models.psd_plan import PsdPlan, plan_psd
from models.spec import PsdSpec

__all__ = ["PowerExtractor", "PsdExtractor", "SlidingPsd", "batch_power", "batch_psd", "to_values"]

# Segments worked on at a time, of all channels together: what they take (32 x 1000 x 16 B) stays in
# the second-level cache beside the samples, and each call of NumPy still has enough to do.
_BLOCK = 32
_TILE = 128  # samples turned from rows to columns at a time
# Elements that NumPy's inner loops may gather at a time, the least that it allows. With its usual
# 8192 it copies a broadcast operand (a mean, the taper) over and over to fill that buffer, which
# doubles the time of the arithmetic; nothing here needs the buffer, for no operand is converted.
_UFUNC_BUFFER = 16
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
        self._history = np.zeros((n_channels, 2 * plan.window), dtype=np.float32)
        # A view (n_channels, starts, samples) of the segments that start at each sample.
        self._starting = sliding_window_view(self._history, plan.segment, axis=1)
        self._segments = _Segments(spec, plan, n_channels)
        self.reset()

    def reset(self, *, first: int = 0) -> None:
        """Forget all samples; the next one gets the index `first`."""
        self._base = self._end = first  # indices of the first sample kept, and of the next one
        self._start = first  # first sample of the next window
        self._segments.reset()

    def push(self, samples: NDArray[np.float32]) -> list[tuple[int, NDArray[np.float32]]]:
        """Take samples (n, n_channels); return (start, power (n_channels, n_bins)) of each window.

        The power arrays are new ones.
        """
        plan = self.plan
        done = []
        at = 0
        while at < len(samples):
            if self._end - self._base == self._history.shape[1]:
                self._drop()
            used = self._end - self._base
            # Turned round in small tiles, which takes half as long as in one piece.
            n = min(len(samples) - at, self._history.shape[1] - used, _TILE)
            self._history[:, used : used + n] = samples[at : at + n].T
            at += n
            self._end += n
            while self._start + plan.window <= self._end:
                begin = self._start - self._base
                last = begin + plan.window - plan.segment
                segments = self._starting[:, begin : last + 1 : plan.step]
                done.append((self._start, self._segments.power(segments)))
                self._start += plan.hop
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
        by_median = spec.average == "median"
        self._join = _median if by_median else _total
        share = _median_bias(plan.n_segments) if by_median else plan.n_segments
        self._scale = (plan.scale / share).astype(np.float32)
        self._kind = spec.detrend
        ramp = np.arange(plan.segment) - (plan.segment - 1) / 2.0
        self._ramp = ramp / max(float(np.sqrt(ramp @ ramp)), 1.0)  # of length 1, or 0 if n is 1
        n_bins = len(plan.freqs_hz)
        # Segment j of a window is segment j - shift of the window `chains` later. Where the steps
        # never meet, or would meet only among more segments than memory should hold, each window
        # is computed whole; the result is the same.
        common = math.gcd(plan.hop, plan.step)
        self._chains, self._shift = plan.step // common, plan.hop // common
        n_bytes = self._chains * plan.n_segments * n_channels * n_bins * 4
        if self._shift >= plan.n_segments or n_bytes > _CACHE_BYTES:
            self._chains, self._shift = 1, plan.n_segments
        # |FFT|^2 of single segments; float32 suffices for what is only averaged from here on.
        shape = (self._chains, plan.n_segments, n_channels, n_bins)
        self._powers = np.zeros(shape, dtype=np.float32)
        block = min(_BLOCK, n_channels * plan.n_segments)
        self._work = np.zeros((block, plan.segment))
        self._spectrum = np.zeros((block, plan.segment // 2 + 1), dtype=np.complex128)
        # Real and imaginary parts go where the samples were, which the transform has used up.
        self._flat, self._flat_row = self._work.view(np.float32).reshape(-1), 2 * n_bins
        self.reset()

    def reset(self) -> None:
        """Start again with the first window."""
        self._window = 0
        self._known = [0] * self._chains  # segments computed so far, in each chain

    def power(self, segments: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the power (n_channels, n_bins) of the next window.

        Its segments are (n_channels, n_segments, samples).
        """
        n = self._plan.n_segments
        turn, chain = divmod(self._window, self._chains)
        first = turn * self._shift  # number, in this chain, of the window's first segment
        powers = self._powers[chain]
        usual = np.setbufsize(_UFUNC_BUFFER)  # of this thread
        try:
            number = max(first, self._known[chain])
            while number < first + n:
                # As many as have their places in the ring side by side.
                count = min(first + n - number, n - number % n, len(self._work))
                out = powers[number % n :][:count].swapaxes(0, 1)
                self._transform_all(segments[:, number - first :][:, :count], out)
                number += count
            self._known[chain] = number
            self._window += 1
            power = self._join([powers[number % n] for number in range(first, first + n)])
            power *= self._scale
        finally:
            np.setbufsize(usual)
        return power

    def _transform_all(self, segments: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Write |FFT|^2 of segments (n_channels, count, samples), some channels at a time."""
        n = len(self._work) // segments.shape[1]
        for low in range(0, len(segments), n):
            self._transform(segments[low : low + n], out[low : low + n])

    def _transform(self, segments: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Write |FFT|^2 of tapered, detrended segments (n, count, samples) to `out`."""
        plan = self._plan
        n = segments.shape[0] * segments.shape[1]
        work = self._work[:n].reshape(segments.shape)
        spectrum = self._spectrum[:n].reshape(*segments.shape[:2], -1)
        flat = self._flat[: n * self._flat_row].reshape(*segments.shape[:2], -1)
        # Copied first: all sums then run over the same memory, whatever the chunks were.
        work[:] = segments
        if self._kind != "none":
            work -= (np.einsum("cst->cs", work) / plan.segment)[..., np.newaxis]
        if self._kind == "linear":
            work -= np.einsum("cst,t->cs", work, self._ramp)[..., np.newaxis] * self._ramp
        work *= plan.taper
        np.fft.rfft(work, out=spectrum)
        flat[:] = spectrum.view(np.float64)[..., 2 * plan.bins.start : 2 * plan.bins.stop]
        flat *= flat  # real, imaginary, real, ...
        np.add(flat[..., ::2], flat[..., 1::2], out=out)


class PowerExtractor(ABC):
    """Streaming features that are made of the PSD of each window: rows (bins, bands) x channels.

    Parameters
    ----------
    spec : PsdSpec
    rows : tuple of str
        A name for each row.
    sfreq_hz : float
    n_channels : int

    Raises
    ------
    SettingError
        If the specification cannot be met at this rate.
    """

    def __init__(
        self, spec: PsdSpec, rows: tuple[str, ...], *, sfreq_hz: float, n_channels: int
    ) -> None:
        self._sliding = SlidingPsd(spec, sfreq_hz=sfreq_hz, n_channels=n_channels)
        self._rows = rows
        self._n_channels = n_channels

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, channels)."""
        return (len(self._rows), self._n_channels)

    @property
    def n_features(self) -> int:
        """Rows times channels."""
        return len(self._rows) * self._n_channels

    @property
    def labels(self) -> tuple[str, ...]:
        """E.g. "10 Hz, channel 3" or "alpha, channel 3"."""
        return tuple(f"{row}, channel {c}" for row in self._rows for c in range(self._n_channels))

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
            Feature(start, start + span, self._values(power))
            for start, power in self._sliding.push(array)
        ]

    def reset(self, *, first: int = 0) -> None:
        """Forget all samples; the next one gets the index `first`."""
        self._sliding.reset(first=first)

    @abstractmethod
    def _values(self, power: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the features of one window, of its linear power (n_channels, n_bins)."""


class PsdExtractor(PowerExtractor):
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
        freqs_hz = plan_psd(spec, sfreq_hz=sfreq_hz).freqs_hz
        rows = tuple(f"{hz:.6g} Hz" for hz in freqs_hz)
        super().__init__(spec, rows, sfreq_hz=sfreq_hz, n_channels=n_channels)
        self._log10 = spec.log10

    def _values(self, power: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return to_values(power, log10=self._log10)


def to_values(power: NDArray[np.floating[Any]], *, log10: bool) -> NDArray[np.float32]:
    """Power (n_channels, n_rows) -> feature vector (n_rows * n_channels,), read-only."""
    if log10:
        power = np.log10(np.maximum(power, _TINY))
    # Rounded before it is turned round: half the memory to walk across.
    values = power.astype(np.float32, copy=False).T.ravel()
    values.setflags(write=False)
    return values


def batch_psd(
    spec: PsdSpec, samples: NDArray[np.float32], *, sfreq_hz: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """PSD features of a whole recording by SciPy, see `models.features.batch_features`."""
    starts, stops, power = batch_power(spec, samples, sfreq_hz=sfreq_hz)
    n_features = power.shape[1] * power.shape[2]
    values = power.transpose(0, 2, 1).reshape(len(starts), n_features)
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


def _total(powers: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    if len(powers) == 1:
        return powers[0].copy()
    total = powers[0] + powers[1]
    for power in powers[2:]:
        total += power
    return total


def _median(powers: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    median: NDArray[np.float32] = np.median(np.stack(powers), axis=0)
    return median


def _median_bias(n: int) -> float:
    """Median over mean of n exponential variates (Allen et al. 2012, appendix B)."""
    even = 2.0 * np.arange(1, (n - 1) // 2 + 1)
    return 1.0 + float(np.sum(1.0 / (even + 1.0) - 1.0 / even))
