"""Ridge against scikit-learn's and himalaya's, and its contract."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import SettingError
from models.ridge.estimator import Ridge
from models.ridge.folds import group_folds
from models.ridge.solver import choose_method
from tests.models.ridge.problems import problem

ALPHAS = np.logspace(-1, 4, 11)
Solver = Literal["auto", "folds", "blocks"]


def reference_predictions(
    x: NDArray[Any], y: NDArray[Any], alphas: Any, folds: Any, intercept: bool
) -> NDArray[np.float64]:
    linear_model = pytest.importorskip("sklearn.linear_model")
    out = np.zeros((len(alphas), *y.shape))
    for train, test in folds:
        for row, alpha in zip(out, alphas, strict=True):
            model = linear_model.Ridge(alpha, fit_intercept=intercept, solver="svd")
            row[test] = model.fit(x[train], y[train]).predict(x[test]).reshape(len(test), -1)
    return out


@pytest.mark.parametrize(("n", "n_features"), [(200, 40), (50, 300), (60, 60), (3, 1), (2, 5)])
@pytest.mark.parametrize("alpha", [1e-2, 1.0, 1e4])
@pytest.mark.parametrize("intercept", [True, False])
def test_weights_equal_those_of_scikit_learn(
    n: int, n_features: int, alpha: float, intercept: bool
) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = problem(n, n_features, 4, seed=1, mean=3)
    ours = Ridge([alpha], fit_intercept=intercept).fit(x, y)
    reference = linear_model.Ridge(alpha, fit_intercept=intercept, solver="svd").fit(x, y)
    scale = np.abs(reference.coef_).max()
    assert np.max(np.abs(ours.coef_ - reference.coef_)) < 1e-10 * scale
    np.testing.assert_allclose(ours.predict(x), reference.predict(x), atol=1e-10 * np.abs(y).max())
    assert abs(ours.score(x, y) - reference.score(x, y)) < 1e-10
    weights, bias = ours.weights()
    np.testing.assert_allclose(x @ weights + bias, ours.predict(x), atol=1e-12)


@pytest.mark.parametrize("solver", ["folds", "blocks"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("n", "n_features"), [(120, 20), (60, 150), (50, 50)])
def test_held_out_predictions_and_penalties_are_those_of_fitting_each_fold(
    solver: Solver, intercept: bool, shared: bool, n: int, n_features: int
) -> None:
    x, y = problem(n, n_features, 5, seed=2, mean=2.0 * intercept)
    groups = np.random.default_rng(5).permutation(np.arange(n) % 10)
    ours = Ridge(
        ALPHAS,
        cv=4,
        alpha_per_target=not shared,
        fit_intercept=intercept,
        solver=solver,
        keep_held_out=True,
    ).fit(x, y, groups)
    folds = group_folds(n, 4, groups=groups)
    predictions = reference_predictions(x, y, ALPHAS, folds, intercept)
    r2 = 1 - ((predictions - y) ** 2).sum(axis=1) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(ours.cv_scores_, r2, rtol=1e-9, atol=1e-10)
    best = np.full(5, np.argmax(r2.mean(axis=1))) if shared else np.argmax(r2, axis=0)
    np.testing.assert_array_equal(ours.alpha_, ALPHAS[best])
    np.testing.assert_allclose(
        ours.held_out_, predictions[best, :, np.arange(5)].T, atol=1e-9 * np.abs(y).max()
    )
    if not shared:
        assert len(set(np.asarray(ours.alpha_).tolist())) > 1


@pytest.mark.parametrize("solver", ["folds", "blocks"])
@pytest.mark.parametrize(("n", "n_features"), [(30, 12), (30, 50)])
def test_every_sample_may_be_a_fold(solver: Solver, n: int, n_features: int) -> None:
    x, y = problem(n, n_features, 3, seed=8, mean=1)
    model = Ridge([1.0, 10.0], cv=n, solver=solver, metric="neg_mse").fit(x, y)
    folds = group_folds(n, n)
    predictions = reference_predictions(x, y, [1.0, 10.0], folds, True)
    np.testing.assert_allclose(model.cv_scores_, -((predictions - y) ** 2).mean(axis=1), rtol=1e-9)


@pytest.mark.parametrize("solver", ["folds", "blocks"])
@pytest.mark.parametrize(("n", "n_features"), [(80, 30), (60, 150)])
def test_hundreds_of_penalties_score_as_each_alone(solver: Solver, n: int, n_features: int) -> None:
    x, y = problem(n, n_features, 4, seed=3, mean=1)
    many = np.logspace(-2, 5, 300)
    for metric in ("neg_mse", "correlation"):
        ours = Ridge(many, metric=metric, solver=solver).fit(x, y)
        for at in (0, 71, 150, 299):
            alone = Ridge([many[at], 3.0], metric=metric, solver=solver).fit(x, y)
            np.testing.assert_allclose(
                ours.cv_scores_[at], alone.cv_scores_[0], rtol=1e-9, atol=1e-10
            )


def test_correlation_is_that_of_all_held_out_predictions_together() -> None:
    x, y = problem(90, 30, 4, seed=4, mean=1)
    ours = Ridge(ALPHAS, metric="correlation").fit(x, y)
    predictions = reference_predictions(x, y, ALPHAS, group_folds(90, 5), True)
    for scores, rows in zip(ours.cv_scores_, predictions, strict=True):
        expected = [np.corrcoef(p, t)[0, 1] for p, t in zip(rows.T, y.T, strict=True)]
        np.testing.assert_allclose(scores, expected, atol=1e-10)


@pytest.mark.parametrize(("n", "n_features"), [(300, 80), (150, 400)])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-5)])
def test_weights_and_penalties_are_those_of_himalaya(
    n: int, n_features: int, intercept: bool, dtype: Any, tolerance: float
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        himalaya = pytest.importorskip("himalaya.ridge")
        kernel = pytest.importorskip("himalaya.kernel_ridge")
    selection = pytest.importorskip("sklearn.model_selection")
    x, y = problem(n, n_features, 64, seed=6, dtype=dtype, mean=0.5 * intercept)
    alphas = np.logspace(0, 4, 9)
    ours = Ridge(alphas, cv=5, fit_intercept=intercept).fit(x, y)
    options: dict[str, Any] = {
        "alphas": alphas,
        "cv": selection.KFold(5),
        "fit_intercept": intercept,
    }
    # In single precision, theirs is off by 2e-5 itself; the reference is theirs in double.
    x, y = x.astype(np.float64), y.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if n > n_features:
            theirs = himalaya.RidgeCV(**options).fit(x, y)
            coef = theirs.coef_.T
        else:
            theirs = kernel.KernelRidgeCV(**options).fit(x, y)
            coef = theirs.get_primal_coef().T
    assert ours.coef_.dtype == dtype
    # Theirs went through a logarithm and back.
    assert np.mean(np.isclose(ours.alpha_, theirs.best_alphas_, rtol=1e-5)) >= 0.999
    assert np.max(np.abs(ours.coef_ - coef)) <= tolerance * np.max(np.abs(coef))


@pytest.mark.parametrize("solver", ["folds", "blocks"])
@pytest.mark.parametrize("n_features", [30, 200])
def test_single_precision_agrees_with_double(solver: Solver, n_features: int) -> None:
    x, y = problem(100, n_features, 20, seed=7, mean=100)
    double = Ridge(ALPHAS, solver=solver).fit(x, y)
    single = Ridge(ALPHAS, solver=solver, dtype=np.float32).fit(x, y)
    assert single.coef_.dtype == np.float32
    np.testing.assert_allclose(single.cv_scores_, double.cv_scores_, atol=2e-3)
    assert np.mean(single.alpha_ == double.alpha_) > 0.9


def test_data_are_neither_written_to_nor_raised_in_precision() -> None:
    x, y = problem(40, 60, 3, seed=9, dtype=np.float32)
    kept = x.copy(), y.copy()
    model = Ridge(ALPHAS).fit(x, y)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(y, kept[1])
    assert model.predict(x).dtype == np.float32
    assert Ridge([1.0]).fit(np.arange(6).reshape(3, 2), np.arange(3)).coef_.dtype == np.float64


def test_grouped_folds_do_not_reward_knowing_the_group() -> None:
    # Targets are one random number for each group: nothing can be learned for a new group.
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), 10)
    x = np.eye(20)[groups] + 0.01 * rng.standard_normal((200, 20))
    y = rng.standard_normal(20)[groups]
    assert Ridge(cv=5).fit(x, y, groups).alpha_ > 1e3
    assert Ridge(cv=5).fit(x, y, np.tile(np.arange(10), 20)).alpha_ < 1.0


def test_a_single_target_has_scikit_learns_shapes() -> None:
    x, y = problem(30, 4, 1, seed=4)
    model = Ridge([1.0, 2.0], keep_held_out=True).fit(x, y[:, 0])
    assert model.coef_.shape == (4,)
    assert isinstance(model.intercept_, float)
    assert isinstance(model.alpha_, float)
    assert model.predict(x).shape == model.held_out_.shape == (30,)
    assert model.weights()[0].shape == (4, 1)
    assert Ridge([1.0]).fit(x, y).predict(x).shape == (30, 1)


@pytest.mark.parametrize("metric", ["r2", "neg_mse", "correlation"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_target_takes_the_largest_penalty_and_is_predicted(
    metric: Any, value: float
) -> None:
    x, y = problem(50, 70, 2, seed=10)
    y[:, 1] = value
    model = Ridge(ALPHAS, metric=metric).fit(x, y)
    assert np.asarray(model.alpha_)[1] == ALPHAS[-1]
    np.testing.assert_allclose(model.predict(x)[:, 1], value, rtol=1e-12)
    assert np.isfinite(model.cv_scores_).all()


def test_equal_penalties_and_repeated_samples_and_features_are_taken_as_they_are() -> None:
    x, y = problem(40, 10, 2, seed=11)
    model = Ridge([1.0, 1.0, 100.0, 1.0]).fit(x, y)
    assert model.cv_scores_.shape == (4, 2)
    np.testing.assert_array_equal(model.cv_scores_[0], model.cv_scores_[3])
    twice = Ridge([2.0]).fit(np.tile(x, (2, 1)), np.tile(y, (2, 1)))
    np.testing.assert_allclose(twice.coef_, Ridge([1.0]).fit(x, y).coef_, atol=1e-12)
    wide = Ridge([1.0]).fit(np.tile(x, (1, 8)), y)
    np.testing.assert_allclose(wide.coef_, np.tile(wide.coef_[:, :10], (1, 8)), atol=1e-12)


@pytest.mark.parametrize("solver", ["folds", "blocks", "auto"])
@pytest.mark.parametrize(("n", "rank"), [(40, 6), (12, 30)])
def test_no_penalty_means_the_smallest_weights_that_fit(solver: Solver, n: int, rank: int) -> None:
    x, y = problem(n, rank, 2, seed=5)
    x = np.concatenate((x, x[:, :2]), axis=1)
    model = Ridge([0.0, 1e-3], solver=solver, fit_intercept=False, cv=4).fit(x, y)
    alone = Ridge([0.0], fit_intercept=False).fit(x, y)
    np.testing.assert_allclose(alone.coef_.T, np.linalg.pinv(x) @ y, atol=1e-8)
    error = np.zeros(2)
    for train, test in group_folds(n, 4):
        error += ((y[test] - x[test] @ np.linalg.pinv(x[train]) @ y[train]) ** 2).sum(axis=0)
    score = 1 - error / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(model.cv_scores_[0], score, rtol=1e-6)


def test_folds_may_leave_samples_out_and_hold_them_out_twice() -> None:
    x, y = problem(30, 8, 2, seed=12)
    folds = [(np.arange(10), np.arange(10, 20)), (np.arange(5, 10), np.arange(15, 25))]
    model = Ridge([1.0, 2.0], cv=folds, keep_held_out=True).fit(x, y)
    assert np.isnan(model.held_out_[:10]).all()
    assert np.isnan(model.held_out_[25:]).all()
    assert np.isfinite(model.held_out_[10:25]).all()
    with pytest.raises(SettingError, match="solver='folds'"):
        Ridge([1.0, 2.0], cv=folds, solver="blocks").fit(x, y)


def test_scikit_learn_can_clone_and_search_it() -> None:
    base = pytest.importorskip("sklearn.base")
    selection = pytest.importorskip("sklearn.model_selection")
    model = base.clone(Ridge([1.0, 10.0], cv=3, alpha_per_target=False))
    assert model.get_params()["cv"] == 3
    assert model.get_params()["alphas"] == [1.0, 10.0]
    assert model.set_params(cv=4).cv == 4
    with pytest.raises(SettingError, match="no parameter 'beta'"):
        model.set_params(beta=1)
    x, y = problem(40, 5, 2, seed=13)
    scores = selection.cross_val_score(Ridge([1.0, 10.0]), x, y, scoring="r2", cv=3)
    assert scores.shape == (3,)


@pytest.mark.parametrize(
    ("options", "x", "y", "says"),
    [
        ({"alphas": []}, np.zeros((5, 2)), np.zeros(5), "alphas"),
        ({"alphas": [-1.0]}, np.zeros((5, 2)), np.zeros(5), "alphas"),
        ({"alphas": [np.nan]}, np.zeros((5, 2)), np.zeros(5), "alphas"),
        ({}, np.zeros(5), np.zeros(5), "n_samples"),
        ({}, np.zeros((5, 2)), np.zeros(4), "n_samples"),
        ({}, np.full((5, 2), np.nan), np.zeros(5), "X holds NaN"),
        ({}, np.zeros((5, 2)), np.full(5, np.inf), "y holds NaN"),
        ({}, np.zeros((0, 2)), np.zeros(0), "at least one"),
        ({"alphas": [1.0, 2.0]}, np.zeros((3, 2)), np.zeros(3), "folds"),
        ({"metric": "auc"}, np.zeros((6, 2)), np.zeros(6), "metric"),
        ({"solver": "magic"}, np.zeros((6, 2)), np.zeros(6), "solver"),
        ({"backend": "abacus"}, np.zeros((6, 2)), np.zeros(6), "backend"),
        ({"dtype": np.int32}, np.zeros((6, 2)), np.zeros(6), "dtype"),
    ],
)
def test_unusable_data_and_settings_are_refused(options: Any, x: Any, y: Any, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        Ridge(**options).fit(x, y)


def test_predicting_before_fitting_or_from_other_features_is_refused() -> None:
    with pytest.raises(SettingError, match="fit first"):
        Ridge().predict(np.zeros((2, 2)))
    model = Ridge([1.0]).fit(np.eye(4), np.arange(4.0))
    with pytest.raises(SettingError, match="4 features"):
        model.predict(np.zeros((2, 3)))
    with pytest.raises(SettingError, match="group label"):
        Ridge().fit(np.eye(4), np.arange(4.0), np.arange(3))


@pytest.mark.parametrize("shape", [(50, 200), (200, 50)])
def test_the_layout_of_an_array_in_memory_does_not_matter(shape: tuple[int, int]) -> None:
    x, y = problem(*shape, 3, seed=14, mean=1)
    expected = Ridge([1.0, 10.0]).fit(x, y).coef_
    for laid in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x[::-1].copy()[::-1]):
        np.testing.assert_allclose(Ridge([1.0, 10.0]).fit(laid, y).coef_, expected, atol=1e-13)


@pytest.mark.parametrize("n_features", [3, 30])
@pytest.mark.parametrize("solver", ["folds", "blocks"])
def test_features_that_never_vary_get_no_weight(solver: Solver, n_features: int) -> None:
    y = np.random.default_rng(0).standard_normal(20)
    model = Ridge([0.0, 1.0], solver=solver).fit(np.full((20, n_features), 7.0), y)
    np.testing.assert_array_equal(model.coef_, 0.0)
    assert model.alpha_ == 1.0
    np.testing.assert_allclose(model.intercept_, y.mean())


def test_the_way_with_fewer_operations_is_taken() -> None:
    few, many = group_folds(1000, 5), group_folds(1000, 500)
    assert choose_method((1000, 5000), 50, folds=few, n_alphas=20) == "folds"
    assert choose_method((1000, 5000), 50, folds=many, n_alphas=20) == "blocks"
    partial = [(np.arange(100), np.arange(100, 101 + k)) for k in range(500)]
    assert choose_method((1000, 5000), 50, folds=partial, n_alphas=20) == "folds"
