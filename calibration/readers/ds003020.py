"""The natural language data set ds003020 (LeBel et al. 2023): stories, preprocessed, as `.hf5`.

Sound starts 10 s after the first volume (TR 2.0045 s); of each run, 10 volumes at either end were
cut off before it was stored (`respdict.json` - 20 = rows). So row i was acquired at about
2 i + 10 s of the story. That is derived, not stated by the data set: a lag sweep on real data must
peak at 4 to 6 s. With a lag of 4 s, row i answers to the stretch [2 i + 6, 2 i + 8) s, as C2F-LDM
has it (exactly so with `tr_s=2.0`).

A story is one stimulus that began 10 s before row 0: windows of it are rows of one group, so no
split can put neighbouring 2-s stretches on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Dataset, Event, Run, Stimulus, VoxelSpace
from calibration.readers.bold_runs import Part
from calibration.readers.hdf5 import chosen_columns, finite_columns, open_hdf5
from calibration.readers.options import ReadOptions, chosen_participants, wanted
from calibration.readers.stimuli import StimulusFiles
from models.errors import FileError
from stream.readers.checks import as_file_error, check_fetched

__all__ = ["TEST_STORIES", "TRAINING_STORIES", "matches", "participants", "read"]

FORMAT = "ds003020"
TR_S = 2.0045
SOUND_BEFORE_ROW_0_S = 10.0
N_TRIMMED = 20  # volumes, both ends together
# Those of the first five sessions: 9,137 rows, and 324 + 291 = 615.
TRAINING_STORIES = (
    "adollshouse",
    "adventuresinsayingyes",
    "alternateithicatom",
    "avatar",
    "buck",
    "exorcism",
    "eyespy",
    "fromboyhoodtofatherhood",
    "haveyoumethimyet",
    "howtodraw",
    "inamoment",
    "itsabox",
    "legacy",
    "life",
    "myfirstdaywiththeyankees",
    "naked",
    "odetostepfather",
    "sloth",
    "souls",
    "stagefright",
    "swimmingwithastronauts",
    "thatthingonmyarm",
    "theclosetthatateeverything",
    "tildeath",
    "undertheinfluence",
)
TEST_STORIES = ("hangtime", "wheretheressmoke")
N_ROWS = {"train": 9_137, "test": 615}


def _base(path: Path) -> Path | None:
    """Return the folder that holds one folder of stories a participant."""
    for folder in (
        path,
        path / "preprocessed_data",
        path / "derivative" / "preprocessed_data",
        path / "derivatives" / "preprocessed_data",
    ):
        if folder.is_dir() and any(folder.glob("*/*.hf5")):
            return folder
    return None


def matches(path: Path) -> bool:
    """Tell whether a folder holds stories as `.hf5`, its own or in folders of participants."""
    return path.is_dir() and (_base(path) is not None or any(path.glob("*.hf5")))


def participants(path: Path, options: ReadOptions) -> tuple[str, ...]:
    """Return the participants, in order."""
    return tuple(_folders(path))


def _folders(path: Path) -> dict[str, Path]:
    base = _base(path)
    if base is not None:
        return {
            item.name: item
            for item in sorted(base.iterdir())
            if item.is_dir() and any(item.glob("*.hf5"))
        }
    if path.is_dir() and any(path.glob("*.hf5")):
        return {path.resolve().name: path}
    raise FileError(
        f"{path} holds no preprocessed story; expected PARTICIPANT/STORY.hf5 in "
        f"derivative/preprocessed_data. Fetch them: datalad get derivative/preprocessed_data."
    )


def read(path: Path, options: ReadOptions) -> Dataset:
    """Read stories as runs; of a story stored with its repetitions, each is a run.

    Without `runs`, the 25 training and 2 test stories of the first five sessions are read.

    Raises
    ------
    FileError
        If stories are missing, not fetched or damaged, or (`strict`) their rows are not those that
        `respdict.json` promises.
    """
    warnings: list[str] = []
    folders = _folders(path)
    people = chosen_participants(tuple(folders), options, path=path)
    files = StimulusFiles(options.stimuli or _sounds(path))
    known = _untrimmed(folders[people[0]])
    tr_s = options.tr_s or TR_S
    runs: list[Run] = []
    stimuli: dict[str, Stimulus] = {}
    spaces: dict[str, VoxelSpace] = {}
    todo = [(person, story) for person in people for story in _stories(folders[person], options)]
    for number, (person, story) in enumerate(todo):
        options.told(number, len(todo))
        signals = _signals(folders[person] / f"{story}.hf5", options, person, spaces)
        rows = len(signals[0])
        _check_rows(person, story, rows, known, options, warnings)
        if story not in stimuli:
            stimulus = files.stimulus(story, label=story)
            stimuli[story] = replace(stimulus, label=stimulus.label or story)
        length = _length(stimuli[story]) or SOUND_BEFORE_ROW_0_S + rows * tr_s
        event = Event(-SOUND_BEFORE_ROW_0_S, length, story, stimuli[story].label)
        part: Part = "test" if story in TEST_STORIES else "train"
        for k, signal in enumerate(signals, start=1):
            name = story if len(signals) == 1 else f"{story}.{k}"
            what = f"{person}, {name}"
            runs.append(
                Run(
                    participant=person,
                    session="",
                    run=name,
                    part=part,
                    signal=finite_columns(signal, what=what, warnings=warnings),
                    sfreq_hz=1.0 / tr_s,
                    stamps_s=tr_s * np.arange(len(signal), dtype=np.float64),
                    events=(event,),
                )
            )
    options.told(len(todo), len(todo))
    if options.runs is None:
        _check_totals(runs, people, options, warnings)
    return Dataset(
        path=path,
        format=FORMAT,
        modality="bold",
        channels=(),
        runs=tuple(runs),
        stimuli=stimuli,
        space=spaces[people[0]] if len(people) == 1 else None,
        unit="a.u.",
        warnings=(*warnings, *files.lost()),
        spaces=spaces,
    )


def _sounds(path: Path) -> Path | None:
    places = (item / "stimuli" for item in (path, *path.parents[:3]))
    return next((item for item in places if item.is_dir()), None)


def _stories(folder: Path, options: ReadOptions) -> list[str]:
    there = sorted(item.name.removesuffix(".hf5") for item in folder.glob("*.hf5"))
    if options.runs is not None:
        chosen = [story for story in there if wanted(story, options.runs)]
        lost = [wish for wish in options.runs if wish not in there]
    else:
        published = (*TRAINING_STORIES, *TEST_STORIES)
        chosen = [story for story in there if story in published] or there
        lost = [story for story in published if story not in there] if options.strict else []
    if lost or not chosen:
        raise FileError(
            f"{folder.name}: expected the stories {', '.join(lost[:6])}"
            f"{', ...' if len(lost) > 6 else ''} as .hf5, got {', '.join(there[:6])}"
            f"{', ...' if len(there) > 6 else ''}. Fetch them (datalad get), name those to read "
            f"(runs), or read with strict off."
        )
    return chosen


def _signals(
    path: Path, options: ReadOptions, person: str, spaces: dict[str, VoxelSpace]
) -> list[NDArray[np.float32]]:
    """Return the story's signal, or that of each repetition."""
    with open_hdf5(path) as file:
        if "data" not in file:
            raise FileError(
                f"{path.name} has no dataset 'data' (rows x voxels); it has {', '.join(file)}."
            )
        data = file["data"]
        if data.ndim != 2 or min(data.shape) < 2:
            raise FileError(f"{path.name}: 'data' is {data.shape}, expected rows x voxels.")
        columns, space = chosen_columns(data.shape[1], options, person)
        first = spaces.setdefault(person, space)
        if first.shape != space.shape:
            raise FileError(
                f"{path.name} has {space.shape[0]} voxels, {person}'s other stories "
                f"{first.shape[0]}. All must come from one preprocessing."
            )
        repeats = file.get("individual_repeats")
        # Reading whole and then choosing is much faster than choosing columns in HDF5.
        if repeats is not None and repeats.ndim == 3 and repeats.shape[1:] == data.shape:
            return [np.asarray(r, np.float32)[:, columns] for r in repeats]
        return [np.asarray(data[()], np.float32)[:, columns]]


