"""Streams of text (markers) for the recorder: every channel, stamped as the sender stamped them."""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Self

from pylsl.util import LostError

from stream.lsl import StreamQuery, clock
from stream.messages import SourceState, StateChange
from stream.recorder_streams import SentText
from stream.source import Source
from stream.timeline import Accounting

__all__ = ["TextSource", "TextTimeline"]

_PULL_S = 0.05
_TEXTS = 1024  # samples in one pull
_KEPT = 100_000  # samples that a reader may fall behind


class TextTimeline:
    """What has come from one text stream; as much of a timeline as the recorder needs."""

    def __init__(self) -> None:
        self._events: deque[SentText | StateChange] = deque(maxlen=_KEPT)
        self.newest_stamp = math.nan  # s, our clock
        self._n = 0

    def reader(self, _name: str) -> TextTimeline:
        """Return the one reader that there is."""
        return self

    def read(self) -> list[SentText | StateChange]:
        """Return what has come since the last call."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def add(self, event: SentText | StateChange, stamp: float = math.nan) -> None:
        """Put an event at the end; `stamp` is that of a text, on our clock."""
        self._events.append(event)
        if isinstance(event, SentText):
            self._n += 1
            self.newest_stamp = stamp

    def accounting(self) -> Accounting:
        """Return the counts; text streams do not number their samples."""
        return Accounting(None, self._n, 0, 0, 0, 0, 0)


class TextSource(Source):
    """A thread that pulls one stream of strings.

    Parameters
    ----------
    query : StreamQuery
        Which stream.
    timeout_s : float
        How long `start` looks for it.
    """

    def __init__(self, query: StreamQuery, *, timeout_s: float = 5.0) -> None:
        super().__init__(query, max_buflen_s=360, timeout_s=timeout_s)
        self.timeline = TextTimeline()

    def start(self) -> Self:
        """Find the stream and start to pull.

        Raises
        ------
        SourceError
            If it is not there.
        """
        if self._thread is None:
            self._info = self._link.open(self.timeout_s)
            self._thread = threading.Thread(target=self._run, name="lsl-text", daemon=True)
            self._thread.start()
        return self

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if not self._pull():
                    self._reconnect()
        except BaseException as error:
            self.error = error
            now = clock()
            self.timeline.add(StateChange(SourceState.ENDED, now, now, f"failed: {error}"))
        finally:
            self._link.drop()

    def _pull(self) -> bool:
        try:
            rows, raw = self._link.inlet.pull_chunk(_PULL_S, _TEXTS, min_samples=1, as_numpy=True)
        except LostError:
            return False
        for row, stamp in zip(rows, raw, strict=True):
            offsets = self._link.offsets
            ours = stamp + (offsets[-1][1] if offsets else 0.0)
            # Bytes, because not every sender keeps to UTF-8; what is not is shown, not lost.
            texts = tuple(bytes(text).decode("utf-8", "backslashreplace") for text in row)
            self.timeline.add(SentText(texts, float(stamp)), ours)
        return True

    def _reconnect(self) -> None:
        now = clock()
        self.timeline.add(StateChange(SourceState.LOST, now, now))
        self._link.drop()
        info = self._link.reopen(self._stop)
        if info is not None:
            now = clock()
            self.timeline.add(StateChange(SourceState.CONNECTED, now, now))
