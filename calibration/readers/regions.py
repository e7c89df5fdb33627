"""Masks and regions: images in the space of the BOLD runs that say which voxels belong to what."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import VoxelSpace
from models.errors import FileError
from stream.readers.checks import as_file_error, check_fetched
from stream.readers.nifti import image_stem, mask_digest

__all__ = ["make_space", "read_mask", "read_regions", "write_mask"]

_IMAGES = (".nii", ".nii.gz")


def read_mask(
    path: Path, *, shape: tuple[int, int, int], affine: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Read a mask: voxels other than 0, in the space of the images.

    Raises
    ------
    FileError
        If it is missing, empty, or lies elsewhere than the images.
    """
    inside: NDArray[np.bool_] = np.nan_to_num(_image_values(path, shape, affine, "mask")) != 0
    if not inside.any():
        raise FileError(f"The mask {path.name} is empty: no voxel differs from 0. Give another.")
    return inside


def make_space(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> VoxelSpace:
    """Return the space of BOLD runs; its digest is the one that a replay of them announces."""
    shape = (mask.shape[0], mask.shape[1], mask.shape[2])
    return VoxelSpace(shape, affine, mask, {}, mask_digest(mask))


def write_mask(space: VoxelSpace, path: Path) -> None:
    """Write the mask of a space as NIfTI, for `hearback replay --mask` and the scanner's export.

    Raises
    ------
    FileError
        If the space does not know its mask, or the file cannot be written.
    """
    import nibabel

    if not space.mask.any():
        raise FileError("The recording told the digest of its mask only; there is none to write.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image: Any = nibabel.Nifti1Image  # its constructor has no types
        nibabel.save(image(space.mask.astype(np.uint8), space.affine), path)
    except OSError as error:
        raise FileError(f"Cannot write {path}: {error.strerror}. Check the folder.") from error


def read_regions(
    paths: Sequence[Path], space: VoxelSpace, *, names: Path | None = None
) -> VoxelSpace:
    """Return the space with named regions: which columns belong to each.

    Parameters
    ----------
    paths : sequence of Path
        Label images (whole numbers; NIfTI, or .npy of the images' shape or one number a column),
        masks (one region each, named as the file), or folders of these.
    space : VoxelSpace
    names : Path, optional
        Table (columns `index` and `name`) or JSON ({"1": "A1"}); without it, the one beside a label
        image that has its name. Labels without a name are called `label-7`.

    Raises
    ------
    FileError
        If an image lies elsewhere, holds no labels, or no region has a voxel in the mask.
    """
    rois: dict[str, NDArray[np.intp]] = dict(space.rois)
    before = len(rois)
    for path in _files(paths):
        values = _label_values(path, space)
        present = np.unique(values)
        present = present[present != 0]
        if not len(present):
            continue
        if len(present) == 1 and names is None and _names_beside(path) is None:
            found = [(_stem(path), np.flatnonzero(values))]
        else:
            known = _names(names or _names_beside(path))
            found = [
                (known.get(int(value), f"label-{int(value)}"), np.flatnonzero(values == value))
                for value in present
            ]
        for name, columns in found:
            if name in rois:  # the two halves of a region, or a name that two images have
                columns = np.union1d(rois[name], columns)
            rois[name] = columns.astype(np.intp)
    if len(rois) == before:
        listed = ", ".join(path.name for path in paths)
        raise FileError(f"No label of {listed} has a voxel inside the mask. Check their space.")
    return replace(space, rois=rois)


def _files(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            here = [p for p in sorted(path.iterdir()) if p.name.endswith((*_IMAGES, ".npy"))]
            if not here:
                raise FileError(f"{path} holds no label image (.nii, .nii.gz or .npy).")
            found += here
        else:
            found.append(path)
    return found


def _stem(path: Path) -> str:
    return path.stem if path.suffix == ".npy" else image_stem(path)


def _label_values(path: Path, space: VoxelSpace) -> NDArray[np.int64]:
    """Return the label of each column."""
    if path.suffix == ".npy":
        check_fetched(path)
        with as_file_error(path, "an array"):
            values = np.load(path, allow_pickle=False)
        if values.shape == (int(space.mask.sum()),):
            return _whole(values, path)
        if values.shape != space.shape:
            raise FileError(
                f"{path.name} has the shape {values.shape}; expected {space.shape}, or one label "
                f"for each of the {int(space.mask.sum())} voxels in the mask."
            )
    else:
        values = _image_values(path, space.shape, space.affine, "label image")
    return _whole(values[space.mask], path)


def _whole(values: NDArray[Any], path: Path) -> NDArray[np.int64]:
    numbers = np.nan_to_num(np.asarray(values, np.float64))
    if not (numbers == np.rint(numbers)).all():
        few = np.unique(numbers)
        if len(few) == 2 and few[0] == 0:  # a mask that was scaled
            return np.asarray(numbers != 0, np.int64)
        raise FileError(
            f"{path.name} holds fractions (e.g. {numbers[numbers != np.rint(numbers)][0]:g}); "
            f"whole-number labels, or a mask, are expected. Threshold it first."
        )
    return np.asarray(numbers, np.int64)


def _image_values(
    path: Path, shape: tuple[int, int, int], affine: NDArray[np.float64], what: str
) -> NDArray[Any]:
    import nibabel

    check_fetched(path)
    with as_file_error(path, "NIfTI"):
        image: Any = nibabel.load(path)
        values = np.asarray(image.dataobj)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.shape != tuple(shape):
        raise FileError(
            f"The {what} {path.name} has the shape {values.shape}, the images {tuple(shape)}. "
            f"Give one in the space of the images."
        )
    if not np.allclose(image.affine, affine, rtol=1e-3, atol=1e-2):
        raise FileError(
            f"The {what} {path.name} lies elsewhere than the images (their affines differ). "
            f"Give one in the space of the images."
        )
    return values


def _names_beside(path: Path) -> Path | None:
    for ending in (".tsv", ".json"):
        beside = path.with_name(_stem(path) + ending)
        if beside.exists():
            return beside
    return None


def _names(path: Path | None) -> Mapping[int, str]:
    if path is None:
        return {}
    check_fetched(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            values = json.loads(text)
            return {int(key): str(name) for key, name in values.items()}
        rows = list(csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in text else ","))
        return {int(row["index"]): row["name"].strip() for row in rows}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise FileError(
            f"{path.name} is no list of region names ({type(error).__name__}: {error}); expected a "
            f'table with the columns index and name, or JSON like {{"1": "A1"}}.'
        ) from error
