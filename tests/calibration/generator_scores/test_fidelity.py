"""Frechet distances of Gaussians that are known."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.generator_scores.fidelity import few_against_many, fidelity, split_half
from models.errors import SettingError


def test_distance_of_shifted_gaussians_is_the_squared_shift() -> None:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((4_000, 4))
    made = [rng.standard_normal((4_000, 4)) + 3.0 * np.eye(4)[0] for _ in range(3)]
    found = fidelity(real, made, rng=rng)
    assert found.distance == pytest.approx(9.0, rel=0.05)
    assert len(found.each) == 3
    assert found.split_half < 0.05
    assert found.spread < 0.5


def test_distance_of_a_collapsed_set_is_the_lost_variance() -> None:
    rng = np.random.default_rng(1)
    real = rng.standard_normal((4_000, 3))
    # |1 - 1/2|^2 in each of three dimensions
    assert fidelity(real, [0.5 * real], rng=rng).distance == pytest.approx(0.75, rel=0.05)


def test_same_sounds_are_no_further_than_halves_of_the_real_ones() -> None:
    rng = np.random.default_rng(2)
    real = rng.standard_normal((2_000, 8))
    made = rng.standard_normal((1_000, 8))
    found = fidelity(real, [made], rng=rng)
    assert found.distance < 1.5 * found.split_half


def test_ratio_of_few_to_many_steps_needs_equal_numbers() -> None:
    rng = np.random.default_rng(3)
    real = rng.standard_normal((1_000, 4))
    many = fidelity(real, [rng.standard_normal((500, 4)) + 1.0], rng=rng)
    few = fidelity(real, [rng.standard_normal((500, 4)) + 2.0], rng=rng)
    assert few_against_many(few, many) == pytest.approx(4.0, rel=0.15)
    assert few_against_many(many, many) == 1.0
    with pytest.raises(SettingError, match="as many"):
        few_against_many(fidelity(real, [rng.standard_normal((400, 4))], rng=rng), many)


def test_halves_of_too_few_sounds_are_refused() -> None:
    with pytest.raises(SettingError, match="at least 4"):
        split_half(np.ones((3, 2)), rng=np.random.default_rng(0))
