"""A run: what a brain gave while a known sound was heard, window by window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.stimuli import SAMPLE_RATE_HZ, StimulusSequence
from models.features import batch_features
from models.spec import FeatureSpec

__all__ = ["Run", "RunWindows", "clip_at", "run_windows"]


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Samples or volumes without a gap, the first taken at the onset of the sound."""

    samples: NDArray[np.float32]  # (n, n_channels); V, or scanner units
    sfreq_hz: float
    sequence: StimulusSequence


@dataclass(frozen=True, slots=True, eq=False)
class RunWindows:
    """The feature windows of a run, on the clock of its sound."""

    values: NDArray[np.float32]  # (n_windows, n_features), not yet standardised
    t_start: NDArray[np.float64]  # (n_windows,) s from the onset of the sound
    t_stop: NDArray[np.float64]  # (n_windows,) s

    def stretch(self, lag_s: float, block_s: float) -> NDArray[np.float64]:
        """Return what stretch of the sound each window renders: (n_windows, 2), s.

        As the live path has it: it stops `lag_s` before the window does, and is `block_s` long.
        """
        stop = self.t_stop - lag_s
        return np.stack([stop - block_s, stop], axis=1)


def run_windows(run: Run, spec: FeatureSpec) -> RunWindows:
    """Return the features of a run, window by window."""
    starts, stops, values = batch_features(spec, run.samples, sfreq_hz=run.sfreq_hz)
    return RunWindows(values, starts / run.sfreq_hz, stops / run.sfreq_hz)


def clip_at(sequence: StimulusSequence, t_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the clip that sounds at each time; -1 outside the sequence."""
    onsets = np.array([clip.onset_s for clip in sequence.clips])
    number = np.searchsorted(onsets, t_s + 1e-9, side="right") - 1
    outside = (t_s < 0.0) | (t_s >= len(sequence.pcm) / SAMPLE_RATE_HZ)
    return np.asarray(np.where(outside, -1, number), np.int64)
