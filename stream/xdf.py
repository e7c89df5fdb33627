"""Write recordings as XDF 1.0, the file format of the LSL world, so that every tool reads them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from numpy.typing import ArrayLike

from stream.safe_file import SafeFile
from stream.xdf_chunks import (
    XdfChunk,
    boundary_chunk,
    clock_offset_chunk,
    file_header,
    footer_chunk,
    header_chunk,
    sample_chunks,
    string_chunk,
    whole_length,
)
from stream.xdf_header import XdfStream

__all__ = ["XdfStream", "XdfWriter", "whole_length"]


@dataclass(slots=True)
class _Tally:
    """What the footer of a stream says."""

    n_samples: int = 0
    first_stamp: float = float("nan")
    last_stamp: float = float("nan")
    offsets: list[tuple[float, float]] = field(default_factory=list)


class XdfWriter:
    """One XDF file being written: nothing is buffered, each call is a whole group of chunks.

    Parameters
    ----------
    path : Path or str
        A file that stands there is never touched: the new one gets a number, see `path`.

    Raises
    ------
    FileError
        If the file cannot be made, and by every writing method if the operating system refuses;
        the file is then as it was before that call.
    """

    def __init__(self, path: Path | str) -> None:
        self.file = SafeFile(Path(path))
        self._streams: dict[int, XdfStream] = {}
        self._tallies: dict[int, _Tally] = {}
        try:
            self.file.append(file_header(time.time()), head=4)
        except BaseException:
            self.file.close()
            raise

    @property
    def path(self) -> Path:
        """Where the file stands."""
        return self.file.path

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.file.size

    def put(self, chunks: Sequence[XdfChunk]) -> None:
        """Append these chunks, all of them or none."""
        if not chunks:
            return
        self.file.append(b"".join(chunk.data for chunk in chunks), head=chunks[0].head)
        for chunk in chunks:
            self._count(chunk)

    def _count(self, chunk: XdfChunk) -> None:
        if chunk.opens_stream:
            self._tallies[chunk.stream_id] = _Tally()
        tally = self._tallies.get(chunk.stream_id)
        if tally is None:
            return
        if chunk.offset is not None:
            tally.offsets.append(chunk.offset)
        if chunk.n_samples:
            if not tally.n_samples:
                tally.first_stamp = chunk.first_stamp
            tally.last_stamp = chunk.last_stamp
            tally.n_samples += chunk.n_samples

    def add_stream(self, stream: XdfStream) -> int:
        """Open a stream; return its number in this file."""
        stream_id = max(self._tallies, default=0) + 1
        self.put([header_chunk(stream_id, stream)])
        self._streams[stream_id] = stream
        return stream_id

    def write_samples(self, stream_id: int, stamps: ArrayLike, samples: ArrayLike) -> None:
        """Append numbers: stamps (n,) in s on the sender's clock, samples (n, n_channels)."""
        self.put(sample_chunks(stream_id, self._streams[stream_id], stamps, samples))

    def write_strings(
        self, stream_id: int, stamps: ArrayLike, texts: Sequence[str | Sequence[str]]
    ) -> None:
        """Append texts, one for each stamp (or a sequence of texts for several channels)."""
        self.put([string_chunk(stream_id, self._streams[stream_id], stamps, texts)])

    def write_clock_offset(self, stream_id: int, when: float, offset: float) -> None:
        """Append a clock measurement; see `clock_offset_chunk`."""
        self.put([clock_offset_chunk(stream_id, when, offset)])

    def boundary(self) -> None:
        """Append a boundary; one every 10 s is usual."""
        self.put([boundary_chunk()])

    def n_samples(self, stream_id: int) -> int:
        """Return how many samples of this stream are in the file."""
        tally = self._tallies.get(stream_id)
        return 0 if tally is None else tally.n_samples

    def close(self) -> None:
        """Write the footers and close, also if the footers no longer fit; call it once."""
        footers = [
            footer_chunk(
                stream_id,
                n_samples=tally.n_samples,
                first_stamp=tally.first_stamp,
                last_stamp=tally.last_stamp,
                offsets=tally.offsets,
            )
            for stream_id, tally in self._tallies.items()
        ]
        try:
            self.put(footers)
        finally:
            self.file.close()
