from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from calibration.sounds.choice import MixedSource, choose_source
from calibration.sounds.procedural import CLASSES
from calibration.sounds.recordings import RecordingsSource, onsets_per_s
from calibration.training.material import class_names
from models.errors import FileError, SettingError

_RATE = 22_050


def _write(path: Path, seconds: float, f_hz: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * _RATE)) / _RATE
    soundfile.write(path, 0.3 * np.sin(2.0 * np.pi * f_hz * time), _RATE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # The frequency tells the file that a sound came from.
    for i in range(6):
        suffix = ("wav", "flac", "ogg")[i % 3]
        _write(tmp_path / ("bell", "horn")[i % 2] / f"{i}.{suffix}", 2.0, 300.0 + 200.0 * i)
    return tmp_path


def _file_of(pcm: np.ndarray) -> int:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return round((float(np.argmax(spectrum)) * 16_000 / len(pcm) - 300.0) / 200.0)


def test_sounds_held_out_come_from_other_files_than_those_trained_on(folder: Path) -> None:
    source = RecordingsSource(folder, 0, 20, duration_s=0.5)
    train = {_file_of(source.sound(i).pcm) for i in range(20)}
    held = {_file_of(source.sound(i).pcm) for i in range(20, 26)}
    assert len(held) == 1
    assert len(train) == 5
    assert not train & held


def test_a_recording_is_resampled_named_by_its_folder_and_measured(folder: Path) -> None:
    source = pickle.loads(pickle.dumps(RecordingsSource(folder, 0, 20, duration_s=0.5)))
    for index in range(4):
        sound = source.sound(index)
        assert np.array_equal(sound.pcm, source.sound(index).pcm)
        assert sound.label == ("bell", "horn")[_file_of(sound.pcm) % 2]
        assert sound.caption.startswith(sound.label)
        assert sound.factors.brightness_hz == pytest.approx(
            300.0 + 200.0 * _file_of(sound.pcm), abs=5.0
        )
        assert np.isnan(sound.factors.pitch_hz)
        assert np.isfinite(sound.factors.density_hz)


def test_a_file_shorter_than_the_sounds_stands_in_silence(tmp_path: Path) -> None:
    for i in range(2):
        _write(tmp_path / f"{i}.wav", 0.6, 440.0)
    sound = RecordingsSource(tmp_path, 0, 5).sound(0)
    assert len(sound.pcm) == 5.12 * 16_000
    assert 0.5 < np.count_nonzero(np.abs(sound.pcm) > 1e-4) / 16_000 < 0.65
    assert sound.label == ""


def test_a_folder_that_cannot_serve_says_why_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="There is no folder"):
        RecordingsSource(tmp_path / "none", 0, 5)
    with pytest.raises(FileError, match="holds 0 sound files"):
        RecordingsSource(tmp_path, 0, 5)
    for i in range(2):
        (tmp_path / f"{i}.wav").write_bytes(b"no sound")
    with pytest.raises(FileError, match="cannot be read as a sound"):
        RecordingsSource(tmp_path, 0, 5).sound(0)
    for i in range(2):
        _write(tmp_path / f"{i}.wav", 0.1, 440.0)
    with pytest.raises(FileError, match=r"lasts 0\.10 s"):
        RecordingsSource(tmp_path, 0, 5).sound(0)


def test_onsets_are_counted() -> None:
    rng = np.random.default_rng(0)
    pcm = np.zeros(32_000)
    for beat in range(8):
        pcm[beat * 4_000 + 500 : beat * 4_000 + 2_000] = 0.1 * rng.standard_normal(1_500)
    assert onsets_per_s(pcm.astype(np.float32)) == pytest.approx(4.0, abs=0.5)
    assert onsets_per_s(np.zeros(32_000, np.float32)) == 0.0


def test_sources_are_chosen_by_name_and_mixed(folder: Path) -> None:
    mixed = choose_source(f"procedural + folder:{folder}", seed=0, n_train=20)
    assert isinstance(mixed, MixedSource)
    assert mixed.name == "procedural+folder"
    turns = [mixed.sources.index(mixed.source_of(i)) for i in range(52)]
    assert turns.count(0) == turns.count(1)
    assert {i % len(CLASSES) for i, turn in enumerate(turns) if turn == 0} == set(range(13))
    assert mixed.sound(1).label in ("bell", "horn")
    assert class_names({"horn", "bell", "tone", ""}) == ("tone", "bell", "horn")
    assert class_names({"tone", ""}) == CLASSES
    with pytest.raises(SettingError, match="procedural, folder:PATH"):
        choose_source("tuba", seed=0, n_train=20)
