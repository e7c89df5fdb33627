"""Simulated EEG: known response functions, and recordings that can be told without a stimulus."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.cochlea import band_envelopes
from calibration.simulate.eeg import eeg_listener, run_sound
from calibration.simulate.fingerprint import fingerprint_samples
from calibration.simulate.runs import simulate_runs, simulation
from calibration.simulate.settings import SimulationSettings
from calibration.simulate.timetable import plan_runs
from calibration.simulate.truth import simulated_truth
from models.errors import SettingError

SHORT = SimulationSettings(
    modality="eeg",
    n_people=2,
    snr=0.5,
    n_runs=(2, 1),
    clips_per_run=4,
    n_test_clips=2,
    repetitions=2,
    clip_s=2.0,
)
SONGS = SimulationSettings(
    modality="eeg", timetable="songs", snr=0.0, n_runs=(4, 0), clip_s=20.0, fingerprint=0.5
)


def test_the_response_is_the_envelope_through_the_response_functions() -> None:
    run = simulate_runs(SHORT, people=[0], part="signal").runs[0]
    listener = eeg_listener(SHORT, 0)
    pcm = run_sound(plan_runs(SHORT)[0])
    assert len(pcm) == (4 * 2 + 9) * 16_000
    envelopes = band_envelopes(pcm, sample_rate_hz=16_000, rate_hz=250.0)
    kernels = simulated_truth(SHORT).response_functions("sub-01")
    np.testing.assert_array_equal(kernels, listener.response_functions())
    k, channel = 700, 9
    wanted = sum(
        float(envelopes[k - lag] @ kernels[lag, :, channel]) for lag in range(len(kernels))
    )
    drive = listener.drive(pcm)
    assert drive[k, channel] == pytest.approx(wanted, rel=1e-6)
    scale = run.signal[:, channel] @ drive[:, channel] / (drive[:, channel] @ drive[:, channel])
    np.testing.assert_allclose(run.signal, scale * drive, atol=1e-4 * run.signal.std())


def test_recordings_are_in_volts_at_250_hz_with_all_events() -> None:
    dataset = simulate_runs(SHORT)
    assert dataset.modality == "eeg"
    assert len(dataset.channels) == 32
    assert dataset.space is None
    assert [run.participant for run in dataset.runs] == ["sub-01"] * 3 + ["sub-02"] * 3
    run = dataset.runs[2]
    assert (run.part, run.sfreq_hz, run.signal.shape) == ("test", 250.0, (17 * 250, 32))
    assert [event.stimulus for event in run.events[:2]] == [e.stimulus for e in run.events[2:]]
    assert 5e-6 < run.signal.std() < 5e-5
    np.testing.assert_allclose(run.stamps_s, np.arange(17 * 250) / 250.0)


def test_parts_of_eeg_add_up_and_zero_snr_has_no_response() -> None:
    whole, signal, noise = (
        simulate_runs(SHORT, people=[1], part=part).runs[0].signal
        for part in ("all", "signal", "noise")
    )
    np.testing.assert_allclose(signal + noise, whole, atol=1e-10)
    silent = simulate_runs(replace(SHORT, snr=0.0), people=[1], part="signal").runs[0]
    assert not silent.signal.any()


def test_a_fingerprint_tells_recordings_and_nothing_of_the_song() -> None:
    def spectra(settings: SimulationSettings) -> np.ndarray:
        rows = []
        for run in simulate_runs(settings).runs:
            pieces = run.signal[: 20 * 250].reshape(10, 500, 32)
            power = np.abs(np.fft.rfft(pieces * np.hanning(500)[:, None], axis=1)) ** 2
            rows.append(np.log(power[:, 2:100]).mean(axis=0))
        return np.array([(row - row.mean()).ravel() for row in rows])

    plain, marked = (spectra(replace(SONGS, fingerprint=amount)) for amount in (0.0, 0.5))
    # Log power moves by twice the log amplitude; interpolation between knots takes some.
    added = marked - plain
    assert 0.6 < added.std() < 1.1
    assert np.abs(np.corrcoef(added)[np.triu_indices(4, 1)]).max() < 0.25


def test_eeg_of_random_vectors_is_refused_and_eeg_has_no_voxels() -> None:
    with pytest.raises(SettingError, match="latent"):
        replace(SHORT, embedding="latent")
    with pytest.raises(SettingError, match="fmri"):
        simulation(SHORT).brain(0)
    with pytest.raises(SettingError, match="follows the sound"):
        _ = simulated_truth(SHORT).features


def test_recordings_are_recognised_by_their_neighbours_and_songs_not_by_other_people() -> None:
    # 10 songs x 20 people, 192 features, fingerprint 0.5: one neighbour finds 99.3 % of random
    # chunks, and 10 % when the person is held out.
    samples = fingerprint_samples(n_chunks=24, seed=3)
    x, song = samples.x[:, 0].astype(np.float64), samples.clip
    norm = np.sum(x**2, axis=1)
    distance = norm[:, None] + norm - 2 * x @ x.T
    np.fill_diagonal(distance, np.inf)
    assert np.mean(song[np.argmin(distance, axis=1)] == song) > 0.9
    distance[samples.person[:, None] == samples.person] = np.inf
    right = np.mean(song[np.argmin(distance, axis=1)] == song)
    assert right == pytest.approx(0.1, abs=0.035)  # a recording's chunks err together


def test_a_stimulus_is_in_the_features_on_request_only() -> None:
    def explained(stimulus: float) -> float:
        samples = fingerprint_samples(
            n_people=4, n_chunks=100, n_features=24, stimulus=stimulus, fingerprint=0.0, person=0.0
        )
        x = samples.x[:, 0].astype(np.float64)
        fit, *_ = np.linalg.lstsq(samples.y, x, rcond=None)
        return float(np.var(samples.y @ fit) / np.var(x))

    assert explained(0.0) == pytest.approx(16 / 4_000, abs=0.002)
    assert explained(1.0) == pytest.approx(0.5, abs=0.08)


def test_fingerprints_of_nobody_are_refused() -> None:
    with pytest.raises(SettingError, match="1 or more"):
        fingerprint_samples(n_people=0)
    with pytest.raises(SettingError, match="0 or more"):
        fingerprint_samples(fingerprint=-0.1)
