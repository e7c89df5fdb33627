"""Penalties interpolated to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.ridge.path import AlphaPath


@settings(max_examples=40, deadline=None)
@given(
    low=st.floats(-3, 3),
    decades=st.floats(0.5, 8),
    eigenvalue=st.floats(-8, 8),
    scale=st.floats(-2, 6),
)
def test_a_path_of_many_penalties_is_that_of_each_up_to_rounding(
    low: float, decades: float, eigenvalue: float, scale: float
) -> None:
    alphas = np.logspace(low, low + decades, 300)
    path = AlphaPath.of(alphas, np.float64)
    assert len(path.nodes) < 300
    c = 10.0**scale

    def term(a: Any) -> Any:
        return 1.0 / (10.0**eigenvalue + a)

    got = path.interpolate(term(path.nodes)[:, np.newaxis], scale=c)[:, 0]
    size = np.max((c + path.nodes) * term(path.nodes))
    np.testing.assert_allclose(
        (c + alphas) * got / size, (c + alphas) * term(alphas) / size, atol=1e-13
    )


def test_few_penalties_are_solved_for_one_by_one() -> None:
    alphas = np.logspace(2, 7, 20)
    path = AlphaPath.of(alphas, np.float32)
    assert path.mix is None
    np.testing.assert_array_equal(path.nodes, alphas)


def test_a_hundred_penalties_over_five_decades_cost_forty_in_single_precision() -> None:
    assert len(AlphaPath.of(np.logspace(2, 7, 100), np.float32).nodes) <= 42


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_penalties_are_a_path_too(n: int) -> None:
    path = AlphaPath.of(np.arange(1.0, n + 1), np.float32)
    np.testing.assert_array_equal(path.nodes, np.arange(1.0, n + 1))


def test_no_penalty_at_all_is_kept_apart() -> None:
    alphas = np.concatenate(([0.0], np.logspace(0, 1, 200)))
    path = AlphaPath.of(alphas, np.float64)
    got = path.interpolate((1 / (2.0 + path.nodes))[:, np.newaxis], scale=1.0)[:, 0]
    np.testing.assert_allclose(got, 1 / (2.0 + alphas), rtol=1e-13)
