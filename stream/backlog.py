"""What waits for the disk: a queue that is bounded in bytes and gives up a group at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Backlog"]

T = TypeVar("T")


class Backlog(Generic[T]):
    """Records in order, until they are known to be written.

    Parameters
    ----------
    limit_bytes : int
        What does not fit any more is refused.
    reserve_bytes : int
        On top of the limit, for records that must not be refused while there is any way.
    """

    def __init__(self, limit_bytes: int, *, reserve_bytes: int = 16 << 20) -> None:
        self._limit = limit_bytes
        self._reserve = reserve_bytes
        self._records: deque[tuple[T, int, float]] = deque()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def add(self, record: T, n_bytes: int, *, essential: bool = False) -> bool:
        """Put a record at the end; return False if there is no room for it."""
        limit = self._limit + (self._reserve if essential else 0)
        with self._lock:
            if self._n_bytes + n_bytes > limit:
                return False
            self._records.append((record, n_bytes, time.monotonic()))
            self._n_bytes += n_bytes
            return True

    def first(self, max_bytes: int) -> list[T]:
        """Return the oldest records that make up about `max_bytes`; they stay in the queue."""
        group: list[T] = []
        n_bytes = 0
        with self._lock:
            for record, size, _ in self._records:
                if group and n_bytes + size > max_bytes:
                    break
                group.append(record)
                n_bytes += size
        return group

    def done(self, n_records: int) -> None:
        """Forget the oldest records: they are written."""
        with self._lock:
            for _ in range(n_records):
                self._n_bytes -= self._records.popleft()[1]

    @property
    def n_bytes(self) -> int:
        """Bytes that wait."""
        return self._n_bytes

    def age_s(self) -> float:
        """Return how long the oldest record has been waiting, 0 if there is none."""
        with self._lock:
            return time.monotonic() - self._records[0][2] if self._records else 0.0

    def __len__(self) -> int:
        return len(self._records)
