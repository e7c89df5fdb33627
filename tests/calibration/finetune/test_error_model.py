from __future__ import annotations

import numpy as np
import pytest

from calibration.finetune.error_model import fit_error_model
from models.errors import SettingError


def _pairs(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions that know 3 of 12 directions at half their size, with errors of rank 2."""
    rng = np.random.default_rng(seed)
    world = np.random.default_rng(5)
    turn = np.linalg.qr(world.standard_normal((12, 12)))[0]
    true = rng.standard_normal((n, 12)) * np.linspace(3.0, 0.5, 12) @ turn + 1.0
    known = (true - 1.0) @ turn.T[:, :3] @ turn[:3] * 0.5
    error = rng.standard_normal((n, 2)) @ world.standard_normal((2, 12))
    predicted = known + error + 0.2 * rng.standard_normal((n, 12)) + 2.0
    return predicted.astype(np.float32), true.astype(np.float32)


def test_draws_around_the_truth_have_the_covariance_of_the_errors() -> None:
    predicted, true = _pairs(4000)
    model = fit_error_model(predicted, true, rank=11, centre="true")
    drawn = model.draw(true, np.random.default_rng(1))
    wanted = np.cov((predicted - true).T)
    found = np.cov((drawn - true).T)
    assert np.abs(found - wanted).max() < 0.12 * np.abs(wanted).max()
    np.testing.assert_allclose((drawn - true).mean(0), (predicted - true).mean(0), atol=0.2)


def test_regressed_draws_vary_as_predictions_do_and_follow_the_truth_as_they_do() -> None:
    predicted, true = _pairs(4000)
    new_predicted, new_true = _pairs(4000, seed=3)
    model = fit_error_model(predicted, true, rank=8)
    drawn = model.draw(new_true, np.random.default_rng(1))
    cross = np.cov(new_predicted.T, new_true.T)
    mine = np.cov(drawn.T, new_true.T)
    assert np.abs(mine - cross).max() < 0.12 * np.abs(cross).max()
    around = fit_error_model(predicted, true, rank=8, centre="true")
    wide = around.draw(new_true, np.random.default_rng(1))
    assert wide.var() > 1.5 * new_predicted.var() > 1.3 * drawn.var()


def test_conditions_with_more_values_than_windows_keep_their_shape_and_size() -> None:
    rng = np.random.default_rng(0)
    true = rng.standard_normal((60, 8, 40)).astype(np.float32)
    predicted = 0.3 * true + 0.1 * rng.standard_normal(true.shape).astype(np.float32)
    drawn = fit_error_model(predicted, true, rank=16).draw(true[:5], rng)
    assert drawn.shape == (5, 8, 40)
    assert drawn.std() == pytest.approx(float(predicted.std()), rel=0.25)


def test_the_same_seed_draws_the_same() -> None:
    predicted, true = _pairs(50)
    model = fit_error_model(predicted, true)
    np.testing.assert_array_equal(
        model.draw(true, np.random.default_rng(2)), model.draw(true, np.random.default_rng(2))
    )


def test_too_few_windows_are_refused() -> None:
    with pytest.raises(SettingError, match="8 windows"):
        fit_error_model(np.zeros((5, 3)), np.zeros((5, 3)))
