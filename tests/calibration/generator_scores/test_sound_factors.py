"""Pitch, tempo and brightness of sounds that were made with known ones."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.generator_scores.sound_factors import (
    measure_factors,
    measure_pitch_hz,
    measure_tempo_bpm,
)
from calibration.stimuli import make_stimulus
from calibration.synthesis import decay, harmonics, place, shaped_noise

RATE = 16_000


@pytest.mark.parametrize("pitch", [60.0, 220.0, 441.0, 1_500.0, 4_000.0])
def test_pitch_of_a_tone_is_found(pitch: float) -> None:
    tone = 0.2 * np.sin(2 * np.pi * pitch * np.arange(RATE) / RATE)
    assert measure_pitch_hz(tone) == pytest.approx(pitch, rel=0.01)


def test_pitch_of_a_voice_is_that_of_its_fundamental() -> None:
    voice = make_stimulus("vowel", 3, 2.0)
    assert measure_pitch_hz(voice.pcm) == pytest.approx(voice.factors.pitch_hz, rel=0.02)


def test_pitch_of_a_band_of_noise_is_its_centre() -> None:
    rng = np.random.default_rng(0)
    noise = shaped_noise(2 * RATE, rng, gain=lambda f: np.exp(-(((f - 2_000.0) / 600.0) ** 2)))
    assert measure_pitch_hz(noise) == pytest.approx(2_000.0, rel=0.08)


@pytest.mark.parametrize("tempo", [75.0, 120.0, 300.0])
def test_tempo_of_clicks_is_found(tempo: float) -> None:
    click = harmonics(2_000.0, [1.0], 200) * decay(200, 0.002, 5e-4)
    n = 3 * RATE
    wave = place(n, [(onset, click) for onset in np.arange(0.1, 3.0, 60.0 / tempo)])
    assert measure_tempo_bpm(wave) == pytest.approx(tempo, rel=0.03)


def test_a_held_tone_has_no_tempo_and_silence_has_nothing() -> None:
    tone = 0.2 * np.sin(2 * np.pi * 440.0 * np.arange(2 * RATE) / RATE)
    assert np.isnan(measure_tempo_bpm(np.zeros(2 * RATE)))
    found = measure_factors(tone)
    assert found.brightness_hz == pytest.approx(440.0, rel=0.02)
    nothing = measure_factors(np.zeros(RATE))
    assert np.isnan([nothing.pitch_hz, nothing.tempo_bpm, nothing.brightness_hz]).all()
