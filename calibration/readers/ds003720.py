"""The music genre data set ds003720 (Nakai et al. 2021): 15-s excerpts of GTZAN, back to back.

Each run lists 41 clips; the first repeats the last of the run before (training) or of the same run
(test) and is dropped: 480 training clips, and 60 test clips four times each.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from calibration.data.dataset import Dataset, Event, Stimulus
from calibration.readers import bids_func
from calibration.readers.bids_files import bids_participants, bids_runs, events_table
from calibration.readers.bold_runs import BoldRun, read_bold_runs
from calibration.readers.options import ReadOptions
from calibration.readers.stimuli import StimulusFiles
from calibration.readers.volumes import BoldImage
from models.errors import FileError
from stream.readers.checks import as_file_error
from stream.readers.tables import read_table

__all__ = ["Clip", "matches", "participants", "read", "read_clips"]

FORMAT = "ds003720"
TR_S = 1.5
N_VOLUMES = 410
N_ROWS = 41
N_CLIPS = {"train": 480, "test": 60}
N_REPETITIONS = {"train": 1, "test": 4}
_COLUMNS = ("onset", "duration", "genre", "track", "start", "end")


@dataclass(frozen=True, slots=True)
class Clip:
    """A row of an events table."""

    onset_s: float
    duration_s: float
    genre: str
    track: int  # of the 100 of its genre, from 0
    start_s: float  # of the excerpt, in the 30-s file
    stop_s: float

    @property
    def file(self) -> str:
        """Name of the GTZAN file."""
        return f"{self.genre}.{self.track:05d}.wav"

    @property
    def id(self) -> str:
        """Name of the stimulus: track and excerpt."""
        return f"{self.genre}.{self.track:05d}@{self.start_s:g}-{self.stop_s:g}"


def matches(path: Path) -> bool:
    """Tell whether a folder has events tables of this data set's layout."""
    if not path.is_dir():
        return False
    table = next(path.rglob("sub-*_task-T*_run-*_events.tsv"), None)
    if table is None:
        return False
    with table.open(encoding="utf-8-sig", errors="replace") as file:
        return tuple(file.readline().strip().split("\t")) == _COLUMNS


def participants(path: Path, options: ReadOptions) -> tuple[str, ...]:
    """Return the participants."""
    return bids_participants(path, kind="bold")


def read_clips(path: Path) -> list[Clip]:
    """Read all rows of an events table, the first (a repeat) among them.

    Raises
    ------
    FileError
        If the table lacks a column, or holds what is no number.
    """
    rows = read_table(path)
    clips = []
    for number, row in enumerate(rows, start=2):
        missing = [name for name in _COLUMNS if name not in row]
        if missing:
            raise FileError(
                f"{path.name} lacks the column {', '.join(missing)}; expected "
                f"{', '.join(_COLUMNS)}."
            )
        try:
            onset, duration, start, stop = (
                float(row[name]) for name in ("onset", "duration", "start", "end")
            )
            track = int(row["track"])
        except ValueError as error:
            raise FileError(f"{path.name}, row {number}: {error}. Correct the table.") from error
        clips.append(Clip(onset, duration, row["genre"].strip("'\" "), track, start, stop))
    return clips


