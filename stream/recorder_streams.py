"""How a source and what happened to it look in a recording: header, samples as sent, events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stream.messages import Chunk, Gap, Marker, StateChange
from stream.xdf_header import ChannelFormat, XdfStream

if TYPE_CHECKING:
    from stream.lsl import SourceInfo

__all__ = ["EventReader", "as_sent", "event_record", "source_stream"]

_FORMATS: dict[str, ChannelFormat] = {
    "float32": "float32",
    "double64": "double64",
    "float64": "double64",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "string": "string",
}


class EventReader(Protocol):
    """What the recorder needs of a reader: everything new, exactly once, without waiting."""

    def read(self) -> list[Any]:
        """Return what has come since the last call."""
        ...


def source_stream(info: SourceInfo) -> XdfStream:
    """Return the header under which a source is recorded: as its sender described it."""
    return XdfStream(
        name=info.name,
        type=info.type,
        n_channels=info.n_channels,
        channel_format=_FORMATS.get(info.format, "float32"),
        sfreq_hz=info.sfreq_hz,
        labels=tuple(info.labels) if len(info.labels) == info.n_channels else (),
        units=(info.unit,) * info.n_channels if info.unit else (),
        source_id=info.source_id,
        hostname=info.hostname,
        uid=info.uid,
        desc_xml=info.desc_xml,
        # Otherwise pyxdf draws one line through the stamps of up to a second of lost samples, and
        # all stamps around it are wrong by up to half of that.
        can_drop_samples=info.sfreq_hz > 0,
    )


def as_sent(info: SourceInfo, samples: NDArray[np.float32]) -> NDArray[Any]:
    """Return samples in the unit and number format in which they were sent.

    Parameters
    ----------
    info : SourceInfo
        Says the scale (to V) that was applied on arrival.
    samples : array of shape (n, n_channels), float32
    """
    values = samples if info.scale == 1.0 else samples.astype(np.float64) / info.scale
    kind = np.dtype({"double64": "f8", "string": "f4"}.get(info.format, info.format))
    if kind.kind == "i":
        limits = np.iinfo(kind)
        rounded = np.rint(np.nan_to_num(values.astype(np.float64)))
        return np.clip(rounded, limits.min, limits.max).astype(kind)
    return values.astype(kind, copy=False)


def event_record(source: str, event: Gap | StateChange | Marker | Chunk) -> dict[str, Any]:
    """Return what is written down of a gap, a change of state or a marker."""
    if isinstance(event, Gap):
        return {
            "kind": "gap",
            "stream": source,
            "reason": str(event.reason),
            "first": event.first,
            "n_lost": event.n_lost,
            "n_extra": event.n_extra,
            "t_start": event.t_start,
            "t_stop": event.t_stop,
            "raised": event.raised,
            "counted": event.counted,
        }
    if isinstance(event, StateChange):
        return {
            "kind": "state",
            "stream": source,
            "state": str(event.state),
            "since": event.since,
            "raised": event.raised,
            "detail": event.detail,
        }
    if isinstance(event, Marker):
        return {"kind": "marker", "stream": event.stream or source, "text": event.text}
    return {"kind": type(event).__name__.lower(), "stream": source}
