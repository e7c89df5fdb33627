"""The sounds that a bundle plays, or that its generator begins from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.config import CalibrationSettings
from calibration.data.dataset import Dataset
from calibration.outer import Fit
from calibration.plan import Plan
from calibration.stimuli import LABELS, make_stimulus
from calibration.stimulus_sound import stimulus_sound
from calibration.targets import ClassTargets, EmbeddingTargets, TargetSource
from export.library import LibrarySound
from models.errors import SettingError

__all__ = ["LIBRARY_RATE_HZ", "bundle_library"]

LIBRARY_RATE_HZ = 16_000
_CLASS_SOUND_S = 3.0


def bundle_library(
    dataset: Dataset, plan: Plan, fit: Fit, targets: TargetSource, settings: CalibrationSettings
) -> tuple[list[LibrarySound], NDArray[np.float64]]:
    """Return the sounds that a bundle plays or begins from, and where each lies.

    Returns
    -------
    sounds : list of LibrarySound
    vectors : array of shape (n, d)
        In the decoded space: embeddings without the mean of the training targets.

    Raises
    ------
    SettingError
        If the folder of the library has no sound for a class.
    FileError
        If sounds cannot be read.
    """
    if settings.library.folder is not None:
        return _folder_library(settings, fit, targets)
    if isinstance(targets, ClassTargets):
        return _class_library(dataset, fit, targets)
    names = sorted({str(name) for name in fit.train.clip})
    longest = round(settings.library.max_s * LIBRARY_RATE_HZ)
    sounds = [
        LibrarySound(
            _short(name),
            stimulus_sound(dataset.stimuli[name], sample_rate_hz=LIBRARY_RATE_HZ)[:longest],
            dataset.stimuli[name].label,
        )
        for name in names
    ]
    stops = [len(sound.pcm) / LIBRARY_RATE_HZ for sound in sounds]
    vectors = targets.targets(names, np.zeros(len(names)), stops) - fit.centre
    return sounds, vectors


def _folder_library(
    settings: CalibrationSettings, fit: Fit, targets: TargetSource
) -> tuple[list[LibrarySound], NDArray[np.float64]]:
    """Return the sounds of a folder: of any number for an embedding, one or more for each class."""
    from calibration.library_builder import library_from_folder

    folder = settings.library.folder
    assert folder is not None
    if isinstance(targets, EmbeddingTargets):
        made = library_from_folder(
            folder,
            targets.embedder,
            sample_rate_hz=LIBRARY_RATE_HZ,
            window_s=settings.library.max_s,
        )
        return list(made.sounds), np.asarray(made.embeddings, np.float64) - fit.centre
    from calibration.embedders import make_embedder

    made = library_from_folder(
        folder,
        make_embedder("log-mel"),
        sample_rate_hz=LIBRARY_RATE_HZ,
        window_s=settings.library.max_s,
        windows_per_file=1,
    )
    assert isinstance(targets, ClassTargets)
    sounds, vectors = [], []
    for sound in made.sounds:
        name = next((c for c in targets.classes if c in (sound.label, Path(sound.name).stem)), None)
        if name is not None:
            sounds.append(sound)
            vectors.append(targets.vector(name) - fit.centre)
    missing = set(targets.classes) - {
        name for name in targets.classes for v in vectors
        if np.array_equal(v, targets.vector(name) - fit.centre)
    }  # fmt: skip
    if missing:
        raise SettingError(
            f"The library folder {folder.name} has no sound for the classes {sorted(missing)}. "
            "Name its files or subfolders as the classes."
        )
    return sounds, np.asarray(vectors)


def _class_library(
    dataset: Dataset, fit: Fit, targets: ClassTargets
) -> tuple[list[LibrarySound], NDArray[np.float64]]:
    """Return a sound for each class: its own where there is one, else one from the procedures."""
    sounds = []
    for number, name in enumerate(targets.classes):
        stimulus = dataset.stimuli.get(_some(dataset, name))
        if stimulus is not None and stimulus.path is not None:
            pcm = stimulus_sound(stimulus, sample_rate_hz=LIBRARY_RATE_HZ)
        else:
            label = LABELS[number % len(LABELS)]
            pcm = make_stimulus(label, number // len(LABELS), _CLASS_SOUND_S).pcm
        sounds.append(LibrarySound(_short(name), pcm, name))
    return sounds, np.array([targets.vector(name) for name in targets.classes]) - fit.centre


def _some(dataset: Dataset, label: str) -> str:
    """Return a stimulus of a class."""
    for name, stimulus in dataset.stimuli.items():
        if label in (stimulus.label, name):
            return name
    return label


def _short(name: str) -> str:
    """Return a name of at most 200 characters; two that differ at their ends stay different."""
    if len(name) <= 200:
        return name
    return f"{name[:180]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
