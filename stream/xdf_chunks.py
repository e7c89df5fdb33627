"""The chunks of an XDF 1.0 file, made by functions that return bytes, so that any thread may.

A chunk is its length, a tag and content, all little-endian
(https://github.com/sccn/xdf/wiki/Specifications).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from models.errors import SettingError
from stream.xdf_header import XdfStream, file_header_xml, footer_xml, stream_header_xml

__all__ = [
    "XdfChunk",
    "boundary_chunk",
    "clock_offset_chunk",
    "file_header",
    "footer_chunk",
    "header_chunk",
    "sample_chunks",
    "string_chunk",
    "whole_length",
]

_FILE_HEADER, _STREAM_HEADER, _SAMPLES, _CLOCK_OFFSET, _BOUNDARY, _STREAM_FOOTER = range(1, 7)
_BOUNDARY_UUID = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")  # fixed by the specification

#: Samples are split into chunks of about this size, so that damage to one costs little.
_CHUNK_BYTES = 1 << 18

_DTYPES = {
    "float32": "<f4",
    "double64": "<f8",
    "int8": "<i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
}


@dataclass(frozen=True, slots=True)
class XdfChunk:
    """One chunk, encoded, with what the writer must know for the footer of its stream."""

    data: bytes
    head: int  # bytes of the length at the start of `data`
    stream_id: int = 0
    n_samples: int = 0
    first_stamp: float = float("nan")
    last_stamp: float = float("nan")
    offset: tuple[float, float] | None = None  # (collection time, value) of a clock offset
    opens_stream: bool = False


def _varlen(value: int) -> bytes:
    """Return a length as XDF writes it: how many bytes, then these."""
    if value < 1 << 8:
        return struct.pack("<BB", 1, value)
    if value < 1 << 32:
        return struct.pack("<BI", 4, value)
    return struct.pack("<BQ", 8, value)


def _frame(tag: int, *content: bytes) -> tuple[bytes, int]:
    """Return a chunk and how long its length field is."""
    length = _varlen(2 + sum(map(len, content)))
    return b"".join((length, struct.pack("<H", tag), *content)), len(length)


def header_chunk(stream_id: int, stream: XdfStream) -> XdfChunk:
    """Return the chunk that opens a stream."""
    data, head = _frame(_STREAM_HEADER, struct.pack("<I", stream_id), stream_header_xml(stream))
    return XdfChunk(data, head, stream_id, opens_stream=True)


def sample_chunks(
    stream_id: int, stream: XdfStream, stamps: ArrayLike, samples: ArrayLike
) -> list[XdfChunk]:
    """Return numeric samples as chunks of at most some 256 KiB; every sample has its own stamp.

    Parameters
    ----------
    stream_id : int
        Which stream of the file.
    stream : XdfStream
        Its description; says the number of channels and the number format.
    stamps : array of shape (n,), float64, s
    samples : array of shape (n, n_channels), or (n,) for one channel

    Raises
    ------
    SettingError
        If the shapes do not fit each other and the stream, or numbers would be damaged by the
        stream's format.
    """
    times = np.atleast_1d(np.asarray(stamps, dtype="<f8"))
    values = np.asarray(samples)
    if values.ndim < 2:
        values = values.reshape(len(times), -1) if len(times) else values.reshape(0, 1)
    if stream.channel_format not in _DTYPES:
        raise SettingError(f"Stream {stream.name!r} holds text, not numbers; use write_strings.")
    n_samples, n_channels = len(times), stream.n_channels
    if n_samples and (times.ndim != 1 or values.shape != (n_samples, n_channels)):
        raise SettingError(
            f"Stream {stream.name!r} takes ({n_samples}, {n_channels}) values for {n_samples} "
            f"stamps, got {values.shape}."
        )
    kind = np.dtype(_DTYPES[stream.channel_format])
    if not np.can_cast(values.dtype, kind, "same_kind"):
        raise SettingError(
            f"Stream {stream.name!r} holds {stream.channel_format}; {values.dtype} does not fit."
        )
    row = np.dtype([("n_stamp_bytes", "u1"), ("stamp", "<f8"), ("values", kind, (n_channels,))])
    step = max(1, _CHUNK_BYTES // row.itemsize)
    chunks = []
    for start in range(0, n_samples, step):
        part = times[start : start + step]
        rows = np.empty(len(part), dtype=row)
        rows["n_stamp_bytes"] = 8
        rows["stamp"] = part
        rows["values"] = values[start : start + step]
        content = (struct.pack("<I", stream_id), _varlen(len(part)), rows.tobytes())
        data, head = _frame(_SAMPLES, *content)
        chunks.append(XdfChunk(data, head, stream_id, len(part), float(part[0]), float(part[-1])))
    return chunks


def string_chunk(
    stream_id: int, stream: XdfStream, stamps: ArrayLike, texts: Sequence[str | Sequence[str]]
) -> XdfChunk:
    """Return text samples as one chunk; a sample of several channels is a sequence of texts.

    Raises
    ------
    SettingError
        If there are not as many texts as stamps, or not as many in a sample as channels.
    """
    times = np.atleast_1d(np.asarray(stamps, dtype=np.float64))
    samples = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
    if len(samples) != len(times) or any(len(one) != stream.n_channels for one in samples):
        raise SettingError(
            f"Stream {stream.name!r} takes {stream.n_channels} text(s) for each of the "
            f"{len(times)} stamps, got {[len(one) for one in samples]}."
        )
    content = [struct.pack("<I", stream_id), _varlen(len(times))]
    for stamp, sample in zip(times, samples, strict=True):
        content.append(struct.pack("<Bd", 8, stamp))
        for text in sample:
            raw = text.encode("utf-8", "replace")
            content += (_varlen(len(raw)), raw)
    data, head = _frame(_SAMPLES, *content)
    if not samples:
        return XdfChunk(data, head, stream_id)
    return XdfChunk(data, head, stream_id, len(times), float(times[0]), float(times[-1]))


def clock_offset_chunk(stream_id: int, when: float, offset: float) -> XdfChunk:
    """Return one measurement of a sender's clock.

    Parameters
    ----------
    stream_id : int
        Whose clock.
    when : float
        s on the clock of this machine.
    offset : float
        s to add to the sender's stamps for those of this machine (`time_correction`).
    """
    # The file holds the time on the sender's clock, because that is what readers fit against.
    content = (when - offset, offset)
    data, head = _frame(_CLOCK_OFFSET, struct.pack("<Idd", stream_id, *content))
    return XdfChunk(data, head, stream_id, offset=content)


def boundary_chunk() -> XdfChunk:
    """Return the mark at which a reader of a damaged file finds its feet again."""
    return XdfChunk(*_frame(_BOUNDARY, _BOUNDARY_UUID))


def file_header(unix_time: float) -> bytes:
    """Return the first bytes of a file begun at this time (s since 1970, UTC)."""
    return b"XDF:" + _frame(_FILE_HEADER, file_header_xml(unix_time))[0]


def footer_chunk(
    stream_id: int,
    *,
    n_samples: int,
    first_stamp: float,
    last_stamp: float,
    offsets: Sequence[tuple[float, float]],
) -> XdfChunk:
    """Return the chunk that closes a stream."""
    xml = footer_xml(n_samples, first_stamp, last_stamp, offsets)
    data, head = _frame(_STREAM_FOOTER, struct.pack("<I", stream_id), xml)
    return XdfChunk(data, head, stream_id)


def whole_length(data: bytes | bytearray) -> int:
    """Return how many bytes at the start of an XDF file are whole chunks.

    pyxdf 1.17 stops with an exception where a file was cut inside a tag, a clock offset or a
    header; reading only this many bytes of it always works.
    """
    raw = memoryview(data)
    position = 4
    while position < len(raw):
        n_bytes = raw[position]
        start = position + 1 + n_bytes
        if n_bytes not in (1, 4, 8) or start > len(raw):
            break
        length = int.from_bytes(raw[position + 1 : start], "little")
        if length < 2 or start + length > len(raw):
            break
        position = start + length
    return min(position, len(raw))
