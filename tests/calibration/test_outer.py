"""What is held out is never learnt from: not its sounds, not its brain, not even a mean of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calibration.config import DecoderSettings, EvaluationSettings
from calibration.outer import (
    Fit,
    decode,
    decode_leaky,
    fit_part,
    inner_groups,
    join,
    make_parts,
    trials,
    unit,
)
from calibration.plan import Plan
from calibration.run_features import RunFeatures, run_features
from calibration.scores import correlations, identification
from calibration.targets import class_targets
from calibration.windows import WindowChoice, make_samples
from models.errors import SettingError
from models.spec import PsdSpec, StandardiseSpec, TrMeanSpec
from tests.calibration.small_data import eeg_dataset
from tests.calibration.tiny_runs import TinyBrain

_DECODER = DecoderSettings(kind="ridge", alphas=(1.0, 10.0, 100.0, 1000.0), n_folds=3)


def _plan(**other: Any) -> Plan:
    values: dict[str, Any] = {
        "participant": "sub-01",
        "features": TrMeanSpec(window_s=7.5),
        "standardise": StandardiseSpec(prior_n=5.0, forget_n=40.0, learn="mean"),
        "choice": WindowChoice(),
        "lags_s": (4.5,),
        "target": "latent",
        "stretch": "window",
        "closed": False,
        "decoder": _DECODER,
        "evaluation": EvaluationSettings(test="folds", family="run"),
    }
    return Plan(**(values | other))


def _closed(**other: Any) -> Plan:
    return _plan(
        participant="ann",
        features=PsdSpec(window_s=1.0, segment_s=1.0, hop_s=0.5),
        standardise=StandardiseSpec(prior_n=8.0),
        choice=WindowChoice(repeat="never"),
        lags_s=(0.0,),
        target="class",
        closed=True,
        **other,
    )


def _family(name: Any, n_folds: int | None = None) -> EvaluationSettings:
    return EvaluationSettings(test="folds", family=name, n_folds=n_folds)


def _features(brain: TinyBrain, n_runs: int = 4, n_clips: int = 8) -> tuple[RunFeatures, ...]:
    return run_features(
        brain.runs(n_runs, n_clips), features=TrMeanSpec(window_s=7.5), shortest=0.5
    )


def _with_values(runs: tuple[RunFeatures, ...], spoil: Any) -> tuple[RunFeatures, ...]:
    return tuple(replace(run, values=spoil(run)) for run in runs)


def _same(a: Fit, b: Fit) -> None:
    np.testing.assert_array_equal(a.mean, b.mean)
    np.testing.assert_array_equal(a.std, b.std)
    np.testing.assert_array_equal(a.centre, b.centre)
    assert a.lag_s == b.lag_s
    for one, other in zip(a.decoder.weights(), b.decoder.weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_whatever_stands_in_held_out_runs_the_fit_is_the_same() -> None:
    brain = TinyBrain(0)
    runs = _features(brain)
    plan = _plan(lags_s=(0.0, 1.5, 3.0, 4.5))
    first = make_parts(runs, plan)[1]
    held = {run.run.key for run in first.test}
    spoilt = _with_values(
        runs, lambda run: run.values * 1e3 + 7 if run.run.key in held else run.values
    )
    again = make_parts(spoilt, plan)[1]
    _same(
        fit_part(first.train, brain.targets, plan, held_out=first.test),
        fit_part(again.train, brain.targets, plan, held_out=again.test),
    )


def test_windows_that_answer_to_held_out_clips_enter_no_statistic() -> None:
    brain = TinyBrain(1)
    runs = _features(brain, n_runs=2, n_clips=15)
    # Without adaptation to the run, whose running mean sees every window as it does live.
    plan = _plan(
        evaluation=_family("clip"),
        lags_s=(0.0, 3.0, 6.0),
        standardise=StandardiseSpec(prior_n=float("inf")),
    )
    fold = make_parts(runs, plan)[2]
    gone = {
        run.run.key: [(e.onset_s, e.onset_s + e.duration_s + 6.0) for e in run.run.events]
        for run in fold.test
    }

    def spoil(run: RunFeatures) -> Any:
        values = run.values.copy()
        for start, stop in gone.get(run.run.key, []):
            values[(run.t_stop_s > start) & (run.t_start_s < stop)] *= 100.0
        return values

    train, test = _with_values(fold.train, spoil), _with_values(fold.test, spoil)
    clean = fit_part(fold.train, brain.targets, plan, held_out=fold.test, lag_s=3.0)
    spoilt = fit_part(train, brain.targets, plan, held_out=test, lag_s=3.0)
    np.testing.assert_array_equal(clean.mean, spoilt.mean)
    np.testing.assert_array_equal(clean.std, spoilt.std)


@pytest.mark.parametrize("family", ["clip", "run", "session", "label"])
def test_folds_hold_everything_out_once_and_nothing_on_both_sides(family: str) -> None:
    brain = TinyBrain(2)
    runs = tuple(
        brain.run("run-1", [f"{'abcd'[(k + i) % 4]}{k}{i}" for i in range(4)], session=f"ses-{k}")
        for k in range(4)
    )
    plan = _plan(evaluation=_family(family, 3))
    features = run_features(runs, features=plan.features, shortest=0.5)
    folds = make_parts(features, plan)
    assert len(folds) == 3
    tested = [event.stimulus for fold in folds for run in fold.test for event in run.run.events]
    assert sorted(tested) == sorted(event.stimulus for run in runs for event in run.events)
    for fold in folds:
        out = {event.stimulus for run in fold.test for event in run.run.events}
        inside = {event.stimulus for run in fold.train for event in run.run.events}
        assert not out & inside
        if family in ("run", "session"):  # all runs are called alike; the sessions differ
            assert not {run.run.key for run in fold.test} & {run.run.key for run in fold.train}


def test_a_clip_of_a_held_out_run_is_not_trained_on_in_another() -> None:
    brain = TinyBrain(3)
    clips = [["a0", "a1", "b9"], ["a2", "a3", "b9"], ["a4", "a5", "a6"]]
    runs = tuple(brain.run(f"run-{k}", names) for k, names in enumerate(clips))
    plan = _plan()
    folds = make_parts(run_features(runs, features=plan.features, shortest=0.5), plan)
    trained = {event.stimulus for run in folds[0].train for event in run.run.events}
    assert trained == {"a2", "a3", "a4", "a5", "a6"}
    same = tuple(brain.run(f"run-{k}", ["a0", "a1"]) for k in range(3))
    with pytest.raises(SettingError, match="Nothing is left"):
        make_parts(run_features(same, features=plan.features, shortest=0.5), plan)


def test_one_group_alone_and_a_class_that_is_held_out_are_refused() -> None:
    brain = TinyBrain(4)
    with pytest.raises(SettingError, match="2 or more"):
        make_parts(_features(brain, n_runs=1), _plan())
    data = eeg_dataset(n_runs=2)
    plan = _closed(evaluation=_family("label"))
    with pytest.raises(SettingError, match="cannot be decoded as a class"):
        make_parts(run_features(data.runs, features=plan.features), plan)


def _score(family: str, seed: int, *, snr: float) -> float:
    brain = TinyBrain(seed, snr=snr, n_voxels=30, dim=4)
    runs = _features(brain, n_runs=3, n_clips=6)
    plan = _plan(evaluation=_family(family))
    parts = [
        decode(fit_part(f.train, brain.targets, plan, held_out=f.test), f.test, brain.targets, plan)
        for f in make_parts(runs, plan)
    ]
    decoded = join(parts)
    names, clip = np.unique(decoded.samples.clip, return_inverse=True)
    means = [
        np.array([rows[clip == k].mean(axis=0) for k in range(len(names))])
        for rows in (decoded.raw, decoded.samples.y)
    ]
    return float(identification(correlations(means[0], means[1])).ties_half)


@pytest.mark.parametrize("family", ["clip", "run"])
def test_noise_scores_chance_under_every_family_and_a_signal_does_not(family: str) -> None:
    scores = np.array([_score(family, seed, snr=0.0) for seed in range(12)])
    error = scores.std(ddof=1) / np.sqrt(len(scores))
    assert scores.mean() < 0.5 + 2.5 * error
    assert _score(family, 50, snr=2.0) > 0.7


def test_a_training_part_with_few_clips_takes_as_many_inner_folds_as_it_can() -> None:
    brain = TinyBrain(5, snr=3.0)
    plan = _plan(decoder=replace(_DECODER, n_folds=5))
    fit = fit_part(_features(brain, n_runs=1, n_clips=3), brain.targets, plan)
    assert len(np.unique(fit.train.clip)) == 3
    with pytest.raises(SettingError, match="only one clip"):
        fit_part(_features(brain, n_runs=1, n_clips=1), brain.targets, plan)


def test_a_fit_does_not_keep_the_brain_unless_it_is_asked_to() -> None:
    brain = TinyBrain(6)
    runs, plan = _features(brain), _plan()
    thin = fit_part(runs, brain.targets, plan)
    whole = fit_part(runs, brain.targets, plan, keep_features=True)
    assert thin.train.x.shape[2] == 1
    assert whole.train.x.shape[2] == 60
    np.testing.assert_array_equal(thin.train.y, whole.train.y)
    decoded = decode(thin, runs, brain.targets, plan)
    assert decoded.samples.x.shape[2] == 1


def test_the_lag_is_that_of_the_training_part() -> None:
    brain = TinyBrain(7, snr=2.0, peaks_s=(5.0,))
    plan = _plan(lags_s=tuple(1.5 * k for k in range(-2, 7)))
    fit = fit_part(_features(brain), brain.targets, plan)
    assert fit.lag is not None
    assert fit.lag.x[0] == -3.0
    assert 3.0 <= fit.lag_s <= 6.0


def test_shuffled_targets_are_those_of_other_clips_and_decode_nothing() -> None:
    brain = TinyBrain(8, snr=3.0)
    runs = _features(brain)
    plan = _plan()
    fold = make_parts(runs, plan)[0]
    rng = np.random.default_rng(0)
    deaf = fit_part(fold.train, brain.targets, plan, shuffle=rng)
    good = fit_part(fold.train, brain.targets, plan)
    assert good.held_out_r is not None
    assert deaf.held_out_r is not None
    assert deaf.held_out_r < 0.2 < good.held_out_r


def test_halves_are_the_even_and_the_odd_repetitions() -> None:
    brain = TinyBrain(9, snr=2.0)
    train = _features(brain)
    again = [brain.run(f"test-{k}", ["t0", "t1"]) for k in range(3)]
    once = brain.run("test-3", ["t2", "t3"])
    plan = _plan()
    fit = fit_part(train, brain.targets, plan)
    test = run_features([*again, once], features=plan.features, shortest=0.5)
    decoded = decode(fit, test, brain.targets, plan)
    assert decoded.halves is not None
    heard_once = np.isin(decoded.samples.clip, ["t2", "t3"])
    assert np.isnan(decoded.halves[1][heard_once]).all()
    assert np.isfinite(decoded.halves[0]).all()
    assert np.isfinite(decoded.halves[1][~heard_once]).all()
    # Three repetitions: halves of two and of one, and a linear decoder.
    rows = ~heard_once
    mean = (2 * decoded.halves[0][rows] + decoded.halves[1][rows]) / 3
    np.testing.assert_allclose(mean, decoded.raw[rows], rtol=1e-3, atol=1e-3)


def test_presentations_of_a_class_are_told_apart_although_runs_are_called_alike() -> None:
    data = eeg_dataset(n_runs=4, n_trials=16)
    plan = _closed(evaluation=_family("session"))
    features = run_features(data.runs, features=plan.features)
    samples = make_samples(features, lag_s=0.0, targets=class_targets(data), choice=plan.choice)
    names = trials(samples)
    assert len(np.unique(names)) == 4 * 16
    groups = inner_groups(samples, plan)
    assert len(np.unique(groups)) == 4  # session and run together
    two = samples.take(samples.session[:, 0] == "ses-0")
    assert len(np.unique(inner_groups(two, plan))) == 2 * 16  # too few runs: presentations


@pytest.mark.parametrize("family", ["session", "run", "clip"])
def test_classes_are_decoded_in_runs_that_were_held_out(family: str) -> None:
    data = eeg_dataset()
    plan = _closed(evaluation=_family(family))
    targets = class_targets(data)
    features = run_features(data.runs, features=plan.features)
    parts = [
        decode(fit_part(f.train, targets, plan, held_out=f.test), f.test, targets, plan)
        for f in make_parts(features, plan)
    ]
    decoded = join(parts)
    right = decoded.raw.argmax(axis=1) == decoded.samples.y.argmax(axis=1)
    assert right.mean() > 0.9
    assert {len(rows) for rows in decoded.floors.values()} == {len(decoded.raw)}


def test_a_class_that_training_lacks_leaves_the_others_decodable() -> None:
    data = eeg_dataset()
    plan = _closed(evaluation=_family("run"))
    targets = class_targets(data)
    features = run_features(data.runs, features=plan.features)
    folds = make_parts(features, plan)
    only = tuple(
        replace(
            run,
            run=replace(run.run, events=tuple(e for e in run.run.events if e.label == "low")),
        )
        for run in folds[0].train
    )
    fit = fit_part(only, targets, plan)
    decoded = decode(fit, folds[0].test, targets, plan)
    assert np.isfinite(decoded.raw).all()


def test_one_run_of_classes_sweeps_its_lag_by_stretches_of_the_run() -> None:
    data = eeg_dataset(n_runs=1, n_trials=24)
    plan = replace(_closed(evaluation=_family("clip", 4)), lags_s=(0.0, 0.5, 1.0))
    features = run_features(data.runs, features=plan.features)
    fit = fit_part(features, class_targets(data), plan)
    assert fit.lag_s == 0.0
    assert fit.lag is not None
    assert max(fit.lag.y) > 0.5


def test_a_split_that_leaks_is_decoded_with_its_own_training_parts() -> None:
    brain = TinyBrain(10, snr=0.3)
    plan = _plan(evaluation=_family("random-chunk"))
    decoded, whole = decode_leaky(_features(brain), brain.targets, plan)
    assert len(decoded.raw) == len(whole.train)
    assert set(decoded.floors) == {"mean", "order", "label"}


def test_unit_rows_have_length_one_and_nothing_stays_nothing() -> None:
    rows = unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]])
