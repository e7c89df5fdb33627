"""Real sounds to compare with: procedural ones of a seed that nothing was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.generator_scores.scorers import FACTORS
from calibration.sounds.procedural import CLASSES, ProceduralSource
from calibration.sounds.store import SoundStore, render_store

__all__ = ["RealSounds", "real_sounds"]

SEED = 777_001  # of no training run


@dataclass(frozen=True, slots=True, eq=False)
class RealSounds:
    """Sounds with all that is known of them."""

    store: SoundStore
    labels: tuple[str, ...]
    classes: NDArray[np.int64]  # (n,), in the order of `CLASSES`
    factors: dict[str, NDArray[np.float64]]  # by name, (n,), NaN where there is none

    def __len__(self) -> int:
        return len(self.labels)

    def sound(self, index: int) -> NDArray[np.float32]:
        """Return one whole sound."""
        return self.store.pcm(index, 0, self.store.n_frames * 160)


def real_sounds(
    folder: Path,
    n: int,
    *,
    seed: int = SEED,
    duration_s: float = 2.56,
    workers: int = 1,
) -> RealSounds:
    """Return `n` sounds, rendered into a folder where they are not there yet.

    Parameters
    ----------
    folder : Path
        Holds a folder for each number, length and seed.
    n : int
    seed : int
        Another one than that of any training.
    duration_s : float
    workers : int
        Processes that render.
    """
    source = ProceduralSource(seed, duration_s=duration_s)
    own = folder / f"seed{seed}-{n}-{duration_s:g}s"
    store = render_store(source, own, count=n, workers=workers, shard=100)
    notes = store.annotations
    names = {"pitch": "pitch_hz", "tempo": "tempo_bpm", "brightness": "brightness_hz"}
    names |= {"loudness": "loudness_dbfs", "density": "density_hz"}
    return RealSounds(
        store,
        tuple(note.label for note in notes),
        np.array([CLASSES.index(note.label) for note in notes]),
        {
            name: np.array([getattr(note.factors, names[name]) for note in notes])
            for name in FACTORS
        },
    )
