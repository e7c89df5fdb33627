"""Brain signal to features: one streaming interface for all kinds, and its offline equivalent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.spec import BandPowerSpec, FeatureSpec, PsdSpec, SampleSpec, TrMeanSpec

__all__ = ["Feature", "FeatureExtractor", "batch_features", "check_samples", "make_extractor"]


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """Features of one window, with the samples that they were made of."""

    start: int  # first sample of the window, counted from the last reset
    stop: int  # one past the last sample of the window
    values: NDArray[np.float32]  # (n_features,), read-only


class FeatureExtractor(Protocol):
    """Samples in, features out, as soon as their window is complete.

    What comes out depends on the samples alone, bit for bit, never on how they were cut into
    chunks.
    """

    @property
    def n_features(self) -> int:
        """Length of a feature vector: the product of `shape`."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """How a feature vector is laid out (C order), e.g. (bins, channels)."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each feature, in the order of the vector."""
        ...

    @property
    def window_samples(self) -> int:
        """Samples (volumes) that one window spans."""
        ...

    @property
    def hop_samples(self) -> int:
        """Samples (volumes) from one window to the next."""
        ...

    def push(self, samples: ArrayLike) -> list[Feature]:
        """Take samples (n, n_channels) and return the windows that they complete, in order."""
        ...

    def reset(self, *, first: int = 0) -> None:
        """Forget all samples, as after a gap; the next sample gets the index `first`."""
        ...


def make_extractor(spec: FeatureSpec, *, sfreq_hz: float, n_channels: int) -> FeatureExtractor:
    """Return the streaming extractor of a feature specification.

    Parameters
    ----------
    spec : FeatureSpec
        What to compute.
    sfreq_hz : float
        Samples a second; 1/TR for BOLD. Durations are rounded to whole samples.
    n_channels : int
        Channels, or voxels inside the mask.

    Raises
    ------
    SettingError
        If the specification cannot be met at this rate.
    """
    _check_input(sfreq_hz, n_channels)
    # Imported here: each kind needs its own part of SciPy, and only one kind runs in a session.
    if isinstance(spec, PsdSpec):
        from models.psd import PsdExtractor

        return PsdExtractor(spec, sfreq_hz=sfreq_hz, n_channels=n_channels)
    if isinstance(spec, BandPowerSpec):
        from models.band_power import BandPowerExtractor

        return BandPowerExtractor(spec, sfreq_hz=sfreq_hz, n_channels=n_channels)
    if isinstance(spec, SampleSpec):
        from models.lagged import LaggedExtractor

        return LaggedExtractor(spec, sfreq_hz=sfreq_hz, n_channels=n_channels)
    if isinstance(spec, TrMeanSpec):
        from models.tr_mean import TrMeanExtractor

        return TrMeanExtractor(spec, sfreq_hz=sfreq_hz, n_channels=n_channels)
    raise SettingError(f"Expected a feature specification, got {type(spec).__name__}.")


def batch_features(
    spec: FeatureSpec, samples: ArrayLike, *, sfreq_hz: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Compute the features of a whole recording at once, independently of the extractors.

    It shares with them only the rounding of durations to samples; the numbers come from SciPy
    (spectra, filters) and from sums over all windows at once, so that it can serve as their check.

    Parameters
    ----------
    spec : FeatureSpec
        What to compute.
    samples : array of shape (n, n_channels)
        One stretch without gaps.
    sfreq_hz : float
        Samples a second; 1/TR for BOLD.

    Returns
    -------
    starts, stops : arrays of shape (n_windows,), int64
        First and one past the last sample of each window.
    values : array of shape (n_windows, n_features), float32
        No rows when the recording is shorter than a window.

    Raises
    ------
    SettingError
        If the specification cannot be met at this rate, or samples are not two-dimensional.
    """
    array = np.asarray(samples)
    if array.ndim != 2:
        raise SettingError(f"Expected samples of shape (n, n_channels), got {array.shape}.")
    _check_input(sfreq_hz, array.shape[1])
    array = check_samples(array, array.shape[1])
    if isinstance(spec, PsdSpec):
        from models.psd import batch_psd

        return batch_psd(spec, array, sfreq_hz=sfreq_hz)
    if isinstance(spec, BandPowerSpec):
        from models.band_power import batch_band_power

        return batch_band_power(spec, array, sfreq_hz=sfreq_hz)
    if isinstance(spec, SampleSpec):
        from models.lagged import batch_lagged

        return batch_lagged(spec, array, sfreq_hz=sfreq_hz)
    if isinstance(spec, TrMeanSpec):
        from models.tr_mean import batch_tr_mean

        return batch_tr_mean(spec, array, sfreq_hz=sfreq_hz)
    raise SettingError(f"Expected a feature specification, got {type(spec).__name__}.")


def check_samples(samples: ArrayLike, n_channels: int) -> NDArray[np.float32]:
    """Return samples as (n, n_channels) float32, or say what is wrong with them.

    Raises
    ------
    SettingError
        If they have another shape.
    """
    array = np.asarray(samples, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != n_channels:
        raise SettingError(
            f"Expected samples of shape (n, {n_channels}), got {array.shape}. "
            "Samples run down, channels across; give the extractor the channels it was made for."
        )
    return array


def _check_input(sfreq_hz: float, n_channels: int) -> None:
    if not (np.isfinite(sfreq_hz) and sfreq_hz > 0):
        raise SettingError(
            f"Expected a sampling rate above 0 Hz, got {sfreq_hz}. "
            "A stream of irregular rate has no windows of fixed length."
        )
    if n_channels < 1:
        raise SettingError(f"Expected at least one channel, got {n_channels}.")
