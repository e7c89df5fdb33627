"""Pitch, tempo and brightness of a sound, measured on the sound itself.

Plain signal analysis with no network in it, so that what a generator follows is not judged by what
it was trained with. Each measure has its errors (a fifth for an octave, half of a tempo): its rank
correlation on the real sounds is the most that made ones can reach, and stands beside theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.synthesis import spectral_centroid_hz
from models.mel import MelSpec, log_mel

__all__ = ["SoundFactors", "measure_factors", "measure_pitch_hz", "measure_tempo_bpm"]

Wave = NDArray[np.floating]

_FRAME = 2_048
_HOP = 512
_CLEAR = 0.6  # least autocorrelation of what has a pitch
_SILENT = 1e-4  # root mean square
_ONSETS = MelSpec(n_fft=512, hop=160, n_mels=40, pad_samples=256)


@dataclass(frozen=True, slots=True)
class SoundFactors:
    """What was measured; NaN where a sound has no such thing."""

    pitch_hz: float
    tempo_bpm: float
    brightness_hz: float


def measure_factors(sound: Wave, *, sample_rate_hz: int = 16_000) -> SoundFactors:
    """Return the factors of a sound of one second or more; of silence all are NaN.

    Parameters
    ----------
    sound : array of shape (n,)
    sample_rate_hz : int
        16 kHz is what the mel front-end of the tempo is for.
    """
    wave = np.asarray(sound, np.float64)
    if not len(wave) or float(np.sqrt(np.mean(wave**2))) < _SILENT:
        return SoundFactors(float("nan"), float("nan"), float("nan"))
    return SoundFactors(
        measure_pitch_hz(wave, sample_rate_hz=sample_rate_hz),
        measure_tempo_bpm(wave),
        spectral_centroid_hz(wave),
    )


def measure_pitch_hz(
    sound: Wave,
    *,
    sample_rate_hz: int = 16_000,
    lowest_hz: float = 45.0,
    highest_hz: float = 5_000.0,
) -> float:
    """Return the energy-weighted median pitch of the frames that have one.

    The pitch of a frame is the first high peak of its normalised square difference function
    (McLeod & Wyvill 2005, "A smarter way to find pitch", eqs. 7-9, k = .9). Where hardly any energy
    has a pitch, it is the energy-weighted median of the spectral centroids: the centre of a band of
    noise.

    Parameters
    ----------
    sound : array of shape (n,)
    sample_rate_hz : int
    lowest_hz, highest_hz : float
    """
    wave = np.asarray(sound, np.float64)
    if len(wave) < _FRAME:
        wave = np.pad(wave, (0, _FRAME - len(wave)))
    frames = np.lib.stride_tricks.sliding_window_view(wave, _FRAME)[::_HOP]
    energy = np.mean(frames**2, axis=1)
    if energy.max() < _SILENT**2:
        return float("nan")
    shortest = max(2, int(sample_rate_hz / highest_hz))
    longest = int(sample_rate_hz / lowest_hz)
    similar = _similarity(frames, longest + 2)  # (frames, lags)
    pitches, clear = np.full(len(frames), np.nan), np.zeros(len(frames))
    for i, row in enumerate(similar):
        lag = _first_high_peak(row, shortest, longest)
        if lag is not None:
            pitches[i] = sample_rate_hz / _parabola(row, lag)
            clear[i] = row[lag]
    weights = np.where(clear > _CLEAR, energy, 0.0)
    if weights.sum() > 0.3 * energy.sum():
        has = weights > 0
        return _weighted_median(pitches[has], weights[has])
    centres = np.array([spectral_centroid_hz(frame) for frame in frames[energy > 0]])
    return _weighted_median(centres, energy[energy > 0])


def measure_tempo_bpm(
    sound: Wave, *, slowest_bpm: float = 50.0, fastest_bpm: float = 600.0
) -> float:
    """Return the rate at which onsets come back, a minute, or NaN if they do not.

    Onsets are rises of the log mel; the period is the shortest lag whose autocorrelation reaches
    .55 of the highest one: the beat rather than the bar.

    Parameters
    ----------
    sound : array of shape (n,)
        At 16 kHz.
    slowest_bpm, fastest_bpm : float
        A sound must hold two periods of the slowest for it to be found.
    """
    mel = log_mel(np.asarray(sound, np.float32), _ONSETS).astype(np.float64)
    top = float(mel.max())
    rises = np.maximum(np.diff(np.maximum(mel, top - 7.0), axis=0), 0.0).sum(axis=1)
    rate = _ONSETS.frames_per_s
    shortest = max(2, int(60.0 * rate / fastest_bpm))
    longest = min(int(60.0 * rate / slowest_bpm), len(rises) // 2)
    if longest <= shortest + 2 or rises.std() < 1e-6:
        return float("nan")
    smooth = np.convolve(rises - rises.mean(), np.hanning(7)[1:-1], "same")
    alike = np.array(
        [np.mean(smooth[: len(smooth) - lag] * smooth[lag:]) for lag in range(longest + 2)]
    )
    alike = alike / alike[0]
    peaks = [
        lag
        for lag in range(shortest, longest + 1)
        if alike[lag] >= alike[lag - 1] and alike[lag] > alike[lag + 1] and alike[lag] > 0.1
    ]
    if not peaks:
        return float("nan")
    highest = max(alike[lag] for lag in peaks)
    lag = next(lag for lag in peaks if alike[lag] >= 0.55 * highest)
    return 60.0 * rate / _parabola(alike, lag)


def _similarity(frames: NDArray[np.float64], n_lags: int) -> NDArray[np.float64]:
    """Return 2 r(lag) / m(lag) of each frame (McLeod & Wyvill 2005, eq. 9), (frames, lags)."""
    n = frames.shape[1]
    spectrum = np.fft.rfft(frames, 2 * n, axis=1)
    r = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :n_lags]
    power = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames**2, axis=1)], axis=1)
    lags = np.arange(n_lags)
    m = power[:, n - lags] + power[:, [n]] - power[:, lags]
    return np.asarray(2.0 * r / np.maximum(m, 1e-12))


def _first_high_peak(row: NDArray[np.float64], shortest: int, longest: int) -> int | None:
    """Return the lag of the first peak after a zero crossing that is near the highest one."""
    below = np.flatnonzero(row < 0.0)
    first = max(shortest, int(below[0]) if len(below) else shortest)
    lags = np.arange(first, longest)
    lags = lags[(lags > 0)]
    if not len(lags):
        return None
    peaks = lags[(row[lags] >= row[lags - 1]) & (row[lags] > row[lags + 1])]
    if not len(peaks):
        return None
    return int(peaks[np.argmax(row[peaks] >= 0.9 * row[peaks].max())])


def _parabola(row: NDArray[np.float64], lag: int) -> float:
    """Return where the parabola through a peak and its neighbours is highest."""
    before, here, after = (float(value) for value in row[lag - 1 : lag + 2])
    bend = before - 2.0 * here + after
    return lag + (0.5 * (before - after) / bend if bend < -1e-12 else 0.0)


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])
