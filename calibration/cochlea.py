"""What an ear passes on: compressed envelopes of bands spaced as the cochlea spaces them.

The simulated listener hears through this, not through the mel front-end that the decoder aims at,
so that a decoder which works has learnt something and was not handed its own features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["band_centres_hz", "band_envelopes"]

_LOW_HZ, _HIGH_HZ = 80.0, 7_000.0
_COMPRESSION = 0.3  # of power; loudness grows about so (Stevens 1957)


def band_centres_hz(n_bands: int) -> NDArray[np.float64]:
    """Return centres equally spaced in ERB number (Glasberg & Moore 1990), 80 Hz to 7 kHz."""
    low, high = (21.4 * np.log10(1.0 + 0.00437 * f) for f in (_LOW_HZ, _HIGH_HZ))
    return np.asarray((10.0 ** (np.linspace(low, high, n_bands) / 21.4) - 1.0) / 0.00437)


def band_envelopes(
    pcm: NDArray[np.float32], *, sample_rate_hz: int, rate_hz: float, n_bands: int = 16
) -> NDArray[np.float64]:
    """Return the compressed envelope of each band.

    Short-time power (Hann window of 16 ms) is weighted by the magnitude response of a fourth-order
    gammatone filter around each centre, and raised to the power 0.3.

    Parameters
    ----------
    pcm : array of shape (n,), float32
        Sound, full scale 1.0.
    sample_rate_hz : int
        Of the sound.
    rate_hz : float
        Of the envelopes; sample k stands for time k / rate_hz.
    n_bands : int
        Number of bands.

    Returns
    -------
    envelopes : array of shape (round(n * rate_hz / sample_rate_hz), n_bands), float64
        About 0 (silence) to 1 (a full-scale tone in that band).

    Raises
    ------
    SettingError
        If the sound is not one-dimensional, or a number is not positive.
    """
    if pcm.ndim != 1 or sample_rate_hz <= 0 or not rate_hz > 0 or n_bands < 1:
        raise SettingError(
            f"Band envelopes need mono sound and positive rates, got shape {pcm.shape}, "
            f"{sample_rate_hz} Hz, {rate_hz} Hz and {n_bands} bands."
        )
    n_window = 2 * round(0.008 * sample_rate_hz)
    window = np.hanning(n_window + 1)[:-1]
    frequency = np.fft.rfftfreq(n_window, 1.0 / sample_rate_hz)
    centres = band_centres_hz(n_bands)[:, None]
    erb_hz = 24.7 * (1.0 + 0.00437 * centres)
    weights = (1.0 + ((frequency - centres) / (1.019 * erb_hz)) ** 2) ** -4  # power, 4th order
    n_out = round(len(pcm) * rate_hz / sample_rate_hz)
    padded = np.pad(np.asarray(pcm, np.float64), n_window // 2)
    # Centre of frame k at sample k * sample_rate / rate, rounded: no drift over a long sound.
    first = np.minimum(
        np.round(np.arange(n_out) * (sample_rate_hz / rate_hz)).astype(np.int64), len(pcm)
    )
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_window)
    envelopes = np.empty((n_out, n_bands))
    for start in range(0, n_out, 4096):  # in pieces: a long sound would need gigabytes
        piece = frames[first[start : start + 4096]] * window
        power = np.abs(np.fft.rfft(piece, axis=1)) ** 2 * (4.0 / np.sum(window) ** 2)
        envelopes[start : start + 4096] = (power @ weights.T) ** _COMPRESSION
    return envelopes
