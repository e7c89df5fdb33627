"""The thread that takes what the sources of a recording bring, so that none of them ever waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import ArrayLike

from stream.messages import Chunk
from stream.recorder_health import Health
from stream.recorder_streams import EventReader, SentText, as_sent, event_record
from stream.source_info import SourceInfo

__all__ = ["Intake", "IntakeSink", "RecordedSource"]

logger = logging.getLogger(__name__)

_INTAKE_S = 0.015  # sources are asked this often; the writer is as quick: far below 100 ms
_TICK_S = 0.1  # the caller's watchdog looks this often


class IntakeSink(Protocol):
    """Where what was taken goes; none of it waits or raises."""

    def write(self, stream_id: int, stamps: ArrayLike, samples: ArrayLike) -> None:
        """Keep numbers."""

    def write_text(self, stream_id: int, stamp: float, text: str | Sequence[str]) -> None:
        """Keep a text, or one for each channel."""

    def write_clock_offset(self, stream_id: int, when: float, offset: float) -> None:
        """Keep a measurement of the sender's clock."""

    def event(self, what: str | Mapping[str, Any], stamp: float | None = None) -> None:
        """Keep what happened."""


@dataclass(slots=True)
class RecordedSource:
    """A source, its reader, and how far its clock offsets were taken."""

    stream_id: int
    info: SourceInfo
    reader: EventReader
    clock_offsets: Callable[[], Sequence[tuple[float, float]]] | None
    offsets_until: float = float("-inf")


class Intake:
    """Asks every source, many times a second, for what is new.

    Parameters
    ----------
    sink : IntakeSink
        Given everything.
    health : Health
        Told when a source cannot be read; the others go on.
    on_tick : callable
        Called from the thread every 0.1 s.
    """

    def __init__(self, sink: IntakeSink, *, health: Health, on_tick: Callable[[], None]) -> None:
        self._sink = sink
        self._health = health
        self._on_tick = on_tick
        self._sources: list[RecordedSource] = []
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._collecting = threading.Lock()

    def add(self, source: RecordedSource) -> None:
        """Take from this source too, from now on."""
        with self._collecting:
            self._sources.append(source)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, also again after it died."""
        self._thread = threading.Thread(target=self._run, name="recorder-intake", daemon=True)
        self._thread.start()

    def finish(self, *, timeout_s: float) -> None:
        """Stop the thread and take what the sources still hold."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self.collect()

    def _run(self) -> None:
        next_tick = time.monotonic() + _TICK_S
        while not self._stop.wait(_INTAKE_S):
            self.collect()
            now = time.monotonic()
            if now >= next_tick:
                # From now, not from when it was due: after the whole process was stopped, or had
                # no processor, one tick is due and not fifty.
                next_tick = now + _TICK_S
                self._on_tick()

    def collect(self) -> None:
        """Take what has come since the last time."""
        with self._collecting:
            for source in self._sources:
                try:
                    self._collect_from(source)
                except Exception as error:  # one broken source must not stop the others
                    logger.debug("Reading a source failed", exc_info=True)
                    self._health.report(
                        f"source {source.stream_id}",
                        f"Stream {source.info.name!r} cannot be read for the recording: {error}",
                    )

    def _collect_from(self, source: RecordedSource) -> None:
        if source.clock_offsets is not None:
            for when, offset in source.clock_offsets():
                if when > source.offsets_until:  # by time: old ones are forgotten in the end
                    self._sink.write_clock_offset(source.stream_id, when, offset)
                    source.offsets_until = when
        for event in source.reader.read():
            if isinstance(event, Chunk):
                samples = as_sent(source.info, event)
                self._sink.write(source.stream_id, event.raw_stamps, samples)
            elif isinstance(event, SentText):
                self._sink.write_text(source.stream_id, event.raw_stamp, event.texts)
            else:
                self._sink.event(event_record(source.info.name, event), event.raised)
