"""How near a copy of a sound is to it: through mel frames, latents and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.honest.audio_metrics import mel_pcc
from models.errors import SettingError
from models.mel import MelSpec, hann, log_mel

__all__ = ["CopyScore", "copy_score", "log_spectral_distance"]

Wave = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class CopyScore:
    """A copy against the sound that was copied."""

    mel_pcc: float  # correlation of the log mels
    lsd_db: float  # log-spectral distance

    def to_json(self) -> dict[str, float]:
        """Return both."""
        return {"mel_pcc": self.mel_pcc, "lsd_db": self.lsd_db}


def copy_score(true: Wave, made: Wave, *, spec: MelSpec | None = None) -> CopyScore:
    """Return mel correlation and log-spectral distance of a copy.

    Parameters
    ----------
    true, made : arrays of shape (n,)
        Aligned; a delay is to be taken off before. The longer one is cut.
    spec : MelSpec, optional
        Default: AudioLDM's.

    Raises
    ------
    SettingError
        If a sound is shorter than one frame.
    """
    front = spec or MelSpec()
    n = min(len(true), len(made))
    if n < front.n_fft:
        raise SettingError(f"A copy is compared over {front.n_fft} samples at least, got {n}.")
    a, b = (np.asarray(wave[:n], np.float32) for wave in (true, made))
    return CopyScore(mel_pcc(log_mel(a, front), log_mel(b, front)), log_spectral_distance(a, b))


def log_spectral_distance(
    true: Wave, made: Wave, *, n_fft: int = 1_024, hop: int = 256, floor_dbfs: float = -80.0
) -> float:
    """Return the root mean square difference of the spectra in dB, its mean over frames.

    mean_t sqrt(mean_f (20 log10 |X| / |Y|)^2), e.g. Rabiner & Juang 1993, eq. 4.5, magnitudes below
    a floor counting as the floor: what nobody hears is not compared.

    Parameters
    ----------
    true, made : arrays of shape (n,)
    n_fft, hop : int
    floor_dbfs : float
        Of a bin, relative to that of a full-scale sine.

    Raises
    ------
    SettingError
        If the lengths differ or are below `n_fft`.
    """
    if len(true) != len(made) or len(true) < n_fft:
        raise SettingError(
            f"A spectral distance needs two sounds of one length of at least {n_fft} samples, got "
            f"{len(true)} and {len(made)}."
        )
    floor = 10.0 ** (floor_dbfs / 20.0) * hann(n_fft).sum() / 2.0
    levels = []
    for wave in (true, made):
        frames = np.lib.stride_tricks.sliding_window_view(np.asarray(wave, np.float64), n_fft)
        size = np.abs(np.fft.rfft(frames[::hop] * hann(n_fft), axis=1))
        levels.append(20.0 * np.log10(np.maximum(size, floor)))
    return float(np.mean(np.sqrt(np.mean((levels[0] - levels[1]) ** 2, axis=1))))
