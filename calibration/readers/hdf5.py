"""HDF5 files read without surprises: one sentence where the library, or a part, is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import VoxelSpace
from calibration.readers.options import ReadOptions
from calibration.readers.regions import read_regions
from models.errors import FileError
from stream.readers.checks import as_file_error, check_fetched

__all__ = ["chosen_columns", "column_space", "finite_columns", "is_hdf5", "open_hdf5", "text"]


def is_hdf5(path: Path) -> bool:
    """Tell whether a file is HDF5 by its first bytes (or, in MATLAB 7.3 files, behind 512)."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(520)
    return head.startswith(b"\x89HDF\r\n\x1a\n") or head[512:520] == b"\x89HDF\r\n\x1a\n"


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a file for reading.

    Raises
    ------
    FileError
        If it is missing, not fetched or damaged, or the package h5py is not installed.
    """
    check_fetched(path)
    try:
        import h5py
    except ImportError as error:
        raise FileError(
            f"{path.name} needs the package h5py. Install it: pip install 'hearback[calibrate]'."
        ) from error
    with as_file_error(path, "HDF5"), h5py.File(path, "r") as file:
        yield file


def text(value: Any) -> str:
    """Return a string that h5py gives as bytes, str or an array of one."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def column_space(n_columns: int) -> VoxelSpace:
    """Return the space of columns whose places nobody published: all of them in one row.

    Its digest is empty: no stream can be compared with it.
    """
    shape = (n_columns, 1, 1)
    return VoxelSpace(shape, np.eye(4), np.ones(shape, np.bool_), {}, "")


def finite_columns(
    values: NDArray[np.float32], *, what: str, warnings: list[str]
) -> NDArray[np.float32]:
    """Return values with columns that are not finite throughout set to 0, and say so."""
    bad = np.asarray(~np.isfinite(values).all(axis=0))
    if not bad.any():
        return values
    if bad.all():
        raise FileError(f"{what}: no voxel is finite throughout. The file is of no use.")
    warnings.append(f"{what}: {int(bad.sum())} of {bad.size} voxels are not finite; set to 0.")
    values = values.copy()
    values[:, bad] = 0.0
    return values


def chosen_columns(
    n_columns: int, options: ReadOptions, participant: str
) -> tuple[NDArray[np.intp], VoxelSpace]:
    """Return the columns that a mask (.npy, one value a column) keeps, and their space.

    Raises
    ------
    FileError
        If the mask, or a label file, has another number of columns.
    """
    columns = np.arange(n_columns)
    mask = options.place(options.mask, participant)
    if mask is not None:
        check_fetched(mask)
        if mask.suffix != ".npy":
            raise FileError(
                f"{mask.name}: this data set is stored by column; a mask is expected as .npy with "
                f"one value for each of {participant}'s {n_columns} voxels."
            )
        with as_file_error(mask, "an array"):
            kept = np.load(mask, allow_pickle=False)
        if kept.shape != (n_columns,):
            raise FileError(
                f"The mask {mask.name} has the shape {kept.shape}; expected ({n_columns},), one "
                f"value for each of {participant}'s voxels."
            )
        columns = np.flatnonzero(np.nan_to_num(kept))
        if not len(columns):
            raise FileError(f"The mask {mask.name} is empty. Give another.")
    space = column_space(len(columns))
    if options.labels:
        places = [options.place(label, participant) for label in options.labels]
        names = options.place(options.label_names, participant)
        space = read_regions([p for p in places if p is not None], space, names=names)
    return columns, space
