"""Copies that are known to be perfect, louder or noise."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.generator_scores.copies import copy_score, log_spectral_distance
from calibration.generator_scores.griffin_lim import griffin_lim, griffin_lim_mel
from calibration.stimuli import make_stimulus
from models.errors import SettingError
from models.mel import MelSpec, hann, log_mel

SPEC = MelSpec()


def test_a_perfect_copy_is_perfect_and_a_gain_is_its_decibels() -> None:
    pcm = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    perfect = copy_score(pcm, pcm)
    assert perfect.mel_pcc == pytest.approx(1.0)
    assert perfect.lsd_db == 0.0
    assert log_spectral_distance(pcm, 2.0 * pcm) == pytest.approx(6.02, abs=0.01)


def test_what_lies_below_the_floor_is_not_compared() -> None:
    rng = np.random.default_rng(1)
    quiet = 1e-7 * rng.standard_normal(8_000)
    assert log_spectral_distance(quiet, np.zeros(8_000)) == 0.0


def test_sounds_of_other_lengths_are_refused() -> None:
    with pytest.raises(SettingError, match="one length"):
        log_spectral_distance(np.zeros(2_000), np.zeros(2_001))
    with pytest.raises(SettingError, match="samples"):
        copy_score(np.zeros(10), np.zeros(10))


def test_griffin_lim_finds_a_sound_of_the_magnitudes() -> None:
    pcm = make_stimulus("piano", 1, 1.0).pcm.astype(np.float64)
    padded = np.pad(pcm, 512, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1_024)[::160]
    magnitude = np.abs(np.fft.rfft(frames * hann(1_024), axis=1))
    few, many = (
        griffin_lim(magnitude, n_fft=1_024, hop=160, rng=np.random.default_rng(0), iterations=n)
        for n in (2, 60)
    )
    assert len(many) == 16_000
    scores = [copy_score(pcm, made) for made in (few, many)]
    assert scores[1].mel_pcc > 0.995
    assert scores[1].lsd_db < scores[0].lsd_db


@pytest.mark.slow
def test_griffin_lim_is_as_good_as_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    pcm = make_stimulus("vowel", 2, 1.0).pcm
    padded = np.pad(pcm.astype(np.float64), 512, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1_024)[::160]
    magnitude = np.abs(np.fft.rfft(frames * hann(1_024), axis=1))
    ours = griffin_lim(magnitude, n_fft=1_024, hop=160, rng=np.random.default_rng(0))
    theirs = librosa.griffinlim(
        magnitude.T, n_iter=60, hop_length=160, n_fft=1_024, random_state=0, pad_mode="reflect"
    )
    assert copy_score(pcm, ours).lsd_db < 1.1 * copy_score(pcm, theirs).lsd_db + 0.1


def test_griffin_lim_of_mel_frames_is_as_long_as_they_are() -> None:
    pcm = make_stimulus("flute", 1, 1.0).pcm
    mel = log_mel(pcm, SPEC)[:100]
    made = griffin_lim_mel(mel, SPEC, rng=np.random.default_rng(0), iterations=20)
    assert made.shape == (16_000,)
    assert copy_score(pcm, made).mel_pcc > 0.95
    with pytest.raises(SettingError, match="magnitudes"):
        griffin_lim(np.zeros((5, 7)), n_fft=1_024, hop=160, rng=np.random.default_rng(0))
