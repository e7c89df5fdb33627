"""Encoding models: voxels that hear are found, noise is not, and the choice stays in its folds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from himalaya.ridge import RidgeCV

from calibration.methods.correlate import fold_correlations
from calibration.methods.encoding import (
    cross_validated_r,
    encode_samples,
    encoding_model,
)
from calibration.methods.encoding_selected import EncodingSelected
from calibration.simulate import SimulationSettings, default_regions
from calibration.simulate.anatomy import head
from models.errors import SettingError
from models.ridge.estimator import Ridge
from models.ridge.folds import group_folds
from models.ridge.shared import column_correlations
from tests.calibration.methods.people import identified, person_samples

LISTENER = SimulationSettings(
    embedding="latent",
    timetable="short",
    n_runs=(10, 4),
    clips_per_run=16,
    n_test_clips=16,
    snr=0.3,
    regions=default_regions(n_informative=3, n_uninformative=3, n_voxels=20),
    n_other_voxels=60,
)
HEARS = np.isin(np.arange(180), np.concatenate([*head(LISTENER).rois.values()][:3]))
ALPHAS = (1.0, 10.0, 100.0, 1e3)


def test_voxels_that_hear_are_significant_and_others_at_the_rate_that_was_allowed() -> None:
    train, test = person_samples(LISTENER)
    found = encode_samples(train, test, rng=np.random.default_rng(0), n_permutations=400)
    assert found.significant[HEARS].mean() > 0.6
    assert found.significant[~HEARS].sum() <= 0.1 * found.significant.sum() + 2
    assert found.r[HEARS].mean() > 0.3 > abs(found.r[~HEARS].mean()) + 0.2
    assert found.ceiling is not None
    assert found.of_ceiling is not None
    assert 0.3 < found.of_ceiling < 1.05
    assert json.loads(json.dumps(found.to_json()))["n_test"] == len(test)


def test_the_encoding_model_is_the_ridge_of_himalaya() -> None:
    rng = np.random.default_rng(0)
    x, x_test = rng.standard_normal((90, 5)), rng.standard_normal((40, 5))
    true = rng.standard_normal((5, 7))
    y = x @ true + 2 * rng.standard_normal((90, 7)) + 3.0
    y_test = x_test @ true + rng.standard_normal((40, 7))
    made = encoding_model(
        x, y, test=(x_test, y_test), rng=rng, alphas=ALPHAS, cv=5, n_permutations=19
    )
    mean, size = x.mean(axis=0), np.sqrt(np.mean((x - x.mean(axis=0)) ** 2))
    other = RidgeCV(alphas=ALPHAS, cv=group_folds(90, 5), fit_intercept=True)
    other.fit((x - mean) / size, y)
    np.testing.assert_allclose(made.alpha, other.best_alphas_)
    np.testing.assert_allclose(made.weights * size, other.coef_, atol=1e-9)
    wanted = [
        np.corrcoef(p, m)[0, 1]
        for p, m in zip(other.predict((x_test - mean) / size).T, y_test.T, strict=True)
    ]
    np.testing.assert_allclose(made.r, wanted, atol=1e-9)
    assert made.ceiling is None
    assert made.p.min() == pytest.approx(1 / 20)


def test_responses_to_the_test_part_must_fit() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 4))
    with pytest.raises(SettingError, match="3 dimensions and 4 voxels"):
        encoding_model(x, y, test=(x, y[:, :3]), rng=rng)


def test_the_nested_score_of_noise_is_zero_and_that_of_selection_outside_is_not() -> None:
    """The danger: judged on the rows that chose them, voxels of noise decode."""
    n, n_voxels, n_targets = 160, 1500, 6
    honest, flattering = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((n, n_voxels)), rng.standard_normal((n, n_targets))
        groups = np.repeat(np.arange(n // 4), 4)
        fit = EncodingSelected(
            (0.05, 0.1), alphas=(1e2, 1e3), encoding_alphas=(10.0,), cv=4, metric="correlation"
        ).fit(x, y, groups)
        folds = group_folds(n, 4, groups=groups)
        honest.append(np.mean(fold_correlations(fit.held_out_, y, folds=folds)))
        outside = Ridge((1e2, 1e3), cv=folds, keep_held_out=True).fit(x[:, fit.selected_], y)
        flattering.append(np.mean(fold_correlations(outside.held_out_, y, folds=folds)))
    assert abs(np.mean(honest)) < 3 / np.sqrt(3 * n * n_targets)
    assert np.mean(flattering) > 0.2


def test_cross_validated_r_of_noise_is_zero_on_average() -> None:
    rng = np.random.default_rng(1)
    r = cross_validated_r(
        rng.standard_normal((100, 4)), rng.standard_normal((100, 3000)), alphas=(1.0, 100.0)
    )
    assert abs(r.mean()) < 0.01


@pytest.mark.parametrize("metric", ["identification", "correlation"])
def test_selection_finds_the_voxels_that_hear_and_decodes(
    metric: Literal["identification", "correlation"],
) -> None:
    settings = replace(LISTENER, n_other_voxels=300)
    hears = np.concatenate([*head(settings).rois.values()][:3])
    train, test = person_samples(settings)
    centre = train.y.mean(axis=0)
    x, y = train.x[:, 0], train.y - centre
    fit = EncodingSelected((0.05, 0.1, 0.15), alphas=ALPHAS, metric=metric)
    fit.fit(x, y, train.clip)
    assert np.mean(np.isin(fit.selected_, hears)) > 0.4  # of 420 voxels, 60 hear
    assert np.mean(np.isin(hears, fit.selected_)) > 0.6
    assert set(fit.threshold_scores_) == {0.05, 0.1, 0.15}
    score = identified(fit.predict(test.mean_x()), test.y - centre)
    everything = Ridge(ALPHAS).fit(x, y, train.clip).predict(test.mean_x())
    assert score > identified(everything, test.y - centre) - 0.02
    weights, bias = fit.weights()
    np.testing.assert_allclose(
        test.mean_x() @ weights + bias, fit.predict(test.mean_x()), atol=1e-4
    )
    assert np.isfinite(fit.held_out_).all()


def test_a_threshold_that_nothing_passes_keeps_the_best_few() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 30)), rng.standard_normal((40, 2))
    fit = EncodingSelected(0.9, n_min=4, alphas=(10.0,), cv=3, inner_cv=3).fit(x, y)
    best = np.sort(np.argsort(-fit.voxel_r_)[:4])
    np.testing.assert_array_equal(fit.selected_, best)
    for wrong, match in (({"thresholds": 2.0}, "between"), ({"n_min": 0}, "n_min")):
        with pytest.raises(SettingError, match=match):
            EncodingSelected(**wrong).fit(x, y)


def test_of_equally_good_thresholds_the_one_with_fewer_voxels_is_taken() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((60, 4))
    x = np.concatenate([np.repeat(y, 5, axis=1), rng.standard_normal((60, 10))], axis=1)
    fit = EncodingSelected((0.01, 0.9), alphas=(0.01,), cv=3, inner_cv=3).fit(x, y)
    assert fit.threshold_scores_ == {0.01: 1.0, 0.9: 1.0}
    assert fit.threshold_ == 0.9
    np.testing.assert_array_equal(fit.selected_, np.arange(20))


def test_columns_correlate_as_numpy_says_and_constants_not_at_all() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((30, 3)), rng.standard_normal((30, 3))
    b[:, 2] = 4.0
    r = column_correlations(a, b)
    np.testing.assert_allclose(r[0], np.corrcoef(a[:, 0], b[:, 0])[0, 1])
    assert r[2] == 0.0
