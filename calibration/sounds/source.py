"""What every source of training sounds gives: one sound by its number, always the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.stimuli import Factors
from calibration.synthesis import spectral_centroid_hz

__all__ = ["Sound", "SoundSource", "measured"]

_SILENT_DBFS = -120.0  # the level stated for digital silence, whose logarithm does not exist


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """One sound with what is known of it."""

    pcm: NDArray[np.float32]  # (n,), 16 kHz, full scale 1.0
    label: str  # the class, "" where there is none
    caption: str  # "" where there is none
    factors: Factors


class SoundSource(Protocol):
    """Numbered sounds; number i is the same sound in every process and every run."""

    @property
    def name(self) -> str:
        """What the source is called in logs and records."""
        ...

    def describe(self) -> dict[str, object]:
        """Return all settings that the sounds depend on, as JSON takes them."""
        ...

    def sound(self, index: int) -> Sound:
        """Return sound number `index`, from 0."""
        ...


def measured(pcm: NDArray[np.float32], known: Factors) -> Factors:
    """Return the factors of a finished sound: level and brightness measured, the rest as known.

    Parameters
    ----------
    pcm : array of shape (n,)
        The sound at 16 kHz.
    known : Factors
        Pitch, tempo and density are taken from here.

    Returns
    -------
    factors : Factors
        The brightness of digital silence is NaN, its level -120 dBFS.
    """
    power = float(np.mean(np.square(pcm, dtype=np.float64)))
    silent = power < 10.0 ** (_SILENT_DBFS / 10.0)
    return Factors(
        pitch_hz=known.pitch_hz,
        tempo_bpm=known.tempo_bpm,
        brightness_hz=float("nan") if silent else spectral_centroid_hz(pcm),
        loudness_dbfs=_SILENT_DBFS if silent else 10.0 * float(np.log10(power)),
        density_hz=known.density_hz,
    )
