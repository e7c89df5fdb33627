"""The operator's hand on a session: keys in the terminal, and signals.

==============  ==========================================================
space           pause; again: resume
p, r            pause, resume
a, Esc          abort to silence and end the session
q               end the session in good order
Ctrl-C once     as ``a``; so do SIGTERM and SIGHUP (a closed terminal)
Ctrl-C twice    end at once, whatever is unfinished
==============  ==========================================================

The terminal gets its own settings back when the session ends, by an exception or a signal too; only
SIGKILL prevents that (then: ``stty sane``).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import re
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from stream.messages import Command

__all__ = ["KEYS", "Controls"]

logger = logging.getLogger(__name__)

KEYS: tuple[tuple[str, str], ...] = (
    ("space, p, r", "pause / resume"),
    ("a, Esc", "abort"),
    ("q", "quit"),
)
_ESCAPE = 0x1B
# What an arrow or function key sends (ECMA-48 CSI, SS3); any other Esc is an abort.
_SEQUENCE = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|O[@-~])")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Controls:
    """Turns keys and signals into commands: "pause", "resume", "abort" and "quit".

    Parameters
    ----------
    loop : event loop
        In which the commands are given; signals are taken only if it runs in the main thread.
    clock : callable, optional
        The LSL clock, s.
    keyboard : int, optional
        File descriptor of the terminal; standard input if not given. Anything that is not a
        terminal, or is one that we do not own (a job in the background), gives no keys.
    keys : bool
        False: signals only.

    Attributes
    ----------
    paused : bool
        What the space bar turns around. The session sets it when it was paused by other means.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] | None = None,
        keyboard: int | None = None,
        keys: bool = True,
    ) -> None:
        if clock is None:
            from stream.lsl import clock as lsl_clock

            clock = lsl_clock
        self.paused = False
        self._loop = loop
        self._clock = clock
        self._keyboard = _own_terminal(keyboard) if keys else None
        self._callback: Callable[[Command], None] | None = None
        self._settings: list[Any] | None = None  # of the terminal, before us
        self._handlers: dict[int, Any] = {}
        self._signals = 0

    @property
    def has_keyboard(self) -> bool:
        """Whether keys are taken."""
        return self._keyboard is not None

    def start(self, callback: Callable[[Command], None]) -> None:
        """Take keys and signals from now on; `callback` is called in the loop."""
        self._callback = callback
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._handlers[number] = signal.signal(number, self._on_signal)
            self._handlers[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._on_continue)
        if self._keyboard is not None:
            self._settings = termios.tcgetattr(self._keyboard)
            atexit.register(self._restore_terminal)
            self._set_terminal()
            self._loop.add_reader(self._keyboard, self._on_keys)

    def close(self) -> None:
        """Give terminal and signals back; may be called twice."""
        self._callback = None
        if self._settings is not None and self._keyboard is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.remove_reader(self._keyboard)
            self._restore_terminal()
            atexit.unregister(self._restore_terminal)
            self._settings = None
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _give(self, name: str, origin: str) -> None:
        if self._callback is not None:
            self._callback(Command(name, "", origin, self._clock()))

    # -- keys -----------------------------------------------------------------------------------

    def _on_keys(self) -> None:
        assert self._keyboard is not None
        try:
            pressed = os.read(self._keyboard, 256)
        except OSError:  # the terminal has gone
            pressed = b""
        if not pressed:
            self._loop.remove_reader(self._keyboard)
            return
        for key in _SEQUENCE.sub(b"", pressed):
            self._on_key(key)

    def _on_key(self, key: int) -> None:
        if key in (ord("p"), ord("P")) or (key == ord(" ") and not self.paused):
            self.paused = True
            self._give("pause", "keyboard")
        elif key in (ord("r"), ord("R"), ord(" ")):
            self.paused = False
            self._give("resume", "keyboard")
        elif key in (ord("a"), ord("A"), _ESCAPE):
            self._give("abort", "keyboard")
        elif key in (ord("q"), ord("Q")):
            self._give("quit", "keyboard")

    def _set_terminal(self) -> None:
        """Have keys come one by one and unseen; Ctrl-C and Ctrl-Z stay signals."""
        assert self._keyboard is not None
        with contextlib.suppress(termios.error):
            tty.setcbreak(self._keyboard, termios.TCSANOW)

    def _restore_terminal(self) -> None:
        if self._settings is not None and self._keyboard is not None:
            with contextlib.suppress(termios.error):  # the terminal has gone
                termios.tcsetattr(self._keyboard, termios.TCSANOW, self._settings)

    # -- signals --------------------------------------------------------------------------------

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Abort on the first; on the second do what the signal does without us.

        Not the loop's own signal handling: that waits for the loop, which may be what hangs.
        """
        self._signals += 1
        if self._signals > 1:
            self._restore_terminal()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        name = signal.Signals(number).name
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._give, "abort", name)

    def _on_continue(self, _number: int, _frame: FrameType | None) -> None:
        """After Ctrl-Z and fg the shell has put its own settings back."""
        if self._keyboard is not None and _in_foreground(self._keyboard):
            self._set_terminal()


def _own_terminal(keyboard: int | None) -> int | None:
    """Return the descriptor if it is a terminal whose keys are for us."""
    if keyboard is None:
        try:
            keyboard = sys.stdin.fileno()
        except (AttributeError, OSError, ValueError):  # none, closed, or replaced
            return None
    return keyboard if os.isatty(keyboard) and _in_foreground(keyboard) else None


def _in_foreground(keyboard: int) -> bool:
    """Whether we may change this terminal: a job in the background would be stopped for it."""
    try:
        return os.tcgetpgrp(keyboard) == os.getpgrp()
    except OSError:
        return False
