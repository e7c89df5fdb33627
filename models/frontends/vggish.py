"""The front-end of VGGish: windows of 0.96 s, 64 HTK bands of magnitude, ln(x + 0.01)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.frontends.frames import checked_sound, framed_bands, htk_basis
from models.mel import hann

__all__ = ["VggishMel"]

_WINDOW = 400  # samples, 25 ms


@dataclass(frozen=True, slots=True)
class VggishMel:
    """Log mel of VGGish (Hershey et al. 2017, arXiv:1609.09430, and the released features).

    Frames of 25 ms every 10 ms that lie in the sound, periodic Hann, FFT 512; 64 bands from 125 to
    7,500 Hz whose sides are straight over mel; the bin at 0 Hz belongs to no band. Windows of 96
    frames without overlap; what is left over at the end is dropped.
    """

    sample_rate_hz: ClassVar[int] = 16_000
    hop: ClassVar[int] = 160
    n_mels: ClassVar[int] = 64
    n_frames: ClassVar[int] = 96

    def __call__(self, pcm: ArrayLike) -> NDArray[np.float32]:
        """Return the log mels: (n_windows, 96, 64), float32.

        Raises
        ------
        SettingError
            If the sound is not mono, not finite or shorter than one window (15,600 samples).
        """
        least = _WINDOW + (self.n_frames - 1) * self.hop
        bands = framed_bands(
            checked_sound(pcm, at_least=least),
            window=hann(_WINDOW),
            n_fft=512,
            hop=self.hop,
            basis=htk_basis(16_000, 512, self.n_mels, 125.0, 7_500.0, straight_in="mel"),
            power=1,
            padding="none",
        )
        n_windows = len(bands) // self.n_frames
        mel = np.log(bands[: n_windows * self.n_frames] + 0.01)
        return np.asarray(mel.reshape(n_windows, self.n_frames, self.n_mels), np.float32)
