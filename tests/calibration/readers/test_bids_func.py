from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from calibration.readers import list_participants, read_dataset
from calibration.readers.regions import write_mask
from models.errors import FileError, SettingError
from stream.recordings import read_recording
from tests.calibration.readers.layouts import AFFINE, events_text, volumes, write_image
from tests.data import shared

EVENTS = events_text(
    "onset duration trial_type stim_file",
    [(1.5, 3, "cat", "cat/one.wav"), (6, 3, "dog", "dog/two.wav"), (12, 3, "cat", "cat/one.wav")],
)


def make(root: Path, *, people: tuple[str, ...] = ("01", "02"), runs: int = 2) -> Path:
    (root / "task-music_bold.json").parent.mkdir(parents=True, exist_ok=True)
    (root / "task-music_bold.json").write_text(json.dumps({"RepetitionTime": 1.5}))
    (root / "task-music_events.tsv").write_text(EVENTS)
    for person in people:
        for run in range(1, runs + 1):
            name = f"sub-{person}_task-music_run-{run}_bold.nii.gz"
            values = volumes(seed=10 * int(person) + run)
            write_image(root / f"sub-{person}" / "func" / name, values)
    return root


def test_runs_hold_the_masked_voxels_in_c_order(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path), participant="01")
    assert dataset.format == "bids-func"
    assert [run.key for run in dataset.runs] == [
        "sub-01/task-music_run-1",
        "sub-01/task-music_run-2",
    ]
    values = volumes(seed=12)
    mask = values[..., 0] != 0
    np.testing.assert_array_equal(dataset.runs[1].signal, values[mask].T)
    assert dataset.runs[1].signal.dtype == np.float32
    assert dataset.space is not None
    np.testing.assert_array_equal(dataset.space.mask, mask)
    assert dataset.runs[0].tr_s == pytest.approx(1.5)
    assert dataset.runs[0].stamps_s[1] == 1.5


def test_mask_digest_is_that_of_a_replay(tmp_path: Path) -> None:
    root = make(tmp_path, people=("01",))
    image = root / "sub-01" / "func" / "sub-01_task-music_run-1_bold.nii.gz"
    automatic = read_dataset(root)
    bold = read_recording(image).choose().bold
    assert bold is not None
    assert automatic.space is not None
    assert automatic.space.mask_sha256 == bold.mask_sha256

    chosen = np.zeros((4, 3, 2), np.uint8)
    chosen[1:3, :, 1] = 1
    mask = write_image(tmp_path / "masks" / "m.nii.gz", chosen)
    given = read_dataset(root, mask=mask)
    bold = read_recording(image, mask=mask).choose().bold
    assert bold is not None
    assert given.space is not None
    assert given.space.mask_sha256 == bold.mask_sha256
    np.testing.assert_array_equal(
        given.runs[0].signal, read_recording(image, mask=mask).choose().samples
    )
    again = tmp_path / "again" / "mask.nii.gz"
    write_mask(given.space, again)
    second = read_dataset(root, mask=again).space
    assert second is not None
    assert second.mask_sha256 == given.space.mask_sha256


def test_scaled_images_give_the_values_of_a_replay(tmp_path: Path) -> None:
    root = make(tmp_path, people=("01",), runs=1)
    path = root / "sub-01" / "func" / "sub-01_task-music_run-1_bold.nii.gz"
    image: Any = nibabel.Nifti1Image(volumes(), AFFINE)  # type: ignore[no-untyped-call]
    image.header.set_zooms((3, 3, 3.5, 1.5))
    image.header.set_slope_inter(0.37, 5.0)
    nibabel.save(image, path)
    ours = read_dataset(root).runs[0].signal
    np.testing.assert_allclose(ours, read_recording(path).choose().samples, rtol=2e-7)


def test_blocks_do_not_change_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path, people=("01",), runs=1)
    whole = read_dataset(root)
    monkeypatch.setattr("calibration.readers.volumes._BLOCK_BYTES", 5 * 4 * 24)
    blocks = read_dataset(root)
    np.testing.assert_array_equal(whole.runs[0].signal, blocks.runs[0].signal)
    assert whole.space is not None
    assert blocks.space is not None
    assert whole.space.mask_sha256 == blocks.space.mask_sha256


