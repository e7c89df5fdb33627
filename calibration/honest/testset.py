"""A test set that opens only for a decoder that is finished, and counts how often it was opened.

Every look at test scores that changes a decoder makes the next score too good. The count is kept in
a small file beside the bundle, so that a rerun, or two at once, cannot hide it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.data.samples import Samples
from export.strict_json import parse_object
from models.errors import FileError, SettingError

__all__ = ["TestOpenings", "TestSet", "read_openings"]

_MAX_BYTES = 4 << 20
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class TestOpenings:
    """How often the test windows of one participant were scored, and with how many decoders."""

    __test__ = False  # no test, whatever its name says

    openings: int
    decoders: int  # different ones

    @property
    def sentence(self) -> str:
        """Return what a report says of it."""
        if self.openings == 0:
            return "The test set was not opened."
        if self.openings == 1:
            return "The test set was opened once."
        if self.decoders == 1:
            return f"The test set was opened {self.openings} times, always for the same decoder."
        return (
            f"The test set was opened {self.openings} times, for {self.decoders} different "
            "decoders: if one was chosen by its test score, that score is too good."
        )


class TestSet:
    """Test windows behind a door: `freeze` the decoder first, then `open`.

    Parameters
    ----------
    samples : Samples
        The test windows; until they are opened only their number and clips can be asked for.
    dataset : str
        What the recordings are called: stays the same when anything about the decoder changes.
    participant : str
        Whose windows they are.
    record : Path, optional
        JSON file that keeps the count across runs, beside the bundle. Without it the count covers
        this object alone.

    Raises
    ------
    SettingError
        If there are no test windows or a name is empty.
    """

    __test__ = False  # no test, whatever its name says

    def __init__(
        self, samples: Samples, *, dataset: str, participant: str, record: Path | None = None
    ) -> None:
        if not len(samples) or not dataset or not participant:
            raise SettingError(
                "A test set needs windows, the name of its data set and of its participant, got "
                f"{len(samples)} windows, {dataset!r} and {participant!r}."
            )
        self._samples = samples
        self._key = f"{dataset}/{participant}"
        self._record = record
        self._decoder: str | None = None
        self._here: list[str] = []  # decoders that it was opened for, without a record

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._samples)

    @property
    def n_clips(self) -> int:
        """Number of different clips in the test."""
        return len(np.unique(self._samples.clip))

    @property
    def frozen(self) -> bool:
        """Whether a decoder was declared finished."""
        return self._decoder is not None

    @property
    def openings(self) -> TestOpenings:
        """How often these windows were scored up to now, earlier runs included.

        Raises
        ------
        FileError
            If the record is damaged or cannot be read.
        """
        if self._record is None:
            return TestOpenings(len(self._here), len(set(self._here)))
        return read_openings(self._record, self._key)

    def freeze(self, decoder: object) -> str:
        """Declare the decoder finished; from here on nothing of it may change.

        Parameters
        ----------
        decoder : object
            What makes the decoder what it is: a digest, or settings and arrays in mappings,
            sequences and dataclasses.

        Returns
        -------
        digest : str
            SHA-256 of the description.

        Raises
        ------
        SettingError
            If another decoder was declared before; a new one needs a new test set object, which
            counts on.
        """
        digest = _digest(decoder)
        if self._decoder is not None and self._decoder != digest:
            raise SettingError(
                f"The decoder was frozen as {self._decoder[:12]} and has changed to {digest[:12]} "
                "since. Finish the decoder before freeze()."
            )
        self._decoder = digest
        return digest

    def open(self) -> Samples:
        """Count one opening, on the disk first, and return the test windows.

        Raises
        ------
        SettingError
            If no decoder was frozen.
        FileError
            If the opening cannot be recorded; then the windows stay closed.
        """
        if self._decoder is None:
            raise SettingError(
                "The test set stays closed until the decoder is finished: expected freeze() with "
                "the decoder's description before open()."
            )
        if self._record is not None:
            _count(self._record, self._key, self._decoder)
        self._here.append(self._decoder)
        return self._samples


def read_openings(record: Path, key: str) -> TestOpenings:
    """Return what a record says of ``"dataset/participant"``; nothing recorded is no opening.

    Raises
    ------
    FileError
        If the record is damaged or cannot be read.
    """
    decoders = _read(record)["sets"].get(key, [])
    return TestOpenings(len(decoders), len(set(decoders)))


def _count(record: Path, key: str, decoder: str) -> None:
    try:
        with _locked(record):
            values = _read(record)
            values["sets"].setdefault(key, []).append(decoder)
            text = json.dumps(values, indent=1, sort_keys=True) + "\n"
            fresh = record.with_name(f".{record.name}.{os.getpid()}.new")
            with open(fresh, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, record)
    except OSError as error:
        raise FileError(
            f"The opening of the test set could not be recorded in {record}: "
            f"{error.strerror or error}. It stays closed; make the folder writable."
        ) from error


@contextlib.contextmanager
def _locked(record: Path) -> Iterator[None]:
    """Hold the record for this process alone; the lock goes with the process, even a killed one."""
    import fcntl

    # A file of its own: the record itself is replaced, and a lock would stay with the old one.
    fd = os.open(record.with_name(f".{record.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _read(record: Path) -> dict[str, Any]:
    """Return the record, empty if there is none yet."""
    damaged = (
        f"{record} should count the openings of the test set, but {{}}. Put the file back from a "
        "copy; if there is none, delete it and say in the report that the count began anew."
    )
    try:
        data = record.read_bytes()
    except FileNotFoundError:
        return {"schema": _SCHEMA, "sets": {}}
    except OSError as error:
        raise FileError(damaged.format(error.strerror or error)) from error
    try:
        values: dict[str, Any] = parse_object(data, record.name, max_bytes=_MAX_BYTES)
    except SettingError as error:
        raise FileError(damaged.format(str(error).rstrip("."))) from error
    sets = values.get("sets")
    whole = isinstance(sets, dict) and all(
        isinstance(row, list) and all(isinstance(item, str) for item in row)
        for row in sets.values()
    )
    if values.get("schema") != _SCHEMA or not whole:
        raise FileError(damaged.format("it has another layout"))
    return values


def _digest(value: object) -> str:
    """Return the SHA-256 of a description, the same for equal content in any process."""
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: object) -> None:
    """Hash kind, size and content, so that no two descriptions run into each other."""
    if is_dataclass(value) and not isinstance(value, type):
        _feed(digest, {item: getattr(value, item) for item in value.__dataclass_fields__})
    elif isinstance(value, Mapping):
        digest.update(f"map{len(value)};".encode())
        for key in sorted(value, key=str):
            _feed(digest, str(key))
            _feed(digest, value[key])
    elif isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        digest.update(f"array{array.dtype.str}{array.shape};".encode())
        digest.update(array.tobytes())
    elif isinstance(value, (list, tuple)):
        digest.update(f"row{len(value)};".encode())
        for item in value:
            _feed(digest, item)
    elif isinstance(value, (str, int, float, bool, bytes, Path, np.generic)) or value is None:
        text = value if isinstance(value, bytes) else str(value).encode()
        kind = type(value).__name__ if not isinstance(value, Path) else "Path"
        digest.update(f"{kind}{len(text)};".encode() + text)
    else:
        raise SettingError(
            "A frozen decoder is described by numbers, text, arrays, mappings, sequences and "
            f"dataclasses, got {type(value).__name__}. Give its settings and weights instead."
        )
