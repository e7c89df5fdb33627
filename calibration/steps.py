"""Steps of a long calculation, kept by what they were made from, so that a rerun goes on.

A step's result is arrays and JSON values in one .npz file, named by a digest of everything that the
step depends on. It is written whole or not at all: whatever interrupts the calculation, the steps
that were done are there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.whole_file import write_whole

__all__ = ["StepResult", "Steps", "array_digest"]

StepResult = dict[str, Any]  # name -> array, or anything that JSON holds
_JSON = "__json__"
_log = logging.getLogger(__name__)


def array_digest(*arrays: NDArray[Any]) -> str:
    """Return a digest of the values, types and shapes of arrays."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


class Steps:
    """The kept steps of one calculation.

    Parameters
    ----------
    folder : Path or None
        Where they are kept; None: nowhere, everything is calculated.
    on_step : callable, optional
        Called with the name of each step when it begins, and whether it was found done.
    """

    def __init__(
        self, folder: Path | None, *, on_step: Callable[[str, bool], None] | None = None
    ) -> None:
        self.folder = folder
        self.found: list[str] = []
        self._on_step = on_step or (lambda _name, _done: None)

    def run(
        self, name: str, depends_on: Mapping[str, Any], work: Callable[[], StepResult]
    ) -> StepResult:
        """Return what `work` returned for the same `depends_on`, or call it and keep that.

        Parameters
        ----------
        name : str
            Of the step, for the file and for progress.
        depends_on : mapping
            JSON values: digests of the data, settings, versions.
        work : callable
            Returns a dict of arrays and JSON values.

        Raises
        ------
        FileError
            If the result cannot be written.
        """
        if self.folder is None:
            self._on_step(name, False)
            return work()
        text = json.dumps(depends_on, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
        path = self.folder / f"{name}-{digest}.npz"
        kept = _read(path)
        self._on_step(name, kept is not None)
        if kept is not None:
            self.found.append(name)
            return kept
        result = work()
        _write(path, result)
        return result


def _read(path: Path) -> StepResult | None:
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            values: StepResult = json.loads(stored[_JSON].tobytes())
            values |= {name: stored[name] for name in stored.files if name != _JSON}
        return values
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("The kept step %s is damaged (%s) and is calculated again.", path.name, error)
        return None


def _write(path: Path, result: StepResult) -> None:
    arrays = {name: value for name, value in result.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in result.items() if name not in arrays}
    text = np.frombuffer(json.dumps(rest).encode(), np.uint8)
    entries: dict[str, Any] = {_JSON: text, **arrays}
    write_whole(path, lambda file: np.savez(file, **entries))