def _untrimmed(folder: Path) -> dict[str, int]:
    """Return what `respdict.json` says of each story; nothing where there is none."""
    for place in (folder, *folder.parents[:4]):
        path = place / "respdict.json"
        if path.is_symlink() or path.exists():
            check_fetched(path)
            with as_file_error(path, "JSON"):
                return {str(k): int(v) for k, v in json.loads(path.read_text()).items()}
    return {}


def _check_rows(
    person: str,
    story: str,
    rows: int,
    known: dict[str, int],
    options: ReadOptions,
    warnings: list[str],
) -> None:
    if story not in known or rows == known[story] - N_TRIMMED:
        return
    sentence = (
        f"{person}, {story}: expected {known[story] - N_TRIMMED} rows (respdict.json says "
        f"{known[story]} volumes, {N_TRIMMED} are cut off), got {rows}."
    )
    if options.strict:
        raise FileError(f"{sentence} To go on with what is there, read it with strict off.")
    warnings.append(f"{sentence} Its rows may not lie where the stories' timing is taken to be.")


def _check_totals(
    runs: Sequence[Run], people: Sequence[str], options: ReadOptions, warnings: list[str]
) -> None:
    for person in people:
        for part, stories in (("train", TRAINING_STORIES), ("test", TEST_STORIES)):
            lengths = {
                run.run.partition(".")[0]: len(run.signal)
                for run in runs
                if run.participant == person and run.part == part
            }
            total = sum(lengths.values())
            if set(lengths) == set(stories) and total != N_ROWS[part]:
                sentence = f"{person}: expected {N_ROWS[part]:,} {part} rows, got {total:,}."
                if options.strict:
                    raise FileError(f"{sentence} To go on, read it with strict off.")
                warnings.append(sentence)


def _length(stimulus: Stimulus) -> float | None:
    if stimulus.path is None:
        return None
    import soundfile

    with as_file_error(stimulus.path, "a sound"):
        return float(soundfile.info(stimulus.path).duration) - stimulus.start_s
