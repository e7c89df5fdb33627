"""Streams that stay, fade or change are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.generator_scores.drift import drift, level_dbfs, steadiness
from models.errors import SettingError

RATE = 16_000


def test_levels_are_relative_to_full_scale() -> None:
    assert level_dbfs(np.ones(10)) == 0.0
    assert level_dbfs(0.1 * np.ones(10)) == pytest.approx(-20.0)
    assert level_dbfs(np.zeros(10)) == -120.0


def test_what_fades_and_wanders_off_is_seen() -> None:
    rng = np.random.default_rng(0)
    n = 500
    real = rng.standard_normal((n, 4))
    first, last = rng.standard_normal((n, 4)), rng.standard_normal((n, 4)) + 0.5
    sounds = [0.1 * rng.standard_normal(1_000) for _ in range(n)]
    found = drift(
        real,
        first,
        last,
        first_sounds=sounds,
        last_sounds=[0.5 * sound for sound in sounds],
        first_right=np.ones(n, bool),
        last_right=np.arange(n) < 400,
        first_cosine=np.full(n, 0.9),
        last_cosine=np.full(n, 0.8),
    )
    assert found.level_change_db == pytest.approx(-6.02, abs=0.01)
    assert found.distance_last == pytest.approx(1.0, rel=0.35)
    assert found.distance_ratio > 10.0
    assert found.to_json()["accuracy_change"] == pytest.approx(-0.2)


def test_what_stays_has_a_ratio_near_one() -> None:
    rng = np.random.default_rng(1)
    rows = [rng.standard_normal((400, 4)) + np.eye(4)[0] for _ in range(2)]
    sounds = [rng.standard_normal(100) for _ in range(400)]
    right, cosine = np.ones(400, bool), np.ones(400)
    found = drift(
        rng.standard_normal((400, 4)),
        *rows,
        first_sounds=sounds,
        last_sounds=sounds,
        first_right=right,
        last_right=right,
        first_cosine=cosine,
        last_cosine=cosine,
    )
    assert found.distance_ratio == pytest.approx(1.0, abs=0.25)
    assert found.level_change_db == 0.0
    with pytest.raises(SettingError, match="same streams"):
        drift(
            rows[0],
            rows[0],
            rows[1][:3],
            first_sounds=sounds,
            last_sounds=sounds,
            first_right=right,
            last_right=right,
            first_cosine=cosine,
            last_cosine=cosine,
        )


def test_a_steady_stream_does_not_wander() -> None:
    rng = np.random.default_rng(2)
    noise = 0.1 * rng.standard_normal(5 * RATE)
    swelling = noise * np.linspace(0.1, 1.0, len(noise))
    vector = rng.standard_normal((5, 8))
    same = np.repeat(vector[:1], 5, axis=0)
    found = steadiness([noise], [swelling], made_vectors=[same], real_vectors=[vector])
    assert found.level_sd_db < 0.3
    assert found.real_level_sd_db > 3.0
    assert found.cosine == pytest.approx(1.0)
    assert found.real_cosine < 0.7
