"""The music data set for a reproduction: what is read, what is checked, what sound is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from calibration.data.dataset import Dataset, Event, Run
from calibration.reproduce.options import Progress, ReproduceOptions, told
from calibration.reproduce.record import Check
from models.errors import FileError, SettingError

__all__ = ["check_counts", "check_voxels", "need_path", "people", "read_person", "with_dummies"]

# Voxels of the whole cortex that the papers report.
_CORTEX = {
    "sub-001": 60_784,
    "sub-002": 53_927,
    "sub-003": 64_700,
    "sub-004": 61_899,
    "sub-005": 53_421,
}


def need_path(options: ReproduceOptions, what: str) -> None:
    """Refuse to go on without a data set.

    Raises
    ------
    SettingError
        If none was named.
    """
    if options.data is None:
        raise SettingError(f"Name the data set with --data: {what}.")


def people(options: ReproduceOptions, *, formats: Sequence[str], what: str) -> tuple[str, ...]:
    """Return whose recordings are read.

    Raises
    ------
    FileError
        If there is no data set, or it is another one than the paper's.
    """
    from calibration.readers import detect_format, list_participants

    need_path(options, what)
    assert options.data is not None
    found = detect_format(options.data)
    if found not in formats:
        raise FileError(
            f"{options.data} holds {found} recordings; expected {what}. Give the folder of that "
            "data set with --data."
        )
    return options.participants or list_participants(options.data)


def read_person(
    options: ReproduceOptions, participant: str, *, progress: Progress, sounds: bool = True
) -> Dataset:
    """Read one person's training and test runs, with the sounds that were heard.

    Raises
    ------
    FileError
        If recordings were not fetched, sounds are missing, or parts of the data set are.
    """
    from calibration.readers import read_dataset

    assert options.data is not None
    dataset = read_dataset(
        options.data,
        participant=participant,
        mask=options.mask,
        labels=options.labels or None,
        label_names=options.label_names,
        select=options.select,
        stimuli=options.stimuli,
        strict=not options.partial,
        progress=lambda done, total: progress(f"reading {participant}", done, total),
    )
    parts = {run.part for run in dataset.runs}
    if dataset.runs and not {"train", "test"} <= parts:
        raise FileError(
            f"{options.data}: {participant} has runs of {' and '.join(sorted(parts)) or 'nothing'}"
            "; training and test runs are needed. Fetch the runs that are missing."
        )
    if sounds:
        _need_sounds(dataset, options)
    return dataset


def _need_sounds(dataset: Dataset, options: ReproduceOptions) -> None:
    lost = [name for name, item in dataset.stimuli.items() if item.path is None]
    if lost:
        where = "was named" if options.stimuli is None else f"in {options.stimuli} fits them"
        raise FileError(
            f"The rows need the sounds that were heard; {len(lost)} of {len(dataset.stimuli)} "
            f"stimuli have none ({told(lost)}), since no sound {where}. Give their folder or "
            "table with --stimuli (for ds003720: the GTZAN tracks as GENRE.NNNNN.wav)."
        )


def check_counts(dataset: Dataset) -> list[Check]:
    """Compare rows, clips and repetitions with the published 480 + 60 x 4."""
    from calibration.readers import describe

    checks = []
    for person, counts in describe(dataset)["participants"].items():
        for part, clips, times in (("train", 480, "1"), ("test", 60, "4")):
            found = counts["parts"].get(part, {"clips": 0, "repetitions": "0"})
            checks.append(
                Check(
                    f"{person}: {part} clips x repetitions",
                    f"{clips} x {times}",
                    f"{found['clips']} x {found['repetitions']}",
                    found["clips"] == clips and found["repetitions"] == times,
                )
            )
        runs = [run for run in dataset.runs if run.participant == person]
        rows = Counter(len(run.events) for run in runs)
        volumes = Counter(len(run.signal) for run in runs)
        checks.append(_every(f"{person}: clips of a run (the first row is dropped)", 40, rows))
        checks.append(_every(f"{person}: volumes of a run", 410, volumes))
        tr = {round(run.tr_s, 4) for run in runs}
        said = ", ".join(f"{value:g}" for value in sorted(tr))
        checks.append(Check(f"{person}: TR, s", "1.5", said, tr == {1.5}))
    return checks


def check_voxels(dataset: Dataset, participant: str) -> Check:
    """Compare the voxels of the mask with the published number of cortex voxels."""
    found = dataset.runs[0].signal.shape[1]
    expected = _CORTEX.get(participant)
    if expected is None:
        return Check(f"{participant}: voxels", "not published", f"{found:,}", True)
    return Check(
        f"{participant}: voxels of the cortex mask", f"{expected:,}", f"{found:,}",
        expected == found,
    )  # fmt: skip


def _every(name: str, expected: int, found: Counter[int]) -> Check:
    said = ", ".join(f"{value} ({times} runs)" for value, times in sorted(found.items()))
    return Check(name, str(expected), said or "none", set(found) == {expected})


def with_dummies(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return runs with the first row that the reader drops, as the public notebook keeps it.

    It repeats the last clip of the run before (training; of the first run, that of the last), or
    of its own run (test).

    Parameters
    ----------
    runs : sequence of Run
        Of one part, in order, all of one person.
    """
    result = []
    for number, run in enumerate(runs):
        source = runs[number - 1] if run.part == "train" else run
        last = max(source.events, key=lambda event: event.onset_s)
        first = min(run.events, key=lambda event: event.onset_s)
        if first.onset_s < last.duration_s - 0.5:  # there is no room, so there was no such row
            result.append(run)
            continue
        dummy = Event(first.onset_s - last.duration_s, last.duration_s, last.stimulus, last.label)
        result.append(replace(run, events=(dummy, *run.events)))
    return tuple(result)
