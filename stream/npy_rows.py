"""A NumPy file that grows by rows and can be loaded at any moment, without pickle."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["NpyRows"]

_HEADER_BYTES = 512
_LIMIT_BYTES = 256 << 20  # held while the disk does not take it


class NpyRows:
    """Rows waiting in memory, appended to a .npy file by `flush` (in a thread that may wait).

    The number of rows in the header is brought up to date after the rows are written, so a process
    that is killed leaves a file that `numpy.load` reads.

    Parameters
    ----------
    path : Path
        Made by the first `flush`; replaced if it is there.
    dtype : dtype
        Of one value, or a structured one.
    shape : tuple of int
        Of one row; () for one value a row.
    """

    def __init__(self, path: Path, dtype: DTypeLike, shape: tuple[int, ...] = ()) -> None:
        self.path = path
        self.n_rows = 0
        self.dropped = 0
        self.error: OSError | None = None
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._shape = shape
        self._row_bytes = self._dtype.itemsize * int(np.prod(shape))
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._adding = threading.Lock()
        self._writing = threading.Lock()
        self._made = False

    def add(self, row: ArrayLike) -> None:
        """Put one row at the end."""
        values: NDArray[np.generic] = np.asarray(row, self._dtype).reshape(self._shape)
        data = values.tobytes()
        with self._adding:
            if self._pending_bytes + len(data) > _LIMIT_BYTES:
                self.dropped += 1
                return
            self._pending.append(data)
            self._pending_bytes += len(data)

    def flush(self) -> None:
        """Write what waits; a failure is kept in `error`, and the rows stay."""
        with self._writing:
            with self._adding:
                taken, self._pending = self._pending, []
                self._pending_bytes = 0
            if not taken and self._made:
                return
            try:
                with self.path.open("r+b" if self._made else "wb") as file:
                    self._made = True
                    # From where the whole rows end: a write that was cut short is written anew.
                    file.seek(_HEADER_BYTES + self.n_rows * self._row_bytes)
                    file.write(b"".join(taken))
                    self.n_rows += len(taken)
                    file.seek(0)
                    file.write(self._header())
            except OSError as error:
                self.error = error
                with self._adding:
                    self._pending[:0] = taken
                    self._pending_bytes += sum(map(len, taken))
            else:
                self.error = None

    def _header(self) -> bytes:
        """Return magic, version and description of a version 1.0 file, always of one length."""
        description = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.n_rows, *self._shape),
        }
        text = repr(description).encode("latin1")
        room = _HEADER_BYTES - 10
        return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.ljust(room - 1) + b"\n"
