"""Ctrl-C and SIGTERM as a wish to save and leave, in place of the end of the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["stop_on_signals"]


@contextmanager
def stop_on_signals(on_signal: Callable[[int], None] | None = None) -> Iterator[threading.Event]:
    """Yield an event that either signal sets, as long as the context lasts.

    Parameters
    ----------
    on_signal : callable, optional
        Called with the signal's number when it comes.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may; whoever runs us in another one stops us otherwise
        return

    def ask(number: int, _frame: object) -> None:
        if on_signal is not None:
            on_signal(number)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
