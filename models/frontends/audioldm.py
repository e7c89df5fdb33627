"""The front-ends of AudioLDM: 16 kHz (AudioLDM, AudioLDM 2, MusicLDM), and AudioLDM 2 at 48 kHz."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.frontends.frames import checked_sound
from models.mel import MelSpec, log_mel

__all__ = ["AudioLdm48kMel", "AudioLdmMel"]

_16K = MelSpec()
_48K = MelSpec(
    sample_rate_hz=48_000,
    n_fft=2048,
    hop=480,
    n_mels=256,
    fmin_hz=20.0,
    fmax_hz=24_000.0,
    pad_samples=1024,
)


@dataclass(frozen=True, slots=True)
class AudioLdmMel:
    """`models.mel.log_mel` with AudioLDM's numbers: 64 Slaney bands of magnitude, ln, floor 1e-5.

    The sound first loses its mean and is brought to half of full scale; a chain that has to keep
    loudness turns that off.
    """

    normalised: bool = True
    spec: MelSpec = _16K

    @property
    def sample_rate_hz(self) -> int:
        """Of the sound."""
        return self.spec.sample_rate_hz

    def __call__(self, pcm: ArrayLike) -> NDArray[np.float32]:
        """Return the log mel: (1 + n // 160, 64), float32.

        Raises
        ------
        SettingError
            If the sound is empty or not mono.
        """
        sound = checked_sound(pcm)
        if self.normalised:
            # `models.mel.normalise_waveform`, but not rounded to float32, which shows at the floor.
            sound = sound - sound.mean()
            sound = sound / (np.abs(sound).max() + 1e-8) * 0.5
        return log_mel(sound, self.spec)


@dataclass(frozen=True, slots=True)
class AudioLdm48kMel(AudioLdmMel):
    """The same for AudioLDM 2 at 48 kHz: 256 bands from 20 to 24,000 Hz, FFT 2,048, hop 480."""

    spec: MelSpec = _48K
