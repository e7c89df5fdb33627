from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.data.repetitions import epoch_samples
from calibration.readers import describe, detect_format, list_participants, read_dataset
from calibration.readers.bdata import AREAS
from models.errors import FileError, SettingError
from tests.calibration.readers.layouts import write_bdata, write_sound

N_VOXELS = 60
KEYS = {
    f"hcp180_r_{side.lower()}h.{side}_{area}_ROI": [number + (30 if side == "R" else 0)]
    for side in "LR"
    for number, area in enumerate(AREAS["AC"])
}


def make(folder: Path, person: str = "P1") -> Path:
    rng = np.random.default_rng(0)
    train = [f"sound{k}_{w}" for k in range(4) for w in range(3)] * 4
    test = [f"test{k}_{w}" for k in range(2) for w in range(3)] * 8
    for part, names in (("Train", train), ("Test", test)):
        data = rng.normal(size=(len(names), N_VOXELS))
        write_bdata(folder / f"{person}_VGGishish{part}_volume_native.h5", data, names, KEYS)
    return folder


def test_samples_regions_and_repetitions(tmp_path: Path) -> None:
    folder = make(tmp_path)
    make(tmp_path, "P2")
    assert detect_format(folder) == "bdata"
    assert list_participants(folder) == ("P1", "P2")
    dataset = read_dataset(folder, participant="P1")
    assert dataset.runs == ()
    (epochs,) = dataset.epochs
    assert epochs.values.shape == (48 + 48, N_VOXELS)
    assert set(epochs.run.tolist()) > {"1", "2"}
    assert dataset.space is not None
    assert dataset.space.rois["hcp180_r_rh.R_MBelt_ROI"].tolist() == [31]
    assert len(dataset.space.rois["AC"]) == 26
    assert len(dataset.space.rois["AC-core"]) == 14
    assert "voxel_x" not in dataset.space.rois
    parts = describe(dataset)["participants"]["P1"]["parts"]
    assert parts["train"] == {"clips": 12, "presentations": 48, "repetitions": "4"}
    assert parts["test"] == {"clips": 6, "presentations": 48, "repetitions": "8"}


def test_a_region_keeps_its_voxels(tmp_path: Path) -> None:
    folder = make(tmp_path)
    whole = read_dataset(folder).epochs[0].values
    dataset = read_dataset(folder, roi="AC")
    columns = sorted(c for places in KEYS.values() for c in places)
    np.testing.assert_array_equal(dataset.epochs[0].values, whole[:, columns])
    assert dataset.space is not None
    assert dataset.space.rois["hcp180_r_rh.R_MBelt_ROI"].tolist() == [columns.index(31)]
    two = read_dataset(folder, roi=["A1", "hcp180_r_lh.L_TA2_ROI"]).epochs[0]
    np.testing.assert_array_equal(two.values, whole[:, [0, 12, 30]])
    with pytest.raises(SettingError, match="flags no region 'V1'"):
        read_dataset(folder, roi="V1")


def test_repetitions_become_a_dimension(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path))
    (epochs,) = dataset.epochs
    asked: list[str] = []

    def target(stimulus: object, start_s: float, stop_s: float) -> list[float]:
        asked.append(str(stimulus))
        return [float(len(asked)), 0.0]

    samples = epoch_samples(epochs, target, stimuli=dataset.stimuli, part="test")
    assert samples.x.shape == (6, 8, N_VOXELS)
    assert len(asked) == 6
    assert samples.y[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    rows = epochs.values[(epochs.part == "test") & (epochs.stimulus == samples.clip[2])]
    np.testing.assert_array_equal(samples.x[2], rows)
    np.testing.assert_allclose(samples.mean_x()[2], rows.mean(axis=0), rtol=1e-5, atol=1e-6)
    both = epoch_samples(epochs, target, stimuli=dataset.stimuli)
    assert both.x.shape == (18, 8, N_VOXELS)
    assert sorted(both.n_repetitions.tolist()) == [4] * 12 + [8] * 6
    with pytest.raises(FileError, match="has no sample of the part 'dev'"):
        epoch_samples(epochs, target, stimuli=dataset.stimuli, part="dev")


def test_samples_without_their_sound_are_left_out(tmp_path: Path) -> None:
    folder = make(tmp_path / "data")
    write_sound(tmp_path / "wav" / "sound1_0.wav", 0.2)
    dataset = read_dataset(folder, stimuli=tmp_path / "wav")
    assert set(dataset.epochs[0].stimulus.tolist()) == {"sound1_0"}
    assert any("92 of 96 samples are left out" in text for text in dataset.warnings)
    (tmp_path / "none").mkdir()
    with pytest.raises(FileError, match="has no sound for any of P1's samples"):
        read_dataset(folder, stimuli=tmp_path / "none")


def test_published_counts_are_checked(tmp_path: Path) -> None:
    folder = make(tmp_path, "S2")
    with pytest.raises(FileError, match="S2: expected 6,624 voxels in AC, got 26"):
        read_dataset(folder)
    warnings = read_dataset(folder, strict=False).warnings
    assert any("expected 150 test windows, got 6" in text for text in warnings)


def test_other_files_are_one_sentence(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with pytest.raises(SettingError, match="no column 'label'; it has sample_name"):
        read_dataset(folder, stimulus_key="label")
    path = folder / "P1_VGGishishTrain_volume_native.h5"
    write_bdata(folder / "P1_AttentionTest.h5", np.ones((2, 60)), ["a", "b"], KEYS, key="attend")
    assert len(read_dataset(folder).epochs[0]) == 96
    dataset = read_dataset(folder, select="Attention", stimulus_key="attend")
    assert dataset.epochs[0].stimulus.tolist() == ["a", "b"]
    data = path.read_bytes()
    path.write_bytes(data[:3000])
    with pytest.raises(FileError, match="cannot be read as HDF5"):
        read_dataset(folder)
    path.unlink()
    path.symlink_to("nowhere.h5")
    with pytest.raises(FileError, match="not been fetched"):
        read_dataset(folder, format="bdata")
