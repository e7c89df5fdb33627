"""What is chosen where nobody chose, and what cannot be done said before any work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calibration.config import CalibrationSettings, EvaluationSettings, LagSettings, TargetSettings
from calibration.data.dataset import Dataset, Event, Stimulus
from calibration.plan import Plan, make_plan
from models.errors import FileError, SettingError
from models.spec import PsdSpec, SampleSpec, TrMeanSpec
from tests.calibration.small_data import eeg_dataset
from tests.calibration.tiny_runs import TinyBrain


def _bold(clips: list[list[str]], *, parts: tuple[str, ...] = (), sound: bool = True) -> Dataset:
    brain = TinyBrain(0, n_voxels=5)
    runs = []
    for k, names in enumerate(clips):
        part: Any = parts[k] if parts else ""
        runs.append(replace(brain.run(f"run-{k}", names), part=part))
    path = Path("sound.wav") if sound else None
    stimuli = {name: Stimulus(name, name[0], path) for names in clips for name in names}
    return Dataset(Path("data"), "memory", "bold", (), tuple(runs), stimuli)


def _made(dataset: Dataset, **other: Any) -> Plan:
    settings = replace(CalibrationSettings(), **other)
    return make_plan(dataset, dataset.participants[0], settings)


_DIFFERENT = [[f"a{k}{i}" for i in range(4)] for k in range(3)]


def test_different_clips_in_every_run_are_held_out_by_run() -> None:
    plan = _made(_bold(_DIFFERENT))
    assert (plan.evaluation.test, plan.evaluation.family) == ("folds", "run")
    assert plan.target == "mel-statistics"
    assert not plan.closed
    assert isinstance(plan.features, TrMeanSpec)
    assert plan.split == "leave one run out"
    assert min(plan.lags_s) < 0 < max(plan.lags_s)


def test_clips_of_which_most_recur_are_held_out_by_clip() -> None:
    many = [f"a{i}" for i in range(6)]
    plan = _made(_bold([many, [*many[::-1], "b0"]]))
    assert not plan.closed
    assert plan.evaluation.family == "clip"
    assert any("Held out by clip" in note for note in plan.notes)


def test_a_few_sounds_that_come_again_are_classes() -> None:
    plan = _made(_bold([["a", "b", "a", "b"]] * 3))
    assert plan.closed
    assert plan.choice.repeat == "never"
    assert plan.evaluation.family == "run"


def test_the_test_runs_of_a_data_set_are_its_test() -> None:
    parts = ("train", "train", "test")
    plan = _made(_bold(_DIFFERENT, parts=parts))
    assert plan.split == "the data set's own test runs"
    assert not plan.notes
    named = EvaluationSettings(family="clip")
    plan = _made(_bold(_DIFFERENT, parts=parts), evaluation=named)
    assert any("was not needed" in note for note in plan.notes)
    known = _bold([_DIFFERENT[0], _DIFFERENT[1], _DIFFERENT[0]], parts=parts)
    assert any("4 of the 4 clips" in note for note in _made(known).notes)


@pytest.mark.parametrize("family", ["segment", "random-chunk"])
def test_a_leaky_split_is_never_called_the_data_sets_own(family: Any) -> None:
    data = _bold(_DIFFERENT, parts=("train", "train", "test"))
    plan = _made(data, evaluation=EvaluationSettings(family=family))
    assert plan.evaluation.test == "folds"
    assert "leaky" in plan.split
    with pytest.raises(SettingError, match="Choose one of the two"):
        _made(data, evaluation=EvaluationSettings(test="dataset", family=family))


def test_a_test_that_the_data_set_does_not_name_is_refused() -> None:
    with pytest.raises(SettingError, match="does not say which runs"):
        _made(_bold(_DIFFERENT), evaluation=EvaluationSettings(test="dataset"))


def test_sounds_that_are_not_at_hand_are_decoded_as_classes_and_that_is_said() -> None:
    plan = _made(_bold([["a", "b"]] * 3, sound=False))
    assert plan.target == "class"
    assert any("data.stimuli" in note for note in plan.notes)


def test_one_run_of_recurring_sounds_is_not_divided_unasked() -> None:
    with pytest.raises(SettingError, match="Record a second run"):
        _made(_bold([["a", "b", "a", "b"]]))


def test_sessions_are_held_out_whole_where_there_are_several() -> None:
    plan = _made(eeg_dataset())
    assert plan.evaluation.family == "session"
    assert isinstance(plan.features, PsdSpec)


def test_short_sounds_are_answered_by_an_evoked_response() -> None:
    data = eeg_dataset()
    runs = tuple(
        replace(run, events=tuple(replace(e, duration_s=0.1) for e in run.events))
        for run in data.runs
    )
    plan = _made(replace(data, runs=runs))
    assert isinstance(plan.features, SampleSpec)
    assert plan.choice.choose == "clip"
    assert len(plan.lags_s) == 1


def test_recordings_without_events_are_refused() -> None:
    data = eeg_dataset()
    silent = tuple(replace(run, events=()) for run in data.runs)
    with pytest.raises(FileError, match="no events in 4 runs"):
        _made(replace(data, runs=silent))


@pytest.mark.parametrize(
    "lag",
    [
        LagSettings(from_s=3.0, to_s=1.0),
        LagSettings(step_s=0.0),
        LagSettings(step_s=-1.0),
        LagSettings(step_s=0.001),
    ],
)
def test_lags_that_lead_nowhere_are_refused(lag: LagSettings) -> None:
    with pytest.raises(SettingError, match=r"\[lag\]"):
        _made(_bold(_DIFFERENT), lag=lag)


def test_a_fixed_lag_is_the_only_one() -> None:
    assert _made(_bold(_DIFFERENT), lag=LagSettings(fixed_s=4.5)).lags_s == (4.5,)


def test_many_voxels_get_a_few_for_each_target() -> None:
    data = _bold(_DIFFERENT)
    wide = tuple(replace(run, signal=run.signal[:, [0] * 2001]) for run in data.runs)
    assert _made(data).decoder.kind == "ridge"
    assert _made(replace(data, runs=wide)).decoder.kind == "selected"


def test_the_json_of_a_plan_is_plain_and_without_its_notes() -> None:
    plan = _made(_bold([["a", "b"]] * 3, sound=False))
    values = json.loads(json.dumps(plan.to_json()))
    assert "notes" not in values
    assert values["evaluation"]["family"] == "run"


def test_mel_frames_are_followed_window_by_window() -> None:
    data = eeg_dataset()
    runs = tuple(
        replace(run, sfreq_hz=100.0, events=(Event(0.0, 2.0, "low"),)) for run in data.runs
    )
    plan = _made(replace(data, runs=runs), target=TargetSettings(kind="mel"))
    assert isinstance(plan.features, SampleSpec)
    assert not plan.closed
    assert plan.choice.choose == "all"
