"""The lag sweep finds how late a simulated brain answers, from training runs alone."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.lag import default_lags_s, sweep_lags
from calibration.run_features import RunFeatures, run_features, standardise_runs
from calibration.scores import correlations, identification
from calibration.window_kernel import WindowKernel
from calibration.windows import WindowChoice, choose_windows, make_samples
from models.errors import SettingError
from models.ridge.estimator import Ridge
from models.spec import StandardiseSpec, TrMeanSpec
from tests.calibration.tiny_runs import TinyBrain


def prepared(brain: TinyBrain, window_s: float = 1.5, n_runs: int = 4) -> tuple[RunFeatures, ...]:
    features = run_features(brain.runs(n_runs, 12), features=TrMeanSpec(window_s=window_s))
    return standardise_runs(features, StandardiseSpec(mode="offline"))


@pytest.mark.parametrize("peak_s", [3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
def test_the_lag_of_a_simulated_brain_is_found_within_one_volume(peak_s: float) -> None:
    brain = TinyBrain(int(peak_s), peaks_s=(peak_s,), snr=0.5)
    sweep = sweep_lags(
        prepared(brain), targets=brain.targets, lags_s=default_lags_s(1.5), max_rows=250
    )
    assert abs(sweep.lag_s - peak_s) <= 1.5
    assert sweep.scores.max() > 0.3
    assert sweep.at_negative_lags < sweep.scores.max() - 4 * sweep.standard_errors.max()


def test_identification_finds_the_lag_of_windows_as_long_as_a_clip() -> None:
    brain = TinyBrain(1, peaks_s=(5.0,), snr=0.5)
    sweep = sweep_lags(
        prepared(brain, window_s=15.0),
        targets=brain.targets,
        lags_s=default_lags_s(1.5),
        metric="identification",
        by="run",
    )
    assert abs(sweep.lag_s - 5.0) <= 1.5
    assert sweep.chance == 0.5
    assert sweep.scores.max() > 0.7


def test_a_brain_that_hears_nothing_scores_at_chance_at_every_lag() -> None:
    brain = TinyBrain(2, snr=0.0)
    sweep = sweep_lags(
        prepared(brain), targets=brain.targets, lags_s=default_lags_s(1.5), max_rows=250
    )
    assert np.all(np.abs(sweep.scores) < 0.12)


def test_a_tolerance_takes_the_shortest_lag_that_is_nearly_as_good() -> None:
    brain = TinyBrain(3, peaks_s=(6.0,))
    runs = prepared(brain, n_runs=2)
    best = sweep_lags(runs, targets=brain.targets, lags_s=default_lags_s(1.5))
    soon = sweep_lags(runs, targets=brain.targets, lags_s=default_lags_s(1.5), within=0.2)
    assert 0 <= soon.lag_s < best.lag_s
    assert soon.scores[soon.lags_s == soon.lag_s] >= best.scores.max() - 0.2


def test_negative_lags_are_scored_and_never_chosen() -> None:
    brain = TinyBrain(4)
    sweep = sweep_lags(prepared(brain), targets=brain.targets, lags_s=(-3.0, 0.0))
    assert sweep.lag_s == 0.0
    assert [point["lag_s"] for point in sweep.to_json()["curve"]] == [-3.0, 0.0]
    assert sweep.to_json()["at_negative_lags"] == sweep.scores[0]
    with pytest.raises(SettingError, match="0 or more"):
        sweep_lags(prepared(brain), targets=brain.targets, lags_s=(-3.0,))


def test_the_shared_kernel_equals_the_products_of_averaged_windows() -> None:
    brain = TinyBrain(5)
    clips = [f"a{k}" for k in range(4)]
    runs = [brain.run("run-1", clips), brain.run("run-2", clips[::-1])]
    features = standardise_runs(
        run_features(runs, features=TrMeanSpec(window_s=3.0)), StandardiseSpec(mode="offline")
    )
    choices = [choose_windows(features, lag_s=lag) for lag in np.arange(0.0, 9.0, 1.5)]
    shared = WindowKernel(features, choices)
    alone = WindowKernel(features, choices[2:3])
    assert shared.is_shared
    assert not alone.is_shared
    rows = choices[2]
    x = np.array(
        [
            np.mean([features[r].values[w] for r, w in zip(run, window, strict=True)], axis=0)
            for run, window in zip(rows.run, rows.window, strict=True)
        ],
        np.float64,
    )
    for kernel in (shared, alone):
        np.testing.assert_allclose(kernel.between(rows), x @ x.T, atol=1e-3)


def test_thinned_windows_find_the_same_lag() -> None:
    brain = TinyBrain(6, peaks_s=(4.5,), snr=1.0)
    runs = prepared(brain)
    few = sweep_lags(runs, targets=brain.targets, lags_s=default_lags_s(1.5), max_rows=120)
    assert set(few.n_windows.tolist()) == {120}
    assert abs(few.lag_s - 4.5) <= 1.5


def test_what_cannot_be_swept_is_said() -> None:
    brain = TinyBrain(7)
    one = run_features(brain.runs(1, 2), features=TrMeanSpec(window_s=1.5))
    with pytest.raises(SettingError, match="at least 2 clips"):
        sweep_lags(one, targets=brain.targets, lags_s=(0.0, 30.0))
    with pytest.raises(SettingError, match="only one run"):
        sweep_lags(one, targets=brain.targets, lags_s=(0.0,), by="run")
    for bad in ({"alphas": (0.0,)}, {"max_rows": 3}, {"metric": "r2"}, {"by": "song"}):
        with pytest.raises(SettingError):
            sweep_lags(one, targets=brain.targets, lags_s=(0.0,), **bad)


def test_repeated_clips_are_one_sample_in_the_sweep() -> None:
    brain = TinyBrain(8, snr=0.4)
    clips = [f"t{k}" for k in range(10)]
    runs = [brain.run(f"run-{k}", clips) for k in range(4)]
    features = standardise_runs(
        run_features(runs, features=TrMeanSpec(window_s=15.0)), StandardiseSpec(mode="offline")
    )
    sweep = sweep_lags(
        features,
        targets=brain.targets,
        lags_s=default_lags_s(1.5),
        choice=WindowChoice(choose="clip"),
    )
    assert sweep.n_clips <= 10
    assert set(sweep.n_windows.tolist()) == {sweep.n_clips}
    with pytest.raises(SettingError, match="several runs"):
        sweep_lags(features, targets=brain.targets, lags_s=(4.5,), by="run")


def test_a_decoder_at_the_wrong_lag_knows_the_clip_before_and_at_the_right_one_does_not() -> None:
    scores = {}
    for lag_s in (0.0, 4.5):
        own, before = [], []
        for seed in range(3):
            brain = TinyBrain(seed, peaks_s=(5.5,), snr=0.7, n_voxels=80, dim=16)
            train = brain.runs(4, 16)
            # Ten clips in one fixed cycle, four times: as the test runs of ds003720.
            test = [brain.run(f"t{k}", [f"t{k}-{i % 10}" for i in range(40)]) for k in range(3)]
            features = standardise_runs(
                run_features([*train, *test], features=TrMeanSpec(window_s=15.0)),
                StandardiseSpec(mode="offline"),
            )
            fit, held_out = (
                make_samples(part, lag_s=lag_s, targets=brain.targets)
                for part in (features[:4], features[4:])
            )
            ridge = Ridge((1e1, 1e2, 1e3), cv=4).fit(fit.mean_x(), fit.y, groups=fit.clip)
            predicted = ridge.predict(held_out.mean_x())
            similarity = correlations(predicted, held_out.y)
            own.append(identification(similarity).ties_half)
            row = {clip: k for k, clip in enumerate(held_out.clip)}
            shifted = similarity[:, [row[clip] for clip in held_out.previous_clip]]
            before.append(identification(shifted))
        n = np.sqrt(3)
        scores[lag_s] = (
            np.mean(own),
            np.mean([b.ties_half for b in before]),
            np.mean([b.standard_error for b in before]) / n,
        )
    assert scores[4.5][0] > 0.9
    assert scores[4.5][1] <= 0.5 + 2 * scores[4.5][2]
    assert scores[0.0][1] > 0.5 + 3 * scores[0.0][2]
