"""Keys through a real pseudo-terminal and signals to a real process."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest

PROGRAM = """
import asyncio, fcntl, os, sys, termios
from stream.control import Controls

if os.isatty(0):
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)

async def main():
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    def command(c):
        os.write(1, f"{c.name} by {c.origin} at {c.at}\\n".encode())
        if c.name in ("abort", "quit") and "hang" not in sys.argv:
            done.set()
    with Controls(loop, clock=lambda: 5.0) as controls:
        controls.start(command)
        os.write(1, f"ready {controls.has_keyboard}\\n".encode())
        if "raise" in sys.argv:
            raise RuntimeError("as it happens")
        if "exit" in sys.argv:
            os.write(1, b"leaving\\n")
            sys.exit(3)
        if "block" in sys.argv:
            while True: pass
        await done.wait()
    os.write(1, b"ended\\n")

asyncio.run(main())
"""

WITHIN_S = 60.0


class Terminal:
    """A program in a terminal of its own; its output comes through a pipe, its keys from us."""

    def __init__(self, *arguments: str) -> None:
        self.master, self._slave = pty.openpty()
        self.before = self.settings()
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdin=self._slave,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait_for(self, text: str) -> None:
        """Wait until the program has written a text."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + WITHIN_S
        while text not in self.text:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, left))
            data = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            assert data, f"{text!r} did not come; came {self.text!r}"
            self.text += data.decode()

    def end(self) -> int:
        return self.process.wait(WITHIN_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        os.close(self.master)
        os.close(self._slave)


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    made = Terminal(*getattr(request, "param", ()))
    yield made
    made.close()


def test_keys_are_commands_and_the_terminal_is_given_back(terminal: Terminal) -> None:
    terminal.wait_for("ready True")
    assert not terminal.settings()[3] & termios.ECHO
    for keys, text in (
        (b" ", "pause by keyboard at 5.0"),
        (b" ", "resume by keyboard at 5.0"),
        (b"p", "pause by"),
        (b"r", "resume by"),
    ):
        terminal.text = ""
        terminal.press(keys)
        terminal.wait_for(text)
    terminal.text = ""
    # Arrow and function keys are no Esc; keys that come all at once all count.
    terminal.press(b"\x1b[A\x1b[15~\x1bOPxyz")
    terminal.press(b"\x1b[Bq")
    terminal.wait_for("ended")
    assert "abort" not in terminal.text
    assert "quit by keyboard" in terminal.text
    assert terminal.end() == 0
    assert terminal.settings() == terminal.before


@pytest.mark.parametrize("key", [b"a", b"\x1b", b"A", b"\x1bx", b"\x1b[A\x1b"])
def test_abort_has_its_keys(terminal: Terminal, key: bytes) -> None:
    terminal.wait_for("ready")
    terminal.press(key)
    terminal.wait_for("abort by keyboard")
    terminal.wait_for("ended")


@pytest.mark.parametrize("terminal", [("raise",), ("exit",)], indirect=True)
def test_the_terminal_is_given_back_whatever_happens(terminal: Terminal) -> None:
    assert terminal.end() in (1, 3)
    assert terminal.settings() == terminal.before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_aborts_in_good_order(terminal: Terminal, number: signal.Signals) -> None:
    terminal.wait_for("ready")
    terminal.process.send_signal(number)
    terminal.wait_for(f"abort by {number.name} at 5.0")
    terminal.wait_for("ended")
    assert terminal.end() == 0
    assert terminal.settings() == terminal.before


@pytest.mark.parametrize("terminal", [("hang",)], indirect=True)
def test_ctrl_c_twice_ends_at_once(terminal: Terminal) -> None:
    terminal.wait_for("ready")
    terminal.press(b"\x03")
    terminal.wait_for("abort by SIGINT")
    assert terminal.process.poll() is None
    terminal.press(b"\x03")
    assert terminal.end() == -signal.SIGINT
    assert terminal.settings() == terminal.before


@pytest.mark.parametrize("terminal", [("block",)], indirect=True)
def test_a_second_signal_ends_a_session_whose_loop_hangs(terminal: Terminal) -> None:
    terminal.wait_for("ready")
    deadline = time.monotonic() + WITHIN_S
    # Two signals at the same moment would be one.
    while terminal.process.poll() is None and time.monotonic() < deadline:
        terminal.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert terminal.process.returncode == -signal.SIGTERM
    assert terminal.settings() == terminal.before


def test_without_a_terminal_there_are_signals_only() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready False\n"
        process.stdin.write(b"a")
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"abort by SIGINT at 5.0\n"
        assert process.wait(WITHIN_S) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
