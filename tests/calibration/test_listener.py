from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.cochlea import band_centres_hz, band_envelopes
from calibration.listener_bold import BoldListener, double_gamma_hrf
from calibration.listener_eeg import EEG_CHANNELS, EegListener
from calibration.scores import correlations, identification
from calibration.stimuli import SAMPLE_RATE_HZ, stimulus_sequence
from models.errors import SettingError


def _tone(hz: float, seconds: float, amplitude: float) -> NDArray[np.float32]:
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return np.asarray(amplitude * np.sin(2 * np.pi * hz * t), np.float32)


def test_a_band_envelope_follows_its_band_and_is_compressed() -> None:
    centres = band_centres_hz(16)
    loud, soft = (
        band_envelopes(
            _tone(float(centres[9]), 1.0, a), sample_rate_hz=SAMPLE_RATE_HZ, rate_hz=100.0
        )
        for a in (1.0, 0.1)
    )
    assert loud.shape == (100, 16)
    steady = slice(10, 90)
    assert np.all(np.argmax(loud[steady], axis=1) == 9)
    assert np.mean(loud[steady, 9]) == pytest.approx(1.0, abs=0.1)
    # 20 dB less is a factor 100 in power: 100**0.3 = 3.98 in the envelope.
    assert np.mean(loud[steady, 9] / soft[steady, 9]) == pytest.approx(100**0.3, rel=1e-3)


def test_an_envelope_does_not_drift_against_the_sound() -> None:
    pcm = np.zeros(20 * SAMPLE_RATE_HZ, np.float32)
    pcm[15 * SAMPLE_RATE_HZ] = 1.0
    for rate_hz in (250.0, 256.0, 99.7):
        envelope = band_envelopes(pcm, sample_rate_hz=SAMPLE_RATE_HZ, rate_hz=rate_hz).sum(axis=1)
        centre = np.sum(envelope * np.arange(len(envelope))) / np.sum(envelope)
        assert abs(centre / rate_hz - 15.0) < 0.5 / rate_hz


def test_an_oracle_recovers_the_response_functions_from_a_recording() -> None:
    listener = EegListener(person=3, snr_db=10.0)
    pcm = stimulus_sequence(11, 60.0, clip_s=2.0).pcm
    samples = listener.record(pcm, seed=1).astype(np.float64)
    rate = listener.sfreq_hz
    envelopes = band_envelopes(pcm, sample_rate_hz=SAMPLE_RATE_HZ, rate_hz=rate)
    truth = listener.response_functions()
    # The oracle knows the functions; what is left must be the noise, whose power it knows too.
    predicted = np.zeros_like(samples)
    for lag in range(len(truth)):
        predicted[lag:] += envelopes[: len(samples) - lag] @ truth[lag]
    scale = np.sum(predicted * samples) / np.sum(predicted**2)
    left = samples - scale * predicted
    assert left.std() == pytest.approx(listener.noise(len(samples), 1).std(), rel=0.02)
    assert np.corrcoef(predicted.ravel(), samples.ravel())[0, 1] > 0.9


def test_the_response_lies_between_50_and_400_ms() -> None:
    kernels = EegListener(person=1).response_functions()
    power = np.sum(kernels**2, axis=(1, 2))
    t = np.arange(len(power)) / 250.0
    assert np.sum(power[(t >= 0.02) & (t <= 0.44)]) > 0.99 * np.sum(power)
    assert power[0] < 1e-3 * power.max()


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 6.0])
def test_the_snr_is_what_was_asked_for_and_amplitudes_are_those_of_eeg(snr_db: float) -> None:
    listener = EegListener(person=2, snr_db=snr_db)
    pcm = stimulus_sequence(21, 60.0).pcm
    response = listener.respond(pcm)
    noise = listener.noise(len(response), 4)
    measured = 10 * np.log10(np.var(response - response.mean(axis=0)) / np.mean(noise**2))
    assert measured == pytest.approx(snr_db, abs=2.0)  # other sounds than the scale was set on
    assert 10e-6 < np.std(response + noise) < 50e-6
    assert response.shape == (15_000, len(EEG_CHANNELS)) == noise.shape


def test_the_noise_is_1_over_f_with_alpha_and_alike_at_neighbours() -> None:
    noise = EegListener(person=2).noise(60_000, 9)
    power = np.mean(np.abs(np.fft.rfft(noise, axis=0)) ** 2, axis=1)
    f = np.fft.rfftfreq(60_000, 1 / 250.0)

    def level(low: float, high: float) -> float:
        return float(np.mean(power[(f >= low) & (f < high)]))

    assert level(2.0, 3.0) / level(20.0, 30.0) == pytest.approx(10.0, rel=0.25)
    assert level(9.5, 11.0) > 3 * level(14.0, 16.0)
    r = correlations(noise.T, noise.T)
    near = r[EEG_CHANNELS.index("C3"), EEG_CHANNELS.index("CP1")]
    far = r[EEG_CHANNELS.index("Fp1"), EEG_CHANNELS.index("O2")]
    assert near > far + 0.2


