"""Sound to log mel spectrogram, and back to magnitudes; the AudioLDM front-end by default."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError

__all__ = [
    "MelSpec",
    "hann",
    "log_mel",
    "mel_basis",
    "mel_levels",
    "mel_to_magnitude",
    "normalise_waveform",
]

# Slaney's scale: linear to 1 kHz, then 27 steps for each factor of 6.4 (Auditory Toolbox, 1998).
_LINEAR_HZ = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27.0


@dataclass(frozen=True, slots=True)
class MelSpec:
    """A mel front-end: magnitude STFT, Slaney bands of equal area, natural logarithm.

    The default is that of AudioLDM, AudioLDM 2 and MusicLDM at 16 kHz. With `pad_samples` of
    n_fft/2 frame m is centred on sample m * hop and n samples give 1 + n // hop frames; HiFi-GAN
    training uses (n_fft - hop)/2, which gives n // hop frames.
    """

    sample_rate_hz: int = 16_000
    n_fft: int = 1024  # also the length of the periodic Hann window
    hop: int = 160  # samples from frame to frame
    n_mels: int = 64
    fmin_hz: float = 0.0
    fmax_hz: float = 8_000.0
    floor: float = 1e-5  # smallest mel magnitude before the logarithm
    pad_samples: int = 512  # reflected samples before and after the signal

    def __post_init__(self) -> None:
        if self.sample_rate_hz < 1 or self.n_mels < 1 or self.pad_samples < 0:
            raise SettingError(f"Expected a rate and a number of mel bands above 0, got {self}.")
        if not 1 <= self.hop <= self.n_fft or self.n_fft % 2:
            raise SettingError(
                f"Expected an even n_fft and a hop of 1 to n_fft samples, got n_fft {self.n_fft} "
                f"and hop {self.hop}."
            )
        if not 0 <= self.fmin_hz < self.fmax_hz <= self.sample_rate_hz / 2:
            raise SettingError(
                f"Expected 0 <= fmin_hz < fmax_hz <= {self.sample_rate_hz / 2}, "
                f"got {self.fmin_hz} and {self.fmax_hz}."
            )
        if not self.floor > 0:
            raise SettingError(f"Expected a floor above 0, got {self.floor}.")

    @property
    def frames_per_s(self) -> float:
        """Mel frames a second."""
        return self.sample_rate_hz / self.hop


@lru_cache(maxsize=8)
def mel_basis(spec: MelSpec) -> NDArray[np.float64]:
    """Return the triangular mel bands: Slaney's scale, each of area 1 in Hz.

    Parameters
    ----------
    spec : MelSpec

    Returns
    -------
    basis : array of shape (n_mels, n_fft // 2 + 1), float64, read-only
    """
    edges = _mel_to_hz(
        np.linspace(_hz_to_mel(spec.fmin_hz), _hz_to_mel(spec.fmax_hz), spec.n_mels + 2)
    )  # (n_mels + 2,)
    bins = np.arange(spec.n_fft // 2 + 1) * (spec.sample_rate_hz / spec.n_fft)  # (n_bins,)
    low, centre, high = (edges[i : i + spec.n_mels, np.newaxis] for i in range(3))
    triangles = np.maximum(
        0.0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    )
    basis: NDArray[np.float64] = triangles * (2.0 / (high - low))
    basis.setflags(write=False)
    return basis


def log_mel(pcm: ArrayLike, spec: MelSpec) -> NDArray[np.float32]:
    """Return the log mel spectrogram ln(max(basis |STFT|, floor)) of a sound.

    Computed in float64: the floor is 1e-5, and a loud frame's float32 rounding would reach it.

    Parameters
    ----------
    pcm : array of shape (n,)
        Mono sound, full scale 1.0.
    spec : MelSpec

    Returns
    -------
    mel : array of shape (1 + (n + 2 pad - n_fft) // hop, n_mels), float32

    Raises
    ------
    SettingError
        If the sound is empty, not mono, or shorter than a frame after padding.
    """
    signal = np.asarray(pcm, dtype=np.float64)
    if signal.ndim != 1 or signal.size == 0:
        raise SettingError(f"Expected a mono sound of shape (n,), got {signal.shape}.")
    padded = np.pad(signal, spec.pad_samples, mode="reflect")
    if len(padded) < spec.n_fft:
        raise SettingError(
            f"Expected at least {spec.n_fft - 2 * spec.pad_samples} samples, got {signal.size}."
        )
    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop]
    basis = mel_basis(spec).T
    mel = np.empty((len(frames), spec.n_mels), dtype=np.float32)
    for at in range(0, len(frames), 1024):  # bounded memory for an hour of sound
        block = slice(at, at + 1024)
        magnitude = np.abs(np.fft.rfft(frames[block] * hann(spec.n_fft)))  # (frames, n_bins)
        mel[block] = np.log(np.maximum(magnitude @ basis, spec.floor))
    return mel


def mel_to_magnitude(mel: ArrayLike, spec: MelSpec) -> NDArray[np.float32]:
    """Return STFT magnitudes, none negative, whose mel bands come close to those given.

    Starts from the levels of the bands spread over their bins, then takes multiplicative steps
    (Lee & Seung 2001, eq. 4, basis held fixed) towards basis @ magnitude = mel. Bands at the
    floor are silence: they give exact zeros. NaN counts as the floor.

    Parameters
    ----------
    mel : array of shape (n, n_mels)
        Log mel frames as `log_mel` makes them.
    spec : MelSpec

    Returns
    -------
    magnitude : array of shape (n, n_fft // 2 + 1), float32

    Raises
    ------
    SettingError
        If the number of bands is wrong.
    """
    levels = np.asarray(mel, dtype=np.float64)
    if levels.ndim != 2 or levels.shape[1] != spec.n_mels:
        raise SettingError(f"Expected mel frames of shape (n, {spec.n_mels}), got {levels.shape}.")
    target = mel_levels(levels, spec)  # (n, n_mels)
    basis = mel_basis(spec)
    start, norm = _spread(spec)
    magnitude = target @ start  # (n, n_bins)
    for _ in range(8):
        # The smallest normal number keeps 0/0 at 0.
        ratio = target / np.maximum(magnitude @ basis.T, np.finfo(np.float64).tiny)
        magnitude *= (ratio @ basis) * norm
    return np.asarray(magnitude, dtype=np.float32)


def mel_levels(mel: NDArray[np.float64], spec: MelSpec) -> NDArray[np.float64]:
    """Return linear mel magnitudes of log mel frames, exactly 0 at the floor.

    The floor is taken off, so that a band fades to nothing without a step. Levels are cut some
    26 dB above a sine at full scale: a decoder that runs wild must not overflow.

    Parameters
    ----------
    mel : array of shape (..., n_mels)
    spec : MelSpec

    Returns
    -------
    levels : array of the same shape, float64
    """
    top = np.log(10.0 * spec.n_fft * float(mel_basis(spec).max()))
    linear = np.exp(np.minimum(np.nan_to_num(mel, nan=-np.inf, posinf=top, neginf=-np.inf), top))
    # A little more than the floor, which float32 logarithms return only to 1e-6.
    return np.maximum(linear - spec.floor * (1.0 + 1e-4), 0.0)


def normalise_waveform(pcm: ArrayLike) -> NDArray[np.float32]:
    """Return a sound without offset and at half of full scale, as AudioLDM takes it."""
    signal = np.asarray(pcm, dtype=np.float64)
    signal = signal - signal.mean()
    return np.asarray(signal / (np.abs(signal).max() + 1e-8) * 0.5, dtype=np.float32)


@lru_cache(maxsize=8)
def hann(n: int) -> NDArray[np.float64]:
    """Periodic Hann window of n samples."""
    window: NDArray[np.float64] = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n) / n)
    window.setflags(write=False)
    return window


@lru_cache(maxsize=8)
def _spread(spec: MelSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Level of each bin for a unit of each band (n_mels, n_bins), and 1 / column sums (n_bins,)."""
    basis = mel_basis(spec)
    area = basis.sum(axis=1, keepdims=True)  # (n_mels, 1)
    column = basis.sum(axis=0)  # (n_bins,)
    inverse = np.divide(1.0, column, out=np.zeros_like(column), where=column > 0)
    level = np.divide(1.0, area, out=np.zeros_like(area), where=area > 0)
    return basis * inverse * level, inverse


def _hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ
    return float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(
        mel < _BREAK_MEL,
        mel * _LINEAR_HZ,
        _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL)),
    )
