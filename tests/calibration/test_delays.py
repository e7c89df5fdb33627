"""Delays stay within runs, and the responses that they give are those of the simulated brain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.delays import delay_runs, delayed, fit_hrf
from calibration.run_features import run_features, standardise_runs
from calibration.windows import make_samples
from models.errors import SettingError
from models.ridge.estimator import Ridge
from models.ridge.folds import group_folds
from models.spec import StandardiseSpec, TrMeanSpec
from tests.calibration.tiny_runs import TinyBrain, hrf


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 30),
    delays=st.lists(st.integers(-6, 6), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_copy_is_the_run_some_rows_later(n: int, delays: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((n, 2))
    rows, whole = delayed(values, delays)
    for t in range(n):
        there = [0 <= t - delay < n for delay in delays]
        assert whole[t] == all(there)
        for k, delay in enumerate(delays):
            expected = values[t - delay] if there[k] else np.zeros(2)
            np.testing.assert_array_equal(rows[t, 2 * k : 2 * k + 2], expected)


def test_delays_after_stacking_leak_into_the_next_run_and_ours_do_not() -> None:
    # A run whose end is marked must not change a row of the next.
    quiet = [np.zeros((10, 1)), np.zeros((10, 1))]
    marked = [np.zeros((10, 1)), np.zeros((10, 1))]
    marked[0][-2:] = 1.0
    delays = [1, 2, 3, 4]
    ours = [delay_runs(runs, delays, edges="zero") for runs in (quiet, marked)]
    np.testing.assert_array_equal(ours[0].rows[10:], ours[1].rows[10:])
    stacked = [delayed(np.concatenate(runs), delays)[0] for runs in (quiet, marked)]
    assert np.abs(stacked[0][10:] - stacked[1][10:]).sum() > 0
    dropped = delay_runs(marked, delays)
    assert dropped.run.tolist() == [0] * 6 + [1] * 6
    assert dropped.index.tolist() == [4, 5, 6, 7, 8, 9] * 2
    np.testing.assert_array_equal(dropped.rows[6:], 0.0)


def test_stacked_delays_score_on_a_run_they_have_never_seen_what_ours_do_not() -> None:
    """The first rows of a held-out run are explained by the end of the training run before it."""
    rng = np.random.default_rng(0)
    n, n_runs = 6, 300
    x = rng.standard_normal((n_runs, n, 1))
    # The brain answers 3 rows late, and the experiment goes on between the runs.
    y = np.roll(x.reshape(-1, 1), 3, axis=0).reshape(n_runs, n, 1)
    first = np.s_[:, :3]  # rows whose cause lies in the run before
    stacked = delayed(x.reshape(-1, 1), [3])[0].reshape(n_runs, n, 1)
    ours = delay_runs(list(x), [3], edges="zero").rows.reshape(n_runs, n, 1)
    assert np.corrcoef(stacked[first].ravel()[3:], y[first].ravel()[3:])[0, 1] > 0.99
    np.testing.assert_array_equal(ours[first], 0.0)
    assert len(delay_runs(list(x), [3]).rows) == n_runs * (n - 3)


def test_the_time_course_of_each_voxel_is_found() -> None:
    brain = TinyBrain(0, peaks_s=(3.0, 7.5), n_voxels=20, snr=1.5)
    runs = brain.runs(6, 10)
    stimulus = []
    for run in runs:
        heard = np.concatenate([brain.latent(event.stimulus) for event in run.events])
        at = (np.arange(len(run.signal)) * brain.tr_s / 0.25).astype(int)
        padded = np.concatenate([heard, np.zeros((200, heard.shape[1]))])
        stimulus.append(np.array([padded[k : k + 6].mean(axis=0) for k in at]))
    volumes = [(run.signal - run.signal.mean(axis=0)) / run.signal.std(axis=0) for run in runs]
    delays = list(range(9))
    fit = fit_hrf(stimulus, volumes, tr_s=brain.tr_s, delays=delays)
    assert fit.hrf.shape == (9, 20)
    np.testing.assert_allclose(fit.hrf.max(axis=0), 1.0)
    for group, peak in enumerate((3.0, 7.5)):
        mine = brain.group == group
        true = hrf(peak)
        # Both the features and the volume are means over a TR: the courses are compared there.
        expected = np.array([true[round(6 * d) : round(6 * d) + 6].sum() for d in delays])
        r = [np.corrcoef(fit.hrf[:, voxel], expected)[0, 1] for voxel in np.flatnonzero(mine)]
        assert np.median(r) > 0.9
        assert min(r) > 0.7
        assert abs(np.median(fit.lag_s[mine]) - peak) < 1.5
        assert np.median(fit.separable[mine]) > 0.8
        assert np.median(fit.score[mine]) > 0.5


def test_a_voxel_that_answers_to_nothing_has_no_lag() -> None:
    rng = np.random.default_rng(1)
    stimulus = [rng.standard_normal((50, 3)) for _ in range(2)]
    brain = [np.zeros((50, 2)) for _ in range(2)]
    fit = fit_hrf(stimulus, brain, tr_s=1.5, delays=[1, 2, 3], alphas=(1.0,))
    np.testing.assert_array_equal(fit.hrf, 0.0)
    assert np.isnan(fit.lag_s).all()


def _held_out_r(brain: TinyBrain, spec: TrMeanSpec, lag_s: float) -> float:
    runs = brain.runs(6, 12)
    features = standardise_runs(
        run_features(runs, features=spec), StandardiseSpec(mode="offline", clip=0.0)
    )
    samples = make_samples(features, lag_s=lag_s, targets=brain.targets)
    x, y = samples.mean_x().astype(np.float64), samples.y
    run = samples.run[:, 0]
    test = np.isin(run, ["run-4", "run-5"])
    folds = group_folds(int((~test).sum()), 4, groups=run[~test])
    ridge = Ridge(np.logspace(0, 4, 9), cv=folds).fit(x[~test], y[~test])
    predicted = ridge.predict(x[test])
    return float(
        np.mean([np.corrcoef(predicted[:, k], y[test][:, k])[0, 1] for k in range(y.shape[1])])
    )


@pytest.mark.parametrize(("window_s", "n_delays", "last_s"), [(1.5, 7, 10.5), (4.5, 5, 9.0)])
def test_delays_beat_every_fixed_window_when_the_lag_differs_between_regions(
    window_s: float, n_delays: int, last_s: float
) -> None:
    def brain() -> TinyBrain:
        return TinyBrain(0, peaks_s=(3.0, 9.0), n_voxels=60, snr=0.5, group_dims=True)

    fixed = [
        _held_out_r(brain(), TrMeanSpec(window_s=window_s), lag_s)
        for lag_s in (3.0, 4.5, 6.0, 7.5, 9.0)
    ]
    several = _held_out_r(brain(), TrMeanSpec(window_s=window_s, n_delays=n_delays), last_s)
    assert several > max(fixed) + 0.05


def test_delays_that_cannot_be_are_refused() -> None:
    values = np.zeros((5, 2))
    for delays in ([], [1, 1], [0.5]):
        with pytest.raises(SettingError, match="whole delays"):
            delayed(values, delays)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="n_features"):
        delayed(np.zeros(5), [1])
    with pytest.raises(SettingError, match="longer than"):
        delay_runs([values], [9])
    with pytest.raises(SettingError, match="same features"):
        delay_runs([values, np.zeros((5, 3))], [1])
    with pytest.raises(SettingError, match="edges"):
        delay_runs([values], [1], edges="wrap")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="each volume"):
        fit_hrf([values], [np.zeros((4, 1))], tr_s=1.0, delays=[1])
