"""BrainVision, EDF, BDF, EEGLAB and FIF recordings, read through MNE."""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError
from stream.readers.build import Scaled, build_signal, scale_channels
from stream.readers.checks import as_file_error, check_fetched
from stream.readers.eeg_headers import read_brainvision_header, read_edf_header
from stream.readers.tables import read_events
from stream.recordings import RecordedMarkers, Recording, Segment

__all__ = ["ChannelTable", "read_eeg_file"]

_FORMATS = {
    ".vhdr": "BrainVision",
    ".edf": "EDF",
    ".bdf": "BDF",
    ".set": "EEGLAB",
    ".fif": "FIF",
}
_SIGNAL_KINDS = ("eeg", "seeg", "ecog", "dbs")  # in this order: the first kind that is there
_BLOCK = 65_536
# What MNE says when a file holds less than it should; never to be read on from.
_CUT_SHORT = ("truncat", "corrupt", "less data", "incomplete", "not match the file size")


@dataclass(frozen=True, slots=True)
class ChannelTable:
    """What a BIDS channels.tsv says, by channel name."""

    kinds: Mapping[str, str]  # "EEG", "TRIG", "VEOG", ...
    bads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Clock:
    """Where each row lies in time: rows run evenly but for pauses."""

    sfreq_hz: float
    n: int
    pauses: tuple[tuple[int, float], ...]  # (row, seconds missing before it), rows rising

    def stamps(self) -> NDArray[np.float64]:
        stamps = np.arange(self.n) / self.sfreq_hz
        for row, seconds in self.pauses:
            stamps[row:] += round(seconds * self.sfreq_hz) / self.sfreq_hz
        return stamps

    def segments(self) -> tuple[Segment, ...]:
        segments, start, first = [], 0, 0
        for row, seconds in (*self.pauses, (self.n, 0.0)):
            if row > start:
                segments.append(Segment(start, row, first))
            first += row - start + round(seconds * self.sfreq_hz)
            start = row
        return tuple(segments)

    def moved(self, onsets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return times for onsets that were counted in rows."""
        moved = onsets.copy()
        for row, seconds in self.pauses:
            late = onsets * self.sfreq_hz >= row - 1e-6
            moved[late] += round(seconds * self.sfreq_hz) / self.sfreq_hz
        return moved


def read_eeg_file(
    path: Path,
    *,
    unit: str | None = None,
    events: str | Path | None = None,
    table: ChannelTable | None = None,
) -> Recording:
    """Read one file as an EEG signal, in volts, and its markers.

    EEG channels (or, without any, intracranial ones) make the signal; trigger channels and
    annotations become markers; all other channels are left out, with a warning that names them.

    Parameters
    ----------
    path : Path
    unit : str, optional
        Unit of the recorded values, against what the file says.
    events : path, optional
        Table of markers that takes the place of those in the file.
    table : ChannelTable, optional
        Kinds and states of channels, which go before what the file says.

    Raises
    ------
    FileError
        If the file or one beside it is missing, damaged or cut short, or holds no EEG.
    """
    if path.suffix.lower() in (".eeg", ".vmrk"):
        path = path.with_suffix(".vhdr")
        check_fetched(path)
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    form = _FORMATS[Path(name).suffix.lower()]
    warnings: list[str] = []
    with as_file_error(path, form), _mne_warnings(path, warnings):
        raw, pauses, is_absolute = _open(path, form, warnings)
        kinds = _kinds(raw, table)
        picks, others = _picks(path, raw, kinds)
        stem = name[: -len(Path(name).suffix)]
        skips, pauses = _skips(raw, pauses)
        data = _read(raw, picks, skips)
        clock = _Clock(float(raw.info["sfreq"]), len(data), pauses)
        markers = _annotations(raw, stem, clock, is_absolute=is_absolute, skips=skips)
        if events is None:
            markers += _triggers(raw, kinds, stem, clock, is_bdf=form == "BDF", skips=skips)
        else:
            markers = [_table_markers(Path(events), stem)]
        labels = [raw.ch_names[i] for i in picks]
        units = _units(raw, labels, form)
        bads = [c for c in labels if c in raw.info["bads"] or (table and c in table.bads)]
    if others:
        warnings.append(f"{path.name}: channels that are no EEG are left out: {others}.")
    if unit is not None:
        known = scale_channels(np.ones((1, len(units))), units, is_eeg=False, what=path.name)
        # MNE has already multiplied by what it took the unit to be.
        scaled = scale_channels(
            data / known.samples[0], units, is_eeg=True, unit=unit, what=path.name
        )
    else:
        unknown = [text if text == "" else "V" for text in units]
        scaled = scale_channels(data, unknown, is_eeg=True, what=path.name)
    scaled = Scaled(scaled.samples, "V", scaled.scale, (), scaled.warnings)
    warnings += scaled.warnings
    signal = build_signal(
        name=stem,
        kind="EEG",
        labels=labels,
        scaled=scaled,
        sfreq_hz=clock.sfreq_hz,
        stamps=clock.stamps(),
        segments=clock.segments(),
        bads=bads,
        what=path.name,
    )
    if len(signal.segments) > 1:
        lost = signal.n_sent - len(signal.stamps)
        warnings.append(
            f"{path.name}: {len(signal.segments) - 1} gaps, {lost} samples are missing."
        )
    return Recording(
        path, form, (signal,), tuple(m for m in markers if len(m.stamps)), tuple(warnings)
    )


@contextmanager
def _mne_warnings(path: Path, warnings: list[str]) -> Iterator[None]:
    """Collect what MNE warns of; refuse a file that it finds too short."""
    with python_warnings.catch_warnings(record=True) as caught:
        python_warnings.simplefilter("always")
        yield
    for item in caught:
        text = " ".join(str(item.message).split())
        if any(word in text.lower() for word in _CUT_SHORT):
            raise FileError(f"{path.name} is cut short or damaged: {text} Get the whole file.")
        if not issubclass(item.category, (DeprecationWarning, ResourceWarning)):
            warnings.append(f"{path.name}: {text}")


def _open(
    path: Path, form: str, warnings: list[str]
) -> tuple[Any, tuple[tuple[int, float], ...], bool]:
    """Return MNE's raw object, the pauses, and whether annotations carry real times."""
    import mne

    if form in ("EDF", "BDF"):
        header = read_edf_header(path)
        other = header.other_rates()
        if other:
            warnings.append(f"{path.name}: signals of another rate are left out: {_names(other)}.")
        read = mne.io.read_raw_bdf if form == "BDF" else mne.io.read_raw_edf
        raw = read(path, exclude=other, verbose="WARNING")
        pauses: tuple[tuple[int, float], ...] = ()
        if header.is_discontinuous and (onsets := header.onsets()) is not None:
            each = round(header.record_s * raw.info["sfreq"])
            late = np.diff(onsets) - header.record_s
            if (late < -0.5 / raw.info["sfreq"]).any():
                raise FileError(f"{path.name}: its records overlap in time; it is damaged.")
            rows = np.flatnonzero(late > 0.5 / raw.info["sfreq"])
            pauses = tuple((int(row + 1) * each, float(late[row])) for row in rows)
            # MNE has left out what lies behind the end of the samples run together.
            raw.annotations.delete(np.arange(len(raw.annotations)))
            raw.annotations.append(*_edf_events(path))
        return raw, pauses, True
    if form == "BrainVision":
        vision = read_brainvision_header(path)
        warnings += vision.warnings
        return mne.io.read_raw_brainvision(path, verbose="WARNING"), vision.pauses, False
    if form == "EEGLAB":
        return mne.io.read_raw_eeglab(path, verbose="WARNING"), (), False
    return mne.io.read_raw_fif(path, verbose="WARNING", allow_maxshield="yes"), (), False


def _edf_events(path: Path) -> tuple[list[float], list[float], list[str]]:
    """Return onsets, durations and texts of all events of an EDF+ or BDF+ file."""
    import mne

    events = mne.read_annotations(path)
    return list(events.onset), list(events.duration), [str(text) for text in events.description]


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _kinds(raw: Any, table: ChannelTable | None) -> list[str]:
    kinds: list[str] = raw.get_channel_types()
    if table is None:
        return kinds
    said = {name.strip(): kind.strip().lower() for name, kind in table.kinds.items()}
    return [
        "stim" if said.get(name) in ("trig", "stim") else said.get(name, kind)
        for name, kind in zip(raw.ch_names, kinds, strict=True)
    ]


def _picks(path: Path, raw: Any, kinds: list[str]) -> tuple[list[int], str]:
    wanted = next((kind for kind in _SIGNAL_KINDS if kind in kinds), None)
    if wanted is None:
        there = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
        raise FileError(
            f"{path.name} has no EEG channel; it has {there}. Give a recording of EEG, or correct "
            f"the channel types."
        )
    picks = [i for i, kind in enumerate(kinds) if kind == wanted]
    others = [
        f"{raw.ch_names[i]} ({kind})"
        for i, kind in enumerate(kinds)
        if kind not in (wanted, "stim")
    ]
    return picks, _names(others) if others else ""


def _skips(
    raw: Any, pauses: tuple[tuple[int, float], ...]
) -> tuple[list[tuple[int, int]], tuple[tuple[int, float], ...]]:
    """Return rows that FIF filled with zeros while the acquisition was paused, and all pauses."""
    sfreq = raw.info["sfreq"]
    n = len(raw.times)
    skipped = np.zeros(n + 2, dtype=np.int8)  # a kept row before the first and after the last
    for item in raw.annotations:
        if item["description"] == "BAD_ACQ_SKIP":
            start = round((item["onset"] - raw.first_time) * sfreq)
            skipped[max(start, 0) + 1 : min(start + round(item["duration"] * sfreq), n) + 1] = 1
    edges = np.diff(skipped)
    starts, stops = np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()
    skips = list(zip(starts, stops, strict=True))
    removed = 0
    added = []
    for start, stop in skips:
        if start > 0 and stop < n:
            added.append((start - removed, (stop - start) / sfreq))
        removed += stop - start
    return skips, tuple(sorted((*pauses, *added)))


def _read(raw: Any, picks: list[int], skips: list[tuple[int, int]]) -> NDArray[np.float32]:
    """Return (n, n_channels) in volts; by blocks, as MNE reads double precision."""
    n = len(raw.times)
    keep = np.ones(n, dtype=np.bool_)
    for start, stop in skips:
        keep[start:stop] = False
    data = np.empty((int(keep.sum()), len(picks)), dtype=np.float32)
    if not len(data):
        raise FileError("it holds no samples")
    filled = 0
    for start in range(0, n, _BLOCK):
        block = raw.get_data(picks=picks, start=start, stop=min(start + _BLOCK, n)).T
        block = block[keep[start : start + _BLOCK]]
        data[filled : filled + len(block)] = block
        filled += len(block)
    return data


def _annotations(
    raw: Any, stem: str, clock: _Clock, *, is_absolute: bool, skips: list[tuple[int, int]]
) -> list[RecordedMarkers]:
    kept = [a for a in raw.annotations if a["description"] != "BAD_ACQ_SKIP"]
    onsets = np.array([a["onset"] for a in kept], dtype=np.float64) - raw.first_time
    if not is_absolute and not skips:
        onsets = clock.moved(onsets)
    if len(onsets) and not np.isfinite(onsets).all():
        raise FileError("an annotation has no time")
    order = np.argsort(onsets, kind="stable")
    texts = tuple(str(kept[i]["description"]) for i in order)
    return [RecordedMarkers(f"{stem}-markers", onsets[order], texts)]


def _triggers(
    raw: Any,
    kinds: list[str],
    stem: str,
    clock: _Clock,
    *,
    is_bdf: bool,
    skips: list[tuple[int, int]],
) -> list[RecordedMarkers]:
    """Return a marker wherever a trigger channel changes to another code than 0."""
    stims = [i for i, kind in enumerate(kinds) if kind == "stim"]
    # FIF acquisition writes each bit of STI 014 to a channel of its own as well; one tells all.
    combined = [i for i in stims if raw.ch_names[i] in ("STI 014", "STI101", "STI 101")]
    markers = []
    for pick in combined[:1] or stims:
        codes = raw.get_data(picks=[pick])[0]
        codes = np.nan_to_num(codes).round().astype(np.int64)
        if is_bdf:
            codes &= 0xFFFF  # the upper byte of a BioSemi status word is the amplifier's own state
        rows = np.flatnonzero(np.diff(codes)) + 1
        rows = rows[codes[rows] != 0]
        onsets = rows / clock.sfreq_hz
        if not skips:
            onsets = clock.moved(onsets)
        texts = tuple(str(code) for code in codes[rows])
        markers.append(RecordedMarkers(f"{stem}-{raw.ch_names[pick]}", onsets, texts))
    return markers


def _table_markers(path: Path, stem: str) -> RecordedMarkers:
    events = read_events(path)
    stamps = np.array([onset for onset, _ in events], dtype=np.float64)
    return RecordedMarkers(f"{stem}-markers", stamps, tuple(text for _, text in events))


def _units(raw: Any, labels: list[str], form: str) -> list[str]:
    """Return the unit in the file of each channel; empty where it says none, and MNE took volts."""
    if form in ("FIF", "EEGLAB"):
        return ["V" if form == "FIF" else "uV"] * len(labels)
    # MNE keeps what the file says here; it has no public name for it.
    original = getattr(raw, "_orig_units", {})
    units = [str(original.get(label, "")) for label in labels]
    return ["" if text in ("n/a", "") else text for text in units]
