from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.playback import Player
from stream.rate_converter import RateConverter
from tests.stream.sounds import STEP_LIMIT, largest_step, sound, tone


def converted(
    rate: int, signal: NDArray[np.float32], *, block: int = 480, seconds: float = 1.5
) -> tuple[NDArray[np.float32], Player, RateConverter]:
    p = Player(sample_rate_hz=16_000, lead_s=0.0, max_queue_s=60.0)
    p.queue(sound(signal))
    p.finish()
    converter = RateConverter(p, rate)
    n_blocks = round(seconds * rate / block)
    out = [converter.render_block(block, 5.0 + k * block / rate) for k in range(n_blocks)]
    return np.concatenate(out), p, converter


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000, 96_000])
def test_the_converted_sound_is_the_same_sound_when_the_log_says(rate: int) -> None:
    signal = tone(16_000)
    heard, p, converter = converted(rate, signal)
    # Where the log says that the sound's first sample is heard, the tone has phase 0.
    first = next(piece for piece in p.drain_played() if piece.seq >= 0)
    t = 5.0 + np.arange(len(heard)) / rate - first.t_heard
    inside = (t > 0.02) & (t < 0.97)
    expected = 0.2 * np.sin(2 * np.pi * 110 * t)
    assert np.abs(heard[inside, 0] - expected[inside]).max() < 2e-3
    assert not heard[t > 1.1].any() or np.abs(heard[t > 1.1]).max() < 1e-6
    assert 0.0 <= converter.delay_s < 0.1


@pytest.mark.parametrize("block", [64, 100, 480, 1024])
def test_conversion_asks_for_no_more_and_no_less_than_time_passes(block: int) -> None:
    _, p, _ = converted(44_100, tone(1600), block=block, seconds=10)
    n_blocks = round(10 * 44_100 / block)
    expected = n_blocks * block / 44_100
    assert p.statistics().seconds_rendered == pytest.approx(expected, abs=0.1)


def test_the_ceiling_holds_behind_the_filter() -> None:
    square = np.sign(tone(16_000, hz=431.0)) * 0.9
    heard, p, _ = converted(48_000, square.astype(np.float32))
    assert 0.2 < np.abs(heard).max() <= 10 ** (-12 / 20)
    assert p.statistics().peak_dbfs <= -12.0 + 1e-9


@pytest.mark.parametrize("block", [64, 240, 480, 2048])
def test_abort_silences_the_filter_too(block: int) -> None:
    p = Player(sample_rate_hz=16_000, lead_s=0.0, max_queue_s=60.0)
    signal = tone(32_000)
    p.queue(sound(signal))
    converter = RateConverter(p, 48_000)
    before = [converter.render_block(block, 0.0) for _ in range(9600 // block)]
    assert np.abs(before[-1]).max() > 0.0
    p.abort()
    last = converter.render_block(block, 0.0)
    assert last[-1] == 0.0
    for _ in range(20):
        assert not converter.render_block(block, 0.0).any()
    if block >= 240:
        heard = np.concatenate([*before, last])[4800:, 0]
        assert largest_step(heard, tone(16_000, rate=48_000)) < STEP_LIMIT / 5
