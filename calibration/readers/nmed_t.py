"""NMED-T (Losorelli et al. 2017): EEG of 20 people, each of whom heard ten songs once.

`song{21..30}_Imputed.mat` holds `dataNN` (125 channels x samples x people), `subsNN` and `fs`. A
song is a run: who, which song and which recording cannot be told apart within one person, so splits
need to leave out people or songs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Dataset, Event, Run, Stimulus
from calibration.readers.hdf5 import is_hdf5, open_hdf5
from calibration.readers.options import ReadOptions, chosen_participants, wanted
from calibration.readers.stimuli import StimulusFiles
from models.errors import FileError
from stream.readers.checks import as_file_error, check_fetched
from stream.readers.units import wanted_scale

__all__ = ["N_SAMPLES", "matches", "participants", "read"]

FORMAT = "nmed-t"
SFREQ_HZ = 125.0
N_CHANNELS = 125
N_PEOPLE = 20
N_SAMPLES = {
    21: 34_795,
    22: 33_891,
    23: 34_469,
    24: 36_797,
    25: 36_114,
    26: 34_478,
    27: 36_454,
    28: 36_513,
    29: 36_712,
    30: 37_221,
}
_NAME = re.compile(r"^song(?P<number>\d+)_Imputed\.mat$")


def _songs(path: Path) -> dict[int, Path]:
    items = [path] if path.is_file() else sorted(path.glob("*_Imputed.mat"))
    found = {int(m["number"]): item for item in items if (m := _NAME.match(item.name))}
    return dict(sorted(found.items()))


def matches(path: Path) -> bool:
    """Tell whether a path is a song's file, or a folder of them."""
    return bool(_songs(path))


def participants(path: Path, options: ReadOptions) -> tuple[str, ...]:
    """Return the names of the people in the songs' files, in order."""
    names: dict[str, None] = {}
    for number, item in _songs(path).items():
        names.update(dict.fromkeys(_people(item, number)))
    return tuple(sorted(names))


