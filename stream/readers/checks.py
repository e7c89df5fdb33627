"""Is a file there at all, and is what lies there its content: said before any reader opens it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import FileError, HearbackError

__all__ = ["as_file_error", "check_fetched", "collected_log"]

_FETCH = "Fetch it: git annex get FILE, or datalad get FILE."


def check_fetched(path: Path) -> None:
    """Refuse what is missing, empty, or a stand-in for content that was never fetched.

    Raises
    ------
    FileError
        With what was found instead of a recording.
    """
    if path.is_symlink() and not path.exists():
        raise FileError(f"{path} is a link to content that has not been fetched. {_FETCH}")
    if not path.exists():
        raise FileError(f"No recording at {path}. Check the path.")
    if path.is_dir():
        return
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}. Check its rights.") from error
    if size == 0:
        raise FileError(
            f"{path} is empty (0 bytes), as files are whose content was not fetched. {_FETCH}"
        )
    text = head.lstrip()
    if text.startswith((b"/annex/objects/", b"../.git/annex/", b".git/annex/")) or (
        size < 2048 and b".git/annex/objects/" in head
    ):
        raise FileError(
            f"{path} is a git-annex pointer; its content has not been fetched. {_FETCH}"
        )
    if text.startswith(b"version https://git-lfs"):
        raise FileError(f"{path} is a Git LFS pointer; fetch its content: git lfs pull.")


@contextmanager
def as_file_error(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a reader library raises on a damaged file into one clear sentence."""
    try:
        yield
    except HearbackError:
        raise
    except MemoryError as error:
        raise FileError(
            f"{path} asks for more memory than there is; it is damaged, or too large for this "
            f"machine. Compare it with the original, or cut it."
        ) from error
    except Exception as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileError(
            f"{path} cannot be read as {what}: {detail}. "
            f"It is damaged, cut short or of another kind; compare it with the original."
        ) from error


@contextmanager
def collected_log(name: str, warnings: list[str]) -> Iterator[None]:
    """Collect what a library logs as warnings, instead of printing it."""

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.append(record.getMessage())

    logger = logging.getLogger(name)
    handler = Collect(level=logging.WARNING)
    propagate, logger.propagate = logger.propagate, False
    others = logger.handlers[:]
    logger.handlers[:] = [handler]
    try:
        yield
    finally:
        logger.handlers[:] = others
        logger.propagate = propagate
