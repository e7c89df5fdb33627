"""The front-ends of the two CLAP families: LAION's at 48 kHz and Microsoft's at 44.1 kHz."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.frontends.frames import checked_sound, decibels, framed_bands, htk_basis, repeated
from models.mel import MelSpec, hann, mel_basis

__all__ = ["LaionClapMel", "MsClapMel"]


@dataclass(frozen=True, slots=True)
class LaionClapMel:
    """Log mel of LAION-CLAP: 10 s at 48 kHz give 1,001 frames of 64 bands, dB of power.

    Shorter sound is repeated as often as it fits whole and then filled with zeros ("repeatpad").
    Longer sound is refused: released code takes a random crop there, so that the same sound has
    another embedding each time.
    """

    fmin_hz: float = 50.0  # some published configurations say 0
    fmax_hz: float = 14_000.0
    scale: Literal["slaney", "htk"] = "slaney"  # htk: the fusion models in transformers
    seconds: float = 10.0
    # LAION's own package rounds sound to 16 bits (towards zero) first; transformers does not.
    int16: bool = False

    sample_rate_hz: ClassVar[int] = 48_000
    n_fft: ClassVar[int] = 1024
    hop: ClassVar[int] = 480
    n_mels: ClassVar[int] = 64

    def __post_init__(self) -> None:
        if self.scale not in ("slaney", "htk"):
            raise SettingError(f"Expected the scale slaney or htk, got {self.scale!r}.")
        if not self.seconds > 0:
            raise SettingError(f"Expected a length above 0 s, got {self.seconds}.")
        if not 0 <= self.fmin_hz < self.fmax_hz <= self.sample_rate_hz / 2:
            raise SettingError(
                f"Expected 0 <= fmin_hz < fmax_hz <= 24000, got {self.fmin_hz}, {self.fmax_hz}."
            )

    def __call__(self, pcm: ArrayLike) -> NDArray[np.float32]:
        """Return the log mel in dB: (1001, 64), float32.

        Raises
        ------
        SettingError
            If the sound is not mono, empty, not finite or longer than `seconds`.
        """
        sound = checked_sound(pcm)
        if self.int16:
            sound = np.trunc(np.clip(sound, -1.0, 1.0) * 32767.0) / 32767.0
        n_samples = round(self.seconds * self.sample_rate_hz)
        return decibels(
            framed_bands(
                repeated(sound, n_samples, whole=True, seconds=self.seconds),
                window=hann(self.n_fft),
                n_fft=self.n_fft,
                hop=self.hop,
                basis=self._basis(),
                power=2,
                padding="reflect",
            )
        )

    def _basis(self) -> NDArray[np.float64]:
        shape = (self.sample_rate_hz, self.n_fft, self.n_mels, self.fmin_hz, self.fmax_hz)
        if self.scale == "htk":
            return htk_basis(*shape, straight_in="hz")
        return mel_basis(_slaney(*shape))


@dataclass(frozen=True, slots=True)
class MsClapMel:
    """Log mel of Microsoft's CLAP (2023): 7 s at 44.1 kHz, 965 frames of 64 bands, dB of power.

    Shorter sound is repeated and cut to 7 s; longer sound is refused, as in `LaionClapMel`. Its
    embedding has 1,024 dimensions, so the "512-d CLAP" of the decoding papers is another one.
    """

    sample_rate_hz: ClassVar[int] = 44_100
    n_fft: ClassVar[int] = 1024
    hop: ClassVar[int] = 320
    n_mels: ClassVar[int] = 64
    seconds: ClassVar[float] = 7.0

    def __call__(self, pcm: ArrayLike) -> NDArray[np.float32]:
        """Return the log mel in dB: (965, 64), float32.

        Raises
        ------
        SettingError
            If the sound is not mono, empty, not finite or longer than 7 s.
        """
        sound = checked_sound(pcm)
        n_samples = round(self.seconds * self.sample_rate_hz)
        return decibels(
            framed_bands(
                repeated(sound, n_samples, whole=False, seconds=self.seconds),
                window=hann(self.n_fft),
                n_fft=self.n_fft,
                hop=self.hop,
                basis=mel_basis(_slaney(self.sample_rate_hz, self.n_fft, 64, 50.0, 8_000.0)),
                power=2,
                padding="reflect",
            )
        )


def _slaney(
    sample_rate_hz: int, n_fft: int, n_mels: int, fmin_hz: float, fmax_hz: float
) -> MelSpec:
    return MelSpec(
        sample_rate_hz=sample_rate_hz, n_fft=n_fft, n_mels=n_mels, fmin_hz=fmin_hz, fmax_hz=fmax_hz
    )
