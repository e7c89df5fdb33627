"""A finder of joins finds bad ones, finds none where there are none, and needs held-out streams."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.generator_scores.join_finder import (
    Finder,
    find_joins,
    join_patches,
    spoil_joins,
)
from models.errors import SettingError

RATE = 16_000
LENGTH = 2_560


def gliding(n_streams: int, seconds: float, seed: int) -> list[NDArray[np.float32]]:
    """Tones that glide over a quiet hiss: smooth everywhere, different in every stream."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    streams = []
    for _ in range(n_streams):
        frequency = rng.uniform(300, 900) * (
            1.0 + 0.3 * np.sin(2 * np.pi * rng.uniform(0.1, 1) * t)
        )
        tone = 0.2 * np.sin(2 * np.pi * np.cumsum(frequency) / RATE)
        streams.append((tone + 0.003 * rng.standard_normal(len(t))).astype(np.float32))
    return streams


@pytest.mark.parametrize("finder", ["logistic", pytest.param("cnn", marks=pytest.mark.slow)])
def test_a_finder_finds_spoilt_joins_only(finder: Finder) -> None:
    streams = gliding(8, 5.0, 0)
    joins = [range(LENGTH, len(streams[0]), LENGTH)] * 8
    found = find_joins(streams, joins, rng=np.random.default_rng(0), finder=finder, folds=2)
    assert found.spoiled_auc > 0.9
    assert 0.38 < found.auc < 0.62
    assert 0.38 < found.shuffled_auc < 0.62
    assert found.n_joins > 200


def test_patches_are_centred_on_their_place() -> None:
    sound = np.zeros(4_000, np.float32)
    sound[2_000] = 1.0
    patch = join_patches(sound, [2_000])[0]
    energy = patch.mean(axis=1)
    assert int(np.argmax(energy)) == len(energy) // 2
    np.testing.assert_allclose(energy, energy[::-1], atol=1e-4)


def test_spoilt_stretches_keep_their_length_and_level() -> None:
    streams = gliding(1, 2.0, 1)
    spoilt = spoil_joins(streams, [[16_000]], rng=np.random.default_rng(1))
    assert spoilt[0].shape == streams[0].shape
    assert np.std(spoilt[0]) == pytest.approx(np.std(streams[0]), rel=0.05)
    assert not np.array_equal(spoilt[0], streams[0])


def test_too_few_streams_or_no_other_places_are_refused() -> None:
    streams = gliding(2, 1.0, 2)
    with pytest.raises(SettingError, match="held-out"):
        find_joins(streams, [[2_560]] * 2, rng=np.random.default_rng(0))
    four = gliding(4, 1.0, 3)
    every = [range(640, 16_000, 640)] * 4
    with pytest.raises(SettingError, match="two latent frames"):
        find_joins(four, every, rng=np.random.default_rng(0))
