"""The few building blocks that the procedural sounds are made of: arrays in, arrays out, 16 kHz.

Every random choice comes from the generator that is handed in, so a seed gives the same sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SAMPLE_RATE_HZ",
    "Wave",
    "decay",
    "fade_edges",
    "harmonics",
    "place",
    "resonate",
    "semitones",
    "set_rms",
    "shaped_noise",
    "spectral_centroid_hz",
    "swell",
]

SAMPLE_RATE_HZ = 16_000

Wave: TypeAlias = NDArray[np.floating[Any]]


def semitones(root_hz: float, steps: float) -> float:
    """Return the frequency `steps` equal-tempered semitones above `root_hz`."""
    return float(root_hz * 2.0 ** (steps / 12.0))


def harmonics(f0_hz: float | Wave, amplitudes: Sequence[float] | Wave, n: int) -> Wave:
    """Add up partials of a fundamental that may glide; partials above 7.6 kHz are left out.

    Parameters
    ----------
    f0_hz : float or array of shape (n,)
        Fundamental, Hz.
    amplitudes : sequence of float
        Amplitude of partial 1, 2, 3, ...
    n : int
        Samples.

    Returns
    -------
    wave : array of shape (n,), float64
    """
    f0 = np.broadcast_to(np.asarray(f0_hz, np.float64), (n,))
    phase = 2.0 * np.pi * np.cumsum(f0) / SAMPLE_RATE_HZ
    wave = np.zeros(n)
    for number, amplitude in enumerate(amplitudes, start=1):
        # 7.6 kHz, not Nyquist: a partial that glides through 8 kHz would fold back audibly.
        audible = np.clip((7_600.0 - number * f0) / 400.0, 0.0, 1.0)
        wave += amplitude * audible * np.sin(number * phase)
    return wave


def decay(n: int, half_s: float, attack_s: float = 0.004) -> Wave:
    """Return the envelope of something struck or plucked: quick rise, exponential fall."""
    t = np.arange(n) / SAMPLE_RATE_HZ
    rise = np.minimum(t / max(attack_s, 1e-4), 1.0)
    return np.asarray(rise * 0.5 ** (t / half_s))


def swell(n: int, attack_s: float, release_s: float) -> Wave:
    """Return the envelope of something blown, bowed or spoken: rise, hold, fall (raised cosine)."""
    attack = min(round(attack_s * SAMPLE_RATE_HZ), n // 2)
    release = min(round(release_s * SAMPLE_RATE_HZ), n // 2)
    envelope = np.ones(n)
    envelope[:attack] = 0.5 - 0.5 * np.cos(np.pi * np.arange(attack) / max(attack, 1))
    envelope[n - release :] = 0.5 + 0.5 * np.cos(
        np.pi * np.arange(1, release + 1) / max(release, 1)
    )
    return envelope


def shaped_noise(n: int, rng: np.random.Generator, *, gain: Callable[[Wave], Wave]) -> Wave:
    """Return Gaussian noise whose spectrum follows `gain(frequency_hz)`, at unit RMS."""
    frequency = np.fft.rfftfreq(n, 1.0 / SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(rng.standard_normal(n)) * gain(frequency)
    wave = np.fft.irfft(spectrum, n)
    return np.asarray(wave / max(float(np.sqrt(np.mean(wave**2))), 1e-12))


def resonate(wave: Wave, formants: Sequence[tuple[float, float]]) -> Wave:
    """Pass a wave through resonances (centre Hz, bandwidth Hz) in a row, as a throat does.

    Each is a two-pole section of unit gain at 0 Hz (Klatt 1980, JASA 67, 971, eq. 2).
    """
    from scipy.signal import lfilter

    for centre_hz, width_hz in formants:
        radius = np.exp(-np.pi * width_hz / SAMPLE_RATE_HZ)
        b = 2.0 * radius * np.cos(2.0 * np.pi * centre_hz / SAMPLE_RATE_HZ)
        c = -(radius**2)
        wave = np.asarray(lfilter([1.0 - b - c], [1.0, -b, -c], wave))
    return wave


def place(n: int, grains: Sequence[tuple[float, Wave]]) -> Wave:
    """Add grains (onset in s, wave) into `n` samples of silence; what sticks out is cut off."""
    out = np.zeros(n)
    for onset_s, grain in grains:
        first = round(onset_s * SAMPLE_RATE_HZ)
        stop = min(n, first + len(grain))
        if 0 <= first < stop:
            out[first:stop] += grain[: stop - first]
    return out


def fade_edges(wave: Wave, fade_s: float = 0.015) -> Wave:
    """Return the wave with raised-cosine edges, so that clips follow each other without a click."""
    return wave * swell(len(wave), fade_s, fade_s)


def set_rms(wave: Wave, level_dbfs: float, peak: float = 0.95) -> Wave:
    """Return the wave at an RMS level, peaks above `peak` bent down softly (tanh)."""
    scaled = wave * (10.0 ** (level_dbfs / 20.0) / max(float(np.sqrt(np.mean(wave**2))), 1e-12))
    return scaled if np.max(np.abs(scaled)) <= peak else np.asarray(peak * np.tanh(scaled / peak))


def spectral_centroid_hz(wave: Wave) -> float:
    """Return the power-weighted mean frequency of a wave, Hz: how bright it sounds."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1.0 / SAMPLE_RATE_HZ)
    return float(np.sum(power * frequency) / max(float(np.sum(power)), 1e-30))
