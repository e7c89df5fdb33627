"""Samples added to a fitted decoder: the same weights as a fit of all of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from models.ridge.estimator import Ridge
from models.ridge.reduction import Reduction
from models.ridge.selected import SelectedRidge
from models.ridge.selected_state import SelectedState
from models.ridge.update import DecoderState, decoder_state, state_from_arrays, update

Array = NDArray[Any]


def make_data(seed: int, n: int, n_features: int, n_targets: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 4))
    x = rng.standard_normal((n, n_features)) + latent @ rng.standard_normal((4, n_features)) + 2.0
    return x, latent @ rng.standard_normal((4, n_targets)) + rng.standard_normal((n, n_targets)) - 1


def refit(x: Array, y: Array, alphas: Array, *, intercept: bool) -> tuple[Array, Array]:
    """The normal equations, target by target, in float64."""
    x, y = x.astype("f8"), y.astype("f8")
    m, m_y = (x.mean(axis=0), y.mean(axis=0)) if intercept else (0 * x[0], 0 * y[0])
    c = x - m
    w = np.empty((x.shape[1], y.shape[1]))
    for t, alpha in enumerate(alphas):
        w[:, t] = np.linalg.solve(c.T @ c + alpha * np.eye(len(m)), c.T @ (y[:, t] - m_y[t]))
    return w, m_y - m @ w


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(4, 40),
    n_features=st.integers(1, 60),
    steps=st.lists(st.integers(1, 6), min_size=0, max_size=3),
    intercept=st.booleans(),
)
def test_any_sequence_of_updates_equals_one_fit(
    seed: int, n: int, n_features: int, steps: list[int], intercept: bool
) -> None:
    x, y = make_data(seed, n + sum(steps), n_features, 3)
    model = Ridge([2.0, 30.0], cv=2, fit_intercept=intercept).fit(x[:n], y[:n])
    state: DecoderState = decoder_state(model, x[:n], y[:n])
    before = state.weights()
    np.testing.assert_allclose(before[0], model.weights()[0], atol=1e-9)
    first, at = state, n
    for step in steps:
        state = update(state, x[at : at + step], y[at : at + step])
        at += step
    weights, bias = state.weights()
    expected = refit(x, y, np.asarray(model.alpha_), intercept=intercept)
    np.testing.assert_allclose(weights, expected[0], atol=1e-10 * max(1, np.abs(expected[0]).max()))
    np.testing.assert_allclose(bias, expected[1], atol=1e-9)
    assert state.n_samples == n + sum(steps)
    np.testing.assert_array_equal(first.weights()[0], before[0])  # as it was


@pytest.mark.parametrize("n_features", [30, 300], ids=["union", "own matrices"])
@pytest.mark.parametrize("intercept", [True, False])
def test_a_selected_ridge_takes_samples_in_at_its_features(
    n_features: int, intercept: bool
) -> None:
    x, y = make_data(1, 80, n_features, 12)
    model = SelectedRidge(10, [1.0, 20.0], fit_intercept=intercept).fit(x[:60], y[:60])
    state = decoder_state(model, x[:60], y[:60])
    assert isinstance(state, SelectedState)
    assert (len(state.union) == 0) == (n_features == 300)
    np.testing.assert_allclose(state.values()[0], model.values_, atol=1e-11)
    state = update(update(state, x[60:61], y[60:61]), x[61:], y[61:])
    weights, bias = state.weights()
    alphas = np.asarray(model.alpha_)
    for t in range(12):
        index = model.indices_[t]
        w, b = refit(x[:, index], y[:, t : t + 1], alphas[t : t + 1], intercept=intercept)
        np.testing.assert_allclose(weights[index, t], w[:, 0], atol=1e-11)
        np.testing.assert_allclose(bias[t], b[0], atol=1e-10)
    assert np.count_nonzero(weights) == 120


@pytest.mark.parametrize("kind", ["dual", "primal", "selected"])
def test_float32_stays_within_its_rounding(kind: str) -> None:
    n_features = 60 if kind == "primal" else 400
    x, y = (data.astype("f4") for data in make_data(2, 210, n_features, 5))
    model: Any = SelectedRidge(50, [1000.0]) if kind == "selected" else Ridge([1000.0])
    model.fit(x[:200], y[:200])
    state = decoder_state(model, x[:200], y[:200])
    assert state.weights()[0].dtype == np.float32
    weights, _ = update(state, x[200:], y[200:]).weights()
    if kind == "selected":
        again = SelectedState.of(
            x.astype("f8"),
            y.astype("f8"),
            model.indices_,
            np.full(5, 1000.0),
            fit_intercept=True,
        )
        expected, _ = again.weights()
    else:
        expected, _ = refit(x, y, np.full(5, 1000.0), intercept=True)
    np.testing.assert_allclose(weights, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("selected", [True, False])
def test_a_state_survives_a_file_without_pickle(selected: bool) -> None:
    x, y = make_data(3, 40, 25, 3)
    model: Any = SelectedRidge(5, [1.0]) if selected else Ridge([1.0])
    state = update(decoder_state(model.fit(x[:35], y[:35]), x[:35], y[:35]), x[35:37], y[35:37])
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **state.arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        again = state_from_arrays(arrays)
    one, two = update(state, x[37:], y[37:]), update(again, x[37:], y[37:])
    np.testing.assert_array_equal(one.weights()[0], two.weights()[0])
    np.testing.assert_array_equal(one.weights()[1], two.weights()[1])
    assert one.n_samples == two.n_samples == 40
    with pytest.raises(SettingError, match="no decoder state"):
        state_from_arrays({"kind": np.array("dense")})


def test_what_does_not_fit_is_refused() -> None:
    x, y = make_data(4, 30, 10, 2)
    model = Ridge([1.0]).fit(x, y)
    with pytest.raises(SettingError, match="fitted on"):
        decoder_state(model, x[:, :4], y)
    with pytest.raises(SettingError, match="above 0"):
        decoder_state(Ridge([0.0]).fit(x, y), x, y)
    with pytest.raises(SettingError, match="bias"):
        decoder_state(SelectedRidge(3, [1.0], penalise_bias=True).fit(x, y), x, y)
    with pytest.raises(SettingError, match="not fitted"):
        decoder_state(SelectedRidge(), x, y)
    state = decoder_state(model, x, y)
    for bad_x, bad_y in ((x[:, :3], y), (x, y[:, :1]), (np.full_like(x, np.nan), y)):
        with pytest.raises(SettingError):
            update(state, bad_x, bad_y)


@given(n=st.integers(1, 30), seed=st.integers(0, 2**32 - 1), double=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_reduction_solves_with_its_matrix(n: int, seed: int, double: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, n + 2)).astype("f8" if double else "f4")
    gram = x @ x.T
    reduction = Reduction.of(gram.copy())
    rows = rng.standard_normal((4, n)).astype(x.dtype)
    tolerance = 1e-9 if double else 2e-3
    np.testing.assert_allclose(
        reduction.turn(reduction.turn(rows), back=True), rows, atol=tolerance
    )
    solved = reduction.turn(reduction.solve(reduction.turn(rows), np.array([0.5]))[0], back=True)
    np.testing.assert_allclose(
        solved @ (gram + 0.5 * np.eye(n)), rows, atol=tolerance * max(1, np.abs(gram).max())
    )
    with pytest.raises(SettingError, match="too small"):
        reduction.solve(rows, np.array([-1e6]))
