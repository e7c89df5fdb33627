"""Samples in, feature windows out: gaps filled or waited out, features made and standardised.

The live session and the offline run both go through `Windower`, and what it makes depends on the
samples and their indices alone, not on how they were cut into chunks. So live equals offline.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from models.errors import SettingError
from models.features import Feature, FeatureExtractor, make_extractor
from models.gapfill import fill_linear
from models.standardise import Standardiser
from stream.messages import Chunk, FeatureWindow

__all__ = ["WindowFailure", "Windower", "open_windower"]


@dataclass(frozen=True, slots=True)
class WindowFailure:
    """A window that could not be made."""

    seq: int
    error: Exception


class Windower:
    """The features stage without its clock and its task.

    - Samples that are missing (a jump of the index) or not finite, at most `fill_max_samples` of
      them, are put on a straight line between their neighbours; the windows that hold them say so.
    - After a longer gap the extractor starts afresh: no window spans it.
    - A failure in the extractor makes it start afresh too; one in the standardiser costs one
      window.

    Parameters
    ----------
    extractor : FeatureExtractor
    standardiser : Standardiser
    n_channels : int
    period_s : float
        From one sample to the next on the clock of the stamps.
    fill_max_samples : int
        Longest gap that is filled; 0: none.
    order : array of shape (n_channels,), optional
        Columns of the stream that are used, in this order; all if not given.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        standardiser: Standardiser,
        *,
        n_channels: int,
        period_s: float,
        fill_max_samples: int,
        order: NDArray[np.intp] | None = None,
    ) -> None:
        self._extractor = extractor
        self._standardiser = standardiser
        self._n_channels = n_channels
        self._period_s = period_s
        self._fill_max = fill_max_samples
        self._order = order
        self._expected: int | None = None  # index of the next sample
        self._last: NDArray[np.float32] | None = None  # (n_channels,) the newest good sample
        self._stamps: deque[tuple[int, NDArray[np.float64]]] = deque()  # first index, (n,) s
        self._filled: deque[tuple[int, int]] = deque()  # from, to (indices)
        self.n_windows = 0  # seq of the next window
        self.n_filled = 0  # samples
        self.n_resets = 0  # the first start is none

    @property
    def hop_samples(self) -> int:
        """Samples from one window to the next."""
        return self._extractor.hop_samples

    @property
    def window_samples(self) -> int:
        """Samples that one window spans."""
        return self._extractor.window_samples

    def push(self, chunk: Chunk) -> tuple[list[FeatureWindow], list[WindowFailure]]:
        """Take a chunk; return the windows that it completes, and those that failed.

        Raises
        ------
        SettingError
            If the chunk has another number of channels.
        """
        if self._order is None and chunk.samples.shape[1] != self._n_channels:
            raise SettingError(
                f"Expected {self._n_channels} channels, got {chunk.samples.shape[1]} from the "
                "stream. Use the stream that the bundle was fitted on."
            )
        windows: list[FeatureWindow] = []
        failures: list[WindowFailure] = []
        for first, samples, stamps in _finite_runs(chunk):
            if self._order is not None:
                samples = samples[:, self._order]
            for block in self._joined(first, samples, stamps):
                self._push_block(*block, windows, failures)
        return windows, failures

    def _joined(
        self, first: int, samples: NDArray[np.float32], stamps: NDArray[np.float64]
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64]]]:
        """Yield what goes into the extractor before and with these samples."""
        missing = 0 if self._expected is None else first - self._expected
        if self._expected is None or self._last is None:
            self._restart(first)
        elif 0 < missing <= self._fill_max:
            # A line for the stamps too, ends left out.
            between = np.linspace(self._stamps[-1][1][-1], stamps[0], missing + 2)[1:-1]
            self._filled.append((self._expected, first))
            self.n_filled += missing
            yield fill_linear(self._last, samples[0], missing), between
        elif missing:
            self.n_resets += 1
            self._restart(first)
        yield samples, stamps

    def _restart(self, first: int) -> None:
        self._extractor.reset(first=first)
        self._expected = first
        self._stamps.clear()
        self._filled.clear()

    def _push_block(
        self,
        samples: NDArray[np.float32],
        stamps: NDArray[np.float64],
        windows: list[FeatureWindow],
        failures: list[WindowFailure],
    ) -> None:
        assert self._expected is not None
        self._stamps.append((self._expected, stamps))
        self._expected += len(stamps)
        self._last = samples[-1]
        try:
            features = self._extractor.push(samples)
        except Exception as error:
            failures.append(WindowFailure(self.n_windows, error))
            self.n_windows += 1
            self.n_resets += 1
            self._restart(self._expected)
            return
        for feature in features:
            seq = self.n_windows
            self.n_windows += 1
            try:
                windows.append(self._window(feature, seq))
            except Exception as error:
                failures.append(WindowFailure(seq, error))
        self._forget(self._expected - self._extractor.window_samples)

    def _window(self, feature: Feature, seq: int) -> FeatureWindow:
        values = self._standardiser.push(feature.values)
        values.setflags(write=False)
        return FeatureWindow(
            values=values,
            seq=seq,
            start=feature.start,
            stop=feature.stop,
            t_start=self._stamp(feature.start),
            t_stop=self._stamp(feature.stop - 1) + self._period_s,
            n_filled=sum(
                max(0, min(stop, feature.stop) - max(start, feature.start))
                for start, stop in self._filled
            ),
        )

    def _stamp(self, index: int) -> float:
        for first, stamps in reversed(self._stamps):
            if index >= first:
                return float(stamps[index - first])
        # A window may begin before the first sample (its filter's past): extrapolate.
        first, stamps = self._stamps[0]
        return float(stamps[0]) - (first - index) * self._period_s

    def _forget(self, before: int) -> None:
        """Let go of the stamps and fills that no window will need."""
        while len(self._stamps) > 1 and self._stamps[1][0] <= before:
            self._stamps.popleft()
        while self._filled and self._filled[0][1] <= before:
            self._filled.popleft()


