"""Files that are there whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from models.errors import FileError

__all__ = ["write_whole"]


def write_whole(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file under another name, then give it its own.

    Parameters
    ----------
    path : Path
        Its folder is made where it is missing.
    content : bytes or callable
        What stands in it, or a function that writes it into an open file.

    Raises
    ------
    FileError
        If it cannot be written; nothing is left then.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise FileError(
                f"Cannot write {path.name} in {path.parent}: {error.strerror or error}. Make room "
                "there, or choose another folder."
            ) from error
        raise
