"""How a source and what happened to it look in a recording: header, samples as sent, events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stream.messages import Chunk, Gap, StateChange
from stream.xdf_header import ChannelFormat, XdfStream

if TYPE_CHECKING:
    from stream.source_info import SourceInfo

__all__ = ["EventReader", "SentText", "as_sent", "event_record", "source_stream"]

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


@dataclass(frozen=True, slots=True)
class SentText:
    """One sample of a stream of strings, as it came."""

    texts: tuple[str, ...]  # one a channel
    raw_stamp: float  # s, as the sender wrote it


class EventReader(Protocol):
    """What the recorder needs of a reader: everything new, exactly once, without waiting."""

    def read(self) -> list[Any]:
        """Return what has come since the last call."""
        ...


def source_stream(info: SourceInfo) -> XdfStream:
    """Return the header under which a source is recorded: as its sender described it."""
    described = info.bold is None and info.counter_channel is None
    return XdfStream(
        name=info.name,
        type=info.type,
        n_channels=info.n_sent,
        channel_format=_FORMATS.get(info.format, "float32"),
        sfreq_hz=info.sfreq_hz,
        labels=info.labels if described and len(info.labels) == info.n_channels else (),
        units=(info.unit,) * info.n_channels if described and info.unit else (),
        source_id=info.source_id,
        hostname=info.hostname,
        uid=info.uid,
        desc_xml=info.desc_xml,
        # Otherwise pyxdf draws one line through the stamps of up to a second of lost samples, and
        # all stamps around it are wrong by up to half of that.
        can_drop_samples=info.sfreq_hz > 0,
    )


def as_sent(info: SourceInfo, chunk: Chunk) -> NDArray[Any]:
    """Return samples in the unit and number format in which they were sent, counter included.

    Whole numbers up to 2**24 come back exactly, float32 within one unit in the last place; what
    was sent with more digits than float32 has keeps only these.

    Parameters
    ----------
    info : SourceInfo
        Says the scale (to V) that was applied on arrival.
    chunk : Chunk
        Its samples are (n, n_channels), float32.

    Returns
    -------
    samples : array of shape (n, info.n_sent)
    """
    # Arrival multiplies by a float32 where all channels have one scale: undo exactly that.
    scale = np.float64(np.float32(info.scale)) if info.scales is None else info.scales
    values = chunk.samples.astype(np.float64) / scale
    if info.counter_channel is not None:
        count = (chunk.first + np.arange(len(values))) % info.counter_modulo
        values = np.insert(values, info.counter_channel, count, axis=1)
    kind = np.dtype({"double64": "f8", "string": "f4"}.get(info.format, info.format))
    if kind.kind == "i":
        limits = np.iinfo(kind)
        return np.clip(np.rint(np.nan_to_num(values)), limits.min, limits.max).astype(kind)
    return values.astype(kind, copy=False)


def event_record(source: str, event: Gap | StateChange) -> dict[str, Any]:
    """Return what is written down of a gap or a change of state."""
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
    return {
        "kind": "state",
        "stream": source,
        "state": str(event.state),
        "since": event.since,
        "raised": event.raised,
        "detail": event.detail,
    }
