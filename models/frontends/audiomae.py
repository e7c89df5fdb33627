"""The front-end of AudioMAE: Kaldi filter banks, cut or filled to 1,024 frames, standardised."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.frontends.frames import checked_sound, framed_bands

__all__ = ["AudioMaeFbank"]

_PREEMPHASIS = 0.97
_FLOOR = float(np.finfo(np.float32).eps)  # Kaldi's smallest energy
_PATCH = 16


@dataclass(frozen=True, slots=True)
class AudioMaeFbank:
    """Kaldi's log filter banks as AudioMAE takes them (Huang et al. 2022, arXiv:2207.06405).

    The mean of the sound is taken off. Frames of 25 ms every 10 ms that lie in the sound; each
    loses its own mean, is pre-emphasised by 0.97, windowed (symmetric Hann) and filled to 512.
    128 HTK bands of power from 20 to 8,000 Hz, natural logarithm, floor 1.19e-7, no dither, no
    energy. Frames are then cut, or filled with zeros, to `n_frames`, and only then standardised
    by the mean and twice the deviation over AudioSet: filled frames are not silence.
    """

    n_frames: int | None = 1024  # None keeps as many as there are
    standardised: bool = True

    sample_rate_hz: ClassVar[int] = 16_000
    hop: ClassVar[int] = 160
    n_mels: ClassVar[int] = 128
    mean: ClassVar[float] = -4.2677393
    scale: ClassVar[float] = 2.0 * 4.5689974

    def __post_init__(self) -> None:
        if self.n_frames is not None and (self.n_frames < _PATCH or self.n_frames % _PATCH):
            raise SettingError(
                f"Expected a number of frames that is a multiple of {_PATCH}, got {self.n_frames}."
            )

    def __call__(self, pcm: ArrayLike) -> NDArray[np.float32]:
        """Return the log mel: (n_frames, 128), float32.

        Raises
        ------
        SettingError
            If the sound is not mono, not finite or shorter than 400 samples (25 ms).
        """
        sound = checked_sound(pcm, at_least=400)
        energy = framed_bands(
            sound - sound.mean(),
            window=np.hanning(400),
            n_fft=512,
            hop=self.hop,
            basis=_kaldi_basis(),
            power=2,
            padding="none",
            prepare=_emphasised,
        )
        mel = np.log(np.maximum(energy, _FLOOR))
        if self.n_frames is not None:
            out = np.zeros((self.n_frames, self.n_mels))
            out[: len(mel)] = mel[: self.n_frames]
            mel = out
        if self.standardised:
            mel = (mel - self.mean) / self.scale
        return np.asarray(mel, np.float32)

    @staticmethod
    def n_patches(n_samples: int) -> int:
        """Return how many patches of 16 x 16 a sound fills: 208, 80, 112 for 4, 1.5 and 2 s.

        Steps of 16 frames, rounded up to an even number, times 8 bands of 16: two steps are 8
        steps of AudioLDM 2's latent, which its UNet can halve three times.
        """
        n_steps = -(-(1 + max(0, n_samples - 400) // 160) // _PATCH)
        return 8 * (n_steps + n_steps % 2)

    @staticmethod
    def patches(mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the patches of a log mel, time-major: (n_frames // 16 * 8, 256).

        Patch 8 t + f holds frames 16 t to 16 t + 15 of bands 16 f to 16 f + 15, frame by frame.
        """
        n_steps, n_bands = len(mel) // _PATCH, mel.shape[1] // _PATCH
        cut = mel[: n_steps * _PATCH].reshape(n_steps, _PATCH, n_bands, _PATCH)
        return cut.transpose(0, 2, 1, 3).reshape(n_steps * n_bands, _PATCH * _PATCH)


def _emphasised(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return frames without their means, pre-emphasised; the first sample stands before itself."""
    centred = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([centred[:, :1], centred[:, :-1]], axis=1)
    return np.asarray(centred - _PREEMPHASIS * before)


@lru_cache(maxsize=1)
def _kaldi_basis() -> NDArray[np.float64]:
    """Return Kaldi's 128 triangles over mel, 20 to 8,000 Hz: (128, 257), read-only.

    Computed in float32, as Kaldi and torchaudio do: bins that lie close to the edge of a triangle
    get a weight that is off by up to 0.2 %, and the model was trained with that.
    """
    n_mels = AudioMaeFbank.n_mels
    one, scale, corner = np.float32(1.0), np.float32(1127.0), np.float32(700.0)
    hz = np.arange(257, dtype=np.float32) * np.float32(16_000 / 512)
    bins = scale * np.log(one + hz / corner)  # (257,)
    lowest, highest = (scale * np.log(one + np.float32(f) / corner) for f in (20.0, 8_000.0))
    step = (highest - lowest) / np.float32(n_mels + 1)
    edges = lowest + np.arange(n_mels + 2, dtype=np.float32) * step
    low, centre, high = (edges[i : i + n_mels, np.newaxis] for i in range(3))
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    basis: NDArray[np.float64] = np.maximum(0.0, np.where(bins <= centre, rising, falling)).astype(
        np.float64
    )
    basis[:, -1] = 0.0  # the bin at half the rate belongs to no band
    basis.setflags(write=False)
    return basis
