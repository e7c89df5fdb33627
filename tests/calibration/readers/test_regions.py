from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration.readers.regions import make_space, read_mask, read_regions, write_mask
from models.errors import FileError
from stream.readers.nifti import mask_digest
from tests.calibration.readers.layouts import AFFINE, write_image

SHAPE = (4, 3, 2)
MASK = np.arange(24).reshape(SHAPE) % 3 != 0
LABELS = (np.arange(24).reshape(SHAPE) // 6).astype(np.int16)  # 0, 1, 2, 3 by plane


@settings(max_examples=30, deadline=None)
@given(labels=arrays(np.int16, SHAPE, elements=st.integers(-2, 3)))
def test_columns_of_a_region_are_its_voxels_in_the_mask(
    labels: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("labels") / "atlas.npy"
    np.save(path, labels)
    space = make_space(MASK, AFFINE)
    present = set(labels[MASK].tolist()) - {0}
    if not present:
        with pytest.raises(FileError, match="No label of"):
            read_regions([path], space)
        return
    rois = read_regions([path], space).rois
    assert sum(len(columns) for columns in rois.values()) == int((labels[MASK] != 0).sum())
    values = np.arange(24).reshape(SHAPE)[MASK]  # what a volume that counts voxels gives
    for label in present:
        name = "atlas" if len(present) == 1 else f"label-{label}"
        np.testing.assert_array_equal(values[rois[name]], np.flatnonzero((labels == label) & MASK))


def test_names_come_from_a_table_beside_or_given(tmp_path: Path) -> None:
    space = make_space(MASK, AFFINE)
    atlas = write_image(tmp_path / "atlas.nii.gz", LABELS)
    assert set(read_regions([atlas], space).rois) == {"label-1", "label-2", "label-3"}
    (tmp_path / "atlas.tsv").write_text("index\tname\n1\tA1\n2\tBelt\n3\tBelt\n")
    rois = read_regions([atlas], space).rois
    assert set(rois) == {"A1", "Belt"}  # the two halves of a region are one
    np.testing.assert_array_equal(rois["Belt"], np.flatnonzero(LABELS[MASK] >= 2))
    (tmp_path / "names.json").write_text('{"1": "planum"}')
    assert "planum" in read_regions([atlas], space, names=tmp_path / "names.json").rois
    (tmp_path / "names.json").write_text("[1, 2]")
    with pytest.raises(FileError, match="is no list of region names"):
        read_regions([atlas], space, names=tmp_path / "names.json")


def test_a_mask_is_one_region_and_a_folder_gives_all(tmp_path: Path) -> None:
    space = make_space(MASK, AFFINE)
    write_image(tmp_path / "masks" / "left.nii.gz", (LABELS == 1).astype(np.float32) * 0.7)
    write_image(tmp_path / "masks" / "right.nii", (LABELS == 2).astype(np.uint8))
    rois = read_regions([tmp_path / "masks"], space).rois
    np.testing.assert_array_equal(rois["left"], np.flatnonzero(LABELS[MASK] == 1))
    np.testing.assert_array_equal(rois["right"], np.flatnonzero(LABELS[MASK] == 2))


def test_images_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    space = make_space(MASK, AFFINE)
    other = write_image(tmp_path / "a.nii.gz", np.ones((4, 3, 3), np.uint8))
    with pytest.raises(FileError, match=r"shape \(4, 3, 3\), the images \(4, 3, 2\)"):
        read_regions([other], space)
    away = write_image(tmp_path / "b.nii.gz", LABELS, affine=np.diag([3.0, 3.0, 4.0, 1.0]))
    with pytest.raises(FileError, match="lies elsewhere than the images"):
        read_mask(away, shape=SHAPE, affine=AFFINE)
    soft = write_image(tmp_path / "c.nii.gz", np.linspace(0, 1, 24).reshape(SHAPE))
    with pytest.raises(FileError, match="holds fractions"):
        read_regions([soft], space)
    empty = write_image(tmp_path / "d.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(FileError, match="is empty"):
        read_mask(empty, shape=SHAPE, affine=AFFINE)
    (tmp_path / "none").mkdir()
    with pytest.raises(FileError, match="holds no label image"):
        read_regions([tmp_path / "none"], space)
    np.save(tmp_path / "e.npy", np.ones(5, int))
    with pytest.raises(FileError, match=r"one label for each of the 16 voxels"):
        read_regions([tmp_path / "e.npy"], space)


def test_a_written_mask_has_the_same_digest(tmp_path: Path) -> None:
    space = make_space(MASK, AFFINE)
    assert space.mask_sha256 == mask_digest(MASK)
    write_mask(space, tmp_path / "new" / "mask.nii.gz")
    again = read_mask(tmp_path / "new" / "mask.nii.gz", shape=SHAPE, affine=AFFINE)
    assert mask_digest(again) == space.mask_sha256
    with pytest.raises(FileError, match="digest of its mask only"):
        write_mask(make_space(np.zeros(SHAPE, bool), AFFINE), tmp_path / "x.nii.gz")
