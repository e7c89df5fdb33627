"""Some of the voxels or channels of a data set: the columns of named regions, and only those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Dataset, VoxelSpace
from models.errors import SettingError

__all__ = ["roi_columns", "select_columns"]


def roi_columns(space: VoxelSpace, names: Sequence[str]) -> NDArray[np.intp]:
    """Return the columns of the named regions, each once, in order.

    Raises
    ------
    SettingError
        If there is no such region, or they hold no voxel.
    """
    for name in names:
        if name not in space.rois:
            raise SettingError(
                f"There is no region {name!r}; the label file has "
                f"{', '.join(map(repr, space.rois)) or 'none'}. Name one of them."
            )
    columns = np.unique(
        np.concatenate([np.empty(0, np.intp), *(space.rois[name] for name in names)])
    )
    if not len(columns):
        raise SettingError(f"The regions {list(names)} hold no voxel inside the mask.")
    return columns.astype(np.intp)


def select_columns(dataset: Dataset, columns: NDArray[np.intp]) -> Dataset:
    """Return the data set with only some of its columns (voxels or channels), in order.

    The mask shrinks with them, so that a live stream of the same voxels is recognised. People with
    masks of their own have columns of their own: take one participant's runs first.

    Raises
    ------
    SettingError
        If a column is not there, or they are not in ascending order.
    """
    widths = [run.signal.shape[1] for run in dataset.runs]
    widths += [rows.values.shape[1] for rows in dataset.epochs]
    n_columns = min(widths, default=0)
    keep = np.asarray(columns, np.intp)
    if not len(keep) or keep[0] < 0 or keep[-1] >= n_columns or np.any(np.diff(keep) <= 0):
        raise SettingError(
            f"Expected columns from 0 to {n_columns - 1}, each once and in ascending order."
        )
    return replace(
        dataset,
        runs=tuple(replace(run, signal=run.signal[:, keep]) for run in dataset.runs),
        epochs=tuple(replace(rows, values=rows.values[:, keep]) for rows in dataset.epochs),
        channels=tuple(dataset.channels[k] for k in keep) if dataset.channels else (),
        space=None if dataset.space is None else _smaller(dataset.space, keep),
        spaces={who: _smaller(space, keep) for who, space in dataset.spaces.items()},
    )


def _smaller(space: VoxelSpace, keep: NDArray[np.intp]) -> VoxelSpace:
    from stream.readers.nifti import mask_digest

    inside = np.flatnonzero(space.mask.ravel())
    mask, digest = space.mask, ""
    if len(inside):  # else only the digest of the mask was known, and that of a part is not
        flat = np.zeros(space.mask.size, bool)
        flat[inside[keep]] = True
        mask = flat.reshape(space.mask.shape)
        digest = mask_digest(mask)
    n_before = max([len(inside), keep[-1] + 1, *(c[-1] + 1 for c in space.rois.values() if len(c))])
    number = np.full(n_before, -1, np.intp)
    number[keep] = np.arange(len(keep))
    rois = {name: number[columns][number[columns] >= 0] for name, columns in space.rois.items()}
    rois = {name: columns for name, columns in rois.items() if len(columns)}
    return replace(space, mask=mask, rois=rois, mask_sha256=digest)