def test_events_share_the_id_of_a_stimulus_heard_again(tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "stimuli" / "cat").mkdir(parents=True)
    (root / "stimuli" / "cat" / "one.wav").write_bytes(b"")
    dataset = read_dataset(root, participant=["01", "sub-02"], runs="2")
    assert dataset.participants == ("sub-01", "sub-02")
    assert [run.run for run in dataset.runs] == ["task-music_run-2"] * 2
    events = dataset.runs[0].events
    assert [(e.onset_s, e.duration_s, e.stimulus, e.label) for e in events] == [
        (1.5, 3.0, "cat/one", "cat"),
        (6.0, 3.0, "dog/two", "dog"),
        (12.0, 3.0, "cat/one", "cat"),
    ]
    assert dataset.stimuli["cat/one"].path == root / "stimuli" / "cat" / "one.wav"
    assert any("dog/two" in text for text in dataset.warnings)


def test_nearer_sidecars_and_tables_go_before(tmp_path: Path) -> None:
    root = make(tmp_path, people=("01",), runs=1)
    func = root / "sub-01" / "func"
    (func / "sub-01_task-music_run-1_bold.json").write_text(json.dumps({"RepetitionTime": 2.0}))
    (func / "sub-01_task-music_run-1_events.tsv").write_text(
        events_text("onset duration genre", [(0, 4, "'rock'")])
    )
    with pytest.raises(FileError, match=r"the header says a TR of 1.5 s, the sidecar 2 s"):
        read_dataset(root)
    dataset = read_dataset(root, tr_s=2.0)
    assert dataset.runs[0].sfreq_hz == 0.5
    assert [e.label for e in dataset.runs[0].events] == ["rock"]


def test_derivatives_take_the_mask_beside_and_the_events_of_their_source(tmp_path: Path) -> None:
    root = make(tmp_path, people=("01",), runs=1)
    func = root / "derivatives" / "prep" / "sub-01" / "func"
    for space in ("T1w", "MNI"):
        stem = f"sub-01_task-music_run-1_space-{space}_desc"
        write_image(func / f"{stem}-preproc_bold.nii.gz", volumes(seed=4))
        mask = np.zeros((4, 3, 2), np.uint8)
        mask[0, 0, :] = 1
        mask[1, 1, 1] = space == "MNI"
        write_image(func / f"{stem}-brain_mask.nii.gz", mask)
    with pytest.raises(SettingError, match=r"several images of one run.*'space-T1w'"):
        read_dataset(root / "derivatives" / "prep")
    dataset = read_dataset(root / "derivatives" / "prep", select="space-MNI")
    assert dataset.runs[0].signal.shape == (12, 3)
    assert len(dataset.runs[0].events) == 3
    assert len(read_dataset(root).runs) == 1  # the raw data set does not see its derivatives


def test_masks_and_named_regions_are_found_in_the_derivatives(tmp_path: Path) -> None:
    root = make(tmp_path, people=("01",), runs=1)
    func = root / "derivatives" / "prep" / "sub-01" / "func"
    mask = np.zeros((4, 3, 2), np.uint8)
    mask[:2] = 1
    labels = np.zeros((4, 3, 2), np.int16)
    labels[0], labels[1] = 1, 2
    write_image(func / "sub-01_desc-brain_mask.nii.gz", mask)
    write_image(func / "sub-01_desc-regions_dseg.nii.gz", labels)
    write_image(func / "sub-01_desc-nameless_dseg.nii.gz", labels)
    (func / "sub-01_desc-regions_dseg.tsv").write_text("index\tname\n1\tA1\n2\tBelt\n")
    dataset = read_dataset(root)
    assert dataset.space is not None
    np.testing.assert_array_equal(dataset.space.mask, mask != 0)
    assert {k: v.tolist() for k, v in dataset.space.rois.items()} == {
        "A1": list(range(6)),
        "Belt": list(range(6, 12)),
    }
    assert any("desc-brain_mask.nii.gz was found and is used" in w for w in dataset.warnings)
    write_image(func / "sub-01_desc-brain_mask.nii.gz", np.ones((4, 3, 3), np.uint8))
    other = read_dataset(root)
    assert other.space is not None
    assert other.space.mask.sum() == 18
    assert any("found is not used" in text for text in other.warnings)


