from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from models.errors import SettingError
from stream.limiter import DIGITAL_SILENCE_DBFS, Limiter, ceiling_amplitude, dbfs
from tests.stream.sounds import STEP_LIMIT, largest_step, tone

RATE = 16_000


def run(limiter: Limiter, x: NDArray[np.float32], sizes: list[int]) -> NDArray[np.float32]:
    """Pass `x` (n, channels) through in blocks of the given sizes, over and over."""
    out, at, k = [], 0, 0
    while at < len(x):
        n = min(sizes[k % len(sizes)], len(x) - at)
        out.append(limiter.process(x[at : at + n + limiter.lookahead], n))
        at, k = at + n, k + 1
    return np.concatenate(out)


def plain(x: NDArray[np.float32], limiter: Limiter, release: float) -> NDArray[np.float64]:
    """The definition in the docstring, sample by sample."""
    ceiling, reach = float(limiter.ceiling), limiter.lookahead
    peaks = np.abs(x).max(axis=1).astype(float)
    asked = [max(0.0, 1.0 - ceiling / p) if p > 0 else 0.0 for p in peaks] + [0.0] * reach
    held: list[float] = [0.0] * reach
    last = 0.0
    for i in range(len(x)):
        last = max(max(asked[i : i + reach + 1]), math.exp(-1 / release) * last)
        held.append(last)
    gain = [1.0 - sum(held[i : i + reach + 1]) / (reach + 1) for i in range(len(x))]
    limited: NDArray[np.float64] = x * np.array(gain)[:, None]
    return limited


def test_limiter_equals_its_definition() -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((3000, 2)) * np.linspace(0, 1.5, 3000)[:, None]).astype(np.float32)
    limiter = Limiter(sample_rate_hz=RATE, release_s=0.02)
    expected = np.clip(plain(x, limiter, 0.02 * RATE), -limiter.ceiling, limiter.ceiling)
    assert np.abs(run(limiter, x, [3000]) - expected).max() < 1e-6


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_limiter_does_not_depend_on_block_size(sizes: list[int], seed: int) -> None:
    x = (np.random.default_rng(seed).standard_normal((2000, 2)) * 0.3).astype(np.float32)
    whole = run(Limiter(sample_rate_hz=RATE), x, [2000])
    assert np.abs(run(Limiter(sample_rate_hz=RATE), x, sizes) - whole).max() < 1e-6


WILD = st.one_of(
    st.floats(width=32),
    st.sampled_from([0.0, 1.0, -1.0, 1e30, -1e30, 3e38, float("nan"), float("inf"), 1e-45]),
)


@settings(max_examples=100, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 400), st.integers(1, 3)), elements=WILD),
    st.lists(st.integers(1, 90), min_size=1, max_size=4),
    st.floats(-60, 0),
    st.sampled_from([0.0, 0.0015]),
)
def test_nothing_ever_passes_the_ceiling(
    x: NDArray[np.float32], sizes: list[int], ceiling: float, lookahead: float
) -> None:
    limiter = Limiter(sample_rate_hz=RATE, ceiling_dbfs=ceiling, lookahead_s=lookahead)
    y = run(limiter, x, sizes)
    assert y.shape == x.shape
    assert float(np.abs(y).max()) <= 10 ** (ceiling / 20)  # False for NaN


def test_sound_below_the_ceiling_passes_bit_for_bit() -> None:
    x = tone(4000, amplitude=0.25)[:, None]
    assert np.array_equal(run(Limiter(sample_rate_hz=RATE), x, [160]), x)


def test_gain_moves_without_clicks_and_comes_back() -> None:
    loud = tone(RATE * 4, amplitude=0.2)
    loud[RATE : RATE + 1600] *= 4.0 * np.hanning(1600).astype(np.float32) + 1.0
    y = run(Limiter(sample_rate_hz=RATE), loud[:, None], [160])[:, 0]
    assert largest_step(y, loud) < STEP_LIMIT / 10
    assert np.array_equal(y[:RATE], loud[:RATE])
    assert np.array_equal(y[-RATE:], loud[-RATE:])
    assert np.abs(y).max() == pytest.approx(10 ** (-12 / 20), rel=1e-3)


def test_a_sudden_step_is_limited_without_a_clipped_sample() -> None:
    x = np.zeros((800, 1), np.float32)
    x[400:] = 0.9
    limiter = Limiter(sample_rate_hz=RATE)
    y = run(limiter, x, [800])
    # The gain is down when the step comes: every sample is x times a gain, none is clipped.
    assert np.allclose(y[400:], 0.9 * (y[400, 0] / 0.9), rtol=1e-5)


@given(st.floats(-120, 0))
def test_ceiling_amplitude_never_exceeds_the_level(level: float) -> None:
    amplitude = ceiling_amplitude(level)
    exact = 10 ** (level / 20)
    assert float(amplitude) <= exact
    assert float(np.nextafter(amplitude, np.float32(2))) > exact


@pytest.mark.parametrize("level", [0.1, -121.0, float("nan"), float("inf")])
def test_an_impossible_ceiling_is_refused(level: float) -> None:
    with pytest.raises(SettingError, match="between -120 and 0"):
        Limiter(sample_rate_hz=RATE, ceiling_dbfs=level)


def test_level_of_silence_is_a_number() -> None:
    assert dbfs(0.0) == DIGITAL_SILENCE_DBFS
    assert dbfs(float("nan")) == DIGITAL_SILENCE_DBFS
    assert dbfs(0.5) == pytest.approx(-6.0206, abs=1e-4)
