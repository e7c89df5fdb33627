"""The recorder of a session: takes everything, waits for nothing, and says when it cannot write.

Whoever gives it something only puts bytes into a queue in memory. One thread takes what the
sources bring and watches over the other; the other writes, several times between two blinks of
an eye. When the disk is full, slow, removed or read-only the session goes on: what was not
written waits in memory and is written as soon as that works again.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import ArrayLike

from models.errors import HearbackError
from stream.json_lines import finite
from stream.recorder_health import Health
from stream.recorder_intake import Intake, RecordedSource
from stream.recorder_streams import EventReader, source_stream
from stream.recorder_writer import RecordingWriter
from stream.xdf_chunks import (
    XdfChunk,
    boundary_chunk,
    clock_offset_chunk,
    header_chunk,
    sample_chunks,
    string_chunk,
)
from stream.xdf_header import ChannelFormat, XdfStream

if TYPE_CHECKING:
    from stream.source_info import SourceInfo

__all__ = ["Recorder", "RecorderStatistics", "StreamCount"]

logger = logging.getLogger(__name__)

_TICK_S = 0.1  # the watchdog looks this often
_HANG_TICKS = 6  # so many looks without a sign of life mean that the writer hangs
_BOUNDARY_S = 10.0  # as LabRecorder does

EVENTS = "hearback events"


@dataclass(frozen=True, slots=True)
class StreamCount:
    """What became of the samples of one stream."""

    name: str
    written: int  # samples that are in the file
    waiting: int  # samples in memory
    lost: int  # samples that are nowhere, because the memory limit was reached


@dataclass(frozen=True, slots=True)
class RecorderStatistics:
    """How the recording stands."""

    path: Path
    events_path: Path
    n_bytes: int  # in the XDF file
    waiting_bytes: int  # in memory
    waiting_s: float  # age of the oldest of them
    failures: int  # how many times something went wrong so far
    failed: str | None  # what is wrong now
    streams: tuple[StreamCount, ...]

    @property
    def lost(self) -> int:
        """Samples of all streams that are in no file and will never be."""
        return sum(stream.lost for stream in self.streams)


@dataclass(slots=True)
class _Stream:
    header: XdfStream
    taken: int = 0
    lost: int = 0
    lost_since: float = float("nan")
    lost_until: float = float("nan")
    lost_told: int = 0


class Recorder:
    """Writes `recording.xdf` and `events.jsonl` into a folder; also a context manager.

    Parameters
    ----------
    folder : Path or str
        Made if it is not there. Files in it are never overwritten: new ones get a number.
    on_failure : callable
        Told one sentence, once for each outage and within a second, when something cannot be
        written. Called from a thread of the recorder; must come back at once.
    memory_limit_bytes : int
        What waits in memory while nothing can be written; beyond it samples are lost, counted,
        and said.
    clock : callable or None
        The time of events without one, in s; None: the LSL clock.

    Raises
    ------
    FileError
        If the files cannot be made now. Later trouble goes to `on_failure` instead.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        on_failure: Callable[[str], None],
        memory_limit_bytes: int = 256 << 20,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock or _lsl_clock
        self._health = Health(self._told(on_failure))
        self._limit = memory_limit_bytes
        self._streams: dict[int, _Stream] = {}
        self._lock = threading.Lock()  # the list of streams
        self._counting = threading.Lock()
        self._writer = RecordingWriter(
            Path(folder),
            health=self._health,
            on_recovery=self._recovered,
            on_look=self._look_after_intake,
            limit_bytes=memory_limit_bytes,
        )
        self._intake = Intake(self, health=self._health, on_tick=self._watch)
        self._last_beat, self._silent_ticks = 0, 0
        self._next_boundary = time.monotonic() + _BOUNDARY_S
        self._started = self._closed = False
        self._events_id = self.add_stream(EVENTS, "Markers", 1, channel_format="string")

    # What the session calls: none of it waits for the disk, none of it raises.

    @property
    def path(self) -> Path:
        """The XDF file."""
        return self._writer.xdf.path

    @property
    def failed(self) -> str | None:
        """What is wrong now, in one sentence; None if all is well."""
        return self._health.first

    def add_source(
        self,
        info: SourceInfo,
        reader: EventReader,
        *,
        clock_offsets: Callable[[], Sequence[tuple[float, float]]] | None = None,
    ) -> int:
        """Record everything that comes through this reader, from now on.

        Parameters
        ----------
        info : SourceInfo
            Who sends, and in which unit.
        reader : Reader
            A reader of its timeline that nobody else uses; read here, from a thread.
        clock_offsets : callable or None
            Returns all measurements (local time, s; offset, s) of the sender's clock so far.
            None: the stamps are on the clock of this machine.

        Returns
        -------
        stream_id : int
        """
        stream_id = self._open(source_stream(info), local=clock_offsets is None)
        self._intake.add(RecordedSource(stream_id, info, reader, clock_offsets))
        return stream_id

    def add_stream(
        self,
        name: str,
        type: str,  # noqa: A002 -- what LSL and XDF call it
        n_channels: int,
        *,
        sfreq_hz: float = 0.0,
        labels: Sequence[str] = (),
        units: Sequence[str] = (),
        channel_format: ChannelFormat = "float32",
        desc_xml: str = "",
    ) -> int:
        """Open a stream of our own, stamped on the LSL clock of this machine.

        Raises
        ------
        SettingError
            If labels or units are not as many as channels.
        """
        header = XdfStream(
            name=name,
            type=type,
            n_channels=n_channels,
            channel_format=channel_format,
            sfreq_hz=sfreq_hz,
            labels=tuple(labels),
            units=tuple(units),
            source_id=f"hearback {name}",
            desc_xml=desc_xml,
            can_drop_samples=sfreq_hz > 0,
        )
        return self._open(header, local=True)

    def write(self, stream_id: int, stamps: ArrayLike, samples: ArrayLike) -> None:
        """Record numbers: stamps (n,) in s, samples (n, n_channels)."""
        try:
            stream = self._streams[stream_id]
            chunks = sample_chunks(stream_id, stream.header, stamps, samples)
        except (HearbackError, LookupError, TypeError, ValueError) as error:
            self._complain(stream_id, error)
            return
        for chunk in chunks:
            self._keep(chunk)

    def write_text(self, stream_id: int, stamp: float, text: str | Sequence[str]) -> None:
        """Record one text, or one for each channel of the stream."""
        try:
            stream = self._streams[stream_id]
            chunk = string_chunk(stream_id, stream.header, stamp, [text])
        except (HearbackError, LookupError, TypeError, ValueError, AttributeError) as error:
            self._complain(stream_id, error)
            return
        self._keep(chunk, essential=stream_id == self._events_id)

    def write_clock_offset(self, stream_id: int, when: float, offset: float) -> None:
        """Record a measurement of a sender's clock: s on our clock, s to add to its stamps."""
        self._keep(clock_offset_chunk(stream_id, when, offset), essential=True)

    def event(self, what: str | Mapping[str, Any], stamp: float | None = None) -> None:
        """Record what happened: into the stream of events, and into `events.jsonl` for people."""
        when = self._clock() if stamp is None or not math.isfinite(stamp) else float(stamp)
        record = {"text": what} if isinstance(what, str) else dict(what)
        try:
            text = json.dumps(finite(record), default=str, ensure_ascii=False)
            line = {"t": when, "utc": datetime.now(UTC).isoformat(), **record}
            raw = json.dumps(finite(line), default=str, ensure_ascii=False).encode() + b"\n"
        except (TypeError, ValueError) as error:
            self._complain(self._events_id, error)
            return
        self.write_text(self._events_id, when, text)
        self._writer.lines.add(raw, len(raw), essential=True)

    def statistics(self) -> RecorderStatistics:
        """Return how the recording stands."""
        with self._lock:
            streams = list(self._streams.items())
        counts = []
        for stream_id, stream in streams:
            written = self._writer.xdf.n_samples(stream_id)
            waiting = max(0, stream.taken - written)
            counts.append(StreamCount(stream.header.name, written, waiting, stream.lost))
        writer = self._writer
        return RecorderStatistics(
            path=writer.xdf.path,
            events_path=writer.events_file.path,
            n_bytes=writer.xdf.size,
            waiting_bytes=writer.waiting_bytes,
            waiting_s=writer.waiting_s(),
            failures=self._health.count,
            failed=self.failed,
            streams=tuple(counts),
        )

    def start(self) -> None:
        """Start the two threads; a second call does nothing."""
        if not self._started:
            self._writer.start()
            self._intake.start()
            self._started = True  # from here on the two watch each other

    def close(self, *, timeout_s: float = 10.0) -> RecorderStatistics:
        """Take what the sources still hold, write all, and close the files.

        Stop the sources first, so that they hold all that came. Returns after `timeout_s` at the
        latest, whatever the disk does; what is not in the file then is told to `on_failure`.
        Waits for the disk: in an event loop, call it by `asyncio.to_thread`.
        """
        if self._closed:
            return self.statistics()
        self.start()
        self._closed = True
        deadline = time.monotonic() + timeout_s
        self._intake.finish(timeout_s=timeout_s)
        self._tell_losses()
        if not self._writer.alive:
            self._writer.start()
        left = self._writer.finish(timeout_s=max(0.1, deadline - time.monotonic()))
        if left or self._writer.alive:
            self._health.report(
                "end",
                f"{left} bytes could not be written to {self.path} before the end, {timeout_s:g} s "
                "after the recording was stopped.",
            )
        return self.statistics()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Into the queue.

    def _open(self, header: XdfStream, *, local: bool) -> int:
        with self._lock:
            stream_id = len(self._streams) + 1
            self._streams[stream_id] = _Stream(header)
            self._keep(header_chunk(stream_id, header), essential=True)
            if local:
                # Without one, pyxdf warns that it cannot synchronise the stream.
                offset = clock_offset_chunk(stream_id, self._clock(), 0.0)
                self._keep(offset, essential=True)
        return stream_id

    def _keep(self, chunk: XdfChunk, *, essential: bool = False) -> None:
        kept = self._writer.chunks.add(chunk, len(chunk.data), essential=essential)
        stream = self._streams.get(chunk.stream_id)
        if stream is None or not chunk.n_samples:
            return
        with self._counting:
            if kept:
                stream.taken += chunk.n_samples
                return
            if stream.lost == stream.lost_told:
                stream.lost_since = chunk.first_stamp
            stream.lost += chunk.n_samples
            stream.lost_until = chunk.last_stamp
        self._health.report(
            "memory",
            f"{self._limit >> 20} MiB wait for the disk and no more are kept: samples are being "
            f"lost from the recording. Make room on the disk of {self.path}.",
        )

    def _complain(self, stream_id: int, error: Exception) -> None:
        """Say once for each stream that something given to it cannot be recorded."""
        stream = self._streams.get(stream_id)
        name = (
            f"number {stream_id}, which is unknown" if stream is None else repr(stream.header.name)
        )
        self._health.report(
            f"stream {stream_id}",
            f"Something given to stream {name} cannot be recorded: {error or type(error).__name__}",
        )

    def _tell_losses(self) -> None:
        """Write down what was lost at the memory limit, once there is room again."""
        for stream in list(self._streams.values()):
            if stream.lost > stream.lost_told:
                n_lost, stream.lost_told = stream.lost - stream.lost_told, stream.lost
                self.event(
                    {
                        "kind": "not recorded",
                        "stream": stream.header.name,
                        "n_lost": n_lost,
                        "t_start": stream.lost_since,
                        "t_stop": stream.lost_until,
                    }
                )

    # From the two threads.

    def _watch(self) -> None:
        """Look after the writer: restart it if it died, say so if it hangs."""
        # Looks without a sign of life are counted, not seconds: when the whole machine was busy
        # or asleep the writer is not blamed.
        beat = self._writer.beat
        self._silent_ticks = self._silent_ticks + 1 if beat == self._last_beat else 0
        self._last_beat = beat
        if self._started and not self._closed and not self._writer.alive:
            self._health.report("writer", "The thread that writes has died; it is started again.")
            self._writer.start()
        elif self._silent_ticks >= _HANG_TICKS:
            self._health.report(
                "hang",
                f"The disk has not answered for {_HANG_TICKS * _TICK_S:.1f} s while {self.path} "
                "was written; what comes waits in memory.",
            )
        elif self._silent_ticks == 0:
            for kind in ("hang", "writer", "intake"):
                if self._health.clear(kind):
                    self._recovered("The recording is written again.")
        now = time.monotonic()
        if now >= self._next_boundary:
            self._next_boundary = now + _BOUNDARY_S
            self._keep(boundary_chunk())

    def _told(self, on_failure: Callable[[str], None]) -> Callable[[str], None]:
        """Return a listener that also writes the failure down, for when that works again."""

        def tell(sentence: str) -> None:
            self.event({"kind": "recorder", "text": sentence})
            on_failure(sentence)

        return tell

    def _recovered(self, sentence: str) -> None:
        logger.warning("Recording: %s", sentence)
        self.event({"kind": "recorder", "text": sentence})
        self._tell_losses()

    def _look_after_intake(self) -> None:
        if self._started and not self._closed and not self._intake.alive:
            self._health.report("intake", "The thread that reads has died; it is started again.")
            self._intake.start()


def _lsl_clock() -> float:
    """Return the time on the LSL clock, in s."""
    import pylsl

    return float(pylsl.local_clock())
