"""Ctrl-C and SIGTERM as a wish to save and leave, in place of the end of the process."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

__all__ = ["stop_on_signals"]

_log = logging.getLogger(__name__)


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """Yield an event that either signal sets, as long as the context lasts."""
    stop = Event()

    def end(number: int, _frame: FrameType | None) -> None:
        _log.info("Signal %d: saving after this step.", number)
        stop.set()

    before = {kind: signal.signal(kind, end) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
