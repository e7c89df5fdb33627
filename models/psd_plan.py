"""A PSD's settings in whole samples: window, segments, taper, scale and frequency bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from models.spec import PsdSpec

__all__ = ["PsdPlan", "get_taper", "plan_psd"]


@dataclass(frozen=True, slots=True, eq=False)
class PsdPlan:
    """A `PsdSpec` at a given rate, in whole samples."""

    window: int  # samples of a window
    hop: int  # samples from window to window
    segment: int  # samples of a segment (nperseg)
    step: int  # samples from segment to segment (nperseg - noverlap)
    n_segments: int  # segments of a window
    taper: NDArray[np.float64]  # (segment,)
    scale: NDArray[np.float64]  # (n_bins,), one-sided factor over the taper's power
    bins: slice  # bins kept, out of segment // 2 + 1
    freqs_hz: NDArray[np.float64]  # (n_bins,)


def plan_psd(spec: PsdSpec, *, sfreq_hz: float) -> PsdPlan:
    """Turn the durations of a specification into samples and check them.

    Durations are rounded to whole samples; the overlap is rounded down, as SciPy's default is.

    Parameters
    ----------
    spec : PsdSpec
    sfreq_hz : float

    Returns
    -------
    plan : PsdPlan

    Raises
    ------
    SettingError
        If a setting is unknown, or no sample, segment or frequency bin is left.
    """
    _check(spec)
    window = round(spec.window_s * sfreq_hz)
    hop = max(1, round(spec.hop_s * sfreq_hz))
    segment = window if spec.method == "periodogram" else round(spec.segment_s * sfreq_hz)
    if not 1 <= segment <= window:
        raise SettingError(
            f"Expected 1 sample <= segment_s <= window_s, got a segment of {segment} and a window "
            f"of {window} samples at {sfreq_hz:g} Hz."
        )
    overlap = 0 if spec.method == "periodogram" else int(spec.overlap * segment + 1e-9)
    step = segment - overlap
    if step < 1:
        raise SettingError(f"Expected an overlap below 1, got {spec.overlap}.")
    taper = get_taper(spec.taper, segment)
    freqs = np.arange(segment // 2 + 1, dtype=np.float64) * float(sfreq_hz / segment)
    slack = 1e-9 * sfreq_hz  # a bin at 0.30000000000000004 Hz belongs to fmax_hz = 0.3
    kept = np.flatnonzero((freqs >= spec.fmin_hz - slack) & (freqs <= spec.fmax_hz + slack))
    if kept.size == 0:
        raise SettingError(
            f"No frequency bin lies between fmin_hz {spec.fmin_hz} and fmax_hz {spec.fmax_hz}; the "
            f"bins are {sfreq_hz / segment:g} Hz apart and end at {freqs[-1]:g} Hz."
        )
    bins = slice(int(kept[0]), int(kept[-1]) + 1)
    return PsdPlan(
        window=window,
        hop=hop,
        segment=segment,
        step=step,
        n_segments=1 + (window - segment) // step,
        taper=taper,
        scale=_one_sided_scale(spec, taper, sfreq_hz)[bins],
        bins=bins,
        freqs_hz=freqs[bins],
    )


def get_taper(name: str, n: int) -> NDArray[np.float64]:
    """Return a taper of n samples by SciPy's name, with parameters after commas.

    "hann", "kaiser,8.6", "general_gaussian,1.5,100", "exponential,none,30", "general_cosine,.5,.5",
    or a bare number for Kaiser's beta, all periodic as in `scipy.signal.welch`.

    Parameters
    ----------
    name : str
    n : int

    Returns
    -------
    taper : array of shape (n,), float64

    Raises
    ------
    SettingError
        If SciPy has no such window, or not with these parameters.
    """
    if n > 1 and name in ("boxcar", "hann"):
        # The usual ones without SciPy's signal package, which takes a second to import.
        return np.ones(n) if name == "boxcar" else np.sin(np.pi * np.arange(n) / n) ** 2
    from scipy.signal import get_window

    title, *texts = (part.strip() for part in name.split(","))
    try:
        values: list[Any] = [_number(text) for text in texts]
        if title == "general_cosine":  # its one parameter is a list
            values = [values]
        name_with_values: Any = (title, *values) if values else _kaiser_beta(title)
        taper = np.asarray(get_window(name_with_values, n), dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise SettingError(
            f"SciPy makes no taper {name!r} of {n} samples: {error}. Use a name of "
            "scipy.signal.get_window, with its parameters after commas, e.g. 'hann', 'kaiser,8.6'."
        ) from error
    if not (np.isfinite(taper).all() and np.any(taper)):
        raise SettingError(f"The taper {name!r} of {n} samples is not finite, or zero everywhere.")
    return taper


def _one_sided_scale(
    spec: PsdSpec, taper: NDArray[np.float64], sfreq_hz: float
) -> NDArray[np.float64]:
    """Return the factor of each bin; all but zero and Nyquist hold the negative ones as well."""
    n = len(taper)
    weight = sfreq_hz * np.sum(taper**2) if spec.scaling == "density" else np.sum(taper) ** 2
    if not weight > 0:
        raise SettingError(f"The taper {spec.taper!r} sums to zero; use scaling = 'density'.")
    factor = np.full(n // 2 + 1, 2.0 / weight)
    factor[0] /= 2.0
    if n % 2 == 0:
        factor[-1] /= 2.0
    if spec.detrend != "none" and np.ptp(taper) == 0:
        # Without a taper, detrending leaves nothing at 0 Hz but rounding noise, whose logarithm
        # would be a feature that means nothing. Zero it is, exactly.
        factor[0] = 0.0
    return factor


def _kaiser_beta(title: str) -> float | str:
    try:
        return float(title)
    except ValueError:
        return title


def _number(text: str) -> float | int | None:
    if text.lower() == "none":
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def _check(spec: PsdSpec) -> None:
    choices = {
        "method": ("welch", "periodogram"),
        "detrend": ("constant", "linear", "none"),
        "scaling": ("density", "spectrum"),
        "average": ("mean", "median"),
    }
    for name, known in choices.items():
        value = getattr(spec, name)
        if value not in known:
            raise SettingError(f"Expected psd.{name} to be one of {known}, got {value!r}.")
    for name in ("window_s", "hop_s", "segment_s"):
        value = getattr(spec, name)
        if not (np.isfinite(value) and value > 0):
            raise SettingError(f"Expected psd.{name} above 0 s, got {value}.")
    if not 0 <= spec.overlap < 1:
        raise SettingError(f"Expected 0 <= psd.overlap < 1, got {spec.overlap}.")
