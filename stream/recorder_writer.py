"""The thread that writes a recording: from two queues in memory to two files, come what may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from models.errors import FileError
from stream.backlog import Backlog
from stream.recorder_health import Health
from stream.safe_file import SafeFile, say_why
from stream.xdf import XdfWriter
from stream.xdf_chunks import XdfChunk

__all__ = ["RecordingWriter"]

_WRITE_S = 0.015  # the disk is given what there is this often
_GROUP_BYTES = 4 << 20  # largest single write
_PLACE_S = 0.25  # is the file still where it was?
_RETRY_S = 0.5  # after a failure


class RecordingWriter:
    """Two queues, the thread that empties them, and the two files.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    health : Health
        Told what goes wrong.
    on_recovery : callable
        Called from the thread with a sentence when something works again.
    on_look : callable
        Called from the thread a few times a second.
    limit_bytes : int
        What may wait in memory.

    Raises
    ------
    FileError
        If the folder or the files cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        *,
        health: Health,
        on_recovery: Callable[[str], None],
        on_look: Callable[[], None],
        limit_bytes: int,
    ) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(
                f"Could not make the folder {folder}: {say_why(error)}. "
                "Choose another one with --out."
            ) from error
        self.chunks: Backlog[XdfChunk] = Backlog(limit_bytes)
        self.lines: Backlog[bytes] = Backlog(limit_bytes // 4)
        self.xdf = XdfWriter(folder / "recording.xdf")
        try:
            self.events_file = SafeFile(folder / "events.jsonl")
        except FileError:
            self.xdf.file.close()
            raise
        self.beat = 0  # moves as long as the thread is alive and the disk answers
        self._health = health
        self._on_recovery = on_recovery
        self._on_look = on_look
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._give_up_at = float("inf")

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread, also again after it died."""
        self._thread = threading.Thread(target=self._run, name="recorder-writer", daemon=True)
        self._thread.start()

    def finish(self, *, timeout_s: float) -> int:
        """Write what waits, with footers, and close; return the bytes that could not be written.

        Comes back after `timeout_s` at the latest, even if the disk does not.
        """
        self._give_up_at = time.monotonic() + timeout_s
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s + 0.5)
        return self.waiting_bytes

    @property
    def waiting_bytes(self) -> int:
        """Bytes in memory."""
        return self.chunks.n_bytes + self.lines.n_bytes

    def waiting_s(self) -> float:
        """Return the age of the oldest thing in memory, in s."""
        return max(self.chunks.age_s(), self.lines.age_s())

    def _run(self) -> None:
        next_look = retry_at = 0.0
        while True:
            stopping = self._stop.wait(_WRITE_S)
            self.beat += 1
            now = time.monotonic()
            if now >= next_look:
                next_look = now + _PLACE_S
                self._look_after_files()
                self._on_look()
            if (now >= retry_at or stopping) and not self._flush():
                retry_at = time.monotonic() + _RETRY_S
                if stopping:
                    time.sleep(_WRITE_S)  # the event is set and no longer makes us wait
            if stopping and (not self.waiting_bytes or time.monotonic() > self._give_up_at):
                break
        self._close()

    def _flush(self) -> bool:
        """Write what waits; return False if the disk does not take it."""
        try:
            while group := self.chunks.first(_GROUP_BYTES):
                self._put(group)
            while lines := self.lines.first(_GROUP_BYTES):
                self.events_file.append(b"".join(lines))
                self.lines.done(len(lines))
                self.beat += 1
        except FileError as error:
            sentence = f"{error} The session goes on; what comes waits in memory."
            self._health.report("write", sentence)
            return False
        self._over("memory", "There is room in memory again.")
        self._over("write", "The recording is written again.")
        return True

    def _put(self, group: list[XdfChunk]) -> None:
        """Write a group, in smaller ones where the disk has not enough room for all of it."""
        while True:
            try:
                self.xdf.put(group)
                break
            except FileError:
                if len(group) == 1:
                    raise
                group = group[: len(group) // 2]
        self.chunks.done(len(group))
        self.beat += 1

    def _over(self, kind: str, sentence: str) -> None:
        if self._health.clear(kind):
            self._on_recovery(sentence)

    def _look_after_files(self) -> None:
        """Put files back that were removed; say so when one was moved."""
        files = (self.xdf.file, self.events_file)
        troubles = [trouble for file in files if (trouble := file.whereabouts())]
        if not troubles:
            self._over("place", "The files are in their place again.")
            return
        self._health.report("place", troubles[0])
        try:
            restored = [file.path for file in files if file.restore()]
        except FileError as error:  # tried again at the next look
            self._health.report("restore", str(error))
            return
        self._health.clear("restore")
        if restored:
            names = " and ".join(map(str, restored))
            self._over("place", f"All that was recorded so far was put back: {names}.")

    def _close(self) -> None:
        try:
            self.xdf.close()
        except FileError as error:
            self._health.report("end", f"The recording ends without its footers: {error}")
        self.events_file.close()
