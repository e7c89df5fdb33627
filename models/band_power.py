"""Power in named frequency bands, integrated from a PSD."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from models.psd import PowerExtractor, batch_power, to_values
from models.psd_plan import plan_psd
from models.spec import BandPowerSpec

__all__ = ["BandPowerExtractor", "band_weights", "batch_band_power"]


def band_weights(
    bands: tuple[tuple[str, float, float], ...], freqs_hz: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights that integrate a PSD over bands by the trapezoid rule.

    The PSD is a line from bin to bin, and is integrated from edge to edge. With edges on bins this
    is `scipy.integrate.trapezoid` over the band's bins, both edges included; with edges between
    bins nothing is lost or counted twice, so that adjoining bands always add up to their union.

    Parameters
    ----------
    bands : tuple of (name, low_hz, high_hz)
    freqs_hz : array of shape (n_bins,)
        Evenly spaced.

    Returns
    -------
    weights : array of shape (n_bands, n_bins), Hz

    Raises
    ------
    SettingError
        If a band is empty or reaches outside the bins, or two have the same name.
    """
    names = [name for name, _, _ in bands]
    if not bands or len(set(names)) < len(names):
        raise SettingError(f"Expected bands with different names, got {names}.")
    weights = np.zeros((len(bands), len(freqs_hz)))
    slack = 1e-9 * max(float(freqs_hz[-1]), 1.0)
    for row, (name, low, high) in zip(weights, bands, strict=True):
        if not (freqs_hz[0] - slack <= low < high <= freqs_hz[-1] + slack):
            raise SettingError(
                f"Band {name!r} goes from {low:g} to {high:g} Hz; expected a band within the bins "
                f"of the PSD, {freqs_hz[0]:g} to {freqs_hz[-1]:g} Hz."
            )
        inside = freqs_hz[(freqs_hz > low + slack) & (freqs_hz < high - slack)]
        knots = np.concatenate(([max(low, freqs_hz[0])], inside, [min(high, freqs_hz[-1])]))
        # Each knot's share of the integral, handed to the bins on either side of it.
        width = np.diff(knots)
        share = np.concatenate((width, [0.0])) / 2.0 + np.concatenate(([0.0], width)) / 2.0
        step = freqs_hz[1] - freqs_hz[0]
        place = np.clip((knots - freqs_hz[0]) / step, 0, len(freqs_hz) - 1)
        nearest = np.round(place)
        place = np.where(np.abs(place - nearest) < 1e-6, nearest, place)
        below = np.minimum(place.astype(int), len(freqs_hz) - 2)
        np.add.at(row, below, share * (1.0 - (place - below)))
        np.add.at(row, below + 1, share * (place - below))
    return weights


class BandPowerExtractor(PowerExtractor):
    """Streaming band power (bands x channels), see `models.features.FeatureExtractor`.

    `psd.log10` applies to the band power, after the integral (and the ratio, where relative).
    Relative power is divided by the integral over all bins from `psd.fmin_hz` to `psd.fmax_hz`.

    Parameters
    ----------
    spec : BandPowerSpec
    sfreq_hz : float
    n_channels : int

    Raises
    ------
    SettingError
        If the specification cannot be met at this rate.
    """

    def __init__(self, spec: BandPowerSpec, *, sfreq_hz: float, n_channels: int) -> None:
        self._bands, self._all = _weights(spec, sfreq_hz)
        rows = tuple(name for name, _, _ in spec.bands)
        super().__init__(spec.psd, rows, sfreq_hz=sfreq_hz, n_channels=n_channels)
        self._relative = spec.relative
        self._log10 = spec.psd.log10

    def _values(self, power: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        bands = np.einsum("cf,bf->cb", power, self._bands)
        if self._relative:
            bands = _ratio(bands, np.einsum("cf,f->c", power, self._all)[:, np.newaxis])
        return to_values(bands, log10=self._log10)


def batch_band_power(
    spec: BandPowerSpec, samples: NDArray[np.float32], *, sfreq_hz: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Band power of a whole recording by SciPy's PSD, see `models.features.batch_features`."""
    weights, everything = _weights(spec, sfreq_hz)
    starts, stops, power = batch_power(spec.psd, samples, sfreq_hz=sfreq_hz)
    bands = power @ weights.T  # (windows, channels, bands)
    if spec.relative:
        bands = _ratio(bands, (power @ everything)[..., np.newaxis])
    values = bands.transpose(0, 2, 1).reshape(len(starts), weights.shape[0] * power.shape[1])
    if spec.psd.log10:
        values = np.log10(np.maximum(values, np.finfo(np.float32).tiny))
    return starts, stops, values.astype(np.float32)


def _weights(
    spec: BandPowerSpec, sfreq_hz: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if spec.psd.scaling != "density":
        raise SettingError("Band power is an integral of a density; use psd.scaling = 'density'.")
    freqs = plan_psd(spec.psd, sfreq_hz=sfreq_hz).freqs_hz
    if len(freqs) < 2:
        raise SettingError(f"Expected at least two frequency bins to integrate, got {len(freqs)}.")
    bands = band_weights(spec.bands, freqs)
    return bands, band_weights((("all", float(freqs[0]), float(freqs[-1])),), freqs)[0]


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Part over whole; a dead channel has neither, and gets 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
