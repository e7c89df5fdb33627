"""The targets of a plan, and a key that changes with every sound they were made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from calibration.config import CalibrationSettings, TargetSettings
from calibration.data.dataset import Dataset, Stimulus
from calibration.plan import make_plan
from calibration.target_choice import choose_targets, mel_frames, target_digest, targets_of
from calibration.targets import ClassTargets, EmbeddingTargets, MelTargets
from models.errors import SettingError
from models.spec import SampleSpec
from tests.calibration.small_data import eeg_dataset


def _sound(path: Path, hz: float) -> Path:
    t = np.arange(16_000) / 16_000
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * hz * t), 16_000, subtype="PCM_16")
    return path


def _with_sounds(folder: Path) -> Dataset:
    data = eeg_dataset(n_runs=2)
    stimuli = {
        name: Stimulus(name, name, _sound(folder / f"{name}.wav", hz))
        for name, hz in (("low", 200.0), ("high", 900.0))
    }
    return replace(data, stimuli=stimuli)


def _settings(kind: str) -> CalibrationSettings:
    return replace(CalibrationSettings(), target=TargetSettings(kind=kind))


def _key(data: Dataset, kind: str) -> str:
    plan = make_plan(data, "ann", _settings(kind))
    return target_digest(data, choose_targets(data, plan), data.runs)


def test_each_kind_of_target_is_made(tmp_path: Path) -> None:
    data = _with_sounds(tmp_path)
    for kind, made in (("class", ClassTargets), ("mel-statistics", EmbeddingTargets)):
        plan = make_plan(data, "ann", _settings(kind))
        assert isinstance(choose_targets(data, plan), made)
    with pytest.raises(SettingError, match="no-such"):
        choose_targets(data, make_plan(data, "ann", _settings("no-such")))


def test_the_key_changes_with_the_content_of_a_sound_and_not_with_its_place(
    tmp_path: Path,
) -> None:
    (tmp_path / "elsewhere").mkdir()
    data, moved = _with_sounds(tmp_path), _with_sounds(tmp_path / "elsewhere")
    before = _key(data, "mel-statistics")
    assert _key(moved, "mel-statistics") == before
    _sound(tmp_path / "low.wav", 300.0)
    assert _key(data, "mel-statistics") != before


def test_the_key_changes_with_labels_and_excerpts(tmp_path: Path) -> None:
    data = _with_sounds(tmp_path)
    low = data.stimuli["low"]
    for other in (replace(low, label="x"), replace(low, start_s=0.1), replace(low, duration_s=0.5)):
        changed = replace(data, stimuli={**data.stimuli, "low": other})
        assert _key(changed, "mel-statistics") != _key(data, "mel-statistics")
    unheard = replace(data, stimuli={**data.stimuli, "never": Stimulus("never", "x")})
    assert _key(unheard, "mel-statistics") == _key(data, "mel-statistics")


def test_classes_do_not_depend_on_sounds_but_on_their_names(tmp_path: Path) -> None:
    data = _with_sounds(tmp_path)
    before = _key(data, "class")
    _sound(tmp_path / "low.wav", 300.0)
    assert _key(data, "class") == before
    high = replace(data.stimuli["high"], label="loud")
    assert _key(replace(data, stimuli={**data.stimuli, "high": high}), "class") != before


def test_a_bundle_keeps_the_vectors_of_its_classes() -> None:
    data = eeg_dataset(n_runs=2)
    plan = make_plan(data, "ann", _settings("class"))
    vectors = np.array([[0.0, 2.0], [1.0, 1.0], [5.0, 0.0]])
    made = targets_of(data, plan, classes=("low", "high", "gone"), vectors=vectors)
    np.testing.assert_array_equal(made.targets(["high", "low"], [0, 0], [1, 1]), vectors[[1, 0]])


def test_mel_frames_must_come_whole() -> None:
    data = eeg_dataset(n_runs=2)
    runs = tuple(replace(run, sfreq_hz=100.0) for run in data.runs)
    data = replace(data, runs=runs)
    plan = make_plan(data, "ann", _settings("mel"))
    assert mel_frames(data, plan) >= 1
    assert isinstance(choose_targets(data, plan), MelTargets)
    odd = replace(plan, features=SampleSpec(rate_hz=100 / 3, past_s=0.3, hop_s=0.03 * 2.5))
    with pytest.raises(SettingError, match=r"whole number|hop"):
        mel_frames(data, odd)
