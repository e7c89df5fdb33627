"""Recordings with markers: XDF, our own session folders, EDF, BrainVision, FIF, EEGLAB and CSV.

A file is a session. Its participant is the `sub-` in its name, else the folder below the data set
in which it lies, else the data set itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from calibration.data.dataset import Dataset, Event, Stimulus
from calibration.readers.bold_runs import Part
from calibration.readers.eeg_runs import RecordedRun, read_recorded_runs
from calibration.readers.events import choose_markers, marker_events
from calibration.readers.options import ReadOptions, chosen_participants, part_of, wanted
from calibration.readers.stimuli import StimulusFiles
from models.errors import FileError
from stream.readers.bids import entities
from stream.recordings import RecordedSignal, Recording

__all__ = ["ENDINGS", "matches", "participants", "read"]

FORMAT = "recordings"
ENDINGS = (".xdf", ".xdfz", ".xdf.gz", ".vhdr", ".edf", ".bdf", ".set", ".fif", ".csv", ".csv.gz")
_SESSION = "recording.xdf"  # of a folder that `hearback record` or `hearback live` wrote


def _is_recording(path: Path) -> bool:
    lower = path.name.lower()
    # Of our own folders of results, and of a table of stimuli.
    return lower.endswith(ENDINGS) and lower not in ("stimuli.csv", "participants.csv")


def matches(path: Path) -> bool:
    """Tell whether a path is a recording, or a folder with recordings in it."""
    if path.is_file():
        return _is_recording(path)
    return any(_is_recording(item) for item in path.rglob("*"))


def participants(path: Path, options: ReadOptions) -> tuple[str, ...]:
    """Return the participants, in order."""
    return tuple(dict.fromkeys(item.participant for item in _list(path)))


def _list(path: Path) -> list[RecordedRun]:
    if path.is_file():
        paths, root = [path], path.parent
    else:
        paths, root = [p for p in sorted(path.rglob("*")) if _is_recording(p)], path
    if not paths:
        raise FileError(
            f"{path} holds no recording ({', '.join(ENDINGS)}). Give a recording, or a folder of "
            f"them."
        )
    return [_run(item, root, path) for item in paths]


def _run(path: Path, root: Path, given: Path) -> RecordedRun:
    name = path.name
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    folders = list(path.parent.relative_to(root).parts)
    if path.name == _SESSION:  # the folder is the session
        name = folders.pop() if folders else path.parent.resolve().name
    known = entities(name)
    if "sub" in known:
        person = f"sub-{known['sub']}"
        session = f"ses-{known['ses']}" if "ses" in known else ""
        run = "_".join(f"{k}-{v}" for k, v in known.items() if k not in ("sub", "ses")) or name
    else:
        alone = name if given.is_file() else given.resolve().name
        person = folders[0] if folders else alone
        session, run = "/".join([*folders[1:], name]), ""
    said = part_of(*folders[1:], name)
    part: Part = "train" if said == "train" else "test" if said == "test" else ""
    return RecordedRun(path, person, session, run, part)


def read(path: Path, options: ReadOptions) -> Dataset:
    """Read sessions with the events that their markers stand for.

    Recordings of one person may be called by any one name; that is then the participant's.

    Raises
    ------
    FileError
        If a recording cannot be read, or does not fit the others.
    SettingError
        If several signals or series of markers could be meant.
    """
    listed = _list(path)
    there = tuple(dict.fromkeys(item.participant for item in listed))
    named = options.participants
    if len(there) == 1 and named is not None and len(named) == 1:
        listed = [replace(item, participant=named[0]) for item in listed]
    else:
        people = chosen_participants(there, options, path=path)
        listed = [item for item in listed if item.participant in people]
    if options.select is not None:
        listed = [item for item in listed if options.select in str(item.path.relative_to(path))]
    listed = [
        item
        for item in listed
        if wanted(item.session, options.sessions, key="ses")
        and (wanted(item.run, options.runs, key="run") or wanted(item.session, options.runs))
    ]
    if not listed:
        raise FileError(
            f"{path} has no recording that was asked for. Correct sessions, runs or select."
        )
    files = StimulusFiles(options.stimuli)
    silent: list[str] = []

    def presentation(
        run: RecordedRun, recording: Recording, signal: RecordedSignal
    ) -> tuple[list[Event], dict[str, Stimulus]]:
        series = choose_markers(recording.markers, options, what=run.path.name)
        if series is None:
            silent.append(f"{run.path.name} has no markers: nothing says what was presented.")
            return [], {}
        stop_s = float(signal.stamps[-1]) + signal.period_s
        return marker_events(series, options, files, start_s=0.0, stop_s=stop_s)

    dataset = read_recorded_runs(
        path, listed, options, form=FORMAT, presentation=presentation, files=files
    )
    return replace(dataset, warnings=(*silent, *dataset.warnings))
