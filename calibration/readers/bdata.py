"""BData files (Kamitani laboratory): samples by columns in HDF5, and flags that say what each is.

`/dataset` (samples x columns); `/metadata/key` and `/metadata/value` (keys x columns) flag voxels,
regions and labels; `/vmap/KEY/NUMBER` is the name that a number in the column KEY stands for.

The samples were cut out, shifted and averaged by their authors, so they become `Dataset.epochs`.
Their regions are the flags; "AC" is the auditory cortex of the sound reconstruction data set (13
areas of each hemisphere), "AC-core" the seven areas to which a later configuration of the same data
gives that name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Dataset, Epochs, Stimulus, VoxelSpace
from calibration.readers.hdf5 import column_space, finite_columns, is_hdf5, open_hdf5, text
from calibration.readers.options import ReadOptions, chosen_participants, part_of
from calibration.readers.stimuli import StimulusFiles
from models.errors import FileError, SettingError

__all__ = ["AREAS", "matches", "participants", "read"]

FORMAT = "bdata"
_CORE = ("A1", "MBelt", "LBelt", "PBelt", "RI", "A4", "A5")
AREAS = {
    "AC": (*_CORE, "STSdp", "STSda", "STSvp", "STSva", "STGa", "TA2"),
    "AC-core": _CORE,
}
_VOXELS = "VoxelData"
_ROWS = ("values", "stimulus", "start_s", "stop_s", "session", "run", "part")
_KNOWN = re.compile(r"^S[1-5]_VGGishish(?P<part>Train|Test)_")
_N_TEST = 150  # 50 sounds x 3 windows
_AC_VOXELS = {"S1": 6_662, "S2": 6_624, "S3": 6_713, "S4": 6_157, "S5": 7_143}


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """One file, by column."""

    path: Path
    data: NDArray[np.float32]  # (n, n_columns)
    numbers: NDArray[np.float64]  # (n, n_columns), as stored
    flags: Mapping[str, NDArray[np.float64]]  # key -> (n_columns,)
    names: Mapping[str, Mapping[float, str]]  # key -> number -> name


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".h5" else []
    for folder in (path, path / "fmri_data", path / "data" / "fmri_data"):
        found = sorted(folder.glob("*.h5"))
        if found:
            return found
    return []


def matches(path: Path) -> bool:
    """Tell whether a path is a BData file, or a folder of them."""
    found = _files(path)
    if not found or not is_hdf5(found[0]):
        # Not fetched, but named as the published files are: say that rather than "unknown".
        return any(_KNOWN.match(item.name) for item in found)
    with open_hdf5(found[0]) as file:
        return ("dataset" in file or "dataSet" in file) and (
            "metadata" in file or "metaData" in file
        )


def _person(path: Path) -> str:
    return path.stem.partition("_")[0]


def participants(path: Path, options: ReadOptions) -> tuple[str, ...]:
    """Return the participants: what stands before the first `_` of the file names."""
    return tuple(dict.fromkeys(_person(item) for item in _files(path)))


def read(path: Path, options: ReadOptions) -> Dataset:
    """Read samples; rows with the same name are repetitions.

    Files of the attention experiment name two sounds a sample; they are read only when `select`
    asks for them, with `stimulus_key` "attend_sample_name" or "unattend_sample_name".

    Raises
    ------
    FileError
        If a file is missing, damaged or lacks a part, or (`strict`) a published count is not met.
    SettingError
        If a region or key is not there.
    """
    warnings: list[str] = []
    found = _files(path)
    if options.select is not None:
        found = [item for item in found if options.select in item.name]
    else:
        found = [item for item in found if "Attention" not in item.name]
    if not found:
        raise FileError(f"{path} holds no BData file (.h5) that was asked for. Correct select.")
    there = tuple(dict.fromkeys(_person(item) for item in found))
    people = chosen_participants(there, options, path=path)
    files = StimulusFiles(options.stimuli)
    epochs: list[Epochs] = []
    spaces: dict[str, VoxelSpace] = {}
    stimuli: dict[str, Stimulus] = {}
    for number, person in enumerate(people):
        options.told(number, len(people))
        pieces = []
        for item in (f for f in found if _person(f) == person):
            piece, space = _read_file(item, person, options, warnings)
            first = spaces.setdefault(person, space)
            if first.shape != space.shape or first.rois.keys() != space.rois.keys():
                raise FileError(
                    f"{item.name} has {space.shape[0]} voxels in {len(space.rois)} regions, "
                    f"{person}'s other files {first.shape[0]} in {len(first.rois)}. One space is "
                    f"expected."
                )
            pieces.append(piece)
        together = _joined(pieces)
        for name in dict.fromkeys(together.stimulus.tolist()):
            stimuli[name] = files.stimulus(name)
        epochs.append(_with_sound(together, stimuli, files, person, warnings))
        _check(person, spaces[person], together, found, options, warnings)
    options.told(len(people), len(people))
    heard = {name for item in epochs for name in item.stimulus.tolist()}
    return Dataset(
        path=path,
        format=FORMAT,
        modality="bold",
        channels=(),
        runs=(),
        stimuli={name: item for name, item in stimuli.items() if name in heard},
        space=spaces[people[0]] if len(people) == 1 else None,
        unit="a.u.",
        warnings=tuple(warnings),
        epochs=tuple(epochs),
        spaces=spaces,
    )


def _load(path: Path) -> _Table:
    with open_hdf5(path) as file:
        names = ("dataset", "metadata") if "dataset" in file else ("dataSet", "metaData")
        missing = [name for name in names if name not in file]
        if missing:
            raise FileError(f"{path.name} has no {missing[0]!r}: it is no BData file.")
        numbers = np.asarray(file[names[0]][()], np.float64)
        meta: Any = file[names[1]]
        keys = [text(key) for key in meta["key"][()]]
        values = np.asarray(meta["value"][()], np.float64)
        if numbers.ndim != 2 or values.shape != (len(keys), numbers.shape[1]):
            raise FileError(
                f"{path.name}: {len(keys)} keys describe {values.shape}, the samples are "
                f"{numbers.shape}. The file is damaged; compare it with the original."
            )
        maps = {
            text(key): {float(n): text(name[()]) for n, name in group.items()}
            for key, group in file.get("vmap", {}).items()
        }
    flags = dict(zip(keys, values, strict=True))
    return _Table(path, numbers.astype(np.float32), numbers, flags, maps)


def _read_file(
    path: Path, person: str, options: ReadOptions, warnings: list[str]
) -> tuple[Epochs, VoxelSpace]:
    table = _load(path)
    voxels = np.flatnonzero(table.flags.get(_VOXELS, np.zeros(0)) == 1)
    if not len(voxels):
        raise FileError(f"{path.name}: no column is flagged {_VOXELS!r}. It holds no brain data.")
    rois = {
        key: np.flatnonzero(values[voxels] == 1)
        for key, values in table.flags.items()
        if key != _VOXELS and _is_flag(values, voxels)
    }
    rois = {key: columns for key, columns in rois.items() if len(columns)}
    if options.roi:
        kept = _select(rois, options.roi, path)
        place = np.full(len(voxels), -1)
        place[kept] = np.arange(len(kept))
        voxels = voxels[kept]
        inside = {key: place[columns] for key, columns in rois.items()}
        rois = {k: c[c >= 0] for k, c in inside.items() if (c >= 0).any()}
    for name, areas in AREAS.items():
        if name not in rois and (columns := _areas(rois, areas)) is not None:
            rois[name] = columns
    said = part_of(path.stem)
    n = len(table.data)
    blank = np.full(n, np.nan)
    epochs = Epochs(
        participant=person,
        values=finite_columns(
            np.ascontiguousarray(table.data[:, voxels]), what=path.name, warnings=warnings
        ),
        stimulus=_labels(table, options.stimulus_key),
        start_s=blank,
        stop_s=blank,
        session=_numbers(table, "Session"),
        run=_numbers(table, "Run"),
        part=np.full(n, said),
    )
    return epochs, replace(column_space(len(voxels)), rois=rois)


def _is_flag(values: NDArray[np.float64], voxels: NDArray[np.intp]) -> bool:
    """Tell a region from coordinates and other numbers of voxels."""
    mine = values[voxels]
    return bool(np.isin(mine[np.isfinite(mine)], (0.0, 1.0)).all() and (mine == 1).any())


def _areas(rois: Mapping[str, NDArray[np.intp]], areas: tuple[str, ...]) -> NDArray[np.intp] | None:
    """Return the columns of HCP areas of both hemispheres; None unless all areas are flagged."""
    found = [
        [c for key, c in rois.items() if re.search(rf"(^|[._])[LR]_{area}_ROI$", key)]
        for area in areas
    ]
    if not all(found):
        return None
    return np.unique(np.concatenate([c for columns in found for c in columns])).astype(np.intp)


def _select(
    rois: Mapping[str, NDArray[np.intp]], wishes: tuple[str, ...], path: Path
) -> NDArray[np.intp]:
    columns = []
    for wish in wishes:
        if wish in rois:
            columns.append(rois[wish])
        elif wish in AREAS and (found := _areas(rois, AREAS[wish])) is not None:
            columns.append(found)
        elif (found := _areas(rois, (wish,))) is not None:
            columns.append(found)
        else:
            listed = ", ".join(list(rois)[:8])
            raise SettingError(
                f"{path.name} flags no region {wish!r}; it has {len(rois)}: {listed}, ... "
                f"Name one of them, an HCP area or {', '.join(AREAS)}."
            )
    return np.unique(np.concatenate(columns)).astype(np.intp)


def _column(table: _Table, key: str) -> NDArray[np.float64] | None:
    flagged = np.flatnonzero(table.flags.get(key, np.zeros(0)) == 1)
    return table.numbers[:, flagged[0]] if len(flagged) else None


def _labels(table: _Table, key: str) -> NDArray[np.str_]:
    numbers = _column(table, key)
    if numbers is None:
        there = ", ".join(k for k in table.flags if "name" in k.lower() or "label" in k.lower())
        raise SettingError(
            f"{table.path.name} has no column {key!r}; it has {there or 'no label at all'}. Name "
            f"the column of the stimuli (stimulus_key)."
        )
    names = table.names.get(key, {})
    return np.array([names.get(v, "n/a" if np.isnan(v) else f"{v:g}") for v in numbers.tolist()])


def _numbers(table: _Table, key: str) -> NDArray[np.str_]:
    numbers = _column(table, key)
    if numbers is None:
        return np.full(len(table.numbers), "")
    return np.array([f"{value:g}" for value in numbers.tolist()])


def _joined(pieces: list[Epochs]) -> Epochs:
    if len(pieces) == 1:
        return pieces[0]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in _ROWS
    }
    return replace(pieces[0], **columns)


def _with_sound(
    epochs: Epochs,
    stimuli: Mapping[str, Stimulus],
    files: StimulusFiles,
    person: str,
    warnings: list[str],
) -> Epochs:
    """Return the samples whose sound is at hand, where sounds were given at all."""
    keep = epochs.stimulus != "n/a"
    if files:
        keep &= np.array([stimuli[name].path is not None for name in epochs.stimulus.tolist()])
    if keep.all():
        return epochs
    if not keep.any():
        raise FileError(
            f"{files.path} has no sound for any of {person}'s samples, e.g. "
            f"{epochs.stimulus[0]!r}. Name the files as the samples are named, or give a table."
        )
    warnings.append(
        f"{person}: {int((~keep).sum())} of {len(keep)} samples are left out: their sounds are not "
        f"at hand."
    )
    columns: dict[str, Any] = {name: getattr(epochs, name)[keep] for name in _ROWS}
    return replace(epochs, **columns)


def _check(
    person: str,
    space: VoxelSpace,
    epochs: Epochs,
    found: list[Path],
    options: ReadOptions,
    warnings: list[str],
) -> None:
    """Compare with what is known of the published files."""
    known = [item for item in found if _person(item) == person and _KNOWN.match(item.name)]
    sentences = []
    if known and "AC" in space.rois and len(space.rois["AC"]) != _AC_VOXELS[person]:
        sentences.append(
            f"{person}: expected {_AC_VOXELS[person]:,} voxels in AC, got "
            f"{len(space.rois['AC']):,}."
        )
    tests = set(epochs.stimulus[epochs.part == "test"].tolist()) - {"n/a"}
    if tests and any(m["part"] == "Test" for i in known if (m := _KNOWN.match(i.name))):
        if len(tests) != _N_TEST:
            sentences.append(f"{person}: expected {_N_TEST} test windows, got {len(tests)}.")
    for sentence in sentences:
        if options.strict:
            raise FileError(f"{sentence} To go on with what is there, read it with strict off.")
        warnings.append(sentence)
