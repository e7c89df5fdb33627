"""What sources of a person's own files share: which files, which are held out, which is drawn."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from models.errors import FileError, SettingError

__all__ = ["SHORTEST_S", "FileSource", "files_below", "split_files"]

SHORTEST_S = 0.5
_HELD_OUT = 0.05  # share of the files; one at least


@dataclass(frozen=True)
class FileSource:
    """Base of the sources that take stretches of files, every class in turn.

    The class of a file is the name of the sub-folder that it lies in. Whole files are held out,
    never stretches of files that are trained on.

    Parameters
    ----------
    folder : Path
    seed : int
        Of the choice of stretches, and of the files held out.
    n_train : int
        Sounds below this number come from files that are trained on, the others from the rest.
    duration_s : float
        Length of each sound, s.

    Raises
    ------
    SettingError
        If a number is out of range.
    FileError
        If there are fewer than two files.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    what: ClassVar[str]  # the files are called

    folder: Path
    seed: int
    n_train: int
    duration_s: float = 5.12
    _files: tuple[Path, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.seed < 0 or self.n_train < 1 or not self.duration_s >= SHORTEST_S:
            raise SettingError(
                f"Sounds from {self.what} need a seed >= 0, at least one sound to train on and "
                f"{SHORTEST_S} s, got {self.seed}, {self.n_train} and {self.duration_s}."
            )
        files = files_below(self.folder, self.suffixes, what=self.what)
        object.__setattr__(self, "_files", tuple(files))

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

    def drawn(self, index: int) -> tuple[str, Path, np.random.Generator]:
        """Return class and file of sound number `index`, and the source of its other choices."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), self.seed, index])
        groups = self._split[index >= self.n_train]
        label = list(groups)[index % len(groups)]
        return label, groups[label][int(rng.integers(len(groups[label])))], rng

    @cached_property
    def _split(self) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
        return split_files(self._files, self.folder, seed=self.seed)


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
