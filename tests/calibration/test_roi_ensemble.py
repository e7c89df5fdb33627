"""The ensemble of regions: finds those that hear, and loses nothing by averaging."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.methods.correlate import fold_correlations
from calibration.roi_ensemble import RoiEnsemble, feature_rois
from calibration.simulate import SimulationSettings, default_regions
from calibration.simulate.anatomy import head
from models.errors import SettingError
from models.ridge.estimator import Ridge
from models.ridge.folds import group_folds
from tests.calibration.methods.people import identified, person_samples

ALPHAS = np.logspace(0, 5, 6)
LISTENER = SimulationSettings(
    embedding="latent",
    timetable="short",
    n_runs=(8, 4),
    clips_per_run=16,
    n_test_clips=16,
    snr=0.3,
    regions=default_regions(n_voxels=16),
    n_other_voxels=40,
)


@pytest.mark.parametrize("seed", range(3))
def test_five_of_six_regions_are_found_and_averaging_is_no_worse_than_the_best(seed: int) -> None:
    settings = replace(LISTENER, seed=seed)
    train, test = person_samples(settings)
    rois = head(settings).rois
    x, centre = train.x[:, 0], train.y.mean(axis=0)
    y = train.y - centre
    fit = RoiEnsemble(rois, alphas=ALPHAS, keep_held_out=False).fit(x, y, train.clip)
    assert len(set(fit.chosen_) & set(list(rois)[:6])) >= 5
    assert set(fit.roi_scores_) == set(rois)
    truth = test.y - centre
    alone = [
        identified(Ridge(ALPHAS).fit(x[:, of], y, train.clip).predict(test.mean_x()[:, of]), truth)
        for of in rois.values()
    ]
    assert identified(fit.predict(test.mean_x()), truth) >= max(alone) - 0.01


def test_the_ensemble_is_the_mean_of_ridges_and_one_linear_map() -> None:
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((60, 12)), rng.standard_normal((60, 3))
    y = x[:, :6] @ rng.standard_normal((6, 3)) + noise + 1.0
    rois = {"a": [0, 1, 2], "b": np.arange(12) == 5, "c": [2, 3, 4], "none": []}
    groups = np.repeat(np.arange(20), 3)
    fit = RoiEnsemble(rois, n_rois=5, alphas=(1.0, 10.0)).fit(x, y, groups)
    ridges = [
        Ridge((1.0, 10.0), keep_held_out=True).fit(x[:, of], y, groups)
        for of in ([0, 1, 2], [5], [2, 3, 4])
    ]
    of = ([0, 1, 2], [5], [2, 3, 4])
    wanted = np.mean([r.predict(x[:, c]) for r, c in zip(ridges, of, strict=True)], axis=0)
    np.testing.assert_allclose(fit.predict(x), wanted, atol=1e-12)
    weights, bias = fit.weights()
    np.testing.assert_allclose(x @ weights + bias, wanted, atol=1e-12)
    np.testing.assert_allclose(fit.held_out_, np.mean([r.held_out_ for r in ridges], axis=0))
    assert list(fit.chosen_) == sorted(fit.roi_scores_, key=lambda n: -fit.roi_scores_[n])
    assert fit.cv_scores_.shape == (2, 3)
    assert fit.alpha_.shape == (3,)
    assert not hasattr(fit, "indices_")  # most columns are in use: dense weights


def test_few_columns_of_many_are_kept_sparse_with_the_same_predictions() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((50, 40))
    y = x[:, 30:33] @ rng.standard_normal((3, 2))
    rois = {"here": [30, 31, 32], "there": [1, 2, 3]}
    fit = RoiEnsemble(rois, n_rois=1, alphas=(1.0,), keep_held_out=False).fit(x, y)
    assert fit.chosen_ == ("here",)
    dense = np.zeros((40, 2))
    np.put_along_axis(dense.T, fit.indices_, fit.values_, axis=1)
    np.testing.assert_allclose(x @ dense + fit.intercept_, fit.predict(x), atol=1e-12)
    np.testing.assert_array_equal(dense, fit.weights()[0])


def test_held_out_predictions_show_nothing_of_noise_although_regions_were_chosen() -> None:
    """Twenty regions of noise: the choice is made anew without each fold."""
    nested, shared = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((100, 60)), rng.standard_normal((100, 8))
        rois = {f"r{k}": np.arange(3 * k, 3 * k + 3) for k in range(20)}
        fit = RoiEnsemble(rois, n_rois=2, alphas=(10.0,), cv=4).fit(x, y)
        nested.append(np.mean(fold_correlations(fit.held_out_, y, folds=group_folds(100, 4))))
        shared.append(np.mean([fit.roi_scores_[name] for name in fit.chosen_]))
    assert abs(np.mean(nested)) < 3 * np.std(nested, ddof=1) / np.sqrt(8)
    assert np.mean(shared) > 0.04  # the score that regions were chosen by is no estimate


def test_correlations_of_folds_do_not_punish_noise_as_the_pooled_ones_do() -> None:
    rng = np.random.default_rng(0)
    folds = group_folds(40, 10)
    y = rng.standard_normal((40, 4000))
    means = np.empty_like(y)  # all that a decoder of noise knows
    for train, test in folds:
        means[test] = y[train].mean(axis=0)
    guess = means + 1e-3 * rng.standard_normal(y.shape)
    pooled = [np.corrcoef(p, m)[0, 1] for p, m in zip(guess.T, y.T, strict=True)]
    assert np.mean(pooled) < -0.4
    assert abs(np.mean(fold_correlations(guess, y, folds=folds))) < 0.01
    one = fold_correlations(guess, y, folds=[(np.arange(0), np.arange(40))])
    np.testing.assert_allclose(one, pooled, atol=1e-10)


def test_regions_that_do_not_fit_are_told() -> None:
    x, y = np.zeros((10, 4)), np.zeros((10, 1))
    with pytest.raises(SettingError, match="'far' names columns 9 to 9, but there are 4"):
        RoiEnsemble({"far": [9]}).fit(x, y)
    with pytest.raises(SettingError, match="at least one region"):
        RoiEnsemble({"none": []}).fit(x, y)
    with pytest.raises(SettingError, match="n_rois"):
        RoiEnsemble({"a": [0]}, n_rois=0).fit(x, y)
    with pytest.raises(SettingError, match="Call fit"):
        RoiEnsemble({"a": [0]}).predict(x)


def test_a_region_has_its_voxels_at_every_delay() -> None:
    rois = feature_rois({"a": [1, 4]}, n_voxels=5, n_features=15)
    np.testing.assert_array_equal(rois["a"], [1, 4, 6, 9, 11, 14])
    with pytest.raises(SettingError, match="7 features are not a number of delays of 5 voxels"):
        feature_rois({"a": [1]}, n_voxels=5, n_features=7)
