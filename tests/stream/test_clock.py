"""The clock map against the truth, on simulated senders."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.clock import ClockMap, CorrectionFilter


def _simulate(
    seed: int,
    *,
    seconds: float,
    jitter_s: float,
    per_chunk: bool,
    skew: float,
    sfreq_hz: float = 1000.0,
    chunk: int = 10,
    restart_s: float | None = None,
) -> NDArray[np.float64]:
    """Return the largest error of each chunk's stamps, s."""
    rng = np.random.default_rng(seed)
    clock = ClockMap(sfreq_hz)
    errors = []
    for first in range(0, int(seconds * sfreq_hz), chunk):
        rows = np.arange(first, first + chunk)
        truth = 1e5 + rows / sfreq_hz * (1 + skew)
        if per_chunk:
            raw = truth[-1] + rng.normal(0, jitter_s) - (chunk - 1 - np.arange(chunk)) / sfreq_hz
        else:
            raw = truth + rng.normal(0, jitter_s, chunk)
        if restart_s is not None and first == int(restart_s * sfreq_hz):
            clock.restart()
        errors.append(np.abs(clock.update(first, raw) - truth).max())
    return np.array(errors)


@pytest.mark.parametrize("skew", [-1e-4, 0.0, 1e-4])
@pytest.mark.parametrize("restart_s", [None, 3.0])
def test_exact_stamps_come_out_exact(skew: float, restart_s: float | None) -> None:
    errors = _simulate(0, seconds=10, jitter_s=0.0, per_chunk=True, skew=skew, restart_s=restart_s)
    assert errors.max() < 1e-5


def test_exact_stamps_of_volumes_come_out_exact_in_spite_of_skew() -> None:
    errors = _simulate(
        0, seconds=300, jitter_s=0.0, per_chunk=True, skew=1e-4, sfreq_hz=1 / 1.5, chunk=1
    )
    assert errors.max() < 1e-5


@pytest.mark.parametrize("skew", [-1e-4, 1e-4])
@pytest.mark.parametrize(("per_chunk", "sure_s"), [(True, 25.0), (False, 3.0)])
def test_five_ms_of_jitter_are_fitted_to_half_a_millisecond(
    skew: float, per_chunk: bool, sure_s: float
) -> None:
    errors = np.array(
        [
            _simulate(seed, seconds=35, jitter_s=5e-3, per_chunk=per_chunk, skew=skew)
            for seed in range(4)
        ]
    )
    # Each chunk is one measurement: the root mean square is there after 3 s, the worst case
    # needs longer; more measurements (a jitter of each sample) are there at once.
    assert np.sqrt((errors[:, 300:] ** 2).mean()) < 0.5e-3
    assert errors[:, int(100 * sure_s) :].max() < 0.5e-3


def test_rate_is_kept_across_a_restart() -> None:
    errors = _simulate(3, seconds=40, jitter_s=5e-3, per_chunk=True, skew=1e-4, restart_s=30.0)
    assert errors[3100:].max() < 2e-3  # from 1 s after the fault on


def test_wrong_nominal_rate_is_learned() -> None:
    errors = _simulate(5, seconds=20, jitter_s=2e-3, per_chunk=True, skew=4e-3)
    assert errors[1000:].max() < 1e-3


def test_one_wild_stamp_hardly_moves_the_line() -> None:
    clock = ClockMap(1000.0)
    for first in range(0, 2000, 10):
        clock.update(first, first / 1000 + np.arange(10) / 1000)
    clock.update(2000, 2.0 + 0.05 + np.arange(10) / 1000)
    clock.update(2010, 2.01 + np.arange(10) / 1000)
    assert abs(clock.predict(2020) - 2.02) < 1e-5


def test_correction_of_the_same_machine_is_exactly_zero() -> None:
    correction = CorrectionFilter(True)
    assert correction.ready
    correction.add(1.0, 35e-6)
    assert correction.at(2.0) == 0.0


def test_correction_of_another_clock_on_the_same_machine_is_used() -> None:
    correction = CorrectionFilter(True)
    correction.add(1.0, -120.0)
    assert correction.at(1.0) == -120.0


def test_correction_outliers_do_not_step_the_stamps() -> None:
    correction = CorrectionFilter(False)
    assert not correction.ready
    rng = np.random.default_rng(0)
    used = []
    for k in range(200):
        noise = rng.normal(0, 0.1e-3)
        correction.add(2.0 * k, 5.0 + 20e-6 * 2 * k + noise + (0.3 if k % 17 == 16 else 0.0))
        used += [correction.at(2.0 * k + 0.01 * step) for step in range(200)]
    times = 2.0 * np.repeat(np.arange(200), 200) + 0.01 * np.tile(np.arange(200), 200)
    wrong = np.abs(np.array(used) - 5.0 - 20e-6 * times)
    assert wrong[2000:].max() < 0.3e-3
    assert np.abs(np.diff(used)).max() < 10e-6


def test_correction_follows_a_clock_that_was_set() -> None:
    correction = CorrectionFilter(False)
    for k in range(20):
        correction.add(2.0 * k, 5.0)
    for k in range(20, 24):
        correction.add(2.0 * k, 9.0)
    assert correction.at(48.0) == pytest.approx(9.0, abs=1e-3)


def test_correction_of_the_connection_before_serves_until_measured() -> None:
    before = CorrectionFilter(False)
    before.add(1.0, 7.0)
    after = CorrectionFilter(False, before)
    assert after.provisional == 7.0
    assert after.at(3.0) == 7.0
    after.add(4.0, 8.0)
    assert after.at(4.0) == 8.0