def read(path: Path, options: ReadOptions) -> Dataset:
    """Read runs without the repeated first clip; repetitions of a test clip share its id.

    Raises
    ------
    FileError
        If recordings were not fetched, sounds are missing, or (`strict`) the TR, the volumes of a
        run, the rows of a table or the number of clips are not the published ones.
    """
    warnings: list[str] = []
    listed = bids_runs(path, options, kind="bold", warnings=warnings)
    by_path = {item.path: item for item in listed}
    files = StimulusFiles(options.stimuli)
    checks = _Checks(options, warnings)

    def timetable(run: BoldRun, image: BoldImage) -> tuple[list[Event], dict[str, Stimulus]]:
        table = events_table(by_path[run.path], path, options)
        if table is None:
            raise FileError(
                f"{run.path.name} has no events table. Give the raw data set's folder (events)."
            )
        clips = read_clips(table)
        checks.run(run, image, clips, table)
        events, stimuli = [], {}
        for clip in clips[1:]:
            stimulus = files.stimulus(clip.id, label=clip.genre, file=clip.file)
            if stimulus.path is not None:
                stimulus = replace(
                    stimulus, start_s=clip.start_s, duration_s=clip.stop_s - clip.start_s
                )
            checks.sound(clip, stimulus)
            stimuli[clip.id] = stimulus
            events.append(Event(clip.onset_s, clip.duration_s, clip.id, clip.genre))
        return events, stimuli

    dataset = read_bold_runs(
        path,
        bids_func.bold_list(listed, path, options),
        options,
        form=FORMAT,
        timetable=timetable,
        files=files,
    )
    checks.clips(dataset)
    return replace(dataset, warnings=(*warnings, *dataset.warnings))


class _Checks:
    """What the data set is known to hold; a difference is refused, or (not strict) reported."""

    def __init__(self, options: ReadOptions, warnings: list[str]) -> None:
        self._options = options
        self._warnings = warnings
        self._durations: dict[Path, float] = {}

    def _say(self, sentence: str) -> None:
        if self._options.strict:
            raise FileError(f"{sentence} To go on with what is there, read it with strict off.")
        self._warnings.append(sentence)

    def run(self, run: BoldRun, image: BoldImage, clips: list[Clip], table: Path) -> None:
        if abs(image.tr_s - TR_S) > 1e-3:
            self._say(f"{run.path.name}: expected a TR of {TR_S:g} s, got {image.tr_s:g} s.")
        if len(image) != N_VOLUMES:
            self._say(f"{run.path.name}: expected {N_VOLUMES} volumes, got {len(image)}.")
        if len(clips) != N_ROWS:
            self._say(
                f"{table.name}: expected {N_ROWS} rows (a repeated clip and 40), got {len(clips)}."
            )
        if run.part == "test" and clips and clips[0].id != clips[-1].id:
            self._say(
                f"{table.name}: expected the first row to repeat the last clip, got "
                f"{clips[0].id} and {clips[-1].id}."
            )

    def sound(self, clip: Clip, stimulus: Stimulus) -> None:
        if not self._options.stimuli:
            return
        if stimulus.path is None:
            self._say(
                f"{self._options.stimuli} has no {clip.file}; expected the GTZAN tracks as "
                f"GENRE.NNNNN.wav (got by the user, 1,000 files of 30 s)."
            )
            return
        if stimulus.path not in self._durations:
            import soundfile

            with as_file_error(stimulus.path, "a sound"):
                self._durations[stimulus.path] = float(soundfile.info(stimulus.path).duration)
        held = self._durations[stimulus.path]
        if held < clip.stop_s - 0.1:
            self._say(
                f"{stimulus.path.name}: expected at least {clip.stop_s:g} s of sound, got "
                f"{held:.2f} s. Get the 30-s file."
            )

    def clips(self, dataset: Dataset) -> None:
        chosen = (self._options.runs, self._options.tasks, self._options.sessions)
        if any(wish is not None for wish in chosen):
            return
        for person in dataset.participants:
            for part in ("train", "test"):
                runs = [run for run in dataset.of(person) if run.part == part]
                heard = Counter(event.stimulus for run in runs for event in run.events)
                times = set(heard.values())
                if len(heard) != N_CLIPS[part] or times != {N_REPETITIONS[part]}:
                    self._say(
                        f"{person}: expected {N_CLIPS[part]} {part} clips heard "
                        f"{N_REPETITIONS[part]} times, got {len(heard)} heard "
                        f"{' or '.join(str(n) for n in sorted(times)) or 'never'} times in "
                        f"{len(runs)} runs."
                    )
