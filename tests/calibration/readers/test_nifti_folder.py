from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from calibration.readers import describe, detect_format, list_participants, read_dataset
from models.errors import FileError, SettingError
from stream.readers.nifti import mask_digest
from tests.calibration.readers.layouts import events_text, volumes, write_image
from tests.data import shared

TABLE = events_text("onset duration trial_type", [(3, 6, "face"), (12, 3, "house")])


def make(folder: Path, *, sizes: tuple[str, ...] = ("small", "large")) -> Path:
    for run in (1, 2):
        for size in sizes:
            write_image(folder / f"run{run:03d}_bold_{size}.nii.gz", volumes(seed=run))
        (folder / f"run{run:03d}_bold_events.tsv").write_text(TABLE)
    write_image(folder / "mask_small.nii.gz", np.ones((4, 3, 2), np.uint8))
    return folder


def test_one_resolution_is_chosen_or_refused_with_a_list(tmp_path: Path) -> None:
    folder = make(tmp_path / "anna")
    assert detect_format(folder) == "nifti"
    with pytest.raises(SettingError, match="select, one of 'large', 'small'"):
        read_dataset(folder)
    dataset = read_dataset(folder, select="small")
    assert dataset.participants == ("anna",)
    assert [run.run for run in dataset.runs] == ["run001_bold", "run002_bold"]
    assert [event.label for event in dataset.runs[0].events] == ["face", "house"]
    assert read_dataset(folder, select="small", runs="run002_bold").runs[0].run == "run002_bold"
    with pytest.raises(SettingError, match="No image in anna has 'huge' in its name"):
        read_dataset(folder, select="huge")


def test_folders_are_participants_and_a_lone_folder_takes_any_name(tmp_path: Path) -> None:
    make(tmp_path / "both" / "anna", sizes=("small",))
    make(tmp_path / "both" / "ben", sizes=("small",))
    assert list_participants(tmp_path / "both") == ("anna", "ben")
    assert read_dataset(tmp_path / "both", participant="ben").participants == ("ben",)
    with pytest.raises(FileError, match="'carl' is not in both; it has anna, ben"):
        read_dataset(tmp_path / "both", participant="carl")
    assert read_dataset(tmp_path / "both" / "anna", participant="P7").participants == ("P7",)


def test_images_without_a_table_are_one_sentence(tmp_path: Path) -> None:
    folder = make(tmp_path, sizes=("small",))
    (folder / "run002_bold_events.tsv").unlink()
    dataset = read_dataset(folder)
    assert any("run002_bold_small.nii.gz has no events table" in w for w in dataset.warnings)
    (folder / "run001_bold_events.tsv").unlink()
    with pytest.raises(FileError, match=r"expected e.g. run001_bold_small_events.tsv beside it"):
        read_dataset(folder)
    for path in folder.glob("run*.nii.gz"):
        path.unlink()
    with pytest.raises(FileError, match="holds no functional image: a 4-D NIfTI"):
        read_dataset(folder)


@pytest.mark.data
def test_haxby_runs_masks_and_labels() -> None:
    folder = shared("fmri_haxby")
    with pytest.raises(SettingError, match="one of '1slice', '25mm'"):
        read_dataset(folder)
    masks = [folder / f"mask_25mm_{name}.nii.gz" for name in ("brain", "gray", "vt")]
    dataset = read_dataset(folder, select="25mm", mask=masks[0], labels=masks[1:])
    inside = np.asarray(nibabel.load(masks[0]).dataobj) != 0  # type: ignore[attr-defined]
    assert dataset.space is not None
    assert dataset.space.mask_sha256 == mask_digest(inside)
    counts = describe(dataset)
    assert counts["tr_s"] == 2.5
    person = counts["participants"]["fmri_haxby"]
    assert (person["runs"], person["samples"], person["n_voxels"]) == (8, 968, int(inside.sum()))
    assert person["parts"]["all"] == {"clips": 8, "presentations": 64, "repetitions": "8"}
    for name, path in zip(("mask_25mm_gray", "mask_25mm_vt"), masks[1:], strict=True):
        region = np.asarray(nibabel.load(path).dataobj) != 0  # type: ignore[attr-defined]
        np.testing.assert_array_equal(dataset.space.rois[name], np.flatnonzero(region[inside]))
    image = nibabel.load(folder / "run003_bold_25mm.nii.gz")
    values = np.asarray(image.dataobj, np.float32)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(dataset.runs[2].signal, values[inside].T)
    assert all(event.duration_s == 22.5 for run in dataset.runs for event in run.events)
