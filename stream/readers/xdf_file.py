"""XDF recordings (LabRecorder, our own, NeuroPype and others), read through pyxdf."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError
from stream.readers.build import Scaled, build_signal, scale_channels
from stream.readers.checks import as_file_error, collected_log
from stream.readers.counted import counted_segments
from stream.readers.timing import regular_clock
from stream.recordings import RecordedMarkers, RecordedSignal, Recording, Segment
from stream.source_info import BoldInfo

__all__ = ["read_xdf"]

_MARKER_TYPES = {"marker", "markers", "event", "events", "stim", "trigger", "triggers"}


def read_xdf(path: Path, *, unit: str | None = None) -> Recording:
    """Read all numeric streams as signals and all string streams as markers.

    Clock offsets and clock resets are applied by pyxdf; gaps and jitter are dealt with by
    `stream.readers.timing`, so that short gaps stay where they are. EEG without a unit is taken to
    be in microvolts, with a warning; streams of other types without a unit stay as they are.

    Parameters
    ----------
    path : Path
    unit : str, optional
        Unit of all signal channels, against what the file says.

    Raises
    ------
    FileError
        If the file is damaged, or no numeric stream in it holds samples.
    """
    import pyxdf

    warnings: list[str] = []
    with path.open("rb") as file:
        head = file.read(4)
    if not head.startswith((b"XDF:", b"\x1f\x8b")):
        raise FileError(
            f"{path} is not an XDF file: it begins with {head!r}, not b'XDF:'. Check the file."
        )
    with as_file_error(path, "XDF"), collected_log("pyxdf", warnings), np.errstate(all="ignore"):
        streams, _ = pyxdf.load_xdf(str(path), dejitter_timestamps=False)
    # Said of every file whose clocks were never reset; means nothing to a user.
    warnings = [text for text in warnings if "Segments and clock-segments differ" not in text]
    signals: list[RecordedSignal] = []
    markers: list[RecordedMarkers] = []
    for stream in streams:
        with as_file_error(path, "XDF"):
            _add(stream, signals, markers, warnings, unit)
    if not signals:
        raise FileError(
            f"{path} holds no signal with samples; its streams are: {_streams(streams)}. "
            f"Check that the amplifier was streaming when this was recorded."
        )
    speeds = {_speed(stream) for stream in streams if _is_numeric(stream)}
    recording = Recording(path, "XDF", tuple(signals), tuple(markers), tuple(warnings))
    return recording if speeds == {1.0} or len(speeds) != 1 else _stretched(recording, *speeds)


def _is_numeric(stream: Any) -> bool:
    return _one(stream["info"], "channel_format") != "string" and len(stream["time_stamps"]) > 0


def _speed(stream: Any) -> float:
    """Return how much faster than its recording a stream ran when it was recorded again."""
    speed = float(_one(_child(_child(stream["info"], "desc"), "hearback"), "speed", "1") or 1)
    return speed if 0 < speed < 1e6 else 1.0


def _stretched(recording: Recording, speed: float) -> Recording:
    """Return a recording of a fast replay with the times of what was replayed."""
    start = recording.start

    def moved(stamps: NDArray[np.float64]) -> NDArray[np.float64]:
        stretched: NDArray[np.float64] = start + (stamps - start) * speed
        stretched.flags.writeable = False
        return stretched

    return replace(
        recording,
        signals=tuple(replace(s, stamps=moved(s.stamps)) for s in recording.signals),
        markers=tuple(replace(m, stamps=moved(m.stamps)) for m in recording.markers),
        warnings=(
            *recording.warnings,
            f"A replay at {speed:g} times its speed was recorded; its times are stretched back.",
        ),
    )


def _one(info: Any, key: str, default: str = "") -> str:
    """Return the text of one XML entry as pyxdf gives it: a list of one, or nothing."""
    value = info.get(key) if isinstance(info, dict) else None
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, str) else default


def _child(info: Any, key: str) -> dict[str, Any]:
    value = info.get(key) if isinstance(info, dict) else None
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, dict) else {}


def _streams(streams: list[Any]) -> str:
    parts = [
        f"{_one(s['info'], 'name')!r} ({_one(s['info'], 'type')}, "
        f"{_one(s['info'], 'channel_format')}, {len(s['time_stamps'])} samples)"
        for s in streams
    ]
    return ", ".join(parts) or "none"


def _add(
    stream: Any,
    signals: list[RecordedSignal],
    markers: list[RecordedMarkers],
    warnings: list[str],
    unit: str | None,
) -> None:
    info = stream["info"]
    name, kind = _one(info, "name", "unnamed"), _one(info, "type")
    stamps = np.asarray(stream["time_stamps"], dtype=np.float64)
    what = f"Stream {name!r} ({kind})"
    if len(stamps) == 0:
        warnings.append(f"{what} is empty and is left out.")
        return
    values = stream["time_series"]
    if _one(info, "channel_format") == "string":
        texts = tuple("\t".join(str(item) for item in row) for row in values)
        markers.append(_markers(name, stamps, texts, what))
        return
    samples = np.asarray(values)
    if samples.ndim != 2 or len(samples) != len(stamps):
        raise FileError(f"{what} holds {samples.shape} values for {len(stamps)} time stamps.")
    nominal = float(_one(info, "nominal_srate", "0") or 0)
    if nominal <= 0 and samples.shape[1] == 1 and kind.lower() in _MARKER_TYPES:
        markers.append(_markers(name, stamps, tuple(f"{v:g}" for v in samples[:, 0]), what))
        return
    footer = _child(stream.get("footer", {}), "info")
    if not footer:
        warnings.append(f"{what} has no footer: it was cut off, or its writer leaves that out.")
    signals.append(_signal(info, samples, stamps, nominal, what, warnings, unit))


def _markers(
    name: str, stamps: NDArray[np.float64], texts: tuple[str, ...], what: str
) -> RecordedMarkers:
    if not np.isfinite(stamps).all():
        raise FileError(f"{what}: not all time stamps are numbers. The file is damaged.")
    order = np.argsort(stamps, kind="stable")
    return RecordedMarkers(name, stamps[order], tuple(texts[i] for i in order))


def _signal(
    info: Any,
    samples: NDArray[Any],
    stamps: NDArray[np.float64],
    nominal: float,
    what: str,
    warnings: list[str],
    unit: str | None,
) -> RecordedSignal:
    desc = _child(info, "desc")
    channels = _child(desc, "channels").get("channel") or []
    channels = [item if isinstance(item, dict) else {} for item in channels]
    n = samples.shape[1]
    channels = (channels + [{}] * n)[:n]
    labels = [_one(c, "label") or f"ch{i + 1}" for i, c in enumerate(channels)]
    units = [_one(c, "unit") for c in channels]
    kind = _one(info, "type")
    bold = _bold(_child(desc, "bold"), what)
    ours = _child(desc, "hearback")
    counted = False
    if ours and n > 1 and labels[-1] == "counter" and _one(channels[-1], "type") == "Counter":
        modulo = int(float(_one(ours, "counter_modulo", "16777216")))
        with_count = counted_segments(samples[:, -1], stamps, modulo, what=what)
        samples, stamps = samples[with_count.rows, :-1], with_count.stamps
        labels, units = labels[:-1], units[:-1]
        segments = with_count.segments
        nominal = float(_one(ours, "recorded_srate", str(nominal)) or nominal)
        warnings += with_count.warnings
        counted = True
    elif nominal > 0 and bold is None:
        regular = regular_clock(stamps, nominal, what=what)
        stamps, segments = regular.stamps, regular.segments
        warnings += regular.warnings
    else:
        if not np.isfinite(stamps).all() or (np.diff(stamps) < 0).any():
            raise FileError(f"{what}: time stamps are no numbers, or go back; the file is damaged.")
        segments = (Segment(0, len(stamps), 0),)
    scaled: Scaled = scale_channels(
        samples, units, is_eeg=kind.lower() in ("eeg", "ieeg"), unit=unit, what=what
    )
    warnings += scaled.warnings
    return build_signal(
        name=_one(info, "name", "unnamed"),
        kind=kind or "unknown",
        labels=labels,
        scaled=scaled,
        sfreq_hz=nominal,
        stamps=stamps,
        segments=segments,
        bold=bold,
        source_id=_one(info, "source_id"),
        counted=counted,
        what=what,
    )


def _bold(desc: dict[str, Any], what: str) -> BoldInfo | None:
    if not desc:
        return None
    try:
        x, y, z = (int(v) for v in _one(desc, "shape").split())
        affine = np.array([float(v) for v in _one(desc, "affine").split()]).reshape(4, 4)
        return BoldInfo((x, y, z), affine, float(_one(desc, "tr_s")), _one(desc, "mask_sha256"))
    except ValueError as error:
        raise FileError(f"{what}: its description of the volumes is damaged ({error}).") from error
