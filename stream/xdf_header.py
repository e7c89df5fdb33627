"""The XML inside an XDF file: what a stream is, and what was in it at the end."""

from __future__ import annotations

import datetime
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from models.errors import SettingError

__all__ = ["ChannelFormat", "XdfStream", "file_header_xml", "footer_xml", "stream_header_xml"]

logger = logging.getLogger(__name__)

ChannelFormat = Literal["float32", "double64", "string", "int8", "int16", "int32", "int64"]

_FORMATS = ("float32", "double64", "string", "int8", "int16", "int32", "int64")

#: Characters that XML 1.0 does not allow, even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class XdfStream:
    """What a stream is, as its header says.

    Raises
    ------
    SettingError
        If there is not at least one channel, the format is unknown, or labels or units are not as
        many as channels.
    """

    name: str
    type: str
    n_channels: int
    channel_format: ChannelFormat = "float32"
    sfreq_hz: float = 0.0  # 0: irregular
    labels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    source_id: str = ""
    hostname: str = ""
    uid: str = ""
    created_at: float = float("nan")  # s, clock of the sender
    desc_xml: str = ""  # the sender's own <desc>, or a whole <info> with one in it
    can_drop_samples: bool = False  # readers must not draw one line through all stamps

    def __post_init__(self) -> None:
        if self.n_channels < 1:
            raise SettingError(f"Stream {self.name!r} needs at least 1 channel.")
        if self.channel_format not in _FORMATS:
            raise SettingError(
                f"Stream {self.name!r}: format {self.channel_format!r} is none of {_FORMATS}."
            )
        for what, items in (("labels", self.labels), ("units", self.units)):
            if items and len(items) != self.n_channels:
                raise SettingError(
                    f"Stream {self.name!r} has {self.n_channels} channels but {len(items)} {what}."
                )


def _add(parent: ElementTree.Element, tag: str, text: str | float) -> None:
    child = ElementTree.SubElement(parent, tag)
    child.text = _FORBIDDEN.sub("\ufffd", text) if isinstance(text, str) else repr(text)


def _bytes(root: ElementTree.Element) -> bytes:
    return b'<?xml version="1.0"?>' + ElementTree.tostring(root, encoding="unicode").encode()


def file_header_xml(unix_time: float) -> bytes:
    """Return the header of a file begun at this time (s since 1970, UTC)."""
    root = ElementTree.Element("info")
    _add(root, "version", "1.0")
    begun = datetime.datetime.fromtimestamp(unix_time, tz=datetime.UTC)
    _add(root, "datetime", begun.strftime("%Y-%m-%dT%H:%M:%S+0000"))
    _add(root, "writer", "hearback")
    return _bytes(root)


def _sent_desc(stream: XdfStream) -> ElementTree.Element:
    """Return the sender's own description, or an empty one."""
    empty = ElementTree.Element("desc")
    if not stream.desc_xml.strip():
        return empty
    try:
        root = ElementTree.fromstring(_FORBIDDEN.sub("\ufffd", stream.desc_xml))
    except ElementTree.ParseError as error:
        logger.warning("The description of stream %r is not XML: %s", stream.name, error)
        return empty
    if root.tag == "desc":
        return root
    found = root.find("desc")
    return empty if found is None else found


def stream_header_xml(stream: XdfStream) -> bytes:
    """Return the header of a stream; what the sender said of itself comes first."""
    root = ElementTree.Element("info")
    _add(root, "name", stream.name)
    _add(root, "type", stream.type)
    _add(root, "channel_count", stream.n_channels)
    _add(root, "nominal_srate", float(stream.sfreq_hz))
    _add(root, "channel_format", stream.channel_format)
    _add(root, "source_id", stream.source_id)
    if math.isfinite(stream.created_at):
        _add(root, "created_at", stream.created_at)
    _add(root, "uid", stream.uid)
    _add(root, "hostname", stream.hostname)
    desc = _sent_desc(stream)
    if (stream.labels or stream.units) and desc.find("channels") is None:
        channels = ElementTree.SubElement(desc, "channels")
        for index in range(stream.n_channels):
            channel = ElementTree.SubElement(channels, "channel")
            _add(channel, "label", stream.labels[index] if stream.labels else str(index))
            if stream.units:
                _add(channel, "unit", stream.units[index])
    if stream.can_drop_samples:
        sync = desc.find("synchronization")
        if sync is None:
            sync = ElementTree.SubElement(desc, "synchronization")
        if sync.find("can_drop_samples") is None:
            _add(sync, "can_drop_samples", "true")
    root.append(desc)
    return _bytes(root)


def footer_xml(
    n_samples: int,
    first_stamp: float,
    last_stamp: float,
    offsets: Sequence[tuple[float, float]],
) -> bytes:
    """Return the footer of a stream: sample count, stamps and clock offsets."""
    root = ElementTree.Element("info")
    if n_samples:
        _add(root, "first_timestamp", first_stamp)
        _add(root, "last_timestamp", last_stamp)
    _add(root, "sample_count", n_samples)
    clock = ElementTree.SubElement(root, "clock_offsets")
    for when, value in offsets:
        offset = ElementTree.SubElement(clock, "offset")
        _add(offset, "time", when)
        _add(offset, "value", value)
    return _bytes(root)
