"""A cursor into a timeline: everything exactly once, in order, however late it is asked for."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from stream.messages import Gap, GapReason, StateChange, TimelineEvent

if TYPE_CHECKING:
    from stream.timeline import Entry, Log, Timeline

__all__ = ["Reader"]

_MAX_CHUNK_VALUES = 2**22  # 16 MiB of float32: a reader far behind is fed in pieces


class _Cursor(NamedTuple):
    position: int
    entry: int  # number of the next entry of the log
    offset: int
    segment: int
    stamp: float  # of the last sample that was read


class Reader:
    """One follower of a timeline; made by `Timeline.reader`. For one thread or task at a time."""

    def __init__(self, timeline: Timeline, name: str, *, since: Literal["start", "now"]) -> None:
        self.name = name
        self.overruns = 0
        self._timeline = timeline
        self._waker: Callable[[], object] | None = None
        written, log = timeline.view()
        oldest = timeline.span()[0]
        # The very oldest sample is about to be overwritten: start a little later.
        at = 0 if oldest == 0 else min(written, oldest + timeline.capacity // 8)
        if since == "now":
            at = written
        self._at = self._before = _skip(
            log, _Cursor(at, log.base, log.before.offset, log.before.segment, math.nan), at
        )[0]
        if since == "now":
            # What happened before the newest sample is past; only what follows is wanted.
            entries = [item for item in log.entries if item.position <= written]
            state = entries[-1] if entries else log.before
            self._at = self._before = _Cursor(
                at, log.base + len(entries), state.offset, state.segment, math.nan
            )

    def read(self) -> list[TimelineEvent]:
        """Return all that has come since the last call; never waits.

        Samples that follow each other without an event between them come as one `Chunk` (very
        long stretches as several). If this reader was slower than the history is long, a `Gap`
        with `GapReason.READER` stands in place of what it missed, gaps included.
        """
        timeline = self._timeline
        found: list[TimelineEvent] = []
        self._before = self._at
        # Samples first, then the log: each entry is in the log before the samples that follow it
        # are published, so no sample can be taken for one of an older segment.
        written, log = timeline.view()
        position, number, offset, segment, stamp = self._at
        longest = max(1, _MAX_CHUNK_VALUES // timeline.n_channels)
        while True:
            if number < log.base or position < timeline.span()[0]:
                cursor = self._overrun(_Cursor(position, number, offset, segment, stamp), found)
                written, log = timeline.view()
                position, number, offset, segment, stamp = cursor
                continue
            entry = log.entries[number - log.base] if number - log.base < len(log.entries) else None
            stop = written if entry is None else min(written, entry.position)
            if position < stop:
                stop = min(stop, position + longest)
                chunk = timeline.copy(position, stop, first=position + offset, segment=segment)
                if chunk is None:
                    continue  # overwritten while it was copied
                found.append(chunk)
                position, stamp = stop, float(chunk.stamps[-1])
            elif entry is not None and entry.position == position:
                number, offset, segment = number + 1, entry.offset, entry.segment
                if entry.event is not None:
                    found.append(entry.event)
            else:
                break
        self._at = _Cursor(position, number, offset, segment, stamp)
        return found

    def rewind(self) -> None:
        """Take back the last `read`: the next one returns the same again, and what came since.

        For a stage that failed on what it had read and is started again.
        """
        self._at = self._before

    @property
    def available(self) -> bool:
        """Whether `read` would return anything."""
        written, log = self._timeline.view()
        return self._at.position < written or self._at.entry < log.base + len(log.entries)

    @property
    def ended(self) -> bool:
        """Whether the source has ended and everything of it was read."""
        return self._timeline.ended and not self.available

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, in a thread, until there is something to read or the source has ended.

        Returns
        -------
        ready : bool
            False if `timeout` seconds passed instead.
        """
        lock = threading.Lock()
        lock.acquire()
        self._waker = lock.release
        try:
            if self.available or self._timeline.ended:
                return True
            return lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        finally:
            self._waker = None

    async def wait_async(self) -> None:
        """Wait, in a task, until there is something to read or the source has ended."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def finish() -> None:
            if not ready.done():
                ready.set_result(None)

        self._waker = lambda: loop.call_soon_threadsafe(finish)
        try:
            if not self.available and not self._timeline.ended:
                await ready
        finally:
            self._waker = None

    def wake(self) -> None:
        """Wake this reader if it waits; called by the writer."""
        waker = self._waker
        if waker is not None:
            self._waker = None  # one wake is enough until it waits again
            try:
                waker()
            except RuntimeError:
                pass  # its event loop was closed, or its wait had just run out of time

    def close(self) -> None:
        """Never to be woken again."""
        self._timeline.forget(self)

    def _overrun(self, at: _Cursor, found: list[TimelineEvent]) -> _Cursor:
        """Move on to what is still there, a little past the oldest, and say what was missed."""
        timeline = self._timeline
        self.overruns += 1
        written, log = timeline.view()
        oldest = timeline.span()[0]
        target = min(written, oldest + timeline.capacity // 8)
        start = at.position + at.offset
        cursor, state = _skip(log, at._replace(position=target), target)
        if state is not None:
            found.append(state)
        chunk = timeline.copy(target, target + 1, first=0, segment=0) if target < written else None
        found.append(
            Gap(
                GapReason.READER,
                first=start,
                n_lost=target + cursor.offset - start,
                t_start=at.stamp,
                t_stop=float(chunk.stamps[0]) if chunk is not None else math.nan,
                raised=float("nan") if chunk is None else chunk.arrived,
            )
        )
        return cursor


def _skip(log: Log, at: _Cursor, position: int) -> tuple[_Cursor, StateChange | None]:
    """Pass all entries before `position`; return where that leads, and the last state met."""
    state: StateChange | None = None
    last: Entry = log.before
    number = max(at.entry, log.base)
    offset, segment = at.offset, at.segment
    if at.entry <= log.base:
        offset, segment = last.offset, last.segment
    for entry in log.entries[number - log.base :]:
        if entry.position >= position:
            break
        number, offset, segment = number + 1, entry.offset, entry.segment
        if isinstance(entry.event, StateChange):
            state = entry.event
    return _Cursor(position, number, offset, segment, at.stamp), state
