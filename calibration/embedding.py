"""A small embedding of sound from log-mel statistics: what kind of spectrum, and how it moves.

It stands where a CLAP embedding stands in the full chain, needs no weights, and is documented here
to the last number, so that any sound, a decoded one too, can be embedded again and compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from models.mel import MelSpec, log_mel

__all__ = ["MEL_STATISTICS_NAME", "MelStatistics", "mel_statistics"]

MEL_STATISTICS_NAME = "mel-statistics-96"
_FLOOR = -8.0  # ln mel; softer than 1/3000 of full scale is as good as silence
_N_BANDS = 32


@lru_cache(maxsize=1)
def _mel_spec() -> MelSpec:
    return MelSpec()


def mel_statistics(
    pcm: NDArray[np.float32], mel: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """Return the 96 statistics of a sound before they are standardised.

    The AudioLDM log mel (64 bands, floored at -8) is averaged in pairs to 32 bands; for each band:
    the mean over time, the standard deviation over time, and the mean absolute change over 30 ms.

    Parameters
    ----------
    pcm : array of shape (n,), float32
        Mono, 16 kHz, at least 0.1 s.
    mel : array of shape (n_frames, 64), float32, optional
        The log mel of the sound where it is at hand; `pcm` is then not looked at.

    Returns
    -------
    statistics : array of shape (96,), float64

    Raises
    ------
    SettingError
        If the sound is shorter than 0.1 s.
    """
    frames = log_mel(pcm, _mel_spec()) if mel is None else mel
    if len(frames) < 8:
        raise SettingError(f"An embedding needs 0.1 s of sound, got {len(frames)} mel frames.")
    floored = np.maximum(np.asarray(frames, np.float64), _FLOOR)
    bands = floored.reshape(len(floored), _N_BANDS, -1).mean(axis=2)
    flux = np.abs(bands[3:] - bands[:-3]).mean(axis=0)
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0), flux])


@dataclass(frozen=True, slots=True, eq=False)
class MelStatistics:
    """The embedding: statistics standardised by those of a set of sounds, at unit length.

    The set is the library of a bundle, so the embedding can be had again from the bundle alone.
    """

    mean: NDArray[np.float64]  # (96,)
    scale: NDArray[np.float64]  # (96,)

    @classmethod
    def fit(cls, sounds: Sequence[NDArray[np.float32]]) -> MelStatistics:
        """Return the embedding whose zero and unit are the mean and deviation over `sounds`.

        Raises
        ------
        SettingError
            If there are fewer than 2 sounds.
        """
        if len(sounds) < 2:
            raise SettingError(
                f"An embedding is standardised over 2 or more sounds, got {len(sounds)}."
            )
        rows = np.array([mel_statistics(pcm) for pcm in sounds])
        # A floor of 0.05 (0.4 dB): a statistic that hardly varies must not be blown up.
        return cls(rows.mean(axis=0), np.maximum(rows.std(axis=0), 0.05))

    def embed(
        self, pcm: NDArray[np.float32], mel: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return the embedding of a sound: (96,), float32, unit length."""
        values = (mel_statistics(pcm, mel) - self.mean) / self.scale
        return (values / max(float(np.linalg.norm(values)), 1e-12)).astype(np.float32)
