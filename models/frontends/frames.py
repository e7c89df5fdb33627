"""What all front-ends share: checked sound, frames and their spectra, and the two HTK mel scales.

Slaney's scale is in `models.mel`. All spectra are computed in float64: floors lie 100 dB and more
below a loud frame, where the rounding of float32 would be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError

__all__ = [
    "checked_sound",
    "decibels",
    "framed_bands",
    "htk_basis",
    "htk_mel",
    "repeated",
]

Padding = Literal["reflect", "constant", "none"]
_BLOCK = 1024  # frames at once: bounded memory for an hour of sound


def checked_sound(pcm: ArrayLike, *, at_least: int = 1) -> NDArray[np.float64]:
    """Return a mono sound as float64.

    Raises
    ------
    SettingError
        If it is not of shape (n,), not finite, or has fewer than `at_least` samples.
    """
    sound = np.asarray(pcm, dtype=np.float64)
    if sound.ndim != 1 or not np.isfinite(sound).all():
        raise SettingError(f"Expected a finite mono sound of shape (n,), got {sound.shape}.")
    if sound.size < at_least:
        raise SettingError(
            f"This front-end needs at least {at_least} samples of sound, got {sound.size}. "
            "Choose a longer window."
        )
    return sound


def framed_bands(
    sound: NDArray[np.float64],
    *,
    window: NDArray[np.float64],
    n_fft: int,
    hop: int,
    basis: NDArray[np.float64],
    power: Literal[1, 2],
    padding: Padding,
    prepare: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
) -> NDArray[np.float64]:
    """Return mel bands of the frames of a sound, before any logarithm.

    Parameters
    ----------
    sound : array of shape (n,), float64
    window : array of shape (n_window,), float64
        Frames are as long as the window and filled up with zeros to `n_fft` at their end.
    n_fft, hop : int
        Samples.
    basis : array of shape (n_mels, n_fft // 2 + 1), float64
    power : int
        1 for bands of magnitudes, 2 for bands of powers.
    padding : str
        What stands n_fft // 2 samples before and after the sound ("reflect" or "constant", which
        is zeros); "none" takes only frames that lie in the sound.
    prepare : callable, optional
        Applied to the frames before the window.

    Returns
    -------
    bands : array of shape (n_frames, n_mels), float64
    """
    padded = sound if padding == "none" else np.pad(sound, n_fft // 2, mode=padding)
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(window))[::hop]
    bands = np.empty((len(frames), len(basis)))
    for at in range(0, len(frames), _BLOCK):
        block = frames[at : at + _BLOCK]
        ready = block if prepare is None else prepare(block)
        spectrum = np.abs(np.fft.rfft(ready * window, n_fft))  # (frames, n_bins)
        bands[at : at + _BLOCK] = (spectrum**power) @ basis.T
    return bands


def decibels(power: NDArray[np.float64], floor: float = 1e-10) -> NDArray[np.float32]:
    """Return 10 log10(max(power, floor)), without a limit below the loudest value."""
    return np.asarray(10.0 * np.log10(np.maximum(power, floor)), np.float32)


def repeated(
    sound: NDArray[np.float64], n_samples: int, *, whole: bool, seconds: float
) -> NDArray[np.float64]:
    """Return a sound repeated to a length.

    Parameters
    ----------
    sound : array of shape (n,)
    n_samples : int
        The length.
    whole : bool
        True repeats whole sounds only and fills the rest with zeros (LAION-CLAP's "repeatpad");
        False cuts the last repetition (MS-CLAP).
    seconds : float
        The length as it stands in the error.

    Raises
    ------
    SettingError
        If the sound is longer. Released code draws a random crop there; here the caller chooses.
    """
    if len(sound) > n_samples:
        raise SettingError(
            f"This front-end takes at most {seconds:g} s ({n_samples} samples), got {len(sound)} "
            "samples. Cut the sound into fixed windows and average their embeddings."
        )
    out = np.zeros(n_samples)
    n_repeated = n_samples // len(sound) * len(sound) if whole else n_samples
    out[:n_repeated] = np.resize(sound, n_repeated)
    return out


def htk_mel(hz: ArrayLike) -> NDArray[np.float64]:
    """Return HTK's mel scale, 1127 ln(1 + f / 700) (Young et al., The HTK Book, section 5.4)."""
    return 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)


@lru_cache(maxsize=8)
def htk_basis(
    sample_rate_hz: int,
    n_fft: int,
    n_mels: int,
    fmin_hz: float,
    fmax_hz: float,
    *,
    straight_in: Literal["mel", "hz"],
) -> NDArray[np.float64]:
    """Return triangular bands of height 1 on HTK's scale.

    Parameters
    ----------
    sample_rate_hz, n_fft, n_mels : int
    fmin_hz, fmax_hz : float
        Lower edge of the first band, upper edge of the last.
    straight_in : str
        Where the sides of the triangles are straight lines: over mel (HTK, Kaldi, VGGish), or over
        Hz (torchaudio's `MelSpectrogram`, and so the fusion path of CLAP).

    Returns
    -------
    basis : array of shape (n_mels, n_fft // 2 + 1), float64, read-only
    """
    bins = np.arange(n_fft // 2 + 1) * (sample_rate_hz / n_fft)
    edges = np.linspace(htk_mel(fmin_hz), htk_mel(fmax_hz), n_mels + 2)
    if straight_in == "mel":
        bins = htk_mel(bins)
    else:
        edges = 700.0 * np.expm1(edges / 1127.0)
    low, centre, high = (edges[i : i + n_mels, np.newaxis] for i in range(3))
    basis: NDArray[np.float64] = np.maximum(
        0.0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    )
    basis.setflags(write=False)
    return basis
