"""A marker stream from LSL: strings, or values of an irregular stream, each with its time."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from pylsl.util import LostError

from models.errors import SourceError
from stream.link import Link
from stream.lsl import SourceInfo, StreamQuery, clock, configure
from stream.messages import Marker, SourceState, StateChange

__all__ = ["MarkerReader", "MarkerSource"]

_LOG = logging.getLogger(__name__)

_PULL_S = 0.1
_MAX_MARKERS = 256  # taken at once
_MAX_TEXT = 65_536  # characters; a marker is a word, not a file
_FIRST_CORRECTION_S = 2.0


class MarkerReader:
    """The markers that have come, each once; and a `wait` like that of a timeline's reader."""

    def __init__(self, source: MarkerSource, name: str) -> None:
        self.name = name
        self._source = source
        self._items: deque[Marker | StateChange] = deque()
        self._waker: Callable[[], object] | None = None

    def read(self) -> list[Marker | StateChange]:
        """Return all that has come since the last call; never waits."""
        found = []
        while self._items:
            found.append(self._items.popleft())
        return found

    @property
    def ended(self) -> bool:
        """Whether the source was stopped and everything of it was read."""
        return self._source.ended and not self._items

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, in a thread, until there is something to read or the source has ended."""
        lock = threading.Lock()
        lock.acquire()
        self._waker = lock.release
        try:
            if self._items or self._source.ended:
                return True
            return lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        finally:
            self._waker = None

    async def wait_async(self) -> None:
        """Wait, in a task, until there is something to read or the source has ended."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        self._waker = lambda: loop.call_soon_threadsafe(ready.set)
        try:
            if not self._items and not self._source.ended:
                await ready.wait()
        finally:
            self._waker = None

    def put(self, items: list[Marker | StateChange]) -> None:
        """Add what has come; called by the source."""
        self._items.extend(items)
        waker, self._waker = self._waker, None
        if waker is not None:
            try:
                waker()
            except RuntimeError:
                pass  # its event loop was closed


class MarkerSource:
    """Markers of one stream, kept connected.

    Parameters
    ----------
    query : StreamQuery or str
        Which stream; a string is its name.
    timeout_s : float
        How long `start` looks for it.
    """

    def __init__(self, query: StreamQuery | str, *, timeout_s: float = 5.0) -> None:
        configure()
        self.query = StreamQuery(name=query) if isinstance(query, str) else query
        self.timeout_s = timeout_s
        self.ended = False
        self.received = 0
        self.state = SourceState.LOST
        self._link = Link(self.query, max_buflen_s=360)
        self._info: SourceInfo | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._past: list[Marker | StateChange] = []
        self._readers: tuple[MarkerReader, ...] = ()

    def start(self) -> Self:
        """Find the stream and start to pull.

        Raises
        ------
        SourceError
            If the stream is not there, damaged, or a regular one.
        """
        if self._thread is not None:
            return self
        info = self._link.open(self.timeout_s)
        if info.sfreq_hz > 0 and info.format != "string":
            self._link.close()
            raise SourceError(
                f"Stream {info.described} is sampled regularly; expected markers. "
                "It is read by an LslSource."
            )
        self._info = info
        self._change(SourceState.CONNECTED)
        self._thread = threading.Thread(target=self._run, name=f"lsl-{info.name}", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop pulling and let go of the stream."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._link.close()
        if not self.ended:
            self.ended = True
            self._change(SourceState.ENDED)

    @property
    def info(self) -> SourceInfo:
        """What the stream says about itself."""
        if self._info is None:
            raise SourceError("The source was not started; call start() first.")
        return self._info

    def reader(self, name: str) -> MarkerReader:
        """Return a new reader, which gets everything from the start on."""
        reader = MarkerReader(self, name)
        with self._lock:
            reader.put(self._past)
            self._readers = (*self._readers, reader)
        return reader

    def clock_offsets(self) -> list[tuple[float, float]]:
        """Return liblsl's measurements: local time, s, and what to add to raw stamps, s."""
        return list(self._link.offsets)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self.stop))

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if not self._pull():
                    self._change(SourceState.LOST)
                    self._link.drop()
                    info = self._link.reopen(self._stop)
                    if info is not None:
                        self._info = info
                        self._change(SourceState.CONNECTED)
        except Exception:
            _LOG.exception("The thread that pulls markers '%s' failed.", self.info.name)
            self.ended = True
            self._change(SourceState.ENDED)
        finally:
            self._link.drop()

    def _pull(self) -> bool:
        """Pull once; return False if the connection is gone (see `LslSource`)."""
        is_text = self.info.format == "string"
        try:
            rows, stamps = self._link.inlet.pull_chunk(
                _PULL_S, _MAX_MARKERS, min_samples=1, as_numpy=True
            )
        except LostError:
            return False
        if not len(stamps):
            return True
        correction = self._link.correction
        deadline = clock() + _FIRST_CORRECTION_S
        while not correction.ready and correction.provisional is None and clock() < deadline:
            if self._stop.wait(0.005):
                break
        offset = correction.at(clock())
        name = self.info.name
        found: list[Marker | StateChange] = [
            Marker(_text(row, is_text), float(stamp) + offset, name)
            for row, stamp in zip(rows, stamps, strict=True)
        ]
        self.received += len(found)
        self._publish(found)
        return True

    def _change(self, state: SourceState) -> None:
        self.state = state
        now = clock()
        self._publish([StateChange(state, now, now)])

    def _publish(self, items: list[Marker | StateChange]) -> None:
        with self._lock:
            self._past += items
            for reader in self._readers:
                reader.put(items)


def _text(row: Any, is_text: bool) -> str:
    """Return one marker of one or more channels as text; bytes that are no UTF-8 are shown."""
    if is_text:
        parts = [bytes(part).decode("utf-8", "backslashreplace") for part in row]
    else:
        parts = [f"{value:g}" if value % 1 else f"{int(value)}" for value in row.tolist()]
    return "\t".join(parts)[:_MAX_TEXT]
