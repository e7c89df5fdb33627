"""A bundle: the one folder that holds all a live session needs, verified before it is used.

The folder has plain files only: `manifest.json`, `manifest.sha256` (a line that `sha256sum -c`
takes), and the files that the manifest names with their sizes and digests. No file is parsed before
its digest is checked, nothing is unpickled, and nothing outside the folder is read. The digests
tell damage and mix-ups; they are no signature, so take bundles only from people you trust.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.chains import GeneratedChain, library_of
from export.checked_files import (
    check_digest,
    list_plain_files,
    read_checked,
    read_plain,
    sha256_of,
    take_place,
)
from export.manifest import (
    MANIFEST_MAX_BYTES,
    FileEntry,
    Manifest,
    check_manifest,
    manifest_from_json,
    manifest_to_json,
    plain_file_name,
)
from export.npy import read_npy, write_npy
from export.onnx_files import OnnxFormatError, external_files
from models.errors import BundleError, FileError, SettingError

__all__ = ["MASK_FILE", "Bundle", "load_bundle", "save_bundle", "standardise_file"]

_MANIFEST = "manifest.json"
_DIGEST = "manifest.sha256"
MASK_FILE = "mask.nii.gz"  # BOLD: the voxels, for whoever sends or reads volumes
_STATISTICS = "standardise.npy"
_STATISTICS_MAX_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle."""

    path: Path
    manifest: Manifest
    digest: str  # sha256 of manifest.json: the identity of the whole bundle, for logs
    mean: NDArray[np.float64]  # (n_features,) of the calibration set
    std: NDArray[np.float64]  # (n_features,) > 0

    @property
    def n_features(self) -> int:
        """Features of one window, as the decoder takes them."""
        return len(self.mean)

    def file(self, name: str) -> Path:
        """Return the path of a file that the manifest names.

        Raises
        ------
        BundleError
            If the manifest does not name it.
        """
        if name not in self.manifest.files:
            raise BundleError(
                f"Bundle {self.path.name!r} has no file {name!r}; "
                f"it has {sorted(self.manifest.files)}."
            )
        return self.path / name

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return the content of a file, checked again: it may have changed since it was loaded.

        Raises
        ------
        BundleError
            If it is unknown, larger than `max_bytes`, or not what the manifest says.
        """
        path = self.file(name)
        return read_checked(path, self.manifest.files[name], self.path.name, max_bytes)


def load_bundle(path: str | Path) -> Bundle:
    """Open a bundle and verify all of it.

    Parameters
    ----------
    path : str or Path
        Folder of the bundle.

    Returns
    -------
    bundle : Bundle
        Every file is there, has the size and the digest of the manifest, and nothing else is.

    Raises
    ------
    BundleError
        If anything is missing, surplus, changed, of a newer schema or out of its range.
    """
    folder = Path(os.path.abspath(path))  # "." has no name to tell
    names = list_plain_files(folder)
    data = _read_manifest(folder, names)
    digest = hashlib.sha256(data).hexdigest()
    if _read_digest(folder, names) != digest:
        raise BundleError(
            f"Bundle {folder.name!r}: {_MANIFEST} is not the one that {_DIGEST} was made for. It "
            "was changed or damaged; copy the bundle again, or export it again after an edit."
        )
    manifest = manifest_from_json(data, f"{folder.name}/{_MANIFEST}")
    _check_names(folder, names, manifest)
    for name, entry in sorted(manifest.files.items()):
        check_digest(folder / name, entry, folder.name)
    entry = manifest.files[_STATISTICS]
    mean, std = _statistics(
        read_checked(folder / _STATISTICS, entry, folder.name, _STATISTICS_MAX_BYTES), folder.name
    )
    _check_onnx(folder, manifest)
    bundle = Bundle(folder, manifest, digest, mean, std)
    _check_chain(bundle)
    return bundle


def save_bundle(
    path: str | Path,
    manifest: Manifest,
    files: Mapping[str, bytes | Path],
    *,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle in one step: it is there whole, or not at all.

    Parameters
    ----------
    path : str or Path
        Folder to make; its parent must exist.
    manifest : Manifest
        Its `files` are replaced by what is written here.
    files : mapping of str to bytes or Path
        Content of each file, or a file to copy; `standardise_file` makes "standardise.npy".
    overwrite : bool
        Replace a bundle that is there. A folder that is no bundle is never replaced.

    Returns
    -------
    bundle : Bundle
        As `load_bundle` reads it back.

    Raises
    ------
    SettingError
        If the manifest is not usable.
    FileError
        If `path` is there and is not to be replaced, or cannot be written.
    BundleError
        If the files do not fit the manifest.
    """
    folder = Path(os.path.abspath(path))
    if folder.exists() or folder.is_symlink():
        _check_replaceable(folder, overwrite=overwrite)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise FileError(
            f"Cannot write a bundle to {folder}: {error.strerror}. Choose a folder that can be "
            "written."
        ) from error
    try:
        temporary.chmod(0o755)  # mkdtemp makes it private
        entries = {name: _write_file(temporary, name, content) for name, content in files.items()}
        manifest = replace(manifest, files=entries)
        check_manifest(manifest)
        data = manifest_to_json(manifest)
        (temporary / _MANIFEST).write_bytes(data)
        (temporary / _DIGEST).write_bytes(_digest_line(hashlib.sha256(data).hexdigest()))
        load_bundle(temporary)
        take_place(temporary, folder)
    except OSError as error:
        raise FileError(f"Cannot write the bundle {folder}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return load_bundle(folder)


def standardise_file(mean: NDArray[np.floating], std: NDArray[np.floating]) -> bytes:
    """Return the content of `standardise.npy`.

    Parameters
    ----------
    mean, std : array of shape (n_features,)
        Of the calibration set; `std` positive.
    """
    return write_npy(np.stack([mean, std]).astype("<f8"))


def _check_replaceable(folder: Path, *, overwrite: bool) -> None:
    if not overwrite:
        raise FileError(
            f"{folder} is there already. Choose another name, or say that it may be replaced."
        )
    if folder.is_symlink() or not (folder / _MANIFEST).is_file():
        raise FileError(f"{folder} is not a bundle, so it is not replaced. Choose another name.")


def _write_file(folder: Path, name: str, content: bytes | Path) -> FileEntry:
    """Write or copy one file and return its size and digest."""
    if not plain_file_name(name):
        raise SettingError(f"A bundle cannot hold a file named {name!r}: not a plain file name.")
    target = folder / name
    if isinstance(content, Path):
        shutil.copyfile(content, target)
        target.chmod(0o644)
    else:
        target.write_bytes(content)
    return FileEntry(sha256_of(target), target.stat().st_size)


def _read_manifest(folder: Path, names: set[str]) -> bytes:
    if _MANIFEST not in names:
        raise BundleError(
            f"{folder} is no bundle: it has no {_MANIFEST}. Give the folder that `hearback` "
            "exported."
        )
    return read_plain(folder / _MANIFEST, MANIFEST_MAX_BYTES, folder.name)


def _read_digest(folder: Path, names: set[str]) -> str:
    """Return the digest in `manifest.sha256`, which must be exactly one line of sha256sum."""
    if _DIGEST not in names:
        raise BundleError(f"Bundle {folder.name!r} has no {_DIGEST}. Copy the bundle again.")
    data = read_plain(folder / _DIGEST, 256, folder.name)
    digest = data[:64].decode("ascii", errors="replace")
    if data != _digest_line(digest):
        raise BundleError(f"Bundle {folder.name!r}: {_DIGEST} is damaged. Copy the bundle again.")
    return digest


def _digest_line(digest: str) -> bytes:
    return f"{digest}  {_MANIFEST}\n".encode()


def _check_names(folder: Path, names: set[str], manifest: Manifest) -> None:
    expected = set(manifest.files) | {_MANIFEST, _DIGEST}
    missing, surplus = sorted(expected - names), sorted(names - expected)
    if missing:
        raise BundleError(f"Bundle {folder.name!r} lacks {missing}. Copy the bundle again.")
    if surplus:
        raise BundleError(
            f"Bundle {folder.name!r} holds {surplus[:5]}, which its manifest does not name. Remove "
            "what does not belong there, or export the bundle again."
        )


def _statistics(data: bytes, bundle: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read mean and standard deviation of the calibration set."""
    where = f"Bundle {bundle!r}: {_STATISTICS}"
    try:
        values = read_npy(data, dtype=np.dtype("<f8"), ndim=2)
    except ValueError as error:
        raise BundleError(
            f"{where} should be float64 (2, n_features): {error}. Export it again."
        ) from error
    if values.shape[0] != 2 or values.shape[1] < 1:
        raise BundleError(
            f"{where} should have shape (2, n_features), not {values.shape}. Export it again."
        )
    mean, std = values
    if not (np.isfinite(values).all() and (std > 0).all()):
        raise BundleError(
            f"{where} should hold finite means and positive standard deviations. Export it again."
        )
    return mean, std


def _check_chain(bundle: Bundle) -> None:
    """Check what only the files of the chain can tell."""
    chain = bundle.manifest.chain
    if library_of(chain) is not None:
        from export.library import check_library

        check_library(bundle)
    if isinstance(chain, GeneratedChain):
        from export.embedded_generator import check_embedded_generator

        check_embedded_generator(bundle.path, bundle.manifest, chain)


def _check_onnx(folder: Path, manifest: Manifest) -> None:
    """Check that ONNX files read nothing but files of this bundle."""
    for name in sorted(manifest.files):
        if not name.endswith(".onnx"):
            continue
        try:
            outside = external_files(folder / name) - set(manifest.files)
        except (OnnxFormatError, OSError) as error:
            raise BundleError(
                f"Bundle {folder.name!r}: {name} is not an ONNX file: {error}. Export it again."
            ) from error
        if outside:
            raise BundleError(
                f"Bundle {folder.name!r}: {name} reads weights from {sorted(outside)[0][:80]!r}, "
                "which is not a file of the bundle. Such a bundle is refused; export it again."
            )
