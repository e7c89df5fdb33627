from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat

from calibration.readers import detect_format, list_participants, read_dataset
from calibration.readers.nmed_t import N_SAMPLES
from models.errors import FileError
from tests.calibration.readers.layouts import write_sound

PEOPLE = ["02", "03", "04"]


def song(number: int, n: int = 300, n_channels: int = 125) -> NDArray[np.float64]:
    return np.random.default_rng(number).normal(5, 20, (n_channels, n, len(PEOPLE)))


def write_old(folder: Path, number: int, data: NDArray[np.float64], *, fs: float = 125.0) -> None:
    folder.mkdir(exist_ok=True)
    names = np.array([PEOPLE], dtype=object)
    values = {f"data{number}": data, f"subs{number}": names, "fs": fs}
    savemat(folder / f"song{number}_Imputed.mat", values)


def write_new(folder: Path, number: int, data: NDArray[np.float64]) -> None:
    """Write as MATLAB 7.3 does: axes the other way round, text as codes behind references."""
    folder.mkdir(exist_ok=True)
    path = folder / f"song{number}_Imputed.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file[f"data{number}"] = data.T
        file["fs"] = np.array([[125.0]])
        cells = np.empty((len(PEOPLE), 1), dtype=h5py.ref_dtype)
        for k, name in enumerate(PEOPLE):
            codes = np.array([[ord(c)] for c in name], np.uint16)
            cells[k, 0] = file.create_dataset(f"#refs#/{k}", data=codes).ref
        file[f"subs{number}"] = cells


@pytest.mark.parametrize("write", [write_old, write_new])
def test_songs_are_runs_of_each_person(tmp_path: Path, write: object) -> None:
    folder = tmp_path / "nmed"
    write(folder, 21, song(21))  # type: ignore[operator]
    write(folder, 30, song(30, 250))  # type: ignore[operator]
    write_sound(tmp_path / "wav" / "song21.wav", 0.1)
    assert detect_format(folder) == "nmed-t"
    assert list_participants(folder) == tuple(PEOPLE)
    dataset = read_dataset(folder, participant=["03", "04"], strict=False, stimuli=tmp_path / "wav")
    assert [run.key for run in dataset.runs] == ["03/song21", "03/song30", "04/song21", "04/song30"]
    expected = song(21)[:, :, 1].T
    expected = 1e-6 * (expected - expected.mean(axis=0))
    np.testing.assert_allclose(dataset.runs[0].signal, expected, rtol=1e-5, atol=1e-11)
    assert len(dataset.channels) == 125
    (event,) = dataset.runs[1].events
    assert (event.onset_s, event.duration_s, event.stimulus) == (0.0, 2.0, "song30")
    assert dataset.stimuli["song21"].path == tmp_path / "wav" / "song21.wav"
    raw = read_dataset(folder, participant="03", runs="21", strict=False, remove_mean=False)
    np.testing.assert_allclose(raw.runs[0].signal, 1e-6 * song(21)[:, :, 1].T, rtol=1e-5)


def test_published_sizes_are_checked(tmp_path: Path) -> None:
    write_old(tmp_path, 21, song(21))
    with pytest.raises(FileError, match=r"expected ten songs, not there are song22_Imputed.mat"):
        read_dataset(tmp_path)
    with pytest.raises(FileError, match=r"expected 125 channels x 34,795 .* got 125 x 300"):
        read_dataset(tmp_path, runs="song21")
    write_old(tmp_path, 21, song(21, N_SAMPLES[21], 1), fs=1000.0)
    with pytest.raises(FileError, match="got 1 x 34,795 at 1000 Hz"):
        read_dataset(tmp_path, runs="song21")
    with pytest.raises(FileError, match="has no song that was asked for; it has song21"):
        read_dataset(tmp_path, runs="song99")


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    write_old(tmp_path, 21, song(21))
    path = tmp_path / "song21_Imputed.mat"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(FileError, match=r"cannot be read as MATLAB|cut short or of another kind"):
        read_dataset(tmp_path, strict=False)
    savemat(path, {"other": 1.0})
    with pytest.raises(FileError, match="has no variable 'subs21'"):
        read_dataset(tmp_path, strict=False)
    path.write_bytes(b"")
    with pytest.raises(FileError, match="is empty"):
        read_dataset(tmp_path, strict=False)
