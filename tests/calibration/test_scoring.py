"""Scores of what was decoded: the test is counted, leaks are called so, floors are each fold's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.config import DecoderSettings, EvaluationSettings
from calibration.data.dataset import Dataset
from calibration.outer import Decoded, decode, fit_part, join, make_parts
from calibration.plan import Plan
from calibration.run_features import run_features
from calibration.scoring import Scored, closed_classes, score_decoded
from calibration.targets import ClassTargets, class_targets
from calibration.windows import WindowChoice, make_samples
from models.spec import PsdSpec, StandardiseSpec, TrMeanSpec
from tests.calibration.small_data import eeg_dataset
from tests.calibration.tiny_runs import TinyBrain


def _plan(closed: bool, family: Any = "run") -> Plan:
    return Plan(
        participant="sub-01",
        features=PsdSpec(window_s=1.0, segment_s=1.0, hop_s=0.5)
        if closed
        else TrMeanSpec(window_s=7.5),
        standardise=StandardiseSpec(prior_n=8.0, learn="mean"),
        choice=WindowChoice(repeat="never" if closed else "stimulus"),
        lags_s=(0.0 if closed else 4.5,),
        target="class" if closed else "latent",
        stretch="window",
        closed=closed,
        decoder=DecoderSettings(kind="ridge", alphas=(10.0, 1000.0), n_folds=3),
        evaluation=EvaluationSettings(
            test="folds", family=family, n_permutations=200, n_bootstrap=50
        ),
    )


def _decoded(runs: Any, targets: Any, plan: Plan) -> Decoded:
    features = run_features(runs, features=plan.features, shortest=plan.shortest)
    return join(
        [
            decode(fit_part(f.train, targets, plan, held_out=f.test), f.test, targets, plan)
            for f in make_parts(features, plan)
        ]
    )


def _score(decoded: Decoded, plan: Plan, data: Dataset, targets: Any, **other: Any) -> Scored:
    values: dict[str, Any] = {"train": None, "decoder_digest": "x", "record": None}
    return score_decoded(decoded, plan, dataset=data, targets=targets, **(values | other))


@pytest.fixture(scope="module")
def classes() -> tuple[Dataset, ClassTargets, Plan, Decoded]:
    data, plan = eeg_dataset(), _plan(closed=True)
    targets = class_targets(data)
    return data, targets, plan, _decoded(data.runs, targets, plan)


def test_every_opening_of_the_test_is_counted(classes: Any, tmp_path: Path) -> None:
    data, targets, plan, decoded = classes
    record = tmp_path / "openings.json"
    for number in (1, 2, 3):
        scored = _score(decoded, plan, data, targets, record=record)
        assert scored.test_openings == number
    assert scored.decodable
    assert scored.values["n_clips"] == 4 * 16


def test_classes_under_a_leaky_split_are_never_called_decodable(classes: Any) -> None:
    data, targets, plan, decoded = classes
    leaky = replace(plan, evaluation=replace(plan.evaluation, family="segment"))
    scored = _score(decoded, leaky, data, targets)
    assert scored.values["identification_ties_half"] > 0.9
    assert not scored.decodable
    assert "leaky" in scored.verdict
    assert "well" not in scored.verdict


def test_a_class_that_was_not_presented_keeps_its_own_vector() -> None:
    data = eeg_dataset(n_runs=2)
    vectors = {"high": [1.0, 0.0, 0.0], "low": [0.0, 1.0, 0.0], "never": [0.0, 0.0, 1.0]}
    targets = ClassTargets(data.stimuli, vectors)
    plan = _plan(closed=True)
    features = run_features(data.runs, features=plan.features)
    samples = make_samples(features, lag_s=0.0, targets=targets, choice=plan.choice)
    names, rows, code = closed_classes(samples, targets)
    assert names == ("high", "low", "never")
    np.testing.assert_array_equal(rows, np.eye(3))
    np.testing.assert_array_equal(np.array(names)[code], samples.label)
    unlabelled = replace(samples, label=np.array(["other"] * len(samples)))
    np.testing.assert_array_equal(closed_classes(unlabelled, targets)[2], code)


def test_three_classes_of_which_one_never_came_are_scored() -> None:
    data = eeg_dataset()
    targets = ClassTargets(data.stimuli, dict(zip(("high", "low", "z"), np.eye(3), strict=True)))
    plan = _plan(closed=True)
    scored = _score(_decoded(data.runs, targets, plan), plan, data, targets)
    assert scored.values["accuracy_chance"] == pytest.approx(1 / 3)
    assert set(scored.by_label) == {"high", "low"}
    assert np.isfinite(scored.similarity.values).all()


def _music(snr: float, seed: int) -> tuple[Scored, Decoded]:
    brain = TinyBrain(seed, snr=snr, n_voxels=40)
    plan = _plan(closed=False)
    runs = brain.runs(4, 8)
    data = Dataset(Path("data"), "memory", "bold", (), runs, {})
    decoded = _decoded(runs, brain.targets, plan)
    return _score(decoded, plan, data, brain.targets), decoded


def test_floors_come_from_the_training_part_of_each_fold() -> None:
    """All clips have one label of their own: a mean of the label would know the tested clip."""
    brain = TinyBrain(1, snr=2.0, n_voxels=40)
    plan = _plan(closed=False)
    runs = tuple(
        replace(run, events=tuple(replace(e, label=e.stimulus) for e in run.events))
        for run in brain.runs(4, 8)
    )
    data = Dataset(Path("data"), "memory", "bold", (), runs, {})
    decoded = _decoded(runs, brain.targets, plan)
    scored = _score(decoded, plan, data, brain.targets)
    assert scored.values["floor_mean"] == pytest.approx(0.5)
    assert scored.decodable
    # No label of the test is in its own training part, so that it says no more than the mean.
    np.testing.assert_array_equal(decoded.floors["label"], decoded.floors["mean"])


def test_noise_is_called_noise_and_a_signal_decodable() -> None:
    noise, _ = _music(0.0, 2)
    assert not noise.decodable
    signal, decoded = _music(2.0, 3)
    assert signal.decodable
    assert signal.values["ceiling"] is None
    assert signal.similarity.values.shape == (32, 32)
    assert decoded.samples.x.shape[2] == 1


def test_shuffled_decoders_are_a_floor_of_their_own(classes: Any) -> None:
    data, targets, plan, decoded = classes
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal(decoded.raw.shape) for _ in range(3)]
    scored = _score(decoded, plan, data, targets, shuffled=noise)
    assert abs(scored.values["floor_shuffled"] - 0.5) < 0.15
    assert scored.values["shuffled_kind"] == "mean of 3 decoders of shuffled brains"
