"""Joins are judged right where it is known what they are like."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.generator_scores.joins import (
    clicks,
    join_steps,
    level_steps_db,
    pitch_steps_cents,
)
from models.errors import SettingError

RATE = 16_000


def walk(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Frames that move by steps of about equal size."""
    return np.cumsum(rng.standard_normal((n, 32)), axis=0)


def test_joins_of_a_seamless_walk_step_as_other_places_do() -> None:
    rng = np.random.default_rng(0)
    streams = [walk(400, rng) for _ in range(20)]
    found = join_steps(streams, [range(16, 400, 16)] * 20)
    assert found.n == 20 * 24
    assert found.median_ratio == pytest.approx(1.0, abs=0.02)
    assert found.p95_ratio == pytest.approx(1.0, abs=0.04)


def test_joins_of_independent_pieces_step_far_more() -> None:
    rng = np.random.default_rng(1)
    pieces = [np.concatenate([walk(16, rng) for _ in range(10)]) for _ in range(10)]
    found = join_steps(pieces, [range(16, 160, 16)] * 10)
    assert found.median_ratio > 2.0


def test_a_step_of_known_size_is_found_at_its_join_only() -> None:
    frames = np.arange(60.0)[:, None] * np.ones(4)  # every step has length 2
    frames[30:] += 20.0  # one has length 2 + 40
    found = join_steps([frames], [[30]])
    mean = (58 * 2.0 + 42.0) / 59
    assert found.median == pytest.approx(42.0 / mean)
    assert found.inside_p95 == pytest.approx(2.0 / mean)
    beside = join_steps([frames], [[28]])
    assert beside.median == pytest.approx(found.median)  # within two frames of it
    assert join_steps([frames], [[26]]).median == pytest.approx(2.0 / mean)


def test_short_stretches_are_compared_with_streams_in_one_piece() -> None:
    rng = np.random.default_rng(2)
    streams = [walk(64, rng) for _ in range(4)]
    joins = [range(4, 64, 4)] * 4
    with pytest.raises(SettingError, match="without joins"):
        join_steps(streams, joins)
    found = join_steps(streams, joins, without_joins=[walk(200, rng) for _ in range(4)])
    assert found.median_ratio == pytest.approx(1.0, abs=0.05)


def test_silent_streams_do_not_count() -> None:
    rng = np.random.default_rng(3)
    streams = [walk(100, rng), np.zeros((100, 32))]
    assert join_steps(streams, [[50], [50]]).n == 1


def test_joins_without_clicks_rank_like_any_place() -> None:
    rng = np.random.default_rng(4)
    streams = [0.1 * rng.standard_normal(4 * RATE) for _ in range(4)]
    found = clicks(streams, [range(2560, 4 * RATE, 2560)] * 4)
    assert found.median_percentile == pytest.approx(50.0, abs=10.0)
    assert found.p95_percentile == pytest.approx(95.0, abs=4.0)


def test_clicks_at_the_joins_are_found() -> None:
    t = np.arange(4 * RATE) / RATE
    sound = 0.3 * np.sin(2 * np.pi * 300.0 * t)
    joins = list(range(2560, 4 * RATE, 2560))
    for join in joins:
        sound[join:] += 0.1 if (join // 2560) % 2 else -0.1
    found = clicks([sound], [joins])
    assert found.p95_percentile == 100.0
    assert found.median_percentile > 99.0


def test_silence_has_no_clicks() -> None:
    found = clicks([np.zeros(RATE)], [[4000, 8000]])
    assert found.median_percentile == pytest.approx(50.0)


def test_steps_of_level_are_measured_in_decibels() -> None:
    rng = np.random.default_rng(5)
    sound = 0.1 * np.sign(rng.standard_normal(RATE))
    sound[8_000:] *= 2.0
    found = level_steps_db([sound], [[8_000]])
    assert found.median == pytest.approx(6.02, abs=0.01)
    assert found.inside_p95 == pytest.approx(0.0, abs=1e-9)
    quiet = level_steps_db([np.zeros(RATE)], [[8_000]])
    assert quiet.median == 0.0


@pytest.mark.parametrize("cents", [0.0, 5.0, 30.0])
def test_steps_of_pitch_are_measured_in_cents(cents: float) -> None:
    frequency = np.full(RATE, 440.0)
    frequency[8_000:] *= 2.0 ** (cents / 1_200.0)
    sound = 0.2 * np.sin(2 * np.pi * np.cumsum(frequency) / RATE)
    found = pitch_steps_cents([sound], [[8_000]])
    assert found.median == pytest.approx(cents, abs=0.5)
    assert found.inside_p95 < 0.5


def test_noise_has_no_pitch_to_step() -> None:
    rng = np.random.default_rng(6)
    with pytest.raises(SettingError, match="pitches"):
        pitch_steps_cents([0.1 * rng.standard_normal(RATE)], [[8_000]])
