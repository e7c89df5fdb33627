"""A file that only grows by whole records, whatever happens to the process, the disk or the folder.

Three things go wrong with recordings in practice. The process is killed in the middle of a write:
here the end of a record is written before its beginning, so a record that is not whole is not
there at all. The disk is full: the file is cut back to its last whole record, and the caller may
try again. The folder is removed under a running session: the open file still holds everything, so
it is copied into a new one.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

from models.errors import FileError

__all__ = ["SafeFile", "free_name", "say_why"]

logger = logging.getLogger(__name__)

_COPY_BYTES = 1 << 20

_WHY = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file has reached the largest size that is allowed here",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "this user may not write there",
    errno.EPERM: "this user may not write there",
    errno.ENOENT: "the folder is not there",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EIO: "the disk reports an input/output error",
    errno.ESTALE: "the network folder is gone",
}


def say_why(error: OSError) -> str:
    """Return in words why the operating system refused."""
    return _WHY.get(error.errno or 0, error.strerror or str(error))


def free_name(path: Path) -> Path:
    """Return `path`, or with a number before the suffix if it is taken: ``recording-2.xdf``."""
    number, candidate = 1, path
    while candidate.exists() or candidate.is_symlink():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


class SafeFile:
    """A new file that is only appended to; `path` says its name.

    Parameters
    ----------
    path : Path
        Where to make it. A file that stands there is never touched: the new one gets a number.

    Raises
    ------
    FileError
        If it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._wanted = path
        self.path, self._fd = _create(path)
        self.size = 0  # bytes of whole records

    def append(self, data: bytes, *, head: int = 0) -> None:
        """Add one record, wholly or not at all.

        Parameters
        ----------
        data : bytes
            The record.
        head : int
            Bytes at its start that are written last. As long as they are missing, a reader finds
            zeros in their place and knows that the file ends there.

        Raises
        ------
        FileError
            If the operating system refuses; the file is then as it was before.
        """
        try:
            self._write(data[head:], self.size + head)
            self._write(data[:head], self.size)
        except OSError as error:
            self._cut_back()
            raise FileError(
                f"Could not write {len(data)} bytes to {self.path}: {say_why(error)}."
            ) from error
        self.size += len(data)

    def _write(self, data: bytes, position: int) -> None:
        view = memoryview(data)
        while view:
            n_written = os.pwrite(self._fd, view, position)
            position += n_written
            view = view[n_written:]

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self.size)
        except OSError as error:  # for example a disk that is gone; the next append overwrites it
            logger.debug("Could not cut %s back: %s", self.path, error)

    def whereabouts(self) -> str | None:
        """Return None while the file stands under its name, else one sentence on what happened."""
        mine = os.fstat(self._fd)
        try:
            there = os.stat(self.path)
        except OSError:
            there = None
        if there is not None and (there.st_ino, there.st_dev) == (mine.st_ino, mine.st_dev):
            return None
        if mine.st_nlink == 0:
            return f"{self.path} was removed while it was being written."
        return f"{self.path} was moved or renamed; it is still being written under its new name."

    def restore(self) -> bool:
        """Put a removed file back, with all that was in it; return whether there was need to.

        Raises
        ------
        FileError
            If it cannot be put back; nothing is lost as long as this object is open.
        """
        if os.fstat(self._fd).st_nlink > 0:
            return False
        try:
            self._wanted.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(
                f"{self.path} was removed and its folder cannot be made again: {say_why(error)}."
            ) from error
        path, fd = _create(self._wanted)
        try:
            position = 0
            while position < self.size:
                block = os.pread(self._fd, min(_COPY_BYTES, self.size - position), position)
                if not block:
                    break
                position += os.pwrite(fd, block, position)
        except OSError as error:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise FileError(
                f"{self.path} was removed and cannot be put back: {say_why(error)}."
            ) from error
        os.close(self._fd)
        self.path, self._fd = path, fd
        return True

    def close(self) -> None:
        """Hand everything to the disk and close; a second call does nothing."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            os.fsync(fd)
        except OSError as error:  # what was appended is with the operating system anyway
            logger.warning("%s may not be on the disk yet: %s", self.path, say_why(error))
        finally:
            os.close(fd)


def _create(wanted: Path) -> tuple[Path, int]:
    """Make a new file, beside any that already has this name."""
    while True:
        path = free_name(wanted)
        try:
            # Readable too, because `restore` copies from it.
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            continue  # somebody made it just now: the next number
        except OSError as error:
            raise FileError(
                f"Could not make {path}: {say_why(error)}. Choose another folder with --out."
            ) from error
        if path != wanted:
            logger.warning("%s exists already and stays as it is; writing %s.", wanted, path)
        return path, fd
