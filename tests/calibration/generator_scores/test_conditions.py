"""What follows its condition scores so, and what does not scores at chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.generator_scores.conditions import (
    corrupted,
    error_curve,
    factor_ranks,
    mean_cosine,
    n_way_identity,
    rank_correlation,
)
from models.errors import SettingError


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_cosine_is_one_for_the_same_and_none_for_silence() -> None:
    rows = unit(np.random.default_rng(0).standard_normal((20, 8)))
    assert mean_cosine(rows, 3.0 * rows) == pytest.approx(1.0)
    assert mean_cosine(rows, -rows) == pytest.approx(-1.0)
    assert mean_cosine(np.zeros_like(rows), rows) == 0.0
    with pytest.raises(SettingError):
        mean_cosine(rows, rows[:3])


@given(st.floats(0.0, 1.0), st.integers(0, 2**31))
def test_corrupted_vectors_have_the_cosine_that_was_asked_for(r: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = unit(rng.standard_normal((5, 64)))
    turned = corrupted(rows, r, rng=rng)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.sum(turned * rows, axis=1), r, atol=1e-5)


def test_corruption_beyond_the_opposite_is_refused() -> None:
    with pytest.raises(SettingError, match="cosine"):
        corrupted(np.eye(2), 1.2, rng=np.random.default_rng(0))


def test_ranks_that_follow_score_one_and_others_nothing() -> None:
    rng = np.random.default_rng(1)
    asked = rng.uniform(100.0, 1_000.0, 200)
    labels = np.where(np.arange(200) % 2, "tone", "engine")
    found = rank_correlation(asked, np.log(asked), asked**2, labels=labels)
    assert found.made == pytest.approx(1.0)
    assert found.real_within == pytest.approx(1.0)
    aside = rank_correlation(asked, rng.uniform(size=200), asked, labels=labels)
    assert abs(aside.made) < 0.2
    still = rank_correlation(asked, np.ones(200), asked, labels=labels)
    assert still.made == 0.0


def test_knowing_the_class_is_not_following_within_it() -> None:
    rng = np.random.default_rng(2)
    high = np.arange(200) % 2 == 1
    asked = np.where(high, 1_000.0, 100.0) * rng.uniform(0.9, 1.1, 200)
    made = np.where(high, 1_000.0, 100.0) * rng.uniform(0.9, 1.1, 200)
    found = rank_correlation(asked, made, asked, labels=np.where(high, "a", "b"))
    assert found.made > 0.6
    assert abs(found.made_within) < 0.25


def test_sounds_without_the_factor_and_failed_measures_are_told_apart() -> None:
    asked = np.array([np.nan, 1.0, 2.0, 3.0, 4.0, 5.0])
    made = np.array([9.0, 1.0, 2.0, np.nan, 4.0, 5.0])
    found = rank_correlation(asked, made, asked, labels=["x"] * 6)
    assert found.n == 5
    assert found.made == pytest.approx(1.0)  # what could not be measured counts as the middle
    with pytest.raises(SettingError, match="at least 5"):
        rank_correlation(asked[:4], made[:4], asked[:4], labels=["x"] * 4)
    assert set(
        factor_ranks({"pitch": asked}, {"pitch": made}, {"pitch": asked}, labels=["x"] * 6)
    ) == {"pitch"}


def test_identity_is_perfect_for_copies_and_chance_for_strangers() -> None:
    rng = np.random.default_rng(3)
    real = unit(rng.standard_normal((200, 32)))
    assert n_way_identity(real, real) == 1.0
    assert n_way_identity(unit(rng.standard_normal((200, 32))), real) == pytest.approx(
        0.1, abs=0.05
    )


def test_identity_within_classes_does_not_count_the_class() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat([f"class {i}" for i in range(12)], 20)
    centres = np.repeat(rng.standard_normal((12, 32)), 20, axis=0) * 4.0
    real = unit(centres + rng.standard_normal((240, 32)))
    made = unit(centres + rng.standard_normal((240, 32)))
    assert n_way_identity(made, real) > 0.3
    assert n_way_identity(made, real, labels=labels) == pytest.approx(0.1, abs=0.05)
    with pytest.raises(SettingError, match="class"):
        n_way_identity(made[:5], real[:5], labels=labels[:5])


def test_error_curve_of_what_obeys_falls_with_the_condition() -> None:
    rng = np.random.default_rng(5)
    vectors = unit(rng.standard_normal((300, 64)))

    def obey(given: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        return given, np.sum(given * vectors, axis=1) > 0.6

    curve = error_curve(vectors, obey, rng=rng)
    np.testing.assert_allclose(curve.cosine, [1.0, 0.9, 0.7, 0.5], atol=1e-4)
    assert curve.accuracy == (1.0, 1.0, 1.0, 0.0)
    assert curve.monotone
