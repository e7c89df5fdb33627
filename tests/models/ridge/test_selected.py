"""Ridge on the most correlated features: against direct solutions, and without leaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from models.ridge.folds import group_folds
from models.ridge.selected import SelectedRidge

Array = NDArray[Any]


def make_data(seed: int, n: int, n_features: int, n_targets: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 4))
    x = rng.standard_normal((n, n_features)) + latent @ rng.standard_normal((4, n_features)) + 3.0
    y = latent @ rng.standard_normal((4, n_targets)) + rng.standard_normal((n, n_targets)) - 2.0
    return x, y


def reference(
    x: Array, y: Array, k: int, alpha: float, *, intercept: str = "free"
) -> tuple[Array, Array, Array]:
    """One target after the other, from the definition."""
    indices, weights, bias = [], [], []
    for target in y.T:
        r = np.abs(np.corrcoef(x.T, target)[-1, :-1])
        index = np.sort(np.argsort(-r)[:k])
        chosen = x[:, index]
        if intercept == "free":
            m, m_y = chosen.mean(axis=0), target.mean()
            c = chosen - m
            w = np.linalg.solve(c.T @ c + alpha * np.eye(len(index)), c.T @ (target - m_y))
            b = m_y - m @ w
        elif intercept == "penalised":
            ones = np.column_stack([chosen, np.ones(len(x))])
            w = np.linalg.solve(ones.T @ ones + alpha * np.eye(len(index) + 1), ones.T @ target)
            w, b = w[:-1], w[-1]
        else:
            w = np.linalg.solve(chosen.T @ chosen + alpha * np.eye(len(index)), chosen.T @ target)
            b = 0.0
        indices.append(index)
        weights.append(w)
        bias.append(b)
    return np.array(indices), np.array(weights), np.array(bias)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(8, 60),
    n_features=st.integers(2, 50),
    k=st.integers(1, 40),
    intercept=st.sampled_from(["free", "penalised", "none"]),
)
def test_at_one_penalty_it_equals_the_direct_solution(
    seed: int, n: int, n_features: int, k: int, intercept: str
) -> None:
    x, y = make_data(seed, n, n_features, 3)
    model = SelectedRidge(
        k,
        [2.5],
        fit_intercept=intercept != "none",
        penalise_bias=intercept == "penalised",
        n_threads=2,
    ).fit(x, y)
    indices, weights, bias = reference(x, y, min(k, n_features), 2.5, intercept=intercept)
    np.testing.assert_array_equal(model.indices_, indices)
    np.testing.assert_allclose(model.values_, weights, atol=1e-10 * np.abs(weights).max())
    np.testing.assert_allclose(model.intercept_, bias, atol=1e-9)


@pytest.mark.parametrize("intercept", ["free", "penalised", "none"])
@pytest.mark.parametrize(("n", "n_features", "n_targets"), [(60, 40, 5), (40, 300, 3)])
def test_scores_and_held_out_predictions_come_from_selection_inside_each_fold(
    n: int, n_features: int, n_targets: int, intercept: str
) -> None:
    x, y = make_data(1, n, n_features, n_targets)
    groups = np.arange(n) // 4
    alphas = [1e3, 10.0, 0.1]
    model = SelectedRidge(
        12,
        alphas,
        cv=4,
        fit_intercept=intercept != "none",
        penalise_bias=intercept == "penalised",
        keep_held_out=True,
    ).fit(x, y, groups=groups)
    error, spread = np.zeros((3, n_targets)), ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    held_out = np.empty((3, n, n_targets))
    for train, test in group_folds(n, 4, groups=groups):
        for a, alpha in enumerate(alphas):
            indices, weights, bias = reference(x[train], y[train], 12, alpha, intercept=intercept)
            for t in range(n_targets):
                held_out[a, test, t] = x[np.ix_(test, indices[t])] @ weights[t] + bias[t]
            error[a] += ((y[test] - held_out[a, test]) ** 2).sum(axis=0)
    np.testing.assert_allclose(model.cv_scores_, 1 - error / spread, atol=1e-9)
    best = np.argmax(1 - error / spread, axis=0)
    np.testing.assert_array_equal(model.alpha_, np.array(alphas)[best])
    expected = held_out[best, :, np.arange(n_targets)].T
    np.testing.assert_allclose(model.held_out_, expected, atol=1e-9)


def test_float32_stays_float32_and_close() -> None:
    x, y = make_data(2, 300, 120, 8)
    precise = SelectedRidge(40, [10.0, 1e3], cv=3).fit(x, y)
    quick = SelectedRidge(40, [10.0, 1e3], cv=3).fit(x.astype("f4"), y)
    assert quick.values_.dtype == quick.predict(x).dtype == np.float32
    np.testing.assert_array_equal(quick.indices_, precise.indices_)
    scale = np.abs(precise.values_).max()
    np.testing.assert_allclose(quick.values_, precise.values_, atol=1e-5 * scale)
    np.testing.assert_allclose(quick.predict(x), precise.predict(x), atol=2e-4)


def test_folds_that_leave_samples_out_of_both_sides_are_respected() -> None:
    x, y = make_data(3, 50, 30, 2)
    gap = [(np.arange(20, 50), np.arange(0, 15)), (np.arange(0, 25), np.arange(30, 50))]
    model = SelectedRidge(5, [1.0, 5.0], cv=gap, keep_held_out=True).fit(x, y)
    assert np.isnan(model.held_out_[15:30]).all()
    indices, weights, bias = reference(x[20:], y[20:], 5, float(np.ravel(model.alpha_)[0]))
    expected = x[np.ix_(range(15), indices[0])] @ weights[0] + bias[0]
    np.testing.assert_allclose(model.held_out_[:15, 0], expected, atol=1e-9)


def test_one_target_may_be_a_vector_and_all_may_share_a_penalty() -> None:
    x, y = make_data(4, 60, 20, 3)
    one = SelectedRidge(5, [1.0, 10.0]).fit(x, y[:, 0])
    many = SelectedRidge(5, [1.0, 10.0]).fit(x, y)
    assert one.coef_.shape == (20,)
    np.testing.assert_allclose(one.predict(x), many.predict(x)[:, 0], atol=1e-12)
    shared = SelectedRidge(5, [1.0, 10.0], alpha_per_target=False).fit(x, y)
    best = [1.0, 10.0][np.argmax(many.cv_scores_.mean(axis=1))]
    np.testing.assert_array_equal(shared.alpha_, best)


def test_dense_weights_predict_the_same() -> None:
    x, y = make_data(5, 40, 25, 4)
    model = SelectedRidge(6, [1.0]).fit(x, y)
    weights, bias = model.weights()
    assert np.count_nonzero(weights) == 6 * 4
    np.testing.assert_allclose(x @ weights + bias, model.predict(x), atol=1e-12)
    np.testing.assert_array_equal(model.coef_, weights.T)


def test_columns_without_variance_are_chosen_last_and_get_no_weight() -> None:
    x, y = make_data(6, 30, 10, 2)
    x[:, [2, 5]] = 7.0
    x[:, 3] = 1.0
    x[:6, 3] = 4.0  # constant where the first fold trains
    model = SelectedRidge(8, [0.0, 1.0], cv=5).fit(x, y)
    assert not np.isin(model.indices_, [2, 5]).any()
    full = SelectedRidge(10, [0.0], cv=5).fit(x, y)
    np.testing.assert_allclose(full.coef_[:, [2, 5]], 0, atol=1e-12)
    assert np.isfinite(model.cv_scores_).all()


def test_more_features_than_samples_without_penalty_gives_the_least_norm() -> None:
    x, y = make_data(7, 10, 30, 2)
    model = SelectedRidge(30, [0.0]).fit(x, y)
    c = x - x.mean(axis=0)
    np.testing.assert_allclose(model.coef_, (np.linalg.pinv(c) @ (y - y.mean(axis=0))).T, atol=1e-8)


def correlation_by_fold(predictions: Array, y: Array, n_folds: int = 5) -> float:
    """Mean over folds and targets of r on held-out samples.

    Not over folds together: a fold's training mean lies on the other side of the whole mean than
    what it holds out, and near-constant predictions would correlate with that, negatively.
    """
    return float(
        np.mean(
            [
                np.corrcoef(predictions[test, t], y[test, t])[0, 1]
                for _, test in group_folds(len(y), n_folds)
                for t in range(y.shape[1])
            ]
        )
    )


def noise_scores(
    n: int, n_features: int, n_targets: int, k: int, n_leaked: int
) -> tuple[float, float]:
    """Held-out r in pure noise: features chosen inside the folds, and from all samples before."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((n, n_features), dtype=np.float32)
    y = rng.standard_normal((n, n_targets), dtype=np.float32)
    model = SelectedRidge(k, [1e2, 1e3], keep_held_out=True).fit(x, y)
    leaked = np.empty((n, n_leaked), np.float32)
    for t in range(n_leaked):
        chosen = x[:, model.indices_[t]]
        leaked[:, t] = (
            SelectedRidge(k, [1e2, 1e3], keep_held_out=True).fit(chosen, y[:, t]).held_out_
        )
    return correlation_by_fold(model.held_out_, y), correlation_by_fold(leaked, y[:, :n_leaked])


