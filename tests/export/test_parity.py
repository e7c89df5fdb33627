from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from export.parity import (
    check_bounds,
    mel_correlation,
    random_input,
    relative_error,
    run_stream,
    stress,
)
from models.errors import StageError
from models.stretch import GeneratorInput, GeneratorSpec, GeneratorState

SPEC = GeneratorSpec("small", "tiny", 2, (2, 4), 1, ("vector", "tokens"), startable=True)


class _Echo:
    """Gives its noise as sound and counts; at one count it gives NaN."""

    def __init__(self, broken_at: int = -1) -> None:
        self.spec = SPEC
        self.broken_at = broken_at
        self.calls = 0

    def noise_shape(self, n_frames: int) -> tuple[int, ...]:
        return (640 * n_frames,)

    def initial_state(self) -> GeneratorState:
        return {"count": np.zeros(1, np.float32)}

    def stretch(
        self,
        given: GeneratorInput,
        state: GeneratorState,
        noise: NDArray[np.float32],
        *,
        n_frames: int,
    ) -> tuple[NDArray[np.float32], GeneratorState]:
        self.calls += 1
        sound = noise + state["count"]
        if self.calls == self.broken_at:
            sound = sound * np.nan
        return sound, {"count": state["count"] + 1.0}


def test_relative_errors_are_those_of_the_definition() -> None:
    a, b = np.array([3.0, 4.0]), np.array([3.0, 4.5])
    assert relative_error(b, a) == pytest.approx(0.1)
    assert relative_error(np.zeros(2), np.zeros(2)) == 0.0
    assert relative_error(a, np.zeros(2)) == float("inf")
    assert np.isnan(relative_error(np.array([np.nan]), np.ones(1)))


def test_mel_correlation_is_one_for_the_same_and_falls_with_noise() -> None:
    rng = np.random.default_rng(0)
    sound = 0.1 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 16_000).astype(np.float32)
    noise = rng.standard_normal(8_000).astype(np.float32)
    values = [mel_correlation(sound + level * noise, sound) for level in (0.0, 1e-4, 1e-2)]
    assert values[0] == pytest.approx(1.0)
    assert values[0] > values[1] > values[2] > -1.0
    silence = np.zeros(8_000, np.float32)
    assert mel_correlation(silence, silence) == 1.0
    assert mel_correlation(sound, silence) == 0.0


def test_bounds_hold_for_the_figures_that_they_name() -> None:
    good = {
        "single.4.denoiser.relative_l2": 1e-6,
        "single.stream.mel_pcc": 1.0,
        "half.4.latents.relative_l2": 5e-3,
        "half.4.sound.relative_l2": 0.5,  # phases of a sound are not bound in half precision
        "random.not_finite": 0.0,
        "random.conditions": 1000.0,
    }
    assert check_bounds(good) == []
    bad = {
        "single.4.denoiser.relative_l2": 2e-5,
        "single.stream.mel_pcc": float("nan"),
        "half.4.latents.relative_l2": 2e-2,
        "half.stream.cosine_change": 6e-3,
        "half.8.mel_pcc": 0.99,
        "random.not_finite": 1.0,
    }
    failed = check_bounds(bad)
    assert {check.name for check in failed} == set(bad)
    assert "at most 1e-05 was expected" in str(failed[0])


def test_random_conditions_are_of_unit_length_and_repeat() -> None:
    kinds = set()
    for seed in range(30):
        first = random_input(SPEC, 4, np.random.default_rng(seed))
        again = random_input(SPEC, 4, np.random.default_rng(seed))
        assert first.vector is not None
        assert again.vector is not None
        np.testing.assert_array_equal(first.vector, again.vector)
        assert float(np.linalg.norm(first.vector)) == pytest.approx(1.0, abs=1e-5)
        kinds.add((first.tokens is None, first.start is None))
        assert (first.strength < 1.0) is (first.start is not None)
    assert len(kinds) == 4


def test_streams_carry_their_state() -> None:
    sounds = run_stream(_Echo(), [2, 4, 2], seed=0)
    assert [len(sound) for sound in sounds] == [1280, 2560, 1280]
    assert [round(float(sound.mean())) for sound in sounds] == [0, 1, 2]


def test_what_is_not_finite_is_counted_and_the_stream_goes_on() -> None:
    done: list[int] = []
    figures = stress(_Echo(3), count=5, progress=lambda now, total: done.append(now))
    assert figures == {"random.conditions": 5.0, "random.not_finite": 1.0}
    assert done == [1, 2, 3, 4, 5]
    with pytest.raises(StageError, match="Stopped after 0 of 5"):
        stress(_Echo(), count=5, ended=lambda: True)
