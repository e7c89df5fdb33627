"""A small head: a mask of just so many voxels, cut into compact regions of just so many."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import VoxelSpace
from calibration.simulate.settings import SimulationSettings
from stream.readers.nifti import mask_digest

__all__ = ["VOXEL_MM", "head", "region_labels"]

VOXEL_MM = 2.0
_AXES = (1.0, 1.2, 0.9)  # of the ellipsoid, relative


@lru_cache(maxsize=16)
def _grid(n_voxels: int) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Return the mask and the places (n_voxels, 3) of its voxels in C order."""
    axes = np.array(_AXES) * (0.75 * n_voxels / np.pi / np.prod(_AXES)) ** (1.0 / 3.0)
    shape = 2 * np.ceil(axes + 1.0).astype(np.int64) + 1  # a margin of empty voxels all around
    place = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3)
    distance = np.sum(((place - (shape - 1) / 2.0) / axes) ** 2, axis=1)
    inside = np.zeros(len(place), np.bool_)
    inside[np.argsort(distance, kind="stable")[:n_voxels]] = True
    mask = inside.reshape(tuple(shape))
    mask.setflags(write=False)
    return mask, np.argwhere(mask)


@lru_cache(maxsize=16)
def _regions(n_voxels: int, sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the number of the part that each voxel is in: halves of halves, where it is longest.

    Cutting along the longest extent keeps parts compact; sizes need not be alike.
    """
    place = _grid(n_voxels)[1]
    part = np.zeros(n_voxels, np.int64)

    def cut(voxels: NDArray[np.intp], first: int, stop: int) -> None:
        if stop - first == 1:
            part[voxels] = first
            return
        middle = (first + stop) // 2
        extent = np.ptp(place[voxels], axis=0)
        axis = int(np.argmax(extent))
        order = np.lexsort((place[voxels, (axis + 1) % 3], place[voxels, axis]))
        n_first = sum(sizes[first:middle])
        cut(voxels[order[:n_first]], first, middle)
        cut(voxels[order[n_first:]], middle, stop)

    cut(np.arange(n_voxels), 0, len(sizes))
    part.setflags(write=False)
    return part


def region_labels(settings: SimulationSettings) -> NDArray[np.int64]:
    """Return the number of each voxel's region, from 1 as in the settings; 0: in none.

    Returns
    -------
    labels : array of shape (n_voxels,), int64
    """
    sizes = [region.n_voxels for region in settings.regions]
    if settings.n_other_voxels:
        sizes.append(settings.n_other_voxels)
    part = _regions(settings.n_voxels, tuple(sizes))
    return np.where(part < len(settings.regions), part + 1, 0)


def head(settings: SimulationSettings) -> VoxelSpace:
    """Return the mask and its regions; all simulated people share them."""
    mask, _ = _grid(settings.n_voxels)
    labels = region_labels(settings)
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = -VOXEL_MM * (np.array(mask.shape) - 1) / 2.0
    shape = (mask.shape[0], mask.shape[1], mask.shape[2])
    rois = {
        region.name: np.flatnonzero(labels == number)
        for number, region in enumerate(settings.regions, start=1)
    }
    return VoxelSpace(shape, affine, mask, rois, mask_digest(mask))