def test_pure_noise_scores_zero_inside_the_folds_and_well_outside() -> None:
    """The danger: choose voxels from all samples, cross-validate afterwards."""
    inside, outside = noise_scores(240, 4_000, 200, 40, 10)
    assert abs(inside) < 3 / np.sqrt(240 * 200)
    assert outside > 0.2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alphas": []}, "alphas"),
        ({"alphas": [-1.0]}, "alphas"),
        ({"n_selected": 0}, "n_selected"),
        ({"cv": 100}, "folds"),
        ({"n_threads": 0}, "n_threads"),
        ({"penalise_bias": True, "fit_intercept": False}, "penalise_bias"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    x, y = make_data(9, 20, 10, 2)
    with pytest.raises(SettingError, match=words):
        SelectedRidge(**options).fit(x, y)


def test_data_that_cannot_be_are_refused() -> None:
    x, y = make_data(9, 20, 10, 2)
    for bad_x, bad_y in ((x[:5], y), (x[:, 0], y), (np.full_like(x, np.nan), y), (x[:, :0], y)):
        with pytest.raises(SettingError):
            SelectedRidge().fit(bad_x, bad_y)
    with pytest.raises(SettingError, match="not fitted"):
        SelectedRidge().predict(x)
    with pytest.raises(SettingError, match="features"):
        SelectedRidge(3, [1.0]).fit(x, y).predict(x[:, :4])


def test_scikit_learn_can_clone_and_search_it() -> None:
    base = pytest.importorskip("sklearn.base")
    model = SelectedRidge(7, [1.0], cv=3, penalise_bias=True)
    assert base.clone(model).get_params() == model.get_params()
    with pytest.raises(SettingError, match="knows"):
        model.set_params(alpha=1)


def exact_data() -> tuple[Array, Array]:
    """Numbers that every machine makes alike; their means are not zero."""
    i, j, t = np.arange(40)[:, np.newaxis], np.arange(12), np.arange(3)
    x = (i * i * 13 + i * j * 31 + j * j * 7 + i * 7919) % 1009 / 1009 + j / 4
    noise = (i * i * 17 + i * t * 29 + t * 11) % 997 / 997
    return x, x[:, [0, 4, 8]] * 2 - x[:, [3, 7, 11]] + noise


# Made with fastl2lir 0.11 on NumPy 1.26.4:
#     m = FastL2LiR(); m.fit(*exact_data(), alpha=alpha, n_feat=5); m.W[:, t]; m.b[0, t]
FASTL2LIR = {
    1e-5: (
        [[0, 1, 3, 7, 9], [2, 3, 4, 6, 9], [3, 6, 8, 9, 11]],
        [
            [1.86026222254, 0.104286341048, -1.04707252434, -0.270479758399, -0.0401074672904],
            [-0.0600045517417, 0.0960128418627, 1.97915051322, -0.00152053896322, 0.140195828924],
            [0.101042886165, 0.251730037194, 1.87367263839, 0.17129919584, -1.09777682511],
        ],
        [1.23212210651, -2.27217721176, -0.0398827512543],
    ),
    2.0: (
        [[0, 1, 3, 7, 9], [2, 3, 4, 6, 9], [3, 6, 8, 9, 11]],
        [
            [1.13630636277, 0.179846028279, -0.57878827442, -0.0354038707793, 0.0506663472765],
            [-0.149475183218, 0.0603383609599, 1.10293406344, -0.21570883118, 0.0493053520942],
            [0.221148862063, 0.22230571296, 1.12104894838, 0.205687052185, -0.607776271172],
        ],
        [0.187855746683, -0.179653766426, 0.0759926350366],
    ),
}


@pytest.mark.parametrize("alpha", FASTL2LIR)
def test_with_its_bias_penalised_it_equals_pyfastl2lir(alpha: float) -> None:
    x, y = exact_data()
    indices, weights, bias = FASTL2LIR[alpha]
    model = SelectedRidge(5, [alpha], penalise_bias=True).fit(x, y)
    np.testing.assert_array_equal(model.indices_, indices)
    np.testing.assert_allclose(model.values_, weights, rtol=1e-9)
    np.testing.assert_allclose(model.intercept_, bias, rtol=1e-9)
    # Its shrunken intercept also moves the weights; ours is free unless asked.
    free = SelectedRidge(5, [alpha]).fit(x, y)
    np.testing.assert_allclose(free.predict(x).mean(axis=0), y.mean(axis=0), atol=1e-12)
    if alpha == 2.0:
        assert np.abs(model.predict(x).mean(axis=0) - y.mean(axis=0)).max() > 1e-3


@pytest.mark.slow
def test_pure_noise_on_a_whole_cortex_scores_zero_inside_the_folds() -> None:
    inside, outside = noise_scores(480, 60_000, 256, 100, 8)
    assert abs(inside) < 0.01  # three standard errors
    assert outside > 0.2
