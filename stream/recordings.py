"""Recordings on disk as signals and markers in memory, and as the messages of a live stream.

`read_recording` takes a path of any kind that hearback knows and gives a `Recording`;
`recording_events` turns one of its signals into the very `Chunk` and `Gap` messages, with the very
sample indices, that arrive when the recording is replayed over LSL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError, SettingError
from stream.messages import Chunk, Gap, GapReason
from stream.source_info import BoldInfo

if TYPE_CHECKING:
    from stream.faults import FaultPlan

__all__ = [
    "RecordedMarkers",
    "RecordedSignal",
    "Recording",
    "Segment",
    "read_recording",
    "recording_events",
]

_FORMATS = ".xdf, .vhdr, .edf, .bdf, .set, .fif, .nii, .nii.gz, .csv, or a BIDS folder"


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a recording without a gap in it: rows `start` to `stop`."""

    start: int  # row
    stop: int  # row, one past the last
    first: int  # index of row `start` in the stream's own count; lost samples are counted too


@dataclass(frozen=True, slots=True, eq=False)
class RecordedSignal:
    """One regular (or stamped) signal of a recording, in SI units.

    EEG is float32 in volts: 24 bits of mantissa hold a 24-bit amplifier's whole range, and a value
    of 100 microvolts on a DC offset of 0.2 V is still kept to 0.01 microvolts.
    """

    name: str
    type: str  # "EEG", "BOLD", or what the recording calls it
    labels: tuple[str, ...]
    unit: str  # of `samples`: "V" for EEG, "a.u." for BOLD, else as recorded
    scale: float  # recorded value * scale = sample, where the unit is "V"
    sfreq_hz: float  # nominal; 0: irregular, only the stamps tell
    samples: NDArray[np.float32]  # (n, n_channels), read-only
    stamps: NDArray[np.float64]  # (n,) s, on the clock of the recording, increasing, read-only
    segments: tuple[Segment, ...]
    bold: BoldInfo | None = None
    source_id: str = ""
    units: tuple[str, ...] = ()  # one a channel, where they differ; empty: all `unit`
    bads: tuple[str, ...] = ()  # channels that the recording itself calls bad
    counted: bool = False  # the gaps come from a recorded sample count, not from the stamps

    @property
    def n_channels(self) -> int:
        """Channels, or voxels."""
        return int(self.samples.shape[1])

    @property
    def n_sent(self) -> int:
        """Samples that the source made: those here and those lost in gaps."""
        last = self.segments[-1]
        return last.first + last.stop - last.start - self.segments[0].first

    @property
    def period_s(self) -> float:
        """Seconds from one sample to the next (the median, where the signal is irregular)."""
        if self.sfreq_hz > 0:
            return 1.0 / self.sfreq_hz
        return float(np.median(np.diff(self.stamps))) if len(self.stamps) > 1 else 0.0

    @property
    def ready_after_s(self) -> float:
        """Seconds from a sample's stamp to when it can be had: a volume takes a TR to acquire."""
        return self.bold.tr_s if self.bold is not None else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class RecordedMarkers:
    """One series of markers, on the same clock as the signals."""

    name: str
    stamps: NDArray[np.float64]  # (n,) s, never decreasing
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """All that was read from one file or folder; every time is on one clock."""

    path: Path
    format: str
    signals: tuple[RecordedSignal, ...]
    markers: tuple[RecordedMarkers, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def start(self) -> float:
        """Stamp of the first sample or marker, in seconds."""
        firsts = [float(item.stamps[0]) for item in self.signals if len(item.stamps)]
        return min(firsts + [float(item.stamps[0]) for item in self.markers if len(item.stamps)])

    def choose(
        self, *, name: str | None = None, kind: str | None = None, index: int | None = None
    ) -> RecordedSignal:
        """Return the one signal that fits; without a wish the EEG or BOLD one, else the only one.

        Raises
        ------
        SettingError
            If none fits, or more than one does.
        """
        fitting = _choose(self.signals, name=name, kind=kind, index=index)
        if len(fitting) > 1 and name is None and kind is None and index is None:
            fitting = [s for s in fitting if s.type.upper() in ("EEG", "BOLD")] or fitting
        if len(fitting) > 1:
            raise SettingError(
                f"One signal is expected, {len(fitting)} of {self.path.name} fit: "
                f"{_listed(self.signals)}. Choose by --type, or by --index."
            )
        return fitting[0]


def _listed(signals: Sequence[RecordedSignal]) -> str:
    return ", ".join(
        f"{i}: {s.name!r} ({s.type}, {s.n_channels} channels)" for i, s in enumerate(signals)
    )


def _choose(
    signals: Sequence[RecordedSignal],
    *,
    name: str | None = None,
    kind: str | None = None,
    index: int | None = None,
) -> list[RecordedSignal]:
    """Return the signals that fit; streams often share one name, so type and index help."""
    fitting = [
        s
        for i, s in enumerate(signals)
        if (name is None or s.name == name)
        and (kind is None or s.type.lower() == kind.lower())
        and (index is None or i == index)
    ]
    if not fitting:
        wish = ", ".join(
            f"{key} {value!r}"
            for key, value in (("name", name), ("type", kind), ("index", index))
            if value is not None
        )
        raise SettingError(
            f"No signal with {wish} in the recording; it has {_listed(signals)}. Correct it."
        )
    return fitting


def read_recording(
    path: str | Path,
    *,
    name: str | None = None,
    kind: str | None = None,
    index: int | None = None,
    channels: Sequence[str] | None = None,
    unit: str | None = None,
    mask: str | Path | None = None,
    tr_s: float | None = None,
    events: str | Path | None = None,
    subject: str | None = None,
    session: str | None = None,
    task: str | None = None,
    run: str | None = None,
) -> Recording:
    """Read a recording of any known format.

    Parameters
    ----------
    path : path
        XDF, BrainVision (.vhdr), EDF, BDF, EEGLAB (.set), FIF, NIfTI (4-D), CSV, or a BIDS file or
        folder.
    name, kind, index : optional
        Which signal, where the recording holds several; all without a wish. `index` counts the
        signals that hold samples, from 0.
    channels : sequence of str, optional
        Channels to keep, in this order: labels, or numbers counted from 0.
    unit : str, optional
        Unit of the recorded values, where the file says none or a wrong one ("microvolts", "V").
    mask : path, optional
        BOLD: NIfTI whose non-zero voxels are kept. Without one: voxels whose mean over time is
        above a quarter of the 98th percentile of all means.
    tr_s : float, optional
        BOLD: repetition time, against what the file says.
    events : path, optional
        Table (`*_events.tsv`) of markers beside the signal, when it is not found by itself.
    subject, session, task, run : str, optional
        BIDS: which recording of a folder.

    Raises
    ------
    FileError
        If the file is missing, not fetched, empty, damaged or not a recording.
    SettingError
        If the choice fits nothing, or more than one recording of a folder.
    """
    from stream.readers.bids import is_bids_name
    from stream.readers.checks import check_fetched

    path = Path(path)
    check_fetched(path)
    lower = path.name.lower()
    if path.is_dir():
        from stream.readers.bids import read_bids

        recording = read_bids(
            path,
            subject=subject,
            session=session,
            task=task,
            run=run,
            unit=unit,
            mask=mask,
            tr_s=tr_s,
            events=events,
        )
    elif is_bids_name(path):
        from stream.readers.bids import read_bids_file

        recording = read_bids_file(path, unit=unit, mask=mask, tr_s=tr_s, events=events)
    elif lower.endswith((".xdf", ".xdfz", ".xdf.gz")):
        from stream.readers.xdf_file import read_xdf

        recording = read_xdf(path, unit=unit)
    elif lower.endswith((".nii", ".nii.gz")):
        from stream.readers.nifti import read_nifti

        recording = read_nifti(path, mask=mask, tr_s=tr_s, events=events)
    elif lower.endswith((".vhdr", ".edf", ".bdf", ".set", ".fif", ".fif.gz", ".eeg", ".vmrk")):
        from stream.readers.eeg_file import read_eeg_file

        recording = read_eeg_file(path, unit=unit, events=events)
    elif lower.endswith((".csv", ".csv.gz")):
        from stream.readers.csv_table import read_csv

        recording = read_csv(path, unit=unit)
    else:
        raise FileError(
            f"{path.name} is of no kind that can be replayed; expected {_FORMATS}. "
            f"Convert it, or give another file."
        )
    signals = _choose(recording.signals, name=name, kind=kind, index=index)
    if channels is not None:
        signals = [_keep_channels(signal, channels) for signal in signals]
    return Recording(
        recording.path, recording.format, tuple(signals), recording.markers, recording.warnings
    )


def _keep_channels(signal: RecordedSignal, channels: Sequence[str]) -> RecordedSignal:
    rows: list[int] = []
    for wish in channels:
        if wish in signal.labels:
            rows.append(signal.labels.index(wish))
        elif wish.isdecimal() and int(wish) < signal.n_channels:
            rows.append(int(wish))
        else:
            raise SettingError(
                f"Stream {signal.name!r} has no channel {wish!r}; it has "
                f"{', '.join(signal.labels[:40])}. Correct --channels."
            )
    samples = np.ascontiguousarray(signal.samples[:, rows])
    samples.flags.writeable = False
    labels = tuple(signal.labels[row] for row in rows)
    units = tuple(signal.units[row] for row in rows) if signal.units else ()
    return replace(signal, samples=samples, labels=labels, units=units)


def recording_events(
    signal: RecordedSignal, chunk: int, *, faults: FaultPlan | None = None
) -> Iterator[Chunk | Gap]:
    """Yield a signal as the messages that its replay over LSL leads to, as fast as they are taken.

    Chunks are views, not copies. As on the live path, samples that are not finite are kept as they
    are, and a gap that says so goes before the chunk with them.

    Parameters
    ----------
    signal : RecordedSignal
    chunk : int
        Samples a chunk, at least 1; the last before a gap may be shorter.
    faults : FaultPlan, optional
        `drop` and `duplicate` are applied; the others are about time, which is not run here.

    Yields
    ------
    Chunk or Gap
        Stamps are those of the recording; `arrived` is when the sample could have been had.

    Raises
    ------
    SettingError
        If `chunk` is below 1, or a fault lies behind the end of the signal.
    """
    if chunk < 1:
        raise SettingError(f"A chunk holds at least 1 sample, got chunk={chunk}.")
    from stream.faults import signal_runs

    stamps, samples = signal.stamps, signal.samples
    ready, period = signal.ready_after_s, signal.period_s
    bad = _bad_rows(samples)
    number = 0
    expected: int | None = None  # index of the next sample, if none is missing
    last = float("nan")
    for run in signal_runs(signal, faults):
        begin, end = float(stamps[run.start]), float(stamps[run.stop - 1])
        if run.kind == "again":
            n = run.stop - run.start
            yield Gap(
                GapReason.DUPLICATE, run.first, 0, begin, end + period, end + ready, n_extra=n
            )
            continue
        if expected is not None and run.first > expected:
            number += 1
            yield Gap(
                GapReason.DROPPED,
                first=expected,
                n_lost=run.first - expected,
                t_start=last + period,
                t_stop=begin,
                raised=begin + ready,
            )
        for start in range(run.start, run.stop, chunk):
            stop = min(start + chunk, run.stop)
            piece = stamps[start:stop]
            first = run.first + start - run.start
            arrived = float(piece[-1]) + ready
            if bad is not None and bad[start:stop].any():
                yield _invalid(piece, bad[start:stop], first=first, period=period, raised=arrived)
            yield Chunk(samples[start:stop], piece, piece, first, number, arrived)
        expected = run.first + run.stop - run.start
        last = end


def _bad_rows(samples: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Mark rows that are not all finite; None if there is none, which is the rule."""
    with np.errstate(invalid="ignore", over="ignore"):
        # One sum a row finds NaN and infinities without a mask as large as the recording.
        suspects = np.flatnonzero(~np.isfinite(samples.sum(axis=1)))
    bad = np.zeros(len(samples), dtype=np.bool_)
    bad[suspects] = ~np.isfinite(samples[suspects]).all(axis=1)
    return bad if bad.any() else None


def _invalid(
    stamps: NDArray[np.float64],
    bad: NDArray[np.bool_],
    *,
    first: int,
    period: float,
    raised: float,
) -> Gap:
    rows = np.flatnonzero(bad)
    begin, end = float(stamps[rows[0]]), float(stamps[rows[-1]]) + period
    n = len(rows)
    return Gap(GapReason.INVALID, first + int(rows[0]), 0, begin, end, raised, n_extra=n)
