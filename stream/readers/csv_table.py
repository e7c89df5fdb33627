"""Tables of samples: `timestamps,channel,channel,...,Marker0`, one row a sample.

The first line names the columns. `timestamps` are seconds; columns whose name begins with `Marker`
(or `trigger`, `stim`) hold 0, or a code at the sample nearest the marker; all others are channels
in microvolts, unless --unit says otherwise. The stamps may jitter, as those of a headband do.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError
from stream.readers.build import build_signal, scale_channels
from stream.readers.checks import as_file_error
from stream.readers.timing import regular_clock
from stream.recordings import RecordedMarkers, Recording

__all__ = ["read_csv"]

_MARKER_COLUMNS = ("marker", "trigger", "stim")
_TIME_COLUMNS = ("timestamps", "timestamp", "time", "time_s", "t")


def read_csv(path: Path, *, unit: str | None = None) -> Recording:
    """Read a table of samples as one EEG signal and its markers.

    Raises
    ------
    FileError
        If the table has no time column or no channel, or a row that is not numbers.
    """
    with as_file_error(path, "a CSV table"):
        with _open(path) as file:
            header = file.readline().lstrip("\ufeff").strip()
            names = [name.strip().strip('"') for name in header.split(",")]
            if names[0].lower() not in _TIME_COLUMNS:
                raise FileError(
                    f"{path.name} begins with the column {names[0][:40]!r}; expected 'timestamps', "
                    f"then one column a channel, then 'Marker0' if there are markers."
                )
            table = _numbers(file, path, len(names))
    marker_columns = [
        i for i, name in enumerate(names) if i and name.lower().startswith(_MARKER_COLUMNS)
    ]
    columns = [i for i in range(1, len(names)) if i not in marker_columns]
    if not columns:
        raise FileError(f"{path.name} has no channel column; it has {', '.join(names)}.")
    what = f"Table {path.name}"
    regular = regular_clock(np.ascontiguousarray(table[:, 0]), 0.0, what=what)
    scaled = scale_channels(
        table[:, columns], [""] * len(columns), is_eeg=True, unit=unit or "microvolts", what=what
    )
    signal = build_signal(
        name=path.name.removesuffix(".gz").removesuffix(".csv"),
        kind="EEG",
        labels=[names[i] for i in columns],
        scaled=scaled,
        sfreq_hz=_nominal(1.0 / regular.period_s),
        stamps=regular.stamps,
        segments=regular.segments,
        what=what,
    )
    markers = []
    for column in marker_columns:
        rows = np.flatnonzero(np.nan_to_num(table[:, column]) != 0)
        name = signal.name + ("-markers" if len(marker_columns) == 1 else f"-{names[column]}")
        texts = tuple(f"{value:g}" for value in table[rows, column])
        markers.append(RecordedMarkers(name, signal.stamps[rows], texts))
    warnings = (*regular.warnings, *scaled.warnings)
    return Recording(path, "CSV", (signal,), tuple(m for m in markers if len(m.stamps)), warnings)


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _numbers(file: IO[str], path: Path, n_columns: int) -> NDArray[np.float64]:
    lines = [line for line in file if line.strip()]
    if not lines:
        raise FileError(f"{path.name} has a header and no samples.")
    try:
        # An empty field is a missing value.
        table = np.loadtxt(
            lines, delimiter=",", ndmin=2, converters=lambda text: float(text or "nan")
        )
    except ValueError as error:
        number, text = _bad_line(lines, n_columns)
        raise FileError(
            f"{path.name}, line {number}: expected {n_columns} numbers between commas, came "
            f"{text[:60]!r}. The table is damaged or cut short; compare it with the original."
        ) from error
    if table.shape[1] != n_columns:
        raise FileError(
            f"{path.name}: the header names {n_columns} columns, the rows have {table.shape[1]}."
        )
    return table


def _bad_line(lines: list[str], n_columns: int) -> tuple[int, str]:
    for number, line in enumerate(lines, start=2):
        fields = line.strip().split(",")
        try:
            _ = [float(field or "nan") for field in fields]
        except ValueError:
            return number, line.strip()
        if len(fields) != n_columns:
            return number, line.strip()
    return len(lines) + 1, lines[-1].strip()


def _nominal(sfreq_hz: float) -> float:
    """Return the whole rate that a measured one is within 0.2 % of, else the measured one."""
    whole = round(sfreq_hz)
    if whole and abs(sfreq_hz / whole - 1.0) < 0.002:
        return float(whole)
    return sfreq_hz
