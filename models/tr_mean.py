"""Sliding-TR averages of BOLD volumes, live, and the volumes that answer to a stimulus."""

from __future__ import annotations

import math
from collections import deque
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.features import Feature, check_samples
from models.spec import TrMeanSpec

__all__ = ["TrMeanExtractor", "average_at", "batch_tr_mean", "n_volumes", "volumes_at"]

# A rate travels as float32 or with few digits: 1/1.5 as 0.6667 makes 3.00015 volumes of 4.5 s.
# A window longer than whole volumes by less than this share counts as whole.
_SLACK = 1e-3


def n_volumes(window_s: float, *, tr_s: float) -> int:
    """Return ceil(window_s / TR), safe against rates that are rounded.

    Parameters
    ----------
    window_s : float
    tr_s : float

    Returns
    -------
    n : int

    Raises
    ------
    SettingError
        If either is not above 0.
    """
    if not (np.isfinite(window_s) and window_s > 0 and np.isfinite(tr_s) and tr_s > 0):
        raise SettingError(f"Expected window_s and TR above 0 s, got {window_s} and {tr_s}.")
    return max(1, math.ceil(window_s / tr_s * (1.0 - _SLACK)))


def volumes_at(
    onset_s: float, spec: TrMeanSpec, *, tr_s: float, lag_s: float = 0.0
) -> tuple[int, int]:
    """Return the volumes that answer to a stimulus: start, and one past the last.

    The first is the first volume whose acquisition starts at or after `onset_s + lag_s`.

    Parameters
    ----------
    onset_s : float
        When the stretch of stimulus starts, from the start of volume 0.
    spec : TrMeanSpec
        Its window gives the number of volumes, its `start_volume` those never used.
    tr_s : float
    lag_s : float
        Haemodynamic lag.

    Returns
    -------
    start, stop : int

    Raises
    ------
    SettingError
        If that is among the volumes left out at the start of the run, or before the run.
    """
    start = math.ceil((onset_s + lag_s) / tr_s - _SLACK)
    if start < spec.start_volume:
        raise SettingError(
            f"A stimulus at {onset_s:g} s with a lag of {lag_s:g} s is answered from volume "
            f"{start} on, but volumes before {spec.start_volume} are left out."
        )
    return start, start + n_volumes(spec.window_s, tr_s=tr_s)


def average_at(
    volumes: ArrayLike,
    onsets_s: ArrayLike,
    spec: TrMeanSpec,
    *,
    tr_s: float,
    lag_s: float = 0.0,
) -> NDArray[np.float32]:
    """Return the average response (n_stimuli, n_voxels) to each stimulus onset, see `volumes_at`.

    Raises
    ------
    SettingError
        If a stimulus is answered by volumes that the run does not have, or there are delays.
    """
    if spec.n_delays != 1:
        raise SettingError("Averages at onsets are taken one by one; set n_delays to 1.")
    run = check_samples(volumes, np.shape(volumes)[-1])
    rows = []
    for onset in np.asarray(onsets_s, dtype=np.float64):
        start, stop = volumes_at(float(onset), spec, tr_s=tr_s, lag_s=lag_s)
        if stop > len(run):
            raise SettingError(
                f"A stimulus at {onset:g} s needs volumes {start} to {stop - 1}; the run has "
                f"{len(run)}. Leave it out, or shorten the lag or the window."
            )
        rows.append(run[start:stop].mean(axis=0, dtype=np.float64))
    return np.array(rows, dtype=np.float32).reshape(len(rows), run.shape[1])


class TrMeanExtractor:
    """Streaming sliding-TR average (voxels), see `models.features.FeatureExtractor`.

    The sum is taken afresh for each window: a running one would gather rounding over a session.

    Parameters
    ----------
    spec : TrMeanSpec
    sfreq_hz : float
        1/TR.
    n_channels : int
        Voxels.

    Raises
    ------
    SettingError
        If the specification cannot be met at this rate.
    """

    def __init__(self, spec: TrMeanSpec, *, sfreq_hz: float, n_channels: int) -> None:
        self._n, self._hop, self._dummies = _plan(spec, sfreq_hz)
        self._n_voxels = n_channels
        self._n_delays = spec.n_delays
        self._span = self._n + spec.n_delays - 1
        self._volumes: deque[NDArray[np.float32]] = deque(maxlen=self._span)
        self.reset()

    @property
    def shape(self) -> tuple[int, ...]:
        """(voxels,), or (delays, voxels) with several."""
        return (self._n_voxels,) if self._n_delays == 1 else (self._n_delays, self._n_voxels)

    @property
    def n_features(self) -> int:
        """Voxels times delays."""
        return self._n_voxels * self._n_delays

    @property
    def labels(self) -> tuple[str, ...]:
        """E.g. "voxel 3", or "voxel 3, 2 volumes ago" with several delays."""
        names = tuple(f"voxel {voxel}" for voxel in range(self._n_voxels))
        if self._n_delays == 1:
            return names
        ages = range(self._n_delays - 1, -1, -1)
        return tuple(f"{name}, {age} volumes ago" for age in ages for name in names)

    @property
    def window_samples(self) -> int:
        """Volumes that a feature vector spans."""
        return self._span

    @property
    def hop_samples(self) -> int:
        """Volumes from one average to the next."""
        return self._hop

    def push(self, samples: ArrayLike) -> list[Feature]:
        """Take volumes (n, n_voxels) and return the averages that they complete."""
        features = []
        for volume in check_samples(samples, self._n_voxels):
            index = self._next
            self._next += 1
            if index < self._start:
                continue
            self._volumes.append(volume.copy())  # the caller may use its memory again
            if index + 1 - self._start < self._span:
                continue
            rows = np.zeros((self._n_delays, self._n_voxels))
            for delay, total in enumerate(rows):
                for kept in islice(self._volumes, delay, delay + self._n):
                    total += kept
            values = (rows / self._n).astype(np.float32).ravel()
            values.setflags(write=False)
            features.append(Feature(self._start, index + 1, values))
            self._start += self._hop
        return features

    def reset(self, *, first: int = 0) -> None:
        """Forget all volumes; the next one gets the index `first`.

        Dummies are left out only where `first` lies among them: not again after a gap.
        """
        self._volumes.clear()
        self._next = first
        self._start = max(first, self._dummies)  # first volume of the next window


def batch_tr_mean(
    spec: TrMeanSpec, samples: NDArray[np.float32], *, sfreq_hz: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Sliding-TR averages of a whole run, see `models.features.batch_features`."""
    n, hop, dummies = _plan(spec, sfreq_hz)
    span = n + spec.n_delays - 1
    starts = np.arange(dummies, len(samples) - span + 1, hop)
    n_voxels = samples.shape[1]
    values = np.empty((len(starts), n_voxels * spec.n_delays), np.float32)
    for delay in range(spec.n_delays):
        total = np.zeros((len(starts), n_voxels))
        for offset in range(delay, delay + n):
            total += samples[starts + offset]
        values[:, delay * n_voxels : (delay + 1) * n_voxels] = total / n
    return starts, starts + span, values


def _plan(spec: TrMeanSpec, sfreq_hz: float) -> tuple[int, int, int]:
    if spec.hop_volumes < 1 or spec.start_volume < 0 or spec.n_delays < 1:
        raise SettingError(
            f"Expected hop_volumes and n_delays of 1 or more and start_volume of 0 or more, got "
            f"{spec.hop_volumes}, {spec.n_delays} and {spec.start_volume}."
        )
    return n_volumes(spec.window_s, tr_s=1.0 / sfreq_hz), spec.hop_volumes, spec.start_volume