def test_the_same_person_sound_and_seed_give_the_same_samples() -> None:
    pcm = stimulus_sequence(1, 3.0).pcm
    a, b = (EegListener(person=1, snr_db=0.0).record(pcm, seed=2) for _ in range(2))
    assert a.tobytes() == b.tobytes()
    assert a.tobytes() != EegListener(person=2, snr_db=0.0).record(pcm, seed=2).tobytes()
    assert a.tobytes() != EegListener(person=1, snr_db=0.0).record(pcm, seed=3).tobytes()
    c, d = (BoldListener(person=1).record(pcm, seed=2) for _ in range(2))
    assert c.tobytes() == d.tobytes()


def test_the_canonical_hrf_peaks_at_5_s_and_dips_at_15() -> None:
    t = np.linspace(0.0, 32.0, 641)
    hrf = double_gamma_hrf(t)
    assert t[np.argmax(hrf)] == pytest.approx(5.0, abs=0.3)
    assert t[np.argmin(hrf)] == pytest.approx(15.5, abs=1.5)
    assert np.sum(hrf) == pytest.approx(1.0)


def test_a_voxel_answers_to_a_short_sound_with_the_hrf() -> None:
    listener = BoldListener(person=1, snr_db=0.0, tr_s=0.5)
    pcm = np.zeros(30 * SAMPLE_RATE_HZ, np.float32)
    pcm[: SAMPLE_RATE_HZ // 4] = _tone(1000.0, 0.25, 0.5)
    response = listener.respond(pcm, 60)
    strongest = response[:, np.argmax(np.abs(response).max(axis=0))]
    hrf = double_gamma_hrf(np.linspace(0.0, 29.5, 60))
    assert abs(np.corrcoef(strongest, hrf)[0, 1]) > 0.999


def test_bold_has_a_baseline_autocorrelation_and_silent_voxels() -> None:
    listener = BoldListener(person=4, snr_db=-6.0)
    pcm = stimulus_sequence(2, 300.0, clip_s=6.0).pcm
    volumes = listener.record(pcm, seed=1)
    assert volumes.shape == (200, 2000)
    assert volumes.mean() == pytest.approx(1000.0, rel=0.05)
    assert np.mean(np.any(listener.weights() != 0.0, axis=0)) == pytest.approx(0.6, abs=0.01)
    noise = listener.noise(2000, 5)
    noise -= noise.mean(axis=0)
    assert 0.3 < np.mean(np.sum(noise[1:] * noise[:-1], axis=0) / np.sum(noise**2, axis=0)) < 0.7


def _oracle_identification(snr_db: float, seed: int) -> float:
    """Return how well 4-s pieces of a recording are told apart by who knows the response."""
    listener = EegListener(person=5, snr_db=snr_db)
    pcm = stimulus_sequence(seed, 80.0, clip_s=4.0).pcm
    expected = EegListener(person=5, snr_db=0.0).respond(pcm)
    samples = listener.record(pcm, seed=seed)
    rows = [
        (x - x.mean(axis=0)).astype(np.float64).reshape(20, -1)
        for x in (np.asarray(samples, np.float64), expected)
    ]
    return identification(correlations(rows[0], rows[1])).ties_half


def test_identification_grows_with_the_snr_and_is_at_chance_without_a_signal() -> None:
    scores = [np.mean([_oracle_identification(snr, s) for s in (1, 2)]) for snr in (-40, -25, -5)]
    assert scores[0] < scores[1] <= scores[2]
    assert scores[2] > 0.99
    silent = [_oracle_identification(-np.inf, s) for s in range(6)]
    # One score of n = 20 has a standard error of sqrt((n + 1) / (12 (n - 1) n)) by counting ranks.
    error = np.sqrt(21 / (12 * 19 * 20)) / np.sqrt(6)
    assert abs(np.mean(silent) - 0.5) < 2 * error


def test_listeners_refuse_what_cannot_be() -> None:
    with pytest.raises(SettingError, match="sfreq_hz >= 100"):
        EegListener(person=1, sfreq_hz=64.0)
    with pytest.raises(SettingError, match="snr_db"):
        EegListener(person=1, snr_db=float("nan"))
    with pytest.raises(SettingError, match=r"TR of 0.25 to 10 s"):
        BoldListener(person=1, tr_s=20.0)
    with pytest.raises(SettingError, match="share"):
        BoldListener(person=1, responding=0.0)