def read(path: Path, options: ReadOptions) -> Dataset:
    """Read each person's songs as runs.

    Raises
    ------
    FileError
        If a file is missing, damaged or lacks a part, or (`strict`) its size or rate is not the
        published one.
    """
    warnings: list[str] = []
    songs = _songs(path)
    wished = {n: item for n, item in songs.items() if _is_wanted(n, options)}
    if not wished:
        raise FileError(
            f"{path} has no song that was asked for; it has {', '.join(f'song{n}' for n in songs)}."
        )
    if options.strict and options.runs is None and (lost := sorted(set(N_SAMPLES) - set(songs))):
        raise FileError(
            f"{path}: expected ten songs, not there are "
            f"{', '.join(f'song{n}_Imputed.mat' for n in lost)}. Get them, name those to read "
            f"(runs), or read with strict off."
        )
    people = chosen_participants(participants(path, options), options, path=path)
    files = StimulusFiles(options.stimuli)
    scale = wanted_scale(options.unit or "microvolts")
    runs: dict[str, list[Run]] = {person: [] for person in people}
    stimuli: dict[str, Stimulus] = {}
    for done, (number, item) in enumerate(wished.items()):
        options.told(done, len(wished))
        name = f"song{number}"
        stimulus = files.stimulus(name, label=name)
        stimuli[name] = stimulus
        for person, data, sfreq in _trials(item, number, people):
            _check(item, number, data.shape, sfreq, options, warnings)
            samples = np.array(data.T, dtype=np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                if options.remove_mean:
                    samples -= samples.mean(axis=0)
                signal = np.ascontiguousarray(samples * scale, dtype=np.float32)
            if not np.isfinite(signal).all():
                raise FileError(f"{item.name}: {person}'s trial is not finite throughout.")
            runs[person].append(
                Run(
                    participant=person,
                    session="",
                    run=name,
                    part="",
                    signal=signal,
                    sfreq_hz=sfreq,
                    stamps_s=np.arange(len(signal)) / sfreq,
                    events=(Event(0.0, len(signal) / sfreq, name, stimulus.label),),
                )
            )
    options.told(len(wished), len(wished))
    return Dataset(
        path=path,
        format=FORMAT,
        modality="eeg",
        channels=tuple(f"E{k + 1}" for k in range(next(iter(runs.values()))[0].signal.shape[1])),
        runs=tuple(run for person in people for run in runs[person]),
        stimuli=stimuli,
        warnings=(*dict.fromkeys(warnings), *files.lost()),
    )


def _is_wanted(number: int, options: ReadOptions) -> bool:
    return wanted(str(number), options.runs) or wanted(f"song{number}", options.runs)


def _check(
    path: Path,
    number: int,
    shape: tuple[int, ...],
    sfreq: float,
    options: ReadOptions,
    warnings: list[str],
) -> None:
    expected = (N_CHANNELS, N_SAMPLES.get(number, shape[1]))
    if shape == expected and sfreq == SFREQ_HZ:
        return
    sentence = (
        f"{path.name}: expected {expected[0]} channels x {expected[1]:,} samples at {SFREQ_HZ:g} "
        f"Hz, got {shape[0]} x {shape[1]:,} at {sfreq:g} Hz."
    )
    if options.strict:
        raise FileError(f"{sentence} To go on with what is there, read it with strict off.")
    warnings.append(sentence)


def _trials(
    path: Path, number: int, people: tuple[str, ...]
) -> Iterator[tuple[str, NDArray[Any], float]]:
    """Yield (person, channels x samples, Hz) of those who are wanted and heard the song."""
    names = _people(path, number)
    key = f"data{number}"
    if is_hdf5(path):
        with open_hdf5(path) as file:
            _need(path, (key, "fs"), list(file))
            sfreq = float(np.asarray(file["fs"][()]).reshape(-1)[0])
            data = file[key]  # MATLAB's axes the other way round: people x samples x channels
            _fits(path, data.shape[::-1], names)
            for k, name in enumerate(names):
                if name in people:
                    yield name, np.asarray(data[k]).T, sfreq
        return
    values = _matlab(path, (key, "fs"))
    sfreq = float(np.asarray(values["fs"]).reshape(-1)[0])
    _fits(path, values[key].shape, names)
    for k, name in enumerate(names):
        if name in people:
            yield name, values[key][:, :, k], sfreq


def _fits(path: Path, shape: tuple[int, ...], names: list[str]) -> None:
    if len(shape) != 3 or shape[2] != len(names):
        raise FileError(
            f"{path.name} names {len(names)} people, its data are {shape}; expected channels x "
            f"samples x people. The file is damaged; compare it with the original."
        )


def _need(path: Path, keys: tuple[str, ...], there: list[str]) -> None:
    missing = [key for key in keys if key not in there]
    if missing:
        raise FileError(
            f"{path.name} has no variable {missing[0]!r}; it has {', '.join(there[:8]) or 'none'}. "
            f"It is damaged, cut short or of another kind; compare it with the original."
        )


def _matlab(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    from scipy.io import loadmat

    check_fetched(path)
    with as_file_error(path, "MATLAB"):
        values: dict[str, Any] = loadmat(path, variable_names=list(keys))
    _need(path, keys, [key for key in values if not key.startswith("__")])
    return values


def _people(path: Path, number: int) -> list[str]:
    """Return who heard a song, in the order of the data; a cell array of text or of numbers."""
    key = f"subs{number}"
    check_fetched(path)
    if not is_hdf5(path):
        cells = np.asarray(_matlab(path, (key,))[key]).reshape(-1)
        return [_name(np.asarray(cell).reshape(-1)) for cell in cells]
    with open_hdf5(path) as file:
        _need(path, (key,), list(file))
        cells = np.asarray(file[key][()]).reshape(-1)
        if cells.dtype == object:  # references to the cells
            return [_name(np.asarray(file[cell][()]).reshape(-1)) for cell in cells]
    return [_name(np.asarray([cell])) for cell in cells]


def _name(cell: NDArray[Any]) -> str:
    """Return the name in a cell: text, its characters' codes (MATLAB 7.3), or a number."""
    if cell.dtype == object and len(cell):
        return _name(np.asarray(cell[0]).reshape(-1))
    if cell.dtype.kind in "US":
        return "".join(str(part) for part in cell.tolist()).strip()
    if cell.dtype == np.uint16:
        return "".join(chr(code) for code in cell.tolist()).strip()
    return f"{int(cell[0]):02d}" if len(cell) else ""
