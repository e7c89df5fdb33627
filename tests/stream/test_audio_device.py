from __future__ import annotations

import numpy as np
import pytest

from stream.audio_device import DacClock

RATE = 48_000
BLOCK = 960


def test_times_are_even_though_the_device_says_them_with_jitter() -> None:
    rng = np.random.default_rng(0)
    truth = 100.0 + np.arange(3000) * BLOCK / RATE * (1 + 1e-4)  # and its clock is 100 ppm off
    clock = DacClock(RATE)
    told = np.array([clock.heard(t, BLOCK) for t in truth + rng.normal(0, 0.002, 3000)])
    settled = told[300:] - truth[300:]
    assert np.abs(settled.mean()) < 2e-4
    assert settled.std() < 5e-4  # of 2 ms
    assert (np.diff(told) > 0).all()


@pytest.mark.parametrize("jump", [0.1, -0.1, 5.0])
def test_a_jump_is_believed_at_once(jump: float) -> None:
    clock = DacClock(RATE)
    assert clock.heard(10.0, BLOCK) == 10.0
    assert clock.heard(10.02, BLOCK) == pytest.approx(10.02)
    assert clock.heard(10.04 + jump, BLOCK) == 10.04 + jump


def test_after_an_underflow_the_device_is_believed() -> None:
    clock = DacClock(RATE)
    clock.heard(10.0, BLOCK)
    clock.jumped()
    assert clock.heard(10.03, BLOCK) == 10.03
