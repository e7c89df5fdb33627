"""What waits to be published: bounded for each topic, the oldest goes first, never blocks."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace

__all__ = ["Outbox", "OutgoingMessage"]

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message on its way to the broker."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    attempts: int = 0  # connections that were lost while it was on its way


class Outbox:
    """A queue for each topic, served in the order of the topics; safe between threads.

    Parameters
    ----------
    capacities : dict of str to int
        Topic -> messages that may wait; the first topic is served first.
    """

    def __init__(self, capacities: dict[str, int]) -> None:
        self._queues: dict[str, deque[OutgoingMessage]] = {
            topic: deque(maxlen=capacity) for topic, capacity in capacities.items()
        }
        self._lock = threading.Lock()
        self.dropped = 0

    def put(self, message: OutgoingMessage) -> None:
        """Add a message; the oldest of its topic is dropped if there is no room."""
        with self._lock:
            queue = self._queues[message.topic]
            self.dropped += len(queue) == queue.maxlen
            queue.append(message)

    def put_back(self, message: OutgoingMessage) -> None:
        """Put a message that could not be sent first again, unless newer ones took its room.

        One with which the connection was lost three times is dropped: it may be the reason.
        """
        message = replace(message, attempts=message.attempts + 1)
        with self._lock:
            queue = self._queues[message.topic]
            if len(queue) == queue.maxlen or message.attempts >= _ATTEMPTS:
                self.dropped += 1
            else:
                queue.appendleft(message)

    def put_unless_waiting(self, message: OutgoingMessage) -> None:
        """Add a message unless one of its topic waits already."""
        with self._lock:
            if not self._queues[message.topic]:
                self._queues[message.topic].append(message)

    def take(self) -> OutgoingMessage | None:
        """Return the next message, or None."""
        with self._lock:
            for queue in self._queues.values():
                if queue:
                    return queue.popleft()
        return None

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._queues.values()))
