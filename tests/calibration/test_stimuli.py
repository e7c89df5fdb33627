from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.stimuli import LABELS, SAMPLE_RATE_HZ, make_stimulus, stimulus_sequence
from models.errors import SettingError


@pytest.mark.parametrize("label", LABELS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_sound(label: str) -> None:
    first, again, other = (make_stimulus(label, seed, 1.0) for seed in (3, 3, 4))
    assert first.pcm.tobytes() == again.pcm.tobytes()
    assert first.factors.loudness_dbfs == again.factors.loudness_dbfs
    assert first.pcm.tobytes() != other.pcm.tobytes()
    assert first.pcm.dtype == np.float32
    assert len(first.pcm) == SAMPLE_RATE_HZ
    assert not first.pcm.flags.writeable
    assert np.max(np.abs(first.pcm)) <= 0.95


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_the_pitch_of_a_tone_is_the_one_it_says(seed: int) -> None:
    tone = make_stimulus("tone", seed, 2.0)
    spectrum = np.abs(np.fft.rfft(tone.pcm, 8 * len(tone.pcm)))
    peak_hz = np.argmax(spectrum) * SAMPLE_RATE_HZ / (8 * len(tone.pcm))
    # Beeps on a beat make lines one beat apart: the strongest is at most half a beat away.
    assert abs(peak_hz - tone.factors.pitch_hz) <= tone.factors.tempo_bpm / 120.0 + 0.1


@pytest.mark.parametrize("label", ["vowel", "engine", "flute"])
def test_the_pitch_of_a_harmonic_sound_is_its_fundamental(label: str) -> None:
    for seed in range(4):
        sound = make_stimulus(label, seed, 3.0)
        pitch = sound.factors.pitch_hz
        power = np.abs(np.fft.rfft(sound.pcm)) ** 2
        frequency = np.fft.rfftfreq(len(sound.pcm), 1.0 / SAMPLE_RATE_HZ)
        if label == "flute":  # its first note is the tonic; later ones are not
            power = np.abs(np.fft.rfft(sound.pcm[: SAMPLE_RATE_HZ // 4], len(sound.pcm))) ** 2
        near = np.abs(frequency / pitch - np.maximum(np.round(frequency / pitch), 1.0)) < 0.04
        audible = frequency < 6.0 * pitch
        assert np.sum(power[near & audible]) > 0.7 * np.sum(power[audible])


def test_clicks_come_as_often_as_they_say() -> None:
    for seed in range(5):
        clicks = make_stimulus("clicks", seed, 4.0)
        envelope = np.abs(clicks.pcm) > 0.3 * np.max(np.abs(clicks.pcm))
        edges = np.flatnonzero(envelope)
        starts = 1 + np.sum(np.diff(edges) > 0.03 * SAMPLE_RATE_HZ)
        assert abs(starts / 4.0 - clicks.factors.density_hz) <= 0.3


def test_loudness_and_brightness_are_those_of_the_finished_sound() -> None:
    for label in LABELS:
        sound = make_stimulus(label, 1, 2.0)
        wave = np.asarray(sound.pcm, np.float64)
        assert 10 * np.log10(np.mean(wave**2)) == pytest.approx(
            sound.factors.loudness_dbfs, abs=1e-3
        )
        assert -28.0 <= sound.factors.loudness_dbfs <= -19.5
        power = np.abs(np.fft.rfft(wave)) ** 2
        centroid = np.sum(power * np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE_HZ)) / np.sum(power)
        assert centroid == pytest.approx(sound.factors.brightness_hz, rel=1e-3)


def test_a_sequence_plays_each_class_in_turn_without_a_pause() -> None:
    sequence = stimulus_sequence(5, 30.0, clip_s=1.25)
    assert len(sequence.pcm) == 30 * SAMPLE_RATE_HZ
    assert [clip.onset_s for clip in sequence.clips] == [1.25 * k for k in range(24)]
    labels = [clip.stimulus.label for clip in sequence.clips]
    assert set(labels[:12]) == set(labels[12:]) == set(LABELS)
    assert all(a != b for a, b in pairwise(labels))
    assert len({clip.stimulus.name for clip in sequence.clips}) == 24
    again = stimulus_sequence(5, 30.0, clip_s=1.25)
    assert sequence.pcm.tobytes() == again.pcm.tobytes()


def test_the_last_clip_of_a_sequence_is_cut_off_but_never_a_snippet() -> None:
    assert [c.duration_s for c in stimulus_sequence(0, 7.0, clip_s=3.0).clips] == [3.0, 3.0, 1.0]
    assert [c.duration_s for c in stimulus_sequence(0, 6.3, clip_s=3.0).clips] == [3.0, 3.0]


def test_what_cannot_be_made_is_refused_with_what_can() -> None:
    with pytest.raises(SettingError, match=r"No class of sounds is named 'organ'; there are tone"):
        make_stimulus("organ", 0, 1.0)
    with pytest.raises(SettingError, match=r"at least 0\.1 s"):
        make_stimulus("tone", 0, 0.05)
    with pytest.raises(SettingError, match="seed >= 0"):
        make_stimulus("tone", -1, 1.0)
    with pytest.raises(SettingError, match="needs a class"):
        stimulus_sequence(0, 10.0, classes=())
