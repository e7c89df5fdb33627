"""A bounded, closable, counted queue between two stages."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Literal, Self, TypeVar

from models.errors import SettingError

__all__ = ["Channel", "ChannelClosedError", "ChannelStatistics"]

T = TypeVar("T")


class ChannelClosedError(Exception):
    """Sending into a channel that its sender has closed: a bug in the stage that sends."""


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """What has gone through a channel so far."""

    sent: int
    received: int
    dropped: int
    waiting: int


class Channel(Generic[T]):
    """A queue of at most `capacity` messages from one stage to the next.

    Parameters
    ----------
    capacity : int
        At least 1.
    when_full : {"wait", "drop_oldest"}
        `wait` where nothing may be lost; `drop_oldest` where only the present matters.

    Raises
    ------
    SettingError
        If `capacity` is below 1.
    """

    def __init__(self, capacity: int, when_full: Literal["wait", "drop_oldest"] = "wait") -> None:
        if capacity < 1:
            raise SettingError(f"A channel holds at least 1 message, got capacity={capacity}.")
        self.capacity = capacity
        self.when_full = when_full
        self._items: deque[T] = deque()
        self._changed = asyncio.Condition()
        self._closed = False
        self._sent = self._received = self._dropped = 0

    async def send(self, item: T) -> T | None:
        """Put one message in; return the message that was dropped for it, if any."""
        dropped: T | None = None
        async with self._changed:
            if self.when_full == "wait":
                await self._changed.wait_for(
                    lambda: self._closed or len(self._items) < self.capacity
                )
            if self._closed:
                raise ChannelClosedError("This channel is closed.")
            if len(self._items) >= self.capacity:
                dropped = self._items.popleft()
                self._dropped += 1
            self._items.append(item)
            self._sent += 1
            self._changed.notify_all()
        return dropped

    async def close(self) -> None:
        """No more messages will come; what is in the queue is still delivered."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    def statistics(self) -> ChannelStatistics:
        """Return the counts so far."""
        return ChannelStatistics(self._sent, self._received, self._dropped, len(self._items))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or bool(self._items))
            if not self._items:
                raise StopAsyncIteration
            item = self._items.popleft()
            self._received += 1
            self._changed.notify_all()
            return item

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
