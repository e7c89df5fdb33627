"""Griffin-Lim: the whole of a sound from the magnitudes of its spectrum, as a thing to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from models.mel import MelSpec, hann, mel_to_magnitude

__all__ = ["griffin_lim", "griffin_lim_mel"]

_MOMENTUM = 0.99


def griffin_lim(
    magnitude: NDArray[np.floating],
    *,
    n_fft: int,
    hop: int,
    rng: np.random.Generator,
    iterations: int = 60,
    momentum: float = _MOMENTUM,
) -> NDArray[np.float32]:
    """Return a sound whose STFT has these magnitudes, as nearly as the phase can be found.

    Fast Griffin-Lim (Perraudin, Balazs & Sondergaard 2013, algorithm 2), from random phases; a
    momentum of 0 is the method of Griffin & Lim 1984.

    Parameters
    ----------
    magnitude : array of shape (frames, n_fft // 2 + 1)
        Frame m is centred on sample m * hop, Hann windows.
    n_fft, hop : int
    rng : numpy.random.Generator
        Of the first phases.
    iterations : int
    momentum : float

    Returns
    -------
    sound : array of shape (hop * (frames - 1),), float32

    Raises
    ------
    SettingError
        If the magnitudes have another width, or nothing is to be done.
    """
    size = np.asarray(magnitude, np.float64)
    if size.ndim != 2 or size.shape[1] != n_fft // 2 + 1 or iterations < 1:
        raise SettingError(
            f"Griffin-Lim takes magnitudes (frames, {n_fft // 2 + 1}) and at least one iteration, "
            f"got {size.shape} and {iterations}."
        )
    phase = np.exp(2j * np.pi * rng.uniform(size=size.shape))
    before = np.zeros_like(phase)
    for _ in range(iterations):
        rebuilt = _stft(_istft(size * phase, n_fft, hop), n_fft, hop, len(size))
        pushed = rebuilt - momentum / (1.0 + momentum) * before
        before = rebuilt
        phase = pushed / np.maximum(np.abs(pushed), 1e-16)
    return _istft(size * phase, n_fft, hop).astype(np.float32)


def griffin_lim_mel(
    mel: NDArray[np.floating],
    spec: MelSpec,
    *,
    rng: np.random.Generator,
    iterations: int = 60,
) -> NDArray[np.float32]:
    """Return the sound of log mel frames, (hop * frames,), by way of `mel_to_magnitude`."""
    magnitude = mel_to_magnitude(mel, spec)
    last = magnitude[-1:]  # one more frame, so that there are as many hops as frames
    sound = griffin_lim(
        np.concatenate([magnitude, last]),
        n_fft=spec.n_fft,
        hop=spec.hop,
        rng=rng,
        iterations=iterations,
    )
    return sound[: len(magnitude) * spec.hop]


def _stft(
    sound: NDArray[np.float64], n_fft: int, hop: int, n_frames: int
) -> NDArray[np.complex128]:
    padded = np.pad(sound, n_fft // 2, mode="reflect" if len(sound) > n_fft // 2 else "constant")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop][:n_frames]
    return np.asarray(np.fft.rfft(frames * hann(n_fft), axis=1))


def _istft(spectrum: NDArray[np.complex128], n_fft: int, hop: int) -> NDArray[np.float64]:
    """Least-squares inverse (Griffin & Lim 1984, eq. 6)."""
    window = hann(n_fft)
    frames = np.fft.irfft(spectrum, n_fft, axis=1) * window
    total = np.zeros(n_fft + hop * (len(frames) - 1))
    weight = np.zeros_like(total)
    for i, frame in enumerate(frames):
        total[i * hop : i * hop + n_fft] += frame
        weight[i * hop : i * hop + n_fft] += window**2
    sound = total / np.maximum(weight, 1e-10)
    return sound[n_fft // 2 : len(sound) - n_fft // 2]
