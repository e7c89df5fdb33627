"""Events tables and sidecars as BIDS writes them: tab-separated values and JSON."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import FileError
from stream.readers.checks import check_fetched
from stream.recordings import RecordedMarkers

__all__ = ["events_markers", "read_events", "read_json", "read_table"]

# Columns that say what an event was, best first; the BIDS ones, then those seen in data sets.
_TEXT_COLUMNS = (
    "trial_type",
    "genre",
    "stim_file",
    "value",
    "event_type",
    "stim_type",
    "condition",
)


def read_table(path: Path) -> list[dict[str, str]]:
    """Read tab-separated values as one dictionary a row.

    Raises
    ------
    FileError
        If the table is missing or empty, or a row has another number of fields than the header.
    """
    check_fetched(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}.") from error
    lines = [row for row in csv.reader(text.splitlines(), delimiter="\t", quotechar='"') if row]
    if not lines:
        raise FileError(f"{path} holds no table.")
    header = [name.strip() for name in lines[0]]
    rows = []
    for number, fields in enumerate(lines[1:], start=2):
        if len(fields) < len(header):
            # Trailing empty fields are often left out.
            fields = fields + ["n/a"] * (len(header) - len(fields))
        if len(fields) > len(header):
            raise FileError(
                f"{path.name}, row {number}: expected {len(header)} fields between tabs, came "
                f"{len(fields)}. Correct the table."
            )
        rows.append({key: value.strip() for key, value in zip(header, fields, strict=True)})
    return rows


def read_json(path: Path) -> dict[str, Any]:
    """Read a sidecar.

    Raises
    ------
    FileError
        If it is not a JSON object.
    """
    check_fetched(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path} is not valid JSON: {error}. Correct the sidecar.") from error
    if not isinstance(values, dict):
        raise FileError(f"{path} holds a {type(values).__name__}; a JSON object is expected.")
    return values


def read_events(path: Path) -> list[tuple[float, str]]:
    """Read (onset in seconds, text) of each event; events without an onset are left out.

    Raises
    ------
    FileError
        If the table has no `onset` column, or an onset that is not a number.
    """
    rows = read_table(path)
    if rows and "onset" not in rows[0]:
        raise FileError(
            f"{path.name} has no column 'onset'; it has {', '.join(rows[0])}. "
            f"Events are expected as onset (s), duration, trial_type."
        )
    events = []
    for number, row in enumerate(rows, start=2):
        onset = row["onset"]
        if onset.lower() in ("n/a", ""):
            continue
        try:
            value = float(onset)
        except ValueError as error:
            raise FileError(f"{path.name}, row {number}: onset {onset!r} is no number.") from error
        if not math.isfinite(value):
            raise FileError(f"{path.name}, row {number}: onset {onset!r} is no number.")
        events.append((value, _text(row)))
    return sorted(events, key=lambda event: event[0])


def _text(row: dict[str, str]) -> str:
    for column in _TEXT_COLUMNS:
        value = row.get(column, "").strip("'\"")
        if value and value.lower() != "n/a":
            return value
    for column, value in row.items():
        if column not in ("onset", "duration", "sample") and value and value.lower() != "n/a":
            return value.strip("'\"")
    return "event"


def events_markers(path: Path, *, name: str, origin: float = 0.0) -> RecordedMarkers:
    """Return the events of a table as markers; `origin` is the stamp of onset 0, in seconds."""
    events = read_events(path)
    stamps = np.array([onset + origin for onset, _ in events], dtype=np.float64)
    return RecordedMarkers(name, stamps, tuple(text for _, text in events))
