"""The band reduction and the solutions from it, against dense linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.ridge.band import reduce_to_band
from models.ridge.resolvent import Resolvent


def dense(band: NDArray[Any]) -> NDArray[Any]:
    n = band.shape[1]
    lower = np.zeros((n, n))
    for distance in range(min(len(band), n)):
        lower += np.diag(band[distance, : n - distance], -distance)
    return lower + np.tril(lower, -1).T


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 330), bandwidth=st.sampled_from([1, 3, 32]), seed=st.integers(0, 99))
def test_a_symmetric_matrix_is_its_band_turned_back(n: int, bandwidth: int, seed: int) -> None:
    a = np.random.default_rng(seed).standard_normal((n, n))
    a = a + a.T
    band, reflectors = reduce_to_band(a.copy(), bandwidth=bandwidth)
    assert band.shape == (bandwidth + 1, n)
    q = reflectors.turn_back(np.eye(n))
    np.testing.assert_allclose(q.T @ q, np.eye(n), atol=1e-12)
    np.testing.assert_allclose(q @ dense(band) @ q.T, a, atol=1e-11)
    np.testing.assert_allclose(reflectors.turn(a), q.T @ a, atol=1e-11)


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 127, 128, 129, 161, 400])
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e5])
def test_solutions_equal_those_of_a_dense_solver(n: int, alpha: float) -> None:
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, n + 20))
    a, right = x @ x.T, rng.standard_normal((n, 3))
    resolvent = Resolvent(a.copy())
    solved = resolvent.turn_back(resolvent.solve(resolvent.turn(right), alpha))
    np.testing.assert_allclose(solved, np.linalg.solve(a + alpha * np.eye(n), right), rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", [0.0, 1e-30])
def test_directions_without_variance_get_no_weight(dtype: Any, alpha: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 20)).astype(dtype)
    a = x @ x.T  # rank 20 of 60
    right = a @ rng.standard_normal((60, 2)).astype(dtype)
    resolvent = Resolvent(a.copy())
    assert not resolvent.resolves(alpha)
    assert resolvent.resolves(1.0)
    solved = resolvent.turn_back(resolvent.solve(resolvent.turn(right), alpha))
    expected = np.linalg.pinv(a.astype(np.float64), rcond=1e-5) @ right
    assert solved.dtype == dtype
    np.testing.assert_allclose(solved, expected, atol=2e-4 if dtype == np.float32 else 1e-9)


def test_a_matrix_of_zeros_gives_zero_without_penalty() -> None:
    resolvent = Resolvent(np.zeros((40, 40)))
    np.testing.assert_array_equal(resolvent.solve(np.ones((40, 1)), 0.0), 0.0)
    np.testing.assert_allclose(resolvent.solve(np.ones((40, 1)), 2.0), 0.5)
