"""The connection to one LSL stream: opened, lost, found again, its clock measured."""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pylsl
from pylsl.util import LostError, TimeoutError  # noqa: A004 - liblsl's own, not Python's

from models.errors import SourceError
from stream.clock import CorrectionFilter
from stream.lsl import StreamQuery, clock, resolve, search
from stream.source_info import SourceInfo, read_info

__all__ = ["Link"]

_LOG = logging.getLogger(__name__)

_OPEN_S = 5.0
_REOPEN_S = 2.0
_SEARCH_S = 0.7  # the longest that `stop` has to wait
_GLANCE_S = 0.2
_CORRECTION_EVERY_S = 1.0  # liblsl measures anew every 2 s; its first takes 0.64 s
_KEPT_OFFSETS = 100_000  # a day at one a second


class Link:
    """One stream, by whatever inlet it can be had now.

    liblsl aborts the process when an inlet is destroyed while another thread is inside it. So each
    inlet has one thread that asks for time corrections, and this thread is also the one that lets
    go of the inlet, after the puller has said that it is done with it. Neither waits for the other.
    """

    def __init__(self, query: StreamQuery, *, max_buflen_s: int) -> None:
        self.query = query
        self.max_buflen_s = max_buflen_s
        self.offsets: deque[tuple[float, float]] = deque(maxlen=_KEPT_OFFSETS)
        self.refused = ""  # why a stream that was found was not taken
        self._connection: _Connection | None = None
        self._closing: list[_Connection] = []
        self._info: SourceInfo | None = None
        self._correction: CorrectionFilter | None = None  # of the connection before

    def open(self, timeout_s: float) -> SourceInfo:
        """Find the stream and subscribe to it.

        Raises
        ------
        SourceError
            If it is not there, does not answer, or describes itself wrongly.
        """
        query = self.query
        found = resolve(query.name, query.type, source_id=query.source_id, timeout_s=timeout_s)
        try:
            self._connection, self._info = self._connect(found, _OPEN_S)
        except (LostError, TimeoutError) as error:
            raise SourceError(
                f"Stream '{found.name()}' is announced but does not answer. Restart its sender."
            ) from error
        return self._info

    def reopen(
        self, stop: threading.Event, *, refused: Callable[[str], None] = lambda why: None
    ) -> SourceInfo | None:
        """Look for the stream, again and again, until it is back or `stop` is set.

        `refused` is told, once for each reason, why a stream that was found was not taken.
        """
        assert self._info is not None
        before = self._info
        query = (
            StreamQuery(source_id=before.source_id)
            if before.source_id
            else StreamQuery(before.name, before.type)
        )
        while not stop.is_set():
            found = search(query, timeout_s=_SEARCH_S)
            if found is None:
                continue
            try:
                connection, info = self._connect(found, _REOPEN_S)
            except (LostError, TimeoutError, SourceError) as error:
                if str(error) != self.refused:
                    self.refused = str(error)
                    refused(self.refused)
                stop.wait(0.05)
                continue
            if _shape(info) != _shape(before):
                why = f"it came back as {info.described}, expected {before.described}"
                if why != self.refused:
                    self.refused = why
                    _LOG.warning("Stream '%s' is not taken: %s.", before.name, why)
                    refused(why)
                connection.close()
                self._closing.append(connection)
                stop.wait(0.5)
                continue
            self._connection, self._info, self.refused = connection, info, ""
            return info
        return None

    def replaced(self) -> bool:
        """Whether another instance of the stream is announced: the one we hold is dead."""
        info = self._info
        if info is None or not info.source_id:
            return False
        found = search(StreamQuery(source_id=info.source_id), timeout_s=_GLANCE_S)
        return found is not None and found.uid() != info.uid

    @property
    def inlet(self) -> Any:
        """The `pylsl.StreamInlet`; only the puller may use it, and not after `drop`."""
        assert self._connection is not None
        return self._connection.inlet

    @property
    def correction(self) -> CorrectionFilter:
        """What to add to raw stamps of the present connection."""
        assert self._connection is not None
        return self._connection.correction

    def drop(self) -> None:
        """Let go of the inlet; the puller must not be inside it, nor enter it again."""
        if self._connection is not None:
            self._correction = self._connection.correction
            self._connection.close()
            self._closing = [item for item in self._closing if item.is_alive()]
            self._closing.append(self._connection)
            self._connection = None

    def close(self) -> None:
        """Let go of everything and wait until it is gone."""
        self.drop()
        for item in self._closing:
            item.join()
        self._closing = []

    def _connect(self, found: Any, timeout_s: float) -> tuple[_Connection, SourceInfo]:
        inlet = pylsl.StreamInlet(
            found, max_buflen=self.max_buflen_s, recover=False, processing_flags=0, as_numpy=True
        )
        inlet.open_stream(timeout_s)  # from here on samples are queued
        info = read_info(inlet.info(timeout_s))
        same_host = info.hostname == socket.gethostname()
        correction = CorrectionFilter(same_host, self._correction)
        return _Connection(inlet, correction, self.offsets), info


class _Connection(threading.Thread):
    """Asks one inlet for time corrections, and ends its life."""

    def __init__(
        self, inlet: Any, correction: CorrectionFilter, offsets: deque[tuple[float, float]]
    ) -> None:
        super().__init__(name="lsl-clock", daemon=True)
        self.inlet = inlet
        self.correction = correction
        self._offsets = offsets
        self._closed = threading.Event()
        self.start()

    def run(self) -> None:
        last = None
        while not self._closed.is_set():
            try:
                offset = float(self.inlet.time_correction(_CORRECTION_EVERY_S))
            except TimeoutError:
                continue
            except LostError:
                break
            if offset != last:  # liblsl repeats itself until it has measured anew
                now = clock()
                self.correction.add(now, offset)
                self._offsets.append((now, offset))
                last = offset
            self._closed.wait(_CORRECTION_EVERY_S)
        self._closed.wait()
        self.inlet = None  # here the inlet is destroyed

    def close(self) -> None:
        """Let go of the inlet, of which the puller has made its last use."""
        self._closed.set()


def _shape(info: SourceInfo) -> tuple[int, str, float, int | None]:
    return info.n_sent, info.format, info.sfreq_hz, info.counter_channel
