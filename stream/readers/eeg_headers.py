"""What EDF, BDF and BrainVision headers promise, checked against what the files hold.

MNE reads on where a file is shorter than its header says, and runs gaps together; a replay must
know both before.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError
from stream.readers.checks import as_file_error, check_fetched

__all__ = ["BrainVisionHeader", "EdfHeader", "read_brainvision_header", "read_edf_header"]

_BYTES = {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}


@dataclass(frozen=True, slots=True, eq=False)
class EdfHeader:
    """The fields of an EDF or BDF header that decide where each sample lies."""

    path: Path
    n_bytes: int  # of the header
    n_records: int
    record_s: float
    labels: tuple[str, ...]
    samples: tuple[int, ...]  # a record, one a signal
    width: int  # bytes a sample
    is_discontinuous: bool

    def other_rates(self) -> list[str]:
        """Return the signals that are not sampled at the rate of most of them."""
        signals = [i for i, label in enumerate(self.labels) if "Annotations" not in label]
        counts = [self.samples[i] for i in signals]
        if not counts:
            return []
        usual = max(set(counts), key=counts.count)
        return [self.labels[i] for i in signals if self.samples[i] != usual]

    def onsets(self) -> NDArray[np.float64] | None:
        """Return the start of each record in seconds, as its first annotation says; None without.

        Raises
        ------
        FileError
            If a record does not say when it starts.
        """
        signal = next((i for i, label in enumerate(self.labels) if "Annotations" in label), None)
        if signal is None:
            return None
        offset = self.width * sum(self.samples[:signal])
        length = self.width * self.samples[signal]
        record = self.width * sum(self.samples)
        onsets = np.empty(self.n_records)
        with self.path.open("rb") as file:
            for number in range(self.n_records):
                file.seek(self.n_bytes + number * record + offset)
                found = re.match(rb"([+-]\d+(?:\.\d*)?)(?:\x15[\d.]*)?\x14", file.read(length))
                if found is None:
                    raise FileError(
                        f"{self.path.name}: record {number} does not say when it starts. "
                        f"The file is damaged; compare it with the original."
                    )
                onsets[number] = float(found.group(1))
        return onsets


def read_edf_header(path: Path) -> EdfHeader:
    """Read an EDF or BDF header and hold it against the size of the file.

    Raises
    ------
    FileError
        If the header is no such header, or the file is shorter or longer than it says.
    """
    kind = "BDF" if path.suffix.lower() == ".bdf" else "EDF"
    with as_file_error(path, kind), path.open("rb") as file:
        head = file.read(256)
        magic = b"\xffBIOSEMI" if kind == "BDF" else b"0       "
        if len(head) < 256 or not head.startswith(magic):
            raise FileError(
                f"{path.name} does not begin as {kind} files do ({head[:8]!r} came, {magic!r} is "
                f"expected). Check what kind of file it is."
            )
        n_bytes, n_records = int(head[184:192]), int(head[236:244])
        record_s, n_signals = float(head[244:252]), int(head[252:256])
        if n_signals < 1 or n_bytes != 256 * (n_signals + 1):
            raise FileError(
                f"{path.name}: {n_signals} signals need a header of {256 * (n_signals + 1)} bytes, "
                f"it says {n_bytes}. The file is damaged; compare it with the original."
            )
        rest = file.read(n_bytes - 256)
        if len(rest) < n_bytes - 256:
            raise FileError(f"{path.name} is cut short within its header. Get the whole file.")
        labels = tuple(
            rest[16 * i : 16 * i + 16].decode("latin-1").strip() for i in range(n_signals)
        )
        counts = rest[216 * n_signals : 224 * n_signals]
        samples = tuple(int(counts[8 * i : 8 * i + 8]) for i in range(n_signals))
    width = 3 if kind == "BDF" else 2
    record = width * sum(samples)
    if min(samples) < 1 or not 0 <= record_s < 1e6:
        raise FileError(f"{path.name}: its header holds impossible numbers. The file is damaged.")
    if record_s == 0 and any("Annotations" not in label for label in labels):
        raise FileError(
            f"{path.name}: its records last 0 s, so its sampling rate is unknown. "
            f"Correct the header."
        )
    held = path.stat().st_size - n_bytes
    if n_records == -1:  # allowed while recording
        n_records = held // record
    if held != n_records * record:
        raise FileError(
            f"{path.name}: the header says {n_records} records, so {n_bytes + n_records * record:,}"
            f" bytes; the file has {n_bytes + held:,}. It was cut short, or changed on the way; "
            f"get the whole file."
        )
    if n_records < 1:
        raise FileError(f"{path.name} holds a header and no samples.")
    return EdfHeader(
        path, n_bytes, n_records, record_s, labels, samples, width, head[192:197] in _DISCONTINUOUS
    )


_DISCONTINUOUS = (b"EDF+D", b"BDF+D")


@dataclass(frozen=True, slots=True, eq=False)
class BrainVisionHeader:
    """Where recording was paused: (row, seconds that are missing before it)."""

    pauses: tuple[tuple[int, float], ...]
    warnings: tuple[str, ...]


def read_brainvision_header(path: Path) -> BrainVisionHeader:
    """Read a .vhdr with its .vmrk, and hold them against the size of the data file.

    Raises
    ------
    FileError
        If one of the three files is missing, empty or cut short.
    """
    values = _ini(path)
    data, n_channels = values.get("datafile"), int(values.get("numberofchannels", "0") or 0)
    interval_us = float(values.get("samplinginterval", "0") or 0)
    if data is None or n_channels < 1 or not interval_us > 0:
        raise FileError(
            f"{path.name} is no whole BrainVision header: DataFile, NumberOfChannels or "
            f"SamplingInterval is missing. Compare it with the original."
        )
    file = path.with_name(data.replace("$b", path.stem))
    check_fetched(file)
    frame = _BYTES.get(values.get("binaryformat", "").upper(), 0) * n_channels
    n = 0
    if frame:
        n, over = divmod(file.stat().st_size, frame)
        said = int(values.get("datapoints", "0") or 0)
        if over or n == 0 or (said and said != n):
            expected = (
                f"{said} samples of {frame} bytes" if said else f"whole samples of {frame} bytes"
            )
            raise FileError(
                f"{file.name}: expected {expected}, the file has {file.stat().st_size:,} bytes. "
                f"It was cut short; get the whole file."
            )
    table = values.get("markerfile")
    if table is None:
        return BrainVisionHeader((), ())
    markers = path.with_name(table.replace("$b", path.stem))
    if not markers.exists() and not markers.is_symlink():
        return BrainVisionHeader((), (f"{markers.name} is missing: no markers.",))
    check_fetched(markers)
    return _pauses(markers, n, 1e-6 * interval_us)


def _ini(path: Path) -> dict[str, str]:
    with as_file_error(path, "a BrainVision header"):
        lines = path.read_bytes().decode("utf-8", errors="replace").splitlines()
        if not lines or "brain" not in lines[0].lower():
            raise FileError(
                f"{path.name} does not begin as BrainVision headers do ('Brain Vision Data "
                f"Exchange Header File'). Check what kind of file it is."
            )
        values: dict[str, str] = {}
        for line in lines:
            if line.strip().lower() == "[comment]":
                break
            key, equals, value = line.partition("=")
            if equals and not line.startswith(";"):
                values.setdefault(key.strip().lower(), value.strip())
    return values


def _pauses(path: Path, n: int, period_s: float) -> BrainVisionHeader:
    warnings: list[str] = []
    segments: list[tuple[int, datetime | None]] = []
    last = 0
    for line in path.read_bytes().decode("utf-8", errors="replace").splitlines():
        found = re.match(r"Mk\d+=(.*)", line)
        if found is None:
            continue
        fields = found.group(1).split(",")
        if len(fields) < 3 or not fields[2].strip().isdecimal():
            raise FileError(f"{path.name} holds the damaged marker {line[:60]!r}. Correct it.")
        last = max(last, int(fields[2]))
        if fields[0] == "New Segment":
            date = fields[5].strip() if len(fields) > 5 else ""
            segments.append((int(fields[2]) - 1, _date(date)))
    if n and last > n:
        raise FileError(
            f"{path.name} has a marker at sample {last}, the data end at {n}. "
            f"The data were cut short; get the whole file."
        )
    pauses: list[tuple[int, float]] = []
    for (row, at), (next_row, next_at) in itertools.pairwise(segments):
        lost = 0.0
        if at is not None and next_at is not None:
            lost = (next_at - at).total_seconds() - (next_row - row) * period_s
        if lost < 0.5 * period_s:
            warnings.append(
                f"{path.name}: recording was paused at sample {next_row}, for how long it does not "
                f"say; the replay runs on."
            )
        elif next_row > row:
            pauses.append((next_row, lost))
    return BrainVisionHeader(tuple(pauses), tuple(warnings))


def _date(text: str) -> datetime | None:
    try:
        return datetime.strptime(text[:20], "%Y%m%d%H%M%S%f")
    except ValueError:
        return None
