"""The mel target of the EEG-to-mel papers: librosa's defaults, in "dB" that count double."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.frontends.frames import checked_sound, framed_bands
from models.mel import MelSpec, hann, mel_basis

__all__ = ["MelDecibels"]

_SPEC = MelSpec(
    sample_rate_hz=22_050, n_fft=2048, hop=512, n_mels=128, fmin_hz=0.0, fmax_hz=11_025.0
)


@dataclass(frozen=True, slots=True)
class MelDecibels:
    """128 Slaney bands of power at 22,050 Hz; one second gives 44 frames.

    As released: 20 log10(max(1e-5, mel)) although `mel` is a power, so twice the true decibels;
    then (x - 46 + 100) / 100, cut to 0 to 1. Silence is 0 and full scale 1.
    """

    scaled: bool = True  # False: the double dB themselves
    # librosa fills with zeros since 0.9 and reflected before; which one was used is not published.
    padding: Literal["constant", "reflect"] = "constant"

    sample_rate_hz: ClassVar[int] = 22_050
    hop: ClassVar[int] = 512
    n_mels: ClassVar[int] = 128

    def __post_init__(self) -> None:
        if self.padding not in ("constant", "reflect"):
            raise SettingError(f"Expected the padding constant or reflect, got {self.padding!r}.")

    def __call__(self, pcm: ArrayLike) -> NDArray[np.float32]:
        """Return the log mel: (1 + n // 512, 128), float32.

        Raises
        ------
        SettingError
            If the sound is not mono, empty or not finite.
        """
        power = framed_bands(
            checked_sound(pcm),
            window=hann(_SPEC.n_fft),
            n_fft=_SPEC.n_fft,
            hop=self.hop,
            basis=mel_basis(_SPEC),
            power=2,
            padding=self.padding,
        )
        values = 20.0 * np.log10(np.maximum(1e-5, power))
        if self.scaled:
            values = np.clip((values - 46.0 + 100.0) / 100.0, 0.0, 1.0)
        return np.asarray(values, np.float32)
