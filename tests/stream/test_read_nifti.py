"""4-D NIfTI images against nibabel, masks, times, and what can be wrong with them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as _nibabel
import numpy as np
import pytest

from models.errors import FileError
from stream.readers.nifti import automatic_mask, mask_digest
from stream.recordings import read_recording
from tests.data import shared

nibabel: Any = _nibabel  # half of it has types

_AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])


def an_image(
    path: Path, *, shape: tuple[int, ...] = (4, 3, 2, 6), tr: float = 2.0, unit: str = "sec"
) -> np.ndarray:
    values = np.random.default_rng(1).uniform(500, 900, shape).astype(np.float32)
    values[0] = 3.0  # air
    image = nibabel.Nifti1Image(values, _AFFINE)
    if len(shape) == 4:
        image.header.set_zooms((3.0, 3.0, 4.0, tr))
        image.header.set_xyzt_units("mm", unit)
    nibabel.save(image, path)
    return values


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "tr_s"),
    [
        ("fmri_haxby/run001_bold_1slice.nii.gz", 2.5),
        ("fmri_haxby/run003_bold_25mm.nii.gz", 2.5),
        ("fmri_small/nipy_functional.nii.gz", 2.0),
        ("fmri_small/nitime_fmri1.nii.gz", 1.35),
    ],
)
def test_real_images_equal_nibabel_inside_the_mask(name: str, tr_s: float) -> None:
    path = shared(name)
    signal = read_recording(path).choose()
    values = nibabel.load(path).get_fdata(dtype=np.float32)
    inside = automatic_mask(values)
    assert np.array_equal(signal.samples, values[inside].T)
    assert signal.bold is not None
    assert signal.bold.tr_s == pytest.approx(tr_s)
    assert signal.sfreq_hz == pytest.approx(1 / tr_s)
    assert signal.stamps == pytest.approx(tr_s * np.arange(values.shape[3]))
    assert signal.bold.shape == values.shape[:3]
    assert signal.bold.affine == pytest.approx(nibabel.load(path).affine)
    assert signal.bold.mask_sha256 == mask_digest(inside)


@pytest.mark.data
def test_a_mask_from_a_file_and_the_events_beside_the_image() -> None:
    mask = shared("fmri_haxby/mask_25mm_brain.nii.gz")
    recording = read_recording(shared("fmri_haxby/run001_bold_25mm.nii.gz"), mask=mask)
    inside = np.asarray(nibabel.load(mask).dataobj) != 0
    assert recording.choose().n_channels == inside.sum()
    assert recording.markers[0].texts[:3] == ("scissors", "face", "cat")
    assert recording.markers[0].stamps[:3] == pytest.approx([15.0, 52.5, 87.5])


def test_voxels_come_in_c_order(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 3, 2, 1) + 100
    path = tmp_path / "x.nii"
    image = nibabel.Nifti1Image(np.concatenate([values, values], axis=3), _AFFINE)
    image.header.set_zooms((3, 3, 4, 2))
    nibabel.save(image, path)
    assert read_recording(path).choose().samples[0].tolist() == list(range(100, 124))


def test_the_digest_depends_on_the_voxels_and_on_the_shape() -> None:
    mask = np.zeros((2, 4, 4), dtype=bool)
    digests = {mask_digest(mask), mask_digest(mask.reshape(4, 2, 4))}
    mask[1, 2, 3] = True
    assert len(digests | {mask_digest(mask)}) == 3


@pytest.mark.parametrize(
    ("tr", "unit", "tr_s"), [(2.0, "sec", 2.0), (1500, "msec", 1.5), (800, "unknown", 0.8)]
)
def test_the_tr_is_read_in_its_unit(tmp_path: Path, tr: float, unit: str, tr_s: float) -> None:
    an_image(tmp_path / "x.nii.gz", tr=tr, unit=unit)
    signal = read_recording(tmp_path / "x.nii.gz").choose()
    assert signal.period_s == pytest.approx(tr_s)


def test_a_tr_that_is_disputed_or_missing_is_refused_and_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    an_image(path)
    (tmp_path / "x.json").write_text(json.dumps({"RepetitionTime": 1.5}))
    with pytest.raises(FileError, match=r"a TR of 2 s, the sidecar 1\.5 s"):
        read_recording(path)
    assert read_recording(path, tr_s=1.5).choose().period_s == pytest.approx(1.5)
    (tmp_path / "x.json").unlink()
    an_image(path, tr=0.0)
    with pytest.raises(FileError, match="the TR is 0 s"):
        read_recording(path)
    (tmp_path / "x.json").write_text(json.dumps({"RepetitionTime": 1.5}))
    assert read_recording(path).choose().period_s == pytest.approx(1.5)


def test_sparse_volumes_keep_their_own_times(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    an_image(path)
    times = [0.0, 1.0, 2.0, 6.0, 7.0, 8.0]
    (tmp_path / "x.json").write_text(json.dumps({"VolumeTiming": times}))
    signal = read_recording(path).choose()
    assert signal.stamps.tolist() == times
    assert signal.sfreq_hz == 0
    assert signal.bold is not None
    assert signal.bold.tr_s == 1.0
    (tmp_path / "x.json").write_text(json.dumps({"VolumeTiming": times[:-1]}))
    with pytest.raises(FileError, match="lists 5 volumes, the image has 6"):
        read_recording(path)


def damaged(path: Path, change: Any) -> None:
    path.write_bytes(change(bytearray(path.read_bytes())))


def test_cut_and_changed_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.nii"
    for change in (lambda b: b[:-1], lambda b: b + b"x", lambda b: b[:300]):
        an_image(path)
        damaged(path, change)
        with pytest.raises(FileError, match=r"cut short|damaged"):
            read_recording(path)
    packed = tmp_path / "y.nii.gz"
    an_image(packed)
    raw = gzip.decompress(packed.read_bytes())
    body = gzip.compress(raw)
    for wrong in (body[:-9], body[:-8] + b"\0" * 8, body[: len(body) // 2]):
        packed.write_bytes(wrong)
        with pytest.raises(FileError, match="damaged, cut short"):
            read_recording(packed)


def test_anatomies_and_empty_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    an_image(path, shape=(4, 3, 2))
    with pytest.raises(FileError, match=r"shape \(4, 3, 2\)"):
        read_recording(path)
    for value in (np.nan, 0.0):
        values = np.full((4, 3, 2, 6), value, dtype=np.float32)
        image = nibabel.Nifti1Image(values, _AFFINE)
        image.header.set_zooms((3, 3, 4, 2))
        nibabel.save(image, path)
        with pytest.raises(FileError, match="no signal at all"):
            read_recording(path)


def test_a_mask_of_another_space_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    an_image(path)
    other = tmp_path / "mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 3, 2), np.uint8), _AFFINE), other)
    with pytest.raises(FileError, match=r"shape \(3, 3, 2\), the image \(4, 3, 2\)"):
        read_recording(path, mask=other)
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 3, 2), np.uint8), np.eye(4)), other)
    with pytest.raises(FileError, match="affines differ"):
        read_recording(path, mask=other)
