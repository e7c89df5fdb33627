"""What all that pulls from a stream of LSL has in common: it is found, started, stopped."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from models.errors import SourceError
from stream.link import Link
from stream.lsl import StreamQuery, configure
from stream.source_info import SourceInfo

__all__ = ["Source"]


class Source(ABC):
    """One stream, pulled by a thread of its own; also a context manager.

    Parameters
    ----------
    query : StreamQuery
        Which stream.
    max_buflen_s : int
        Length of liblsl's own queue.
    timeout_s : float
        How long `start` looks for it.
    """

    def __init__(self, query: StreamQuery, *, max_buflen_s: int, timeout_s: float) -> None:
        configure()
        self.query = query
        self.timeout_s = timeout_s
        self.error: BaseException | None = None  # what ended the thread, if it was not `stop`
        self._link = Link(query, max_buflen_s=max_buflen_s)
        self._info: SourceInfo | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @abstractmethod
    def start(self) -> Self:
        """Find the stream and start to pull.

        Raises
        ------
        SourceError
            If it is not there, or not one that can be pulled here.
        """

    def stop(self) -> None:
        """Stop pulling and let go of the stream; what was pulled stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._link.close()

    @property
    def info(self) -> SourceInfo:
        """What the stream says about itself."""
        if self._info is None:
            raise SourceError("The source was not started; call start() first.")
        return self._info

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
