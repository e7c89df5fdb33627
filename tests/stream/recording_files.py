"""Small recordings of each format, written by the tests themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_brainvision", "write_edf", "write_eeglab"]


def write_edf(
    path: Path,
    counts: NDArray[np.int16],
    onsets: Sequence[float],
    *,
    events: Sequence[tuple[int, float, str]] = (),
    unit: str = "uV",
    reserved: str = "EDF+C",
) -> None:
    """Write one-second records of (n_records, n_channels, n) counts; 1 count is 0.1 `unit`.

    `events`: (record that holds it, onset in seconds, text).
    """
    n_records, n_channels, n = counts.shape
    notes = 60
    fields = [
        [f"EEG C{i}" for i in range(n_channels)] + ["EDF Annotations"],
        [""] * (n_channels + 1),
        [unit] * n_channels + [""],
        ["-3276.8"] * n_channels + ["-1"],
        ["3276.7"] * n_channels + ["1"],
        ["-32768"] * (n_channels + 1),
        ["32767"] * (n_channels + 1),
        [""] * (n_channels + 1),
        [str(n)] * n_channels + [str(notes // 2)],
        [""] * (n_channels + 1),
    ]
    widths = [16, 80, 8, 8, 8, 8, 8, 80, 8, 32]
    head = f"{'0':8}{'X X X X':80}{'Startdate X X X X':80}01.01.0100.00.00"
    head += f"{256 * (n_channels + 2):<8}{reserved:44}{n_records:<8}{1:<8}{n_channels + 1:<4}"
    body = "".join(
        f"{text:{width}}" for row, width in zip(fields, widths, strict=True) for text in row
    )
    with path.open("wb") as file:
        file.write((head + body).encode("latin-1"))
        for number in range(n_records):
            file.write(counts[number].astype("<i2").tobytes())
            note = f"+{onsets[number]:g}\x14\x14\0"
            for record, onset, text in events:
                if record == number:
                    note += f"+{onset:g}\x14{text}\x14\0"
            file.write(note.encode("latin-1").ljust(notes, b"\0"))


def write_brainvision(
    folder: Path,
    counts: NDArray[np.int16],
    *,
    sfreq_hz: float,
    markers: Sequence[str] = (),
    n_points: int | None = None,
) -> Path:
    """Write (n, n_channels) counts of 0.5 microvolts; return the header's path."""
    points = "" if n_points is None else f"DataPoints={n_points}\n"
    channels = "".join(f"Ch{i + 1}=C{i},,0.5,µV\n" for i in range(counts.shape[1]))
    header = folder / "rec.vhdr"
    header.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        "DataFile=rec.eeg\nMarkerFile=rec.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels={counts.shape[1]}\n{points}SamplingInterval={1e6 / sfreq_hz:g}\n"
        f"[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\n{channels}",
        encoding="utf-8",
    )
    (folder / "rec.eeg").write_bytes(counts.astype("<i2").tobytes())
    lines = "".join(f"Mk{i + 1}={text}\n" for i, text in enumerate(markers))
    (folder / "rec.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile=rec.eeg\n[Marker Infos]\n{lines}",
        encoding="utf-8",
    )
    return header


def write_eeglab(path: Path, microvolts: NDArray[np.float32], *, sfreq_hz: float) -> None:
    """Write (n_channels, n) microvolts with the events `a` at sample 10 and `b` at 400."""
    from scipy.io import savemat

    n_channels, n = microvolts.shape
    events = np.array(
        [("a", 11.0, 1.0), ("b", 401.0, 1.0)],  # EEGLAB counts from 1
        dtype=[("type", "O"), ("latency", "O"), ("duration", "O")],
    )
    places = np.array([(f"C{i}",) for i in range(n_channels)], dtype=[("labels", "O")])
    eeg = {
        "data": microvolts,
        "setname": "x",
        "nbchan": float(n_channels),
        "pnts": float(n),
        "trials": 1.0,
        "srate": sfreq_hz,
        "xmin": 0.0,
        "xmax": (n - 1) / sfreq_hz,
        "chanlocs": places,
        "event": events,
        "icawinv": [],
        "icasphere": [],
        "icaweights": [],
        "comments": "",
        "ref": "common",
    }
    savemat(path, {"EEG": eeg}, appendmat=False)
