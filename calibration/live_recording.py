"""The recording of a live calibration: the brain stream and its markers, a folder for each run.

A run is a recording of its own, so that readers (and other programs) see runs without knowing how
they were presented, and a session that ends early leaves whole runs behind.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.presentation import Programme
from calibration.presenter import Presentation
from models.errors import FileError
from stream.json_lines import finite
from stream.lsl_source import LslSource
from stream.recorder import Recorder
from stream.safe_file import say_why
from stream.sender import MarkerSender
from stream.source_info import SourceInfo

__all__ = [
    "RunRecording",
    "SessionPlace",
    "check_room",
    "marker_text",
    "session_place",
    "write_report",
]

_SIZES = {"double64": 8, "int64": 8, "int16": 2, "int8": 1}
_STAMP = 9  # bytes that a time stamp takes in XDF
_SPARE = 1.2  # breaks, sounds that are played again
_SETTLE_S = 10.0  # longest wait for the disk at the end of a run


@dataclass(frozen=True, slots=True)
class SessionPlace:
    """Where a session is recorded."""

    folder: Path
    participant: str

    def run(self, number: int) -> Path:
        """Return the folder of run `number`, from 1 on; its name says whose and which it is."""
        return self.folder / f"{self.participant}_run-{number:02d}"


def session_place(out: Path) -> SessionPlace:
    """Make the folder in which a session is recorded, beside the bundle that will come of it.

    Parameters
    ----------
    out : Path
        Folder of the bundle: "sub-07" and "ana" are recorded in "sub-07.session" and
        "ana.session", or with a number, because nothing that was recorded is ever overwritten.

    Raises
    ------
    FileError
        If it cannot be made.
    """
    plain = re.sub("[^A-Za-z0-9]", "", out.name.removeprefix("sub-")) or "01"
    for number in range(1, 10_000):
        end = "" if number == 1 else f"-{number}"
        folder = out.with_name(f"{out.name}.session{end}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise FileError(
                f"The folder {folder} cannot be made: {say_why(error)}. Name another place with "
                "--out."
            ) from error
        return SessionPlace(folder, f"sub-{plain}")
    raise FileError(f"{out.parent} holds 9,999 sessions of {out.name}. Name another --out.")


def check_room(folder: Path, info: SourceInfo, seconds: float, *, sound_bytes: float = 0.0) -> None:
    """Refuse to begin a session that will not fit on the disk.

    Raises
    ------
    FileError
        If the brain stream and the sound of `seconds` take more than is left.
    """
    rate = info.sfreq_hz
    if rate <= 0 and info.bold is not None:
        rate = 1.0 / info.bold.tr_s
    needed = _SPARE * seconds * rate * (_STAMP + info.n_sent * _SIZES.get(info.format, 4))
    needed += sound_bytes
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise FileError(f"The disk of {folder} cannot be used: {say_why(error)}.") from error
    if needed > free:
        raise FileError(
            f"{seconds / 60:.0f} min of stream {info.described} take about {needed / 1e6:.0f} MB, "
            f"but {folder} has {free / 1e6:.0f} MB left. Make room, or name another --out."
        )


def marker_text(programme: Programme, presentation: Presentation, *, run: str) -> str:
    """Return the marker of a sound, as `calibration.readers` understands it."""
    stimulus = programme.stimuli[presentation.sound]
    values: dict[str, Any] = {
        "stimulus": stimulus.id,
        "duration_s": presentation.duration_s,
        "run": run,
        "trial": presentation.trial,
        "gain_db": round(programme.gain_db, 6),
    }
    if stimulus.label:
        values["label"] = stimulus.label
    return json.dumps(values)


class RunRecording:
    """One run: `recording.xdf` with the brain and the markers of all sounds that were heard whole.

    Parameters
    ----------
    place : SessionPlace
    number : int
        Of the run, from 1 on.
    source : LslSource
        Running; everything that comes from now on is recorded.
    outlet : MarkerSender
        Sends each marker as soon as its sound begins. What it sends cannot be taken back, so a
        sound that was cut short afterwards is followed by a marker with `event` "stop".
    programme : Programme
    on_failure : callable
        Told when something cannot be written.

    Raises
    ------
    FileError
        If the files cannot be made.
    """

    def __init__(
        self,
        place: SessionPlace,
        number: int,
        *,
        source: LslSource,
        outlet: MarkerSender,
        programme: Programme,
        on_failure: Callable[[str], None],
    ) -> None:
        self.folder = place.run(number)
        self.name = f"run-{number:02d}"
        self.heard: list[Presentation] = []  # whole
        self.failed = ""
        self._outlet = outlet
        self._programme = programme
        self._reader = source.timeline.reader(self.name, since="now")
        self._source = source
        self._recorder = Recorder(self.folder, on_failure=on_failure)
        self._recorder.add_source(source.info, self._reader, clock_offsets=source.clock_offsets)
        self._markers = self._recorder.add_stream(
            outlet.name, "Markers", 1, channel_format="string"
        )
        self._recorder.event({"kind": "run", "run": self.name, "text": "started"})
        self._recorder.start()

    def onset(self, presentation: Presentation) -> None:
        """Send the marker of a sound that has begun."""
        text = marker_text(self._programme, presentation, run=self.name)
        self._outlet.push(text, presentation.onset)

    def end(self, presentation: Presentation, whole: bool) -> None:
        """Record a sound that was heard to its end; note one that was not."""
        if whole:
            self.heard.append(presentation)
            text = marker_text(self._programme, presentation, run=self.name)
            self._recorder.write_text(self._markers, presentation.onset, text)
            return
        stimulus = self._programme.stimuli[presentation.sound].id
        stopped = presentation.onset + presentation.played_s
        self._outlet.push(json.dumps({"event": "stop", "stimulus": stimulus}), stopped)
        self._recorder.event(
            {
                "kind": "cut",
                "stimulus": stimulus,
                "trial": presentation.trial,
                "onset": presentation.onset,
                "played_s": presentation.played_s,
            },
            stopped,
        )

    def note(self, kind: str, text: str) -> None:
        """Write down what happened."""
        self._recorder.event({"kind": kind, "text": text})

    def close(self) -> None:
        """Take what has come, write all, close the file; waits for the disk, 10 s at most."""
        self._recorder.event({"kind": "run", "run": self.name, "text": "ended"})
        statistics = self._recorder.close(timeout_s=_SETTLE_S)
        self._source.timeline.forget(self._reader)
        if statistics.lost or statistics.failed:
            self.failed = statistics.failed or f"{statistics.lost} samples were lost"


def write_report(folder: Path, values: dict[str, Any]) -> None:
    """Write `session.json`: what was presented, when, and how the streams did.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    text = json.dumps(finite(values), indent=1, allow_nan=False) + "\n"
    target = folder / "session.json"
    try:
        part = target.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    except OSError as error:
        raise FileError(f"{target} cannot be written: {say_why(error)}.") from error
