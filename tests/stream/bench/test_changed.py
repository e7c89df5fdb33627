"""From which sample on a change shows."""

from __future__ import annotations

import numpy as np
import pytest

from models.stretch import GeneratorInput
from stream.bench.changed import changed_after_s, first_changed_sample
from tests.stream.generators import ToneGenerator, pitched


def test_first_changed_sample_is_where_two_sounds_part() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(1_000)
    b = a.copy()
    b[700:] += 0.5
    assert first_changed_sample(a, b) == 700
    assert first_changed_sample(a, a) is None


def test_a_change_shows_in_the_first_frame_of_a_tone_that_glides() -> None:
    conditions = [GeneratorInput(vector=pitched(hz)) for hz in (300.0, 1_200.0)]
    rng = np.random.default_rng(1)
    shows = changed_after_s(ToneGenerator(), conditions, n_frames=4, rng=rng, n=2)
    assert 0.0 <= shows < 0.04


def test_what_never_changes_has_no_moment() -> None:
    same = [GeneratorInput(vector=pitched(300.0))]
    rng = np.random.default_rng(2)
    assert np.isnan(changed_after_s(ToneGenerator(), same, n_frames=4, rng=rng, n=1))


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_how_much_counts_as_changed_is_the_callers(share: float) -> None:
    ramp = np.linspace(0.0, 1.0, 1_001)
    flat = np.ones(1_001)
    first = first_changed_sample(flat - ramp, flat, share=share)
    assert first == pytest.approx(share * 1_000, abs=1)
