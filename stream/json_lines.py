"""A file of one JSON object per line that a live stage can write to without ever waiting."""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from pathlib import Path
from typing import Any

from models.errors import FileError

__all__ = ["JsonLines", "finite"]

_PENDING = 65_536  # lines held while the disk does not take them; then the oldest go, counted


class JsonLines:
    """Lines waiting in memory, written by `flush` (in a thread that may wait for the disk).

    Parameters
    ----------
    path : Path or None
        The file; it must not exist yet. None: lines are counted and forgotten.

    Raises
    ------
    FileError
        If the file cannot be made.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.written = 0
        self.dropped = 0
        self.error: OSError | None = None  # the last failure to write; the lines are still held
        self._pending: deque[dict[str, Any]] = deque(maxlen=_PENDING)
        self._writing = threading.Lock()
        if path is not None:
            try:
                path.open("x", encoding="utf-8").close()
            except OSError as error:
                raise FileError(
                    f"Cannot write {path}: {error.strerror}. Name a folder that does not exist yet "
                    "and may be written."
                ) from error

    def add(self, line: dict[str, Any]) -> None:
        """Put one object at the end; it must not be changed afterwards."""
        if self.path is None:
            return
        if len(self._pending) == _PENDING:
            self.dropped += 1
        self._pending.append(line)

    def flush(self) -> None:
        """Write what is waiting; a failure is kept in `error`, and the lines stay."""
        if self.path is None:
            return
        with self._writing:
            taken = [self._pending.popleft() for _ in range(len(self._pending))]
            if not taken:
                return
            text = "".join(json.dumps(finite(line), allow_nan=False) + "\n" for line in taken)
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(text)
            except OSError as error:
                self.error = error
                self._pending.extendleft(reversed(taken))
            else:
                self.error = None
                self.written += len(taken)


def finite(value: Any) -> Any:
    """Return a JSON value with null where a number is not finite, since JSON has no NaN."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()  # a NumPy scalar
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
