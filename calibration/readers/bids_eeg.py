"""BIDS EEG: recordings with their channels and events tables, through the readers of `stream`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from calibration.data.dataset import Dataset, Event, Stimulus
from calibration.readers.bids_files import (
    bids_participants,
    bids_runs,
    events_table,
    stimuli_folder,
)
from calibration.readers.bold_runs import Part
from calibration.readers.eeg_runs import RecordedRun, read_recorded_runs
from calibration.readers.events import choose_markers, marker_events, table_events
from calibration.readers.options import ReadOptions, part_of
from calibration.readers.stimuli import StimulusFiles
from stream.recordings import RecordedSignal, Recording

__all__ = ["matches", "participants", "read"]

FORMAT = "bids-eeg"


def matches(path: Path) -> bool:
    """Tell whether a folder holds BIDS EEG, or its sidecars."""
    return path.is_dir() and any(
        any(path.rglob(pattern))
        for pattern in (
            "sub-*_eeg.vhdr",
            "sub-*_eeg.edf",
            "sub-*_eeg.bdf",
            "sub-*_eeg.set",
            "sub-*_eeg.json",
        )
    )


def participants(path: Path, options: ReadOptions) -> tuple[str, ...]:
    """Return the participants."""
    return bids_participants(path, kind="eeg")


def read(path: Path, options: ReadOptions) -> Dataset:
    """Read runs with their events: from the events table, else from markers in the file.

    Raises
    ------
    FileError
        If somebody or something that is wanted is not there, or cannot be read.
    SettingError
        If a choice fits nothing, or too much.
    """
    warnings: list[str] = []
    listed = bids_runs(path, options, kind="eeg", warnings=warnings)
    by_path = {item.path: item for item in listed}
    files = StimulusFiles(stimuli_folder(path, options))

    def presentation(
        run: RecordedRun, recording: Recording, signal: RecordedSignal
    ) -> tuple[list[Event], dict[str, Stimulus]]:
        stop_s = float(signal.stamps[-1]) + signal.period_s
        table = events_table(by_path[run.path], path, options)
        if table is not None:
            return table_events(table, options, files, stop_s=stop_s)
        series = choose_markers(recording.markers, options, what=run.path.name)
        if series is None:
            warnings.append(
                f"{run.path.name} has neither an events table nor markers: nothing says what was "
                f"presented."
            )
            return [], {}
        return marker_events(series, options, files, start_s=0.0, stop_s=stop_s)

    runs = []
    for item in listed:
        said = part_of(item.task, item.session, item.run)
        part: Part = "train" if said == "train" else "test" if said == "test" else ""
        runs.append(RecordedRun(item.path, item.participant, item.session, item.run, part))
    dataset = read_recorded_runs(
        path, runs, options, form=FORMAT, presentation=presentation, files=files
    )
    return replace(dataset, warnings=(*warnings, *dataset.warnings))
