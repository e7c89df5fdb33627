"""How soon a change is heard, where the moment is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.generator_scores.response import heard_after_s, response
from models.errors import SettingError

RATE = 16_000
WINDOW = 3_200


def loudness_class(windows: NDArray[np.float32]) -> NDArray[np.int64]:
    """Two classes: most of the window is quiet, or loud."""
    return np.asarray((np.abs(windows) > 0.5).mean(axis=1) > 0.5, np.int64)


def step(at: int) -> NDArray[np.float32]:
    sound = np.full(2 * RATE, 0.1, np.float32)
    sound[at:] = 1.0
    return sound


def test_a_change_is_heard_when_half_a_window_holds_it() -> None:
    after = heard_after_s(step(8_000), 8_000, 1, loudness_class, WINDOW)
    assert after == pytest.approx(0.12)  # 3 hops of 40 ms: the first with more than half of .2 s
    assert np.isnan(heard_after_s(np.full(RATE, 0.1), 4_000, 1, loudness_class, WINDOW))


def test_one_odd_window_does_not_count() -> None:
    sound = np.full(2 * RATE, 0.1, np.float32)
    sound[8_000:9_700] = 1.0
    assert np.isnan(heard_after_s(sound, 8_000, 1, loudness_class, WINDOW, hop=1_600))


def test_lateness_is_measured_against_a_hard_cut() -> None:
    made = [step(8_000 + 1_600) for _ in range(5)]
    found = response(
        made, [step(8_000)] * 5, [8_000] * 5, [1] * 5, loudness_class, window=WINDOW, hop=160
    )
    assert found.to_json()["beyond_cut_s"] == pytest.approx(0.1)
    assert found.heard == found.cut_heard == 1.0
    with pytest.raises(SettingError, match="hears no change"):
        response(made, [step(2 * RATE)] * 5, [8_000] * 5, [1] * 5, loudness_class, window=WINDOW)
