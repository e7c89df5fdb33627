"""Ridge against scikit-learn's, and a cross-validation that keeps groups apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from models.linear import Ridge, group_folds, ridge_path


def data(
    n: int, n_features: int, n_targets: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    x = 3 + rng.standard_normal((n, n_features))
    weights = rng.standard_normal((n_features, n_targets)) / np.sqrt(n_features)
    noise = rng.standard_normal((n, n_targets)) * np.logspace(-1, 1, n_targets)
    return x, x @ weights + noise


@pytest.mark.parametrize(("n", "n_features"), [(200, 40), (50, 300), (60, 60), (3, 1)])
@pytest.mark.parametrize("alpha", [1e-2, 1.0, 1e4])
@pytest.mark.parametrize("intercept", [True, False])
def test_weights_equal_those_of_scikit_learn(
    n: int, n_features: int, alpha: float, intercept: bool
) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = data(n, n_features, 4, seed=1)
    ours = Ridge([alpha], fit_intercept=intercept).fit(x, y)
    reference = linear_model.Ridge(alpha, fit_intercept=intercept, solver="svd").fit(x, y)
    scale = np.abs(reference.coef_).max()
    assert np.max(np.abs(ours.coef_ - reference.coef_)) < 1e-10 * scale
    np.testing.assert_allclose(ours.predict(x), reference.predict(x), atol=1e-10 * np.abs(y).max())
    assert abs(ours.score(x, y) - reference.score(x, y)) < 1e-10


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("n", "n_features"), [(120, 20), (60, 150)])
def test_penalties_are_those_that_scikit_learn_finds_on_the_same_folds(
    shared: bool, n: int, n_features: int
) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = data(n, n_features, 5, seed=2)
    groups = np.repeat(np.arange(12), n // 12)
    alphas = [0.1, 1.0, 10.0, 100.0, 1e4]
    ours = Ridge(alphas, cv=4, alpha_per_target=not shared).fit(x, y, groups)
    error = np.zeros((len(alphas), 5))
    for train, test in group_folds(n, 4, groups=groups):
        for row, alpha in zip(error, alphas, strict=True):
            model = linear_model.Ridge(alpha, solver="svd").fit(x[train], y[train])
            row += ((y[test] - model.predict(x[test])) ** 2).sum(axis=0) / n
    np.testing.assert_allclose(ours.cv_error_[::-1], error, rtol=1e-9)  # ours from large to small
    if shared:
        best = alphas[int(np.argmin(error @ (1 / y.var(axis=0))))]
        assert ours.alpha_ == best
        np.testing.assert_allclose(ours.coef_, Ridge([best]).fit(x, y).coef_, atol=1e-12)
    else:
        np.testing.assert_array_equal(ours.alpha_, np.array(alphas)[np.argmin(error, axis=0)])
        assert len(set(np.asarray(ours.alpha_).tolist())) > 1
        for target, alpha in enumerate(np.asarray(ours.alpha_)):
            alone = Ridge([float(alpha)]).fit(x, y[:, target])
            np.testing.assert_allclose(ours.coef_[target], alone.coef_, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.integers(0, 9), min_size=4, max_size=80),
    n_folds=st.integers(2, 6),
)
def test_no_group_is_on_both_sides(labels: list[int], n_folds: int) -> None:
    groups = np.array(labels)
    if n_folds > len(set(labels)):
        with pytest.raises(SettingError, match="folds"):
            group_folds(len(groups), n_folds, groups=groups)
        return
    folds = group_folds(len(groups), n_folds, groups=groups)
    held_out = np.concatenate([test for _, test in folds])
    assert sorted(held_out) == list(range(len(groups)))
    for train, test in folds:
        assert len(train) + len(test) == len(groups)
        assert len(test) > 0
        assert not set(groups[train]) & set(groups[test])


def test_without_groups_folds_are_blocks_of_time() -> None:
    folds = group_folds(10, 3)
    assert [test.tolist() for _, test in folds] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_grouped_folds_do_not_reward_knowing_the_group() -> None:
    # Targets are one random number for each group: nothing can be learned for a new group.
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), 10)
    x = np.eye(20)[groups] + 0.01 * rng.standard_normal((200, 20))
    y = rng.standard_normal(20)[groups]
    grouped = Ridge(cv=5).fit(x, y, groups)
    mixed = Ridge(cv=5).fit(x, y, np.tile(np.arange(10), 20))
    assert grouped.alpha_ > 1e3
    assert mixed.alpha_ < 1.0


def test_a_single_target_has_scikit_learns_shapes() -> None:
    x, y = data(30, 4, 1, seed=4)
    model = Ridge([1.0]).fit(x, y[:, 0])
    assert model.coef_.shape == (4,)
    assert isinstance(model.intercept_, float)
    assert model.predict(x).shape == (30,)
    assert Ridge([1.0]).fit(x, y).predict(x).shape == (30, 1)


def test_scikit_learn_can_clone_and_search_it() -> None:
    base = pytest.importorskip("sklearn.base")
    model = base.clone(Ridge([1.0, 10.0], cv=3, alpha_per_target=False))
    assert model.get_params() == {
        "alphas": [1.0, 10.0],
        "cv": 3,
        "alpha_per_target": False,
        "fit_intercept": True,
    }
    assert model.set_params(cv=4).cv == 4
    with pytest.raises(SettingError, match="no parameter 'beta'"):
        model.set_params(beta=1)


def test_without_penalty_null_directions_get_no_weight() -> None:
    x, y = data(20, 5, 2, seed=5)
    x = np.concatenate((x, x[:, :2]), axis=1)  # rank 5 of 7
    (weights,) = ridge_path(x, y, [0.0])
    np.testing.assert_allclose(weights, np.linalg.pinv(x) @ y, atol=1e-8)


@pytest.mark.parametrize(
    ("alphas", "x", "y", "says"),
    [
        ([], np.zeros((5, 2)), np.zeros(5), "alphas"),
        ([-1.0], np.zeros((5, 2)), np.zeros(5), "alphas"),
        ([1.0], np.zeros(5), np.zeros(5), "n_samples"),
        ([1.0], np.zeros((5, 2)), np.zeros(4), "n_samples"),
        ([1.0], np.full((5, 2), np.nan), np.zeros(5), "finite"),
        ([1.0], np.zeros((0, 2)), np.zeros(0), "at least one"),
        ([1.0, 2.0], np.zeros((3, 2)), np.zeros(3), "folds"),
    ],
)
def test_unusable_data_are_refused(alphas: list[float], x: Any, y: Any, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        Ridge(alphas).fit(x, y)


def test_predicting_before_fitting_or_from_other_features_is_refused() -> None:
    with pytest.raises(SettingError, match="fit first"):
        Ridge().predict(np.zeros((2, 2)))
    model = Ridge([1.0]).fit(np.eye(4), np.arange(4.0))
    with pytest.raises(SettingError, match="4 features"):
        model.predict(np.zeros((2, 3)))
    with pytest.raises(SettingError, match="group label"):
        Ridge().fit(np.eye(4), np.arange(4.0), np.arange(3))
