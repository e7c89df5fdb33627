"""A folder of a person's own recordings as a source for training.

Each sound is a stretch of a file, at another place each time. The class is the name of the folder
that the file lies in; files that lie directly in the folder have none. Whole files are held out,
never stretches of files that are trained on.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Stimulus
from calibration.sounds.captions import caption_with_factors
from calibration.sounds.source import Sound, measured
from calibration.stimuli import Factors
from calibration.stimulus_sound import stimulus_sound
from calibration.synthesis import SAMPLE_RATE_HZ, fade_edges
from models.errors import FileError, SettingError
from models.mel import MelSpec, log_mel

__all__ = ["RecordingsSource", "files_below", "onsets_per_s", "split_files"]

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
_HELD_OUT = 0.05  # share of the files; one at least
_SHORTEST_S = 0.5


@dataclass(frozen=True)
class RecordingsSource:
    """Stretches of recordings, every class in turn.

    Parameters
    ----------
    folder : Path
        WAV, FLAC, Ogg or MP3 files of any rate, in sub-folders named by class if there are classes.
    seed : int
        Of the choice of stretches, and of the files held out.
    n_train : int
        Sounds below this number come from files that are trained on, the others from the rest.
    duration_s : float
        Length of each sound, s. A shorter file stands somewhere in silence.

    Raises
    ------
    SettingError
        If a number is out of range.
    FileError
        If there are fewer than two sound files.
    """

    folder: Path
    seed: int
    n_train: int
    duration_s: float = 5.12
    _files: tuple[Path, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.seed < 0 or self.n_train < 1 or not self.duration_s >= _SHORTEST_S:
            raise SettingError(
                "Recordings need a seed >= 0, at least one sound to train on and "
                f"{_SHORTEST_S} s, got {self.seed}, {self.n_train} and {self.duration_s}."
            )
        files = files_below(self.folder, SUFFIXES, what="sound files")
        object.__setattr__(self, "_files", tuple(files))

    @property
    def name(self) -> str:
        """What the source is called in logs and records."""
        return "folder"

    def describe(self) -> dict[str, object]:
        """Return all that the sounds depend on, as JSON takes it: the files by name and size."""
        files = [[str(p.relative_to(self.folder)), p.stat().st_size] for p in self._files]
        return {
            "source": self.name,
            "version": 1,
            "seed": self.seed,
            "n_train": self.n_train,
            "duration_s": self.duration_s,
            "files": files,
        }

    @cached_property
    def _split(self) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
        return split_files(self._files, self.folder, seed=self.seed)

    def sound(self, index: int) -> Sound:
        """Return sound number `index`: file and place follow from seed and index.

        Raises
        ------
        FileError
            If the file cannot be read or is too short.
        """
        rng = np.random.default_rng([zlib.crc32(b"folder"), self.seed, index])
        groups = self._split[index >= self.n_train]
        label = list(groups)[index % len(groups)]
        path = groups[label][int(rng.integers(len(groups[label])))]
        pcm = self._stretch(path, rng)
        nothing = float("nan")
        known = Factors(nothing, nothing, nothing, nothing, onsets_per_s(pcm))
        factors = measured(pcm, known)
        words = (label or path.stem).replace("_", " ").replace("-", " ")
        return Sound(pcm, label, caption_with_factors(words, factors, rng), factors)

    def _stretch(self, path: Path, rng: np.random.Generator) -> NDArray[np.float32]:
        n = round(self.duration_s * SAMPLE_RATE_HZ)
        length_s = _seconds(path)
        if length_s < _SHORTEST_S:
            raise FileError(
                f"{path} lasts {length_s:.2f} s; expected at least {_SHORTEST_S} s. Remove it."
            )
        start_s = float(rng.uniform(0.0, max(length_s - self.duration_s, 0.0)))
        excerpt = Stimulus(
            id=path.name,
            path=path,
            start_s=start_s,
            duration_s=min(self.duration_s, length_s - start_s),
        )
        wave = fade_edges(stimulus_sound(excerpt, sample_rate_hz=SAMPLE_RATE_HZ)[:n])
        pcm = np.zeros(n, np.float32)
        first = int(rng.integers(n - len(wave) + 1))
        pcm[first : first + len(wave)] = np.clip(wave, -1.0, 1.0)
        return pcm


def files_below(folder: Path, suffixes: Sequence[str], *, what: str) -> list[Path]:
    """Return the files with one of these suffixes in a folder and those in it, by name.

    Raises
    ------
    FileError
        If the folder is missing, or holds fewer than two.
    """
    if not folder.is_dir():
        raise FileError(f"There is no folder {folder}. Give the folder that holds the {what}.")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    if len(found) < 2:
        raise FileError(
            f"{folder} holds {len(found)} {what} ({', '.join(suffixes)}); training needs at least "
            "two, as one is held out."
        )
    return found


def split_files(
    files: Sequence[Path], folder: Path, *, seed: int
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Return the files to train on and those held out, each by class ("" directly in the folder).

    Parameters
    ----------
    files : sequence of Path
        At least two.
    folder : Path
    seed : int
    """
    order = np.random.default_rng([zlib.crc32(b"held out"), seed]).permutation(len(files))
    n_held = min(max(1, round(_HELD_OUT * len(files))), len(files) - 1)
    held = set(order[:n_held].tolist())
    train: dict[str, list[Path]] = {}
    rest: dict[str, list[Path]] = {}
    for i, path in enumerate(files):
        parts = path.relative_to(folder).parts
        label = parts[0] if len(parts) > 1 else ""
        (rest if i in held else train).setdefault(label, []).append(path)
    return train, rest


def onsets_per_s(pcm: NDArray[np.float32]) -> float:
    """Return how many events begin a second: jumps of the mel spectrum upwards, by their peaks.

    Spectral flux (Dixon 2006, DAFx, eq. 1) of log mel frames; a peak counts if it is 1.5 times the
    mean around it and at least .1 nat per band.

    Parameters
    ----------
    pcm : array of shape (n,)
        16 kHz, at least 0.1 s.
    """
    spec = MelSpec()
    frames = np.maximum(log_mel(pcm, spec), np.log(1e-3))  # what is quieter is no event
    flux = np.maximum(frames[2:] - frames[:-2], 0.0).mean(axis=1)
    if len(flux) < 3:
        return 0.0
    around = np.convolve(flux, np.full(31, 1.0 / 31.0), mode="same")
    middle = flux[1:-1]
    peaks = (middle > flux[:-2]) & (middle >= flux[2:])
    peaks &= (middle > 1.5 * around[1:-1]) & (middle > 0.1)
    places = np.flatnonzero(peaks)
    apart = np.concatenate([[True], np.diff(places) > 4]) if len(places) else places
    return float(np.sum(apart)) * SAMPLE_RATE_HZ / len(pcm)


def _seconds(path: Path) -> float:
    import soundfile

    try:
        return float(soundfile.info(path).duration)
    except (OSError, soundfile.LibsndfileError) as error:
        raise FileError(f"{path} cannot be read as a sound: {error}. Remove it.") from error
