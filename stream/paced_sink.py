"""Sinks that keep the pace of a device without one: into a file, or nowhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from models.errors import SettingError
from stream.playback import Player
from stream.sound_file import SoundFileWriter

__all__ = ["NullSink", "PacedSink", "Sink", "SinkStatistics", "WavSink", "lsl_clock"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SinkStatistics:
    """How a sink has kept time so far."""

    name: str
    sample_rate_hz: int
    blocks: int
    stalls: int  # times it stood still for longer than it can make up
    missed_s: float  # sound time lost in these stalls
    failure: str  # why it does not work any more; empty: all is well


@runtime_checkable
class Sink(Protocol):
    """Asks a player for sound, block by block, between `start` and `stop`."""

    def start(self) -> None:
        """Begin to ask for blocks."""

    def stop(self) -> None:
        """Stop asking, and release the device or close the file. Harmless when called twice."""

    def statistics(self) -> SinkStatistics:
        """Return the counts so far."""

    def __enter__(self) -> Self:
        """Start."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""


def lsl_clock() -> Callable[[], float]:
    """Return the clock of all time stamps."""
    # pylsl loads its library on import (60 ms), which `hearback --help` must not wait for.
    from stream.lsl import clock

    return clock


class PacedSink:
    """Ask for one block each `block_s` on an absolute schedule, as a device with a small buffer.

    Block k is asked for at t0 + k block_s and heard one block later. When the thread comes late by
    up to `max_late_s`, it catches up, as a device's buffer would allow; when it comes later (the
    process was stopped), the blocks in between are lost, not played in a burst: one stall, and the
    time missed is counted.

    Parameters
    ----------
    player : Player
    block_s : float
        Length of a block, 1 ms to 1 s.
    max_late_s : float
        Lateness that is made up.
    clock, wait : callable
        The clock, s, and `wait(s) -> bool`, True to stop; for tests.

    Raises
    ------
    SettingError
        If `block_s` is out of range.
    """

    name = "paced"

    def __init__(
        self,
        player: Player,
        *,
        block_s: float = 0.01,
        max_late_s: float = 0.1,
        clock: Callable[[], float] | None = None,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        if not 0.001 <= block_s <= 1.0:
            raise SettingError(f"block_s must lie between 0.001 and 1 s, got {block_s}.")
        self._player = player
        self._block = max(1, round(block_s * player.sample_rate_hz))  # samples
        self._max_late_s = max_late_s
        self._clock = clock
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait
        self._thread: threading.Thread | None = None
        self._blocks = self._stalls = self._missed_blocks = 0
        self._failure = ""

    def start(self) -> None:
        """Begin to ask for blocks."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"{self.name} sink", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop asking. Harmless when called twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def statistics(self) -> SinkStatistics:
        """Return the counts so far."""
        rate = self._player.sample_rate_hz
        return SinkStatistics(
            name=self.name,
            sample_rate_hz=rate,
            blocks=self._blocks,
            stalls=self._stalls,
            missed_s=self._missed_blocks * self._block / rate,
            failure=self._failure,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._keep_pace()
        except Exception as error:
            # The session goes on without sound; whoever looks at the statistics sees why.
            self._failure = f"{type(error).__name__}: {error}"
            _log.exception("The %s sink failed; nothing is played any more.", self.name)

    def _keep_pace(self) -> None:
        clock = self._clock or lsl_clock()
        block_s = self._block / self._player.sample_rate_hz
        start, k = clock(), 0
        while not self._stopping.is_set():
            due = start + k * block_s
            late = clock() - due
            if late < 0.0:
                if self._wait(-late):
                    return
                continue
            if late > self._max_late_s:
                missed = int(late / block_s)
                self._stalls += 1
                self._missed_blocks += missed
                self._player.interrupted(missed * self._block)
                k += missed
                due = start + k * block_s
            self._player.render_block(self._block, due + block_s)
            self._blocks += 1
            k += 1


class NullSink(PacedSink):
    """Plays nowhere, at the pace of a device."""

    name = "null"


class WavSink(PacedSink):
    """Plays into a WAV file (24-bit PCM), at the pace of a device; time that is lost is silence.

    Parameters
    ----------
    player : Player
    path : Path
        Replaced if it exists.
    block_s, max_late_s, clock, wait
        As for `PacedSink`.

    Raises
    ------
    FileError
        If the file cannot be made.
    """

    name = "wav"

    def __init__(
        self,
        player: Player,
        path: Path,
        *,
        block_s: float = 0.01,
        max_late_s: float = 0.1,
        clock: Callable[[], float] | None = None,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        super().__init__(player, block_s=block_s, max_late_s=max_late_s, clock=clock, wait=wait)
        self.writer = SoundFileWriter(
            path, sample_rate_hz=player.sample_rate_hz, n_channels=player.n_channels
        )
        player.add_tap(self.writer.put, self.writer.skip)

    def stop(self) -> None:
        """Stop asking, and close the file. Harmless when called twice."""
        super().stop()
        self.writer.close()

    def statistics(self) -> SinkStatistics:
        """Return the counts so far."""
        self._failure = self._failure or self.writer.failure
        return super().statistics()