def test_volume_timing_is_used_and_its_pauses_cut_the_run(tmp_path: Path) -> None:
    root = make(tmp_path, people=("01",), runs=1)
    (root / "task-music_bold.json").write_text(
        json.dumps({"VolumeTiming": [2.0 + 1.5 * k for k in range(12)]})
    )
    even = read_dataset(root).runs
    assert len(even) == 1
    # The table's onsets count from the start of the acquisition, the run's from its first volume.
    assert [event.onset_s for event in even[0].events] == [-0.5, 4.0, 10.0]

    cluster = [0.0, 1.5, 3.0, 4.5, 9.0, 10.5, 12.0, 13.5, 15.0, 20.0, 21.5, 23.0]
    (root / "task-music_bold.json").write_text(json.dumps({"VolumeTiming": cluster}))
    pieces = read_dataset(root).runs
    assert [len(run.signal) for run in pieces] == [4, 5, 3]
    assert [run.run for run in pieces] == [f"task-music_run-1.{k}" for k in (1, 2, 3)]
    assert [[e.onset_s for e in run.events] for run in pieces] == [[1.5], [3.0], []]
    assert all(run.tr_s == 1.5 for run in pieces)


def test_each_person_may_have_another_space(tmp_path: Path) -> None:
    root = make(tmp_path)
    path = root / "sub-02" / "func" / "sub-02_task-music_run-{}_bold.nii.gz"
    for run in (1, 2):
        write_image(Path(str(path).format(run)), volumes((5, 3, 2)))
    for person, shape in (("sub-01", (4, 3, 2)), ("sub-02", (5, 3, 2))):
        write_image(tmp_path / "masks" / f"{person}.nii.gz", np.ones(shape, np.uint8))
    dataset = read_dataset(root, mask=tmp_path / "masks" / "{participant}.nii.gz")
    assert dataset.space is None
    spaces = [dataset.space_of(name) for name in dataset.participants]
    assert [None if s is None else s.shape for s in spaces] == [(4, 3, 2), (5, 3, 2)]
    assert dataset.of("02")[0].signal.shape == (12, 30)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"participant": "07"}, "Participant '07' is not in .*; it has sub-01, sub-02"),
        ({"runs": "9"}, "sub-01 has no recording that was asked for; there are task-music_run-1"),
        ({"mask": "none.nii.gz"}, "No recording at .*none.nii.gz"),
        ({"label_column": "genre"}, "has no column 'genre'; it has onset, duration, trial_type"),
        ({"ignore_labels": ("cat", "dog")}, "nothing says what was presented"),
        ({"select": "space-T1w"}, "No image of .* has 'space-T1w' in its name"),
        ({"format": "bids-eeg"}, "sub-01 has no eeg recording"),
        ({"format": "pets"}, "No format 'pets'; there are ds003720"),
        ({"tr_s": -1.0}, "tr_s must be above 0 s"),
    ],
)
def test_what_fits_nothing_is_one_sentence(
    tmp_path: Path, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises((FileError, SettingError), match=sentence):
        read_dataset(make(tmp_path), **options)  # type: ignore[arg-type]


def test_runs_that_were_not_fetched_are_named(tmp_path: Path) -> None:
    root = make(tmp_path)
    lost = root / "sub-01" / "func" / "sub-01_task-music_run-2_bold.nii.gz"
    lost.unlink()
    lost.symlink_to("../../.git/annex/objects/xx/MD5E-s1--a.nii.gz")
    dataset = read_dataset(root, participant="01")
    assert len(dataset.runs) == 1
    assert any("1 of 2 recordings hold no data" in text for text in dataset.warnings)
    (root / "sub-01" / "func" / "sub-01_task-music_run-1_bold.nii.gz").write_bytes(b"")
    with pytest.raises(FileError, match=r"2 of 2 recordings hold no data.*datalad get sub-01/func"):
        read_dataset(root, participant="01")


def test_a_damaged_or_other_image_is_one_sentence(tmp_path: Path) -> None:
    root = make(tmp_path, people=("01",))
    path = root / "sub-01" / "func" / "sub-01_task-music_run-2_bold.nii.gz"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(FileError, match="cannot be read as NIfTI"):
        read_dataset(root)
    write_image(path, volumes((5, 3, 2)))
    with pytest.raises(FileError, match="does not lie in the space of"):
        read_dataset(root)
    values = volumes().astype(np.float32)
    values[0, 0, 0, 3] = np.nan
    write_image(path, values)
    with pytest.raises(FileError, match="1 of 18 voxels in the mask are not finite"):
        read_dataset(root)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ds003", "sub-01: 1 of 1 recordings hold no data .*datalad get sub-01/func"),
        ("volume_timing", "sub-01: 6 of 6 recordings hold no data"),
    ],
)
def test_empty_trees_are_one_sentence(name: str, sentence: str) -> None:
    root = shared("bids_examples") / name
    assert list_participants(root)[0] == "sub-01"
    with pytest.raises(FileError, match=sentence):
        read_dataset(root)
