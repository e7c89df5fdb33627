"""A part of the voxels keeps its mask, its regions and its digest in step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.columns import roi_columns, select_columns
from calibration.data.dataset import Dataset, Run, VoxelSpace
from models.errors import SettingError
from stream.readers.nifti import mask_digest


def dataset() -> Dataset:
    mask = np.zeros((2, 3, 2), bool)
    mask.ravel()[[0, 2, 3, 7, 9, 11]] = True
    space = VoxelSpace(
        (2, 3, 2),
        np.eye(4),
        mask,
        {"A1": np.array([0, 1, 4]), "LBelt": np.array([4, 5]), "V1": np.array([2, 3])},
        mask_digest(mask),
    )
    signal = np.arange(12, dtype=np.float32).reshape(2, 6)
    run = Run("sub-01", "", "1", "", signal, 0.5, np.array([0.0, 2.0]), ())
    return Dataset(Path("x"), "bids", "bold", (), (run,), {}, space)


def test_columns_of_regions_are_taken_once_each() -> None:
    space = dataset().space
    assert space is not None
    assert roi_columns(space, ["LBelt", "A1"]).tolist() == [0, 1, 4, 5]
    with pytest.raises(SettingError, match=r"'A2'.*'A1', 'LBelt', 'V1'"):
        roi_columns(space, ["A2"])
    with pytest.raises(SettingError, match="no voxel"):
        roi_columns(space, [])


def test_the_mask_shrinks_with_the_columns() -> None:
    whole = dataset()
    part = select_columns(whole, np.array([0, 1, 4, 5]))
    np.testing.assert_array_equal(part.runs[0].signal, [[0, 1, 4, 5], [6, 7, 10, 11]])
    assert part.space is not None
    assert np.flatnonzero(part.space.mask.ravel()).tolist() == [0, 2, 9, 11]
    assert part.space.mask_sha256 == mask_digest(part.space.mask)
    assert {name: c.tolist() for name, c in part.space.rois.items()} == {
        "A1": [0, 1, 2],
        "LBelt": [2, 3],
    }
    assert whole.runs[0].signal.shape == (2, 6)


def test_columns_that_are_not_there_are_refused() -> None:
    for columns in ([], [6], [-1, 2], [2, 1], [1, 1]):
        with pytest.raises(SettingError, match="from 0 to 5"):
            select_columns(dataset(), np.array(columns, np.intp))