def _finite_runs(
    chunk: Chunk,
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float64]]]:
    """Yield the stretches of a chunk without a sample that is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        good = np.isfinite(chunk.samples.sum(axis=1))
    if good.all():
        if len(good):
            yield chunk.first, chunk.samples, chunk.stamps
        return
    bounds = [0, *(np.flatnonzero(np.diff(good)) + 1).tolist(), len(good)]
    for start, stop in pairwise(bounds):
        if stop > start and good[start]:
            yield chunk.first + start, chunk.samples[start:stop], chunk.stamps[start:stop]


def open_windower(
    bundle: Bundle, *, period_s: float | None = None, order: NDArray[np.intp] | None = None
) -> Windower:
    """Return the features stage of a bundle.

    Parameters
    ----------
    bundle : Bundle
    period_s : float, optional
        From one sample to the next on the clock of the stamps (a replay may be fast); as the
        manifest says if not given.
    order : array of shape (n_channels,), optional
        Columns of the stream for the bundle's channels.

    Raises
    ------
    SettingError
        If the features cannot be made at this rate, or do not fit the bundle's statistics.
    """
    manifest = bundle.manifest
    rate = manifest.input.sfreq_hz
    extractor = make_extractor(
        manifest.features, sfreq_hz=rate, n_channels=manifest.input.n_channels
    )
    if extractor.n_features != bundle.n_features:
        raise SettingError(
            f"The manifest's features are {extractor.n_features} values a window, but the bundle "
            f"was fitted on {bundle.n_features}. Export it again."
        )
    return Windower(
        extractor,
        Standardiser(manifest.standardise, bundle.mean, bundle.std),
        n_channels=manifest.input.n_channels,
        period_s=period_s or 1.0 / rate,
        fill_max_samples=int(manifest.fill_max_s * rate + 1e-6),
        order=order,
    )
