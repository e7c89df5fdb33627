"""What the stages learn from: rendered sounds, and arrays that earlier stages derived from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.sounds.blends import BlendSource
from calibration.sounds.choice import choose_source
from calibration.sounds.procedural import CLASSES
from calibration.sounds.store import SoundStore, render_store
from calibration.stimuli import Factors
from calibration.training.settings import TrainingSettings
from models.errors import FileError
from models.nets.codec import N_MELS, from_log, to_log

__all__ = [
    "FACTORS",
    "WINDOW",
    "WINDOW_STARTS",
    "Material",
    "class_names",
    "factor_values",
    "louder",
    "mel_batch",
    "prepare_sounds",
]

WINDOW = 256  # mel frames of a window: 2.56 s, what was heard before and what comes after it
WINDOW_STARTS = (0, 64, 128, 192, 256)  # windows that a stored sound is cut into, mel frames

FACTORS = ("pitch", "tempo", "brightness", "loudness", "density")
# Means and spreads of the factors over the library, on the scales of `factor_values`.
_CENTRES = np.array([8.6, 6.8, 10.2, -27.0, 1.9], np.float32)
_SPREADS = np.array([1.6, 0.6, 1.4, 8.0, 1.2], np.float32)


def prepare_sounds(
    run: TrainingSettings,
    out: Path,
    *,
    workers: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Material:
    """Render what is missing of the training sounds into OUT/sounds, and open them.

    Parameters
    ----------
    run : TrainingSettings
        Number of sounds, and the seed.
    out : Path
        Folder of the run.
    workers : int
        Processes that render.
    progress : callable, optional
        Called with "clips" or "blends", how many are there, and of how many.

    Raises
    ------
    SettingError
        If the settings name no source.
    FileError
        If a file of a source cannot be read, or the folder holds other sounds.
    """
    folder = out / "sounds"
    n_train = run.sounds.clips - run.sounds.held_out
    clips = choose_source(run.sounds.source, seed=run.seed, n_train=n_train)
    for source, name, count in (
        (clips, "clips", run.sounds.clips),
        (BlendSource(run.seed), "blends", run.sounds.blends),
    ):
        told = None if progress is None else partial(progress, name)
        render_store(source, folder / name, count=count, workers=workers, progress=told)
    return Material(run, out)


def class_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the classes of sounds: those of the procedural library first, then others by name.

    Where there are only procedural ones they are all named, so that runs can be compared.

    Parameters
    ----------
    labels : iterable of str
        Of each sound; "" where it has none.
    """
    there = set(labels) - {""}
    others = sorted(there - set(CLASSES))
    return (*(label for label in CLASSES if not others or label in there), *others)


class Material:
    """Stored sounds, and the arrays of OUT/derived.

    Parameters
    ----------
    run : TrainingSettings
    out : Path
        Folder of the run.
    """

    def __init__(self, run: TrainingSettings, out: Path) -> None:
        self.clips = SoundStore(out / "sounds" / "clips")
        self.blends = SoundStore(out / "sounds" / "blends")
        self.n_train = run.sounds.clips - run.sounds.held_out
        self.n_blends = run.sounds.blends - run.sounds.held_out
        self._derived = out / "derived"
        notes = self.clips.annotations
        self.captions = [note.caption for note in notes]
        self.labels = class_names(note.label for note in notes)
        numbers = {label: i for i, label in enumerate(self.labels)}
        self.classes = np.array([numbers.get(note.label, -1) for note in notes])  # -1: none
        self.factors = np.stack([factor_values(note.factors) for note in notes])

    @property
    def folder(self) -> Path:
        """Where the derived arrays are."""
        return self._derived

    @property
    def held_out(self) -> range:
        """Numbers of the clips that no stage trains on."""
        return range(self.n_train, len(self.clips))

    def derived(self, name: str) -> NDArray[np.float16]:
        """Return an array that an earlier stage derived, read from disk as it is used.

        Raises
        ------
        FileError
            If that stage has not been run.
        """
        path = self._derived / f"{name}.npy"
        try:
            values: NDArray[np.float16] = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise FileError(
                f"{path} is missing or damaged. Run the stage before this one."
            ) from error
        return values

    def derive(
        self, name: str, shape: tuple[int, ...], *, again: bool = True
    ) -> np.memmap[Any, np.dtype[np.float16]]:
        """Return an array on disk to be filled; it counts when `derive_done` is called.

        Parameters
        ----------
        name : str
        shape : tuple of int
        again : bool
            Begin anew; else go on with what is there.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        path = self._derived / f"{name}.part"
        try:
            self._derived.mkdir(parents=True, exist_ok=True)
            if not again and path.exists():
                return np.lib.format.open_memmap(path, mode="r+")
            return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        except (OSError, ValueError) as error:
            raise FileError(f"Cannot write {path}: {error}. Remove it and begin again.") from error

    def derive_done(self, name: str) -> None:
        """Let an array that is filled take its place."""
        (self._derived / f"{name}.part").replace(self._derived / f"{name}.npy")


def factor_values(factors: Factors) -> NDArray[np.float32]:
    """Return the factors on scales of hearing, about zero mean and unit spread; NaN stays NaN.

    Octaves for pitch, tempo, brightness and density, decibels for loudness (at least -60 dBFS).

    Returns
    -------
    values : array of shape (5,), in the order of `FACTORS`
    """
    values = np.array(
        [
            _octaves(factors.pitch_hz),
            _octaves(factors.tempo_bpm),
            _octaves(factors.brightness_hz),
            max(factors.loudness_dbfs, -60.0),
            _octaves(max(factors.density_hz, 0.25)),
        ],
        np.float32,
    )
    return (values - _CENTRES) / _SPREADS


def _octaves(value: float) -> float:
    return float(np.log2(value)) if value > 0 else float("nan")


def mel_batch(
    store: SoundStore, numbers: NDArray[np.int64], firsts: NDArray[np.int64], frames: int
) -> Tensor:
    """Return log mel frames, (sounds, frames, 64), of stretches of stored sounds."""
    pairs = zip(numbers.tolist(), firsts.tolist(), strict=True)
    stack = np.stack([store.mel(number, first, frames) for number, first in pairs])
    return torch.from_numpy(stack)


def louder(mel: Tensor, gain_db: Tensor) -> Tensor:
    """Return log mel frames of the sounds made louder, (batch, frames, 64); silence stays silent.

    Parameters
    ----------
    mel : Tensor of shape (batch, frames, 64)
    gain_db : Tensor of shape (batch,)
    """
    if mel.shape[-1] != N_MELS:
        raise ValueError(f"expected {N_MELS} bands, got {mel.shape}")
    shift = gain_db.reshape(-1, 1, 1) * (np.log(10.0) / 20.0)
    silent = from_log(mel) <= 1e-3
    return to_log(from_log(torch.where(silent, mel, mel + shift)))
