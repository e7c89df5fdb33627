"""What was presented when: from events tables as BIDS writes them, and from markers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration.data.dataset import Event, Stimulus
from calibration.readers.options import ReadOptions
from calibration.readers.stimuli import SOUND_ENDINGS, StimulusFiles
from models.errors import FileError, SettingError
from stream.readers.tables import read_table
from stream.recordings import RecordedMarkers

__all__ = ["Presented", "choose_markers", "marker_events", "table_events", "timed"]

# Columns that say what an event was, best first.
_LABELS = ("trial_type", "genre", "category", "condition", "event_type", "stim_type", "value")
_IDS = ("stimulus", "stimulus_id", "stim_id", "stim")
_EXCERPTS = (("stim_start", "stim_end"), ("start", "end"))
_NOT_TEXT = ("onset", "duration", "sample", "response_time", "dummy", "split", "part", "caption")
_OURS = "hearback events"  # gaps and changes of state, in a recording of our own
_PAIRS = re.compile(r"^(?P<stem>.+?)[-_ ](?P<edge>begin|start|end|stop)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Presented:
    """One event whose end may not be known yet."""

    onset_s: float
    duration_s: float  # NaN: nobody said
    stimulus: Stimulus


def _known(text: str | None) -> str:
    """Return a field of a table without quotes; empty where it says "not available"."""
    plain = (text or "").strip().strip("'\"").strip()
    return "" if plain.lower() in ("n/a", "nan") else plain


def _seconds(row: dict[str, str], column: str, *, where: str) -> float:
    text = _known(row.get(column))
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError as error:
        raise FileError(f"{where}: {column} {text!r} is no number. Correct the table.") from error
    if not math.isfinite(value) or (column == "duration" and value < 0):
        raise FileError(f"{where}: {column} is {text}. Correct the table.")
    return value


def table_events(
    path: Path, options: ReadOptions, files: StimulusFiles, *, stop_s: float
) -> tuple[list[Event], dict[str, Stimulus]]:
    """Read an events table of one run.

    The stimulus of an event is its `stim_file` (with `start` and `end`, an excerpt of it), else its
    column `stimulus`, else its class; the class is `trial_type`, or another column that says one.
    Rows whose column `dummy` is 1, or whose class is "dummy", are left out.

    Parameters
    ----------
    path : Path
        Table with `onset` and `duration`, s.
    options : ReadOptions
        `label_column`, `stimulus_column`, `ignore_labels`, `marker_labels`, `event_duration_s`.
    files : StimulusFiles
        Where sounds are looked up.
    stop_s : float
        End of the run, s, on the clock of the table.

    Raises
    ------
    FileError
        If the table lacks a column, or holds what is no number.
    """
    rows = read_table(path)
    if not rows:
        return [], {}
    columns = list(rows[0])
    if "onset" not in columns:
        raise FileError(
            f"{path.name} has no column 'onset'; it has {', '.join(columns)}. Events are expected "
            f"as onset (s), duration (s), trial_type."
        )
    for wish in (options.label_column, options.stimulus_column):
        if wish is not None and wish not in columns:
            raise SettingError(
                f"{path.name} has no column {wish!r}; it has {', '.join(columns)}. Name one of "
                f"them."
            )
    presented = []
    for number, row in enumerate(rows, start=2):
        where = f"{path.name}, row {number}"
        onset = _seconds(row, "onset", where=where)
        label = _label(row, options)
        if math.isnan(onset) or label in options.ignore_labels or _is_dummy(row, label):
            continue
        if options.marker_labels:
            if label not in options.marker_labels:
                continue
            label = options.marker_labels[label]
        stimulus = _stimulus(row, label, options, files, where=where)
        presented.append(Presented(onset, _seconds(row, "duration", where=where), stimulus))
    return timed(presented, options, stop_s=stop_s)


def _is_dummy(row: dict[str, str], label: str) -> bool:
    """Tell a clip that was played only so that the next one would not be the first."""
    return label == "dummy" or _known(row.get("dummy")).lower() in ("1", "true", "yes")


def _label(row: dict[str, str], options: ReadOptions) -> str:
    if options.label_column is not None:
        return _known(row[options.label_column])
    for column in _LABELS:
        if text := _known(row.get(column)):
            return text
    for column, text in row.items():
        if column not in (*_NOT_TEXT, *_IDS, "stim_file") and _known(text):
            return _known(text)
    return ""


def _stimulus(
    row: dict[str, str], label: str, options: ReadOptions, files: StimulusFiles, *, where: str
) -> Stimulus:
    caption = _known(row.get("caption"))
    file = _known(row.get("stim_file"))
    if options.stimulus_column is not None:
        name = _known(row[options.stimulus_column])
    else:
        name = next((text for column in _IDS if (text := _known(row.get(column)))), "")
    start = stop = math.nan
    if file:
        for first, last in _EXCERPTS:
            if math.isnan(start):
                start = _seconds(row, first, where=where)
                stop = _seconds(row, last, where=where)
    if not name and file:
        name = _sound_name(file)
        if not math.isnan(start):
            name = f"{name}@{start:g}-{stop:g}"
    stimulus = files.stimulus(name or label or "event", label=label, file=file or None)
    if not math.isnan(start):
        if not 0 <= start < stop:
            raise FileError(f"{where}: an excerpt from {start:g} to {stop:g} s. Correct the table.")
        stimulus = replace(stimulus, start_s=start, duration_s=stop - start)
    if caption and caption not in stimulus.captions:
        stimulus = replace(stimulus, captions=(*stimulus.captions, caption))
    return stimulus


def _sound_name(file: str) -> str:
    """Return the id of a sound file: its path among the stimuli, without the ending."""
    plain = file.replace("\\", "/").removeprefix("./").removeprefix("stimuli/")
    ending = next((e for e in SOUND_ENDINGS if plain.lower().endswith(e)), "")
    return plain[: len(plain) - len(ending)]


def timed(
    presented: Sequence[Presented], options: ReadOptions, *, stop_s: float
) -> tuple[list[Event], dict[str, Stimulus]]:
    """Return events in order; one without a duration lasts as told, or until the next begins.

    The last one of these lasts as long as the longest before it, or until the run ends.
    """
    ordered = sorted(presented, key=lambda item: item.onset_s)
    events: list[Event] = []
    stimuli: dict[str, Stimulus] = {}
    for number, item in enumerate(ordered):
        duration = item.duration_s
        if math.isnan(duration) or duration == 0:
            duration = _until_next(ordered, number, events, options, stop_s)
        if duration > 0:
            stimulus = stimuli.setdefault(item.stimulus.id, item.stimulus)
            events.append(Event(item.onset_s, duration, stimulus.id, item.stimulus.label))
    return events, stimuli


def _until_next(
    ordered: Sequence[Presented],
    number: int,
    events: Sequence[Event],
    options: ReadOptions,
    stop_s: float,
) -> float:
    if options.event_duration_s is not None:
        return options.event_duration_s
    onset = ordered[number].onset_s
    for item in ordered[number + 1 :]:
        if item.onset_s > onset:
            return item.onset_s - onset
    longest = max((event.duration_s for event in events), default=math.inf)
    return min(longest, stop_s - onset)


def choose_markers(
    markers: Sequence[RecordedMarkers], options: ReadOptions, *, what: str
) -> RecordedMarkers | None:
    """Return the series of markers that says what was presented; None if there is none.

    Raises
    ------
    SettingError
        If several could be meant, or the one that was named is not there.
    """
    series = [m for m in markers if m.name != _OURS and len(m.stamps)]
    if options.markers is not None:
        series = [m for m in series if m.name == options.markers]
        if not series and any(m.name != _OURS for m in markers):
            names = ", ".join(repr(m.name) for m in markers if m.name != _OURS)
            raise SettingError(
                f"{what} has no markers named {options.markers!r}; it has {names}. Name one of "
                f"them."
            )
    if len(series) > 1:
        names = ", ".join(f"{m.name!r} ({len(m.stamps)}: {', '.join(m.texts[:3])})" for m in series)
        raise SettingError(
            f"{what} has {len(series)} series of markers: {names}. Say with markers=NAME which one "
            f"tells what was presented."
        )
    return series[0] if series else None


def marker_events(
    markers: RecordedMarkers,
    options: ReadOptions,
    files: StimulusFiles,
    *,
    start_s: float,
    stop_s: float,
) -> tuple[list[Event], dict[str, Stimulus]]:
    """Return the events that markers stand for; onsets count from `start_s`.

    Understood are a JSON object (`stimulus`, `label`, `duration_s`; `event`: "stop" ends the one
    before), "LABEL LABEL-NUMBER" as the demo writes it, pairs "NAME-begin" and "NAME-end", and any
    other text, which is then both the stimulus and its class.

    Parameters
    ----------
    markers : RecordedMarkers
    options : ReadOptions
        `marker_labels` names the codes that count, and what they mean; `ignore_labels` those that
        do not count.
    files : StimulusFiles
    start_s, stop_s : float
        First sample, and end, of the run on the clock of the markers.
    """
    stems = {m["stem"] for text in markers.texts if (m := _edge(text)) and m["edge"] == "begin"}
    presented: list[Presented] = []
    for stamp, text in zip(markers.stamps.tolist(), markers.texts, strict=True):
        onset = stamp - start_s
        meaning = _meaning(text.strip(), stems)
        if meaning.ends:
            _end(presented, meaning.name, onset)
            continue
        name, label = meaning.name, meaning.label
        if options.marker_labels:
            key = next((k for k in (text.strip(), name, label) if k in options.marker_labels), None)
            if key is None:
                continue
            label = options.marker_labels[key]
        if not name or name in options.ignore_labels or label in options.ignore_labels:
            continue
        stimulus = files.stimulus(name, label=label, file=meaning.file)
        label = label if options.marker_labels else stimulus.label or label
        presented.append(Presented(onset, meaning.duration_s, replace(stimulus, label=label)))
    return timed(presented, options, stop_s=stop_s - start_s)


@dataclass(frozen=True, slots=True)
class _Meaning:
    name: str = ""
    label: str = ""
    duration_s: float = math.nan
    file: str | None = None
    ends: bool = False


def _edge(text: str) -> dict[str, str] | None:
    found = _PAIRS.match(text.strip())
    if found is None:
        return None
    begins = found["edge"].lower() in ("begin", "start")
    return {"stem": found["stem"], "edge": "begin" if begins else "end"}


def _meaning(text: str, stems: set[str]) -> _Meaning:
    if text.startswith("{"):
        try:
            values = json.loads(text)
        except ValueError:
            values = None
        if isinstance(values, dict):
            return _from_json(values)
    if (edge := _edge(text)) is not None and edge["stem"] in stems:
        return _Meaning(edge["stem"], edge["stem"], ends=edge["edge"] == "end")
    first, space, rest = text.partition(" ")
    if space and rest.startswith(f"{first}-") and " " not in rest:
        return _Meaning(rest, first)
    return _Meaning(text, text)


def _from_json(values: dict[str, object]) -> _Meaning:
    def text(*keys: str) -> str:
        return next((str(values[k]) for k in keys if isinstance(values.get(k), (str, int))), "")

    kind = text("event", "kind", "what").lower()
    name = text("stimulus", "id", "name", "file", "label")
    if kind in ("stop", "end", "offset"):
        return _Meaning(name, ends=True)
    seconds = next((values[k] for k in ("duration_s", "duration") if k in values), math.nan)
    usable = isinstance(seconds, (int, float)) and math.isfinite(seconds) and seconds > 0
    duration = float(np.float64(seconds)) if usable else math.nan  # type: ignore[arg-type]
    return _Meaning(
        name, text("label", "class", "trial_type") or name, duration, text("file") or None
    )


def _end(presented: list[Presented], name: str, stop: float) -> None:
    """End the last event of this name (or, without a name, the last one) that is still open."""
    for number in range(len(presented) - 1, -1, -1):
        item = presented[number]
        if not name or item.stimulus.id == name:
            if math.isnan(item.duration_s):
                presented[number] = replace(item, duration_s=max(stop - item.onset_s, 0.0))
            return
