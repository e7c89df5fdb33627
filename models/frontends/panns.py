"""The front-end of PANNs (Cnn14): dB of power in 64 Slaney bands, at 32 or 16 kHz."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.frontends.frames import checked_sound, decibels, framed_bands
from models.mel import MelSpec, hann, mel_basis

__all__ = ["PannsMel"]

_SPECS = {
    32_000: MelSpec(sample_rate_hz=32_000, n_fft=1024, hop=320, fmin_hz=50.0, fmax_hz=14_000.0),
    16_000: MelSpec(sample_rate_hz=16_000, n_fft=512, hop=160, fmin_hz=50.0, fmax_hz=8_000.0),
}


@dataclass(frozen=True, slots=True)
class PannsMel:
    """Log mel of PANNs (Kong et al. 2020, arXiv:1912.10211); 100 frames a second, no top_db."""

    sample_rate_hz: int = 32_000  # 32000: Cnn14_mAP=0.431; 16000: Cnn14_16k_mAP=0.438

    def __post_init__(self) -> None:
        if self.sample_rate_hz not in _SPECS:
            raise SettingError(
                f"PANNs were trained at 32000 and 16000 Hz, not at {self.sample_rate_hz}."
            )

    def __call__(self, pcm: ArrayLike) -> NDArray[np.float32]:
        """Return the log mel in dB: (1 + n // hop, 64), float32.

        Raises
        ------
        SettingError
            If the sound is not mono, empty or not finite.
        """
        spec = _SPECS[self.sample_rate_hz]
        return decibels(
            framed_bands(
                checked_sound(pcm),
                window=hann(spec.n_fft),
                n_fft=spec.n_fft,
                hop=spec.hop,
                basis=mel_basis(spec),
                power=2,
                padding="reflect",
            )
        )
