"""Sound files that are whole at every moment: WAV, 24-bit PCM, written from a thread of its own.

The sizes in the header are brought up to date after each write, so that a process that is killed
leaves a file that any player opens, short of at most what was in the writer's queue. Beyond 4 GiB
(4 hours at 48 kHz stereo) the same file becomes RF64 (EBU Tech 3306), which libsndfile, FFmpeg and
Audacity read.
"""

from __future__ import annotations

import logging
import os
import queue
import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError
from stream.safe_file import say_why

__all__ = ["SoundFileWriter", "WavFile", "to_pcm24"]

_log = logging.getLogger(__name__)

_FULL_SCALE = 2**23
_HEADER_BYTES = 12 + 8 + 28 + 8 + 16 + 8  # RIFF, JUNK or ds64, fmt, data
_LARGEST_RIFF = 2**32 - 1 - _HEADER_BYTES


def to_pcm24(block: NDArray[np.float32]) -> bytes:
    """Return samples as interleaved little-endian 24-bit integers.

    Rounded towards zero, so that the file never exceeds a ceiling that the samples keep.
    """
    scaled = np.trunc(np.clip(block, -1.0, 1.0).astype(np.float64) * (_FULL_SCALE - 1))
    words = scaled.astype("<i4").reshape(-1, 1).view(np.uint8)  # (n * n_channels, 4)
    return words[:, :3].tobytes()


class WavFile:
    """A WAV file that grows; an existing file of this name is replaced.

    Parameters
    ----------
    path : Path
    sample_rate_hz, n_channels : int
    rf64_beyond : int
        Bytes of sound after which the header becomes RF64.

    Raises
    ------
    FileError
        If the file cannot be made.
    """

    def __init__(
        self,
        path: Path,
        *,
        sample_rate_hz: int,
        n_channels: int,
        rf64_beyond: int = _LARGEST_RIFF,
    ) -> None:
        self.path = path
        self.sample_rate_hz = sample_rate_hz
        self.n_channels = n_channels
        self._frame_bytes = 3 * n_channels
        self._rf64_beyond = rf64_beyond
        self.n_samples = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise FileError(
                f"The sound file {path} cannot be written: {say_why(error)}. "
                "Choose another folder or name."
            ) from error
        try:
            self._write_header()
        except OSError as error:
            os.close(self._file)
            raise FileError(
                f"The sound file {path} cannot be written: {say_why(error)}. "
                "Free some space on that disk, or choose another."
            ) from error

    def write(self, block: NDArray[np.float32]) -> None:
        """Append samples of shape (n, n_channels); the file is valid again when this returns.

        Raises
        ------
        OSError
            If the disk is full or gone. What was written before stays valid.
        """
        data = to_pcm24(block)
        at = _HEADER_BYTES + self.n_samples * self._frame_bytes
        done = 0
        while done < len(data):
            done += os.pwrite(self._file, memoryview(data)[done:], at + done)
        self.n_samples += len(block)
        self._write_header()

    def skip(self, n: int) -> None:
        """Append `n` samples of silence, without taking up the disk where it knows holes.

        Raises
        ------
        OSError
            If the disk is full or gone.
        """
        self.n_samples += n
        os.ftruncate(self._file, _HEADER_BYTES + self.n_samples * self._frame_bytes)
        self._write_header()

    def close(self) -> None:
        """Close; a file cut short by a full disk ends after the last whole sample."""
        if self._file < 0:
            return
        try:
            os.ftruncate(self._file, _HEADER_BYTES + self.n_samples * self._frame_bytes)
        except OSError:
            _log.warning(
                "The end of %s could not be trimmed; the header says where it is.", self.path
            )
        os.close(self._file)
        self._file = -1

    def _write_header(self) -> None:
        n_bytes = self.n_samples * self._frame_bytes
        large = n_bytes > self._rf64_beyond
        riff_bytes = _HEADER_BYTES - 8 + n_bytes
        filler = struct.pack("<4sI", b"ds64" if large else b"JUNK", 28) + (
            struct.pack("<QQQI", riff_bytes, n_bytes, self.n_samples, 0) if large else bytes(28)
        )
        rate, width = self.sample_rate_hz, self._frame_bytes
        header = (
            struct.pack(
                "<4sI4s",
                b"RF64" if large else b"RIFF",
                0xFFFFFFFF if large else riff_bytes,
                b"WAVE",
            )
            + filler
            + struct.pack(
                "<4sIHHIIHH", b"fmt ", 16, 1, self.n_channels, rate, rate * width, width, 24
            )
            + struct.pack("<4sI", b"data", 0xFFFFFFFF if large else n_bytes)
        )
        os.pwrite(self._file, header, 0)


class SoundFileWriter:
    """Write what a player plays to a file, from a thread of its own.

    `player.add_tap(writer.put, writer.skip)` connects them; `close` after the sink has stopped.

    The file stays aligned with the clock: blocks that the thread could not take in time, and time
    that the sink lost (`skip`), are silence in it. When the disk is full or gone, `failure` says
    so, the file keeps what it has, and whoever plays is not disturbed.

    Parameters
    ----------
    path : Path
        Replaced if it exists.
    sample_rate_hz, n_channels : int
    max_waiting : int
        Blocks in the queue, at most.

    Raises
    ------
    FileError
        If the file cannot be made.
    """

    def __init__(
        self, path: Path, *, sample_rate_hz: int, n_channels: int, max_waiting: int = 1000
    ) -> None:
        self._wav = WavFile(path, sample_rate_hz=sample_rate_hz, n_channels=n_channels)
        self.path = path
        self.failure = ""  # why nothing more is written; empty: all is well
        self.n_missed = 0  # samples that are silence because the thread was too slow
        self._max_waiting = max_waiting
        self._owed = 0  # silence to write before the next block
        # SimpleQueue.put is one C call that never waits, which an audio thread may make.
        self._blocks: queue.SimpleQueue[NDArray[np.float32] | int | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"write {path.name}", daemon=True)
        self._thread.start()

    def put(self, block: NDArray[np.float32]) -> None:
        """Take a block of shape (n, n_channels); never waits."""
        if self._blocks.qsize() >= self._max_waiting:
            self.n_missed += len(block)
            self._owed += len(block)
            return
        if self._owed:
            self._blocks.put(self._owed)
            self._owed = 0
        self._blocks.put(block)

    def skip(self, n: int) -> None:
        """Leave `n` samples of silence: time in which nothing was played. Never waits."""
        self._owed += n

    @property
    def n_samples(self) -> int:
        """Samples in the file."""
        return self._wav.n_samples

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits and close the file."""
        if self._owed:
            self._blocks.put(self._owed)
            self._owed = 0
        self._blocks.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive() and not self.failure:
            self.failure = f"the disk of {self.path} did not answer for {timeout_s} s"
            _log.error("Closing a sound file failed: %s.", self.failure)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        while (item := self._blocks.get()) is not None:
            if self.failure:
                continue  # the queue is still emptied, so that memory stays flat
            try:
                if isinstance(item, int):
                    self._wav.skip(item)
                else:
                    self._wav.write(item)
            except OSError as error:
                self.failure = f"{self.path}: {say_why(error)}"
                _log.error(
                    "Writing sound stopped after %.1f s (%s). The session goes on. "
                    "Free space on that disk before the next one.",
                    self._wav.n_samples / self._wav.sample_rate_hz,
                    self.failure,
                )
        self._wav.close()
