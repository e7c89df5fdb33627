from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from calibration.readers import describe, detect_format, list_participants, read_dataset
from calibration.readers.ds003020 import TEST_STORIES, TRAINING_STORIES
from models.errors import FileError
from tests.calibration.readers.layouts import write_sound

# What respdict.json says of the published stories.
VOLUMES = {
    "adollshouse": 261,
    "adventuresinsayingyes": 411,
    "alternateithicatom": 363,
    "avatar": 387,
    "buck": 352,
    "exorcism": 487,
    "eyespy": 399,
    "fromboyhoodtofatherhood": 368,
    "hangtime": 344,
    "haveyoumethimyet": 516,
    "howtodraw": 374,
    "inamoment": 225,
    "itsabox": 375,
    "legacy": 420,
    "life": 450,
    "myfirstdaywiththeyankees": 378,
    "naked": 442,
    "odetostepfather": 424,
    "sloth": 457,
    "souls": 375,
    "stagefright": 313,
    "swimmingwithastronauts": 405,
    "thatthingonmyarm": 454,
    "theclosetthatateeverything": 334,
    "tildeath": 343,
    "undertheinfluence": 324,
    "wheretheressmoke": 311,
}


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    """Write all stories of one participant with three voxels; voxel 0 counts rows."""
    root = tmp_path / "ds003020"
    folder = root / "derivative" / "preprocessed_data" / "UTS01"
    folder.mkdir(parents=True)
    (root / "derivative" / "respdict.json").write_text(json.dumps({**VOLUMES, "other": 100}))
    for story, n in VOLUMES.items():
        values = np.ones((n - 20, 3))
        values[:, 0] = np.arange(n - 20)
        with h5py.File(folder / f"{story}.hf5", "w") as file:
            file["data"] = values
            if story == "wheretheressmoke":
                file["individual_repeats"] = np.stack([values + k for k in range(5)])
    with h5py.File(folder / "anotherstory.hf5", "w") as file:
        file["data"] = np.ones((50, 3))
    return root


def test_rows_are_the_published_counts(stories: Path) -> None:
    assert detect_format(stories) == "ds003020"
    assert list_participants(stories) == ("UTS01",)
    dataset = read_dataset(stories, participant="UTS01")
    rows = {run.run: len(run.signal) for run in dataset.runs}
    assert sum(rows[story] for story in TRAINING_STORIES) == 9_137
    assert rows["hangtime"] + rows["wheretheressmoke.1"] == 615
    parts = describe(dataset)["participants"]["UTS01"]["parts"]
    assert parts["train"]["clips"] == 25
    assert parts["test"] == {"clips": 2, "presentations": 6, "repetitions": "1 to 5"}
    assert {run.run.partition(".")[0] for run in dataset.runs if run.part == "test"} == set(
        TEST_STORIES
    )
    repeats = [run for run in dataset.runs if run.run.startswith("wheretheressmoke.")]
    assert [run.signal[0, 1] for run in repeats] == [1, 2, 3, 4, 5]


def test_row_i_with_a_lag_of_4_s_answers_to_2i_plus_6(stories: Path, tmp_path: Path) -> None:
    write_sound(tmp_path / "wav" / "buck.wav", 700.0, sample_rate_hz=100)
    dataset = read_dataset(stories, runs="buck", tr_s=2.0, stimuli=tmp_path / "wav")
    (run,) = dataset.runs
    (event,) = run.events
    assert dataset.stimuli["buck"].path == tmp_path / "wav" / "buck.wav"
    assert event.duration_s == pytest.approx(700.0)
    for i in (0, 1, 331):
        assert run.stamps_s[i] - 4.0 - event.onset_s == 2 * i + 6
    exact = read_dataset(stories, runs="buck").runs[0]
    assert exact.tr_s == pytest.approx(2.0045)
    assert exact.stamps_s[100] == pytest.approx(200.45)


def test_masks_and_labels_go_by_column(stories: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "UTS01_ac.npy", np.array([True, False, True]))
    np.save(tmp_path / "labels.npy", np.array([4, 9]))
    (tmp_path / "labels.json").write_text('{"4": "left", "9": "right"}')
    dataset = read_dataset(
        stories,
        runs="life",
        mask=tmp_path / "{participant}_ac.npy",
        labels=tmp_path / "labels.npy",
    )
    assert dataset.runs[0].signal.shape == (430, 2)
    assert dataset.space is not None
    assert {k: v.tolist() for k, v in dataset.space.rois.items()} == {"left": [0], "right": [1]}
    assert dataset.space.mask_sha256 == ""
    np.save(tmp_path / "UTS01_ac.npy", np.ones(4, bool))
    with pytest.raises(FileError, match=r"has the shape \(4,\); expected \(3,\)"):
        read_dataset(stories, runs="life", mask=tmp_path / "UTS01_ac.npy")


def test_wrong_rows_and_missing_stories_are_one_sentence(stories: Path) -> None:
    folder = stories / "derivative" / "preprocessed_data" / "UTS01"
    with h5py.File(folder / "life.hf5", "w") as file:
        file["data"] = np.ones((431, 3))
    with pytest.raises(FileError, match=r"UTS01, life: expected 430 rows .*, got 431"):
        read_dataset(stories)
    assert any("got 431" in w for w in read_dataset(stories, strict=False).warnings)
    with h5py.File(folder / "life.hf5", "w") as file:
        file["other"] = np.ones((430, 3))
    with pytest.raises(FileError, match=r"life.hf5 has no dataset 'data'"):
        read_dataset(stories)
    (folder / "life.hf5").unlink()
    with pytest.raises(FileError, match=r"UTS01: expected the stories life as .hf5"):
        read_dataset(stories)
    assert len(read_dataset(stories, strict=False).runs) == 25 + 5
    (folder / "life.hf5").symlink_to("../../../.git/annex/objects/x")
    with pytest.raises(FileError, match="not been fetched"):
        read_dataset(stories)
    (folder / "life.hf5").unlink()
    (folder / "life.hf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    with pytest.raises(FileError, match="cannot be read as HDF5"):
        read_dataset(stories)
    assert [r.run for r in read_dataset(stories, runs=["anotherstory"]).runs] == ["anotherstory"]
    assert read_dataset(stories, runs=["anotherstory"]).runs[0].part == "train"


def test_voxels_that_are_not_finite_are_zero_and_said(stories: Path) -> None:
    path = stories / "derivative" / "preprocessed_data" / "UTS01" / "souls.hf5"
    with h5py.File(path, "r+") as file:
        file["data"][5, 1] = np.nan
    dataset = read_dataset(stories, runs="souls")
    assert not dataset.runs[0].signal[:, 1].any()
    assert any("1 of 3 voxels are not finite" in text for text in dataset.warnings)
