"""Units of recorded values, and whether an amplitude can be EEG at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from stream.source_info import unit_scale

__all__ = ["plausible_eeg", "robust_sd", "volts_per_unit", "wanted_scale"]

# How BIDS and EDF files also write microvolts.
_MORE = {"microv": 1e-6, "uvolt": 1e-6, "uvolts": 1e-6}

# Standard deviation that a scalp channel can have, in volts: amplifier noise up to gross movement.
_SMALLEST, _LARGEST = 2e-8, 2e-2


def volts_per_unit(unit: str) -> float | None:
    """Return volts in one `unit`, or None if it is not a voltage."""
    plain = (
        unit.strip()
        .lower()
        .replace("\N{MICRO SIGN}", "u")
        .replace("\N{GREEK SMALL LETTER MU}", "u")
    )
    return _MORE.get(plain, unit_scale(plain))


def wanted_scale(unit: str) -> float:
    """Return volts in one `unit` that a person named.

    Raises
    ------
    SettingError
        If it is not a voltage.
    """
    scale = volts_per_unit(unit)
    if scale is None:
        raise SettingError(
            f"Unit {unit!r} is not a voltage; expected V, mV, microvolts (uV) or nV."
        )
    return scale


def robust_sd(samples: NDArray[np.floating]) -> float:
    """Return the median over channels of a spread that ignores offsets, drifts and outliers.

    Parameters
    ----------
    samples : array of shape (n, n_channels)

    Returns
    -------
    sd : float
        In the unit of `samples`; NaN where nothing is finite.
    """
    step = max(1, len(samples) // 20_000)
    part = np.asarray(samples[: 20_000 * step], dtype=np.float64)
    # Differences over 16 samples: a DC offset of 0.2 V must not look like a signal of 0.2 V.
    lag = min(16, len(part) - 1)
    if lag < 1:
        return float("nan")
    part = (part[lag:] - part[:-lag])[::step]
    spreads = []
    for column in part.T:
        good = np.abs(column[np.isfinite(column)])
        if len(good) and (middle := float(np.median(good))) > 0:
            spreads.append(1.4826 * middle / np.sqrt(2.0))
    return float(np.median(spreads)) if spreads else float("nan")


def plausible_eeg(sd_v: float) -> bool:
    """Tell whether a spread in volts can be that of an EEG channel."""
    return _SMALLEST <= sd_v <= _LARGEST
