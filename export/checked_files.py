"""Files of a bundle: read without following links, compared with their digests, put in place."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
from pathlib import Path

from export.manifest import FileEntry
from models.errors import BundleError

__all__ = [
    "check_digest",
    "list_plain_files",
    "read_checked",
    "read_plain",
    "sha256_of",
    "take_place",
]

_CHUNK = 1 << 20


def list_plain_files(folder: Path) -> set[str]:
    """Return the names in the folder, all of them plain files."""
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry for entry in entries}
    except OSError as error:
        raise BundleError(
            f"No bundle at {folder}: {error.strerror}. Expected a folder with a manifest.json."
        ) from error
    for name, entry in found.items():
        if not entry.is_file(follow_symlinks=False):
            raise BundleError(
                f"Bundle {folder.name!r} holds {name!r}, which is a folder, a link or a device. "
                "Only plain files are read; remove it, or export the bundle again."
            )
    return set(found)


def _open(path: Path, bundle: str) -> io.BufferedReader:
    """Open a plain file; a link put there meanwhile, or a pipe, is refused without waiting."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise BundleError(
            f"Bundle {bundle!r}: cannot read {path.name}: {error.strerror}."
        ) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BundleError(f"Bundle {bundle!r}: {path.name} is not a plain file.")
    return os.fdopen(handle, "rb")


def read_plain(path: Path, max_bytes: int, bundle: str) -> bytes:
    """Read a plain file of at most `max_bytes`; `bundle` is its name in the messages."""
    with _open(path, bundle) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise BundleError(f"Bundle {bundle!r}: {path.name} is larger than {max_bytes} bytes.")
    return data


def read_checked(path: Path, entry: FileEntry, bundle: str, max_bytes: int) -> bytes:
    """Read a file whole and check these very bytes."""
    data = read_plain(path, max_bytes, bundle)
    _compare(path.name, entry, FileEntry(hashlib.sha256(data).hexdigest(), len(data)), bundle)
    return data


def check_digest(path: Path, entry: FileEntry, bundle: str) -> None:
    """Check size first, then the digest, without holding the file in memory."""
    with _open(path, bundle) as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry.bytes:
            _compare(path.name, entry, FileEntry("", size), bundle)
    _compare(path.name, entry, FileEntry(sha256_of(path), size), bundle)


def _compare(name: str, expected: FileEntry, came: FileEntry, bundle: str) -> None:
    if came.bytes != expected.bytes:
        raise BundleError(
            f"Bundle {bundle!r}: {name} should have {expected.bytes} bytes but has {came.bytes}. "
            "It is cut off or was changed; copy the bundle again."
        )
    if came.sha256 != expected.sha256:
        raise BundleError(
            f"Bundle {bundle!r}: {name} should have sha256 {expected.sha256[:12]}... but has "
            f"{came.sha256[:12]}... It is damaged or was changed; copy the bundle again."
        )


def sha256_of(path: Path) -> str:
    """Return the digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def take_place(temporary: Path, folder: Path) -> None:
    """Rename a folder to where it belongs, in place of what may be there.

    What is replaced is put aside first, so that one of the two is there at any time.

    Raises
    ------
    OSError
        If it cannot be renamed; then what was there is there again.
    """
    aside = temporary.with_name(f"{temporary.name}.old")
    if folder.exists():
        folder.rename(aside)
    try:
        temporary.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
