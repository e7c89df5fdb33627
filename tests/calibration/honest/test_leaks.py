from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from calibration.data.samples import Samples
from calibration.honest.leaks import LeakReport, detect_leaks, quick_predictions
from calibration.honest.splits import Family
from calibration.simulate.runs import simulate_runs
from calibration.simulate.settings import SimulationSettings
from models.errors import SettingError
from models.features import batch_features
from models.spec import BandPowerSpec, PsdSpec
from tests.calibration.honest.toy import make, music, people_and_songs

_COMPARED: tuple[Family, ...] = ("random-chunk", "segment", "run", "song", "person", "both")


def _row(report: LeakReport, family: str):  # type: ignore[no-untyped-def]
    return next(row for row in report.families if row.family == family)


def test_quick_decoders_are_what_scikit_learn_has() -> None:
    rng = np.random.default_rng(0)
    x, y, x_new = (
        rng.standard_normal((40, 7)),
        rng.standard_normal((40, 3)),
        rng.standard_normal((9, 7)),
    )
    mean, std = x.mean(axis=0), x.std(axis=0)
    for decoder, reference in (
        ("nearest", KNeighborsRegressor(n_neighbors=1)),
        ("ridge", Ridge(alpha=40.0)),
    ):
        expected = reference.fit((x - mean) / std, y).predict((x_new - mean) / std)
        found = quick_predictions(x, y, x_new, decoder=decoder)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_recognising_the_recording_is_flagged_and_named() -> None:
    report = detect_leaks(people_and_songs(seed=0, n_people=8, n_songs=6), families=_COMPARED)
    assert report.flagged == ("random-chunk", "segment")
    chunk, person = _row(report, "random-chunk"), _row(report, "person")
    assert chunk.p < 1e-3
    assert chunk.score > 0.65
    assert abs(person.score - 0.5) < 0.1
    assert "depends on recognising the recording" in chunk.sentence
    assert "segments of trials" in report.sentence
    assert {row["family"] for row in report.to_json()["families"]} == set(_COMPARED)


def test_real_signal_without_fingerprints_is_not_flagged() -> None:
    samples = people_and_songs(seed=0, n_people=8, n_songs=6, fingerprint=0.0, signal=0.4)
    report = detect_leaks(samples, families=_COMPARED)
    assert report.flagged == ()
    assert _row(report, "random-chunk").score > 0.7
    assert "No split family" in report.sentence


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("signal", [0.0, 0.4])
def test_leaks_are_found_in_all_of_50_seeds(signal: float) -> None:
    for seed in range(50):
        report = detect_leaks(
            people_and_songs(seed=seed, signal=signal), families=_COMPARED[:-1], n_flips=4_999
        )
        for family in ("random-chunk", "segment"):
            row = _row(report, family)
            assert row.flagged, (seed, row)
            assert row.p < 1e-3
        for family in ("run", "song", "person"):
            assert not _row(report, family).flagged, (seed, family)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_real_signal_without_fingerprints_is_never_flagged_in_50_seeds() -> None:
    for seed in range(50):
        samples = people_and_songs(seed=seed, fingerprint=0.0, signal=0.3)
        assert detect_leaks(samples, families=_COMPARED[:-1], n_flips=4_999).flagged == (), seed


def _simulated_eeg(seed: int, *, fingerprint: float) -> Samples:
    """Band power in windows of 2 s of simulated EEG without stimulus; songs heard once by all."""
    plan = SimulationSettings(
        modality="eeg", timetable="songs", n_people=8, n_runs=(8, 0), clip_s=20.0,
        sfreq_hz=125.0, snr=0.0, fingerprint=fingerprint, seed=seed,
    )  # fmt: skip
    spec = BandPowerSpec(
        PsdSpec(window_s=2.0, hop_s=2.0),
        bands=(
            ("delta", 1.0, 4.0),
            ("theta", 4.0, 8.0),
            ("alpha", 8.0, 12.0),
            ("beta", 12.0, 30.0),
        ),
    )
    dataset = simulate_runs(plan, part="noise")
    rng = np.random.default_rng(seed)
    vectors = {name: rng.standard_normal(16) for name in dataset.stimuli}
    x, y, rows = [], [], []
    for number, run in enumerate(dataset.runs):
        starts, _, values = batch_features(spec, run.signal, sfreq_hz=run.sfreq_hz)
        x.append(values)
        y.append(np.tile(vectors[run.events[0].stimulus], (len(values), 1)))
        rows += [
            (run.events[0].stimulus, run.participant, run.run, start / run.sfreq_hz, number)
            for start in starts
        ]
    clip, person, name, start_s, count = (np.array(column) for column in zip(*rows, strict=True))
    return make(
        np.concatenate(x), np.concatenate(y), clip=clip, start_s=start_s, window_s=2.0,
        person=person, run=name, order=count * 1e6 + start_s,
    )  # fmt: skip


@pytest.mark.slow
def test_fingerprints_of_the_simulated_eeg_are_found_and_nothing_where_there_are_none() -> None:
    for seed in range(6):
        marked = detect_leaks(
            _simulated_eeg(seed, fingerprint=0.3), families=_COMPARED[:-1], n_flips=4_999
        )
        assert marked.flagged == ("random-chunk", "segment"), (seed, marked)
        plain = detect_leaks(
            _simulated_eeg(seed, fingerprint=0.0), families=_COMPARED[:-1], n_flips=4_999
        )
        assert plain.flagged == (), (seed, plain)


@pytest.mark.parametrize("n_people", [1, 6])
def test_noise_is_at_chance_under_every_family_and_never_flagged(n_people: int) -> None:
    scores: dict[str, list[float]] = {}
    for seed in range(12):
        samples = people_and_songs(
            seed=seed, fingerprint=0.0, n_people=n_people, n_songs=12, n_chunks=8, n_features=20
        )
        report = detect_leaks(samples, n_folds=3, n_flips=999)
        assert report.flagged == (), (seed, report)
        for decoder in ("nearest", "ridge"):
            for row in detect_leaks(samples, n_folds=3, n_flips=99, decoders=[decoder]).families:
                if row.score is not None:
                    scores.setdefault(f"{row.family} {decoder}", []).append(row.score)
    for name, values in scores.items():
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        assert abs(np.mean(values) - 0.5) < 4.0 * error + 0.005, name


def test_a_person_with_a_map_of_their_own_is_held_against_their_other_runs() -> None:
    # Nobody else's recordings help, but another run of the same person does: no leak.
    parts = []
    for person in range(4):
        rng = np.random.default_rng(person)
        own_map = rng.standard_normal((16, 40)) / 4.0
        clip_y = np.random.default_rng(77).standard_normal((24, 16))
        y = np.repeat(clip_y, 4, axis=0)
        parts.append((y @ own_map + rng.standard_normal((96, 40)), y))
    number = np.repeat(np.arange(24), 4)
    samples = make(
        np.concatenate([x for x, _ in parts]),
        np.concatenate([y for _, y in parts]),
        clip=np.tile(np.array([f"c{k}" for k in number]), 4),
        start_s=np.tile(np.arange(4) * 1.5, 96),
        person=np.repeat([f"p{k}" for k in range(4)], 96),
        run=np.tile(np.array([f"r{k // 4}" for k in number]), 4),
        order=np.tile(number * 6.0 + np.tile(np.arange(4) * 1.5, 24), 4),
    )
    report = detect_leaks(samples, families=("run", "person", "clip"), decoders=("ridge",))
    assert _row(report, "run").score > 0.65
    assert abs(_row(report, "person").score - 0.5) < 0.12
    assert _row(report, "clip").shares_recordings
    assert not _row(report, "clip").flagged


def test_one_recording_cannot_be_judged_and_says_so() -> None:
    samples, _ = music(n_clips=8, n_windows=4, clips_per_run=8)
    report = detect_leaks(samples)
    assert report.flagged == ()
    assert "cannot be told" in report.sentence
    assert "cannot be told" in _row(report, "random-chunk").sentence
    assert _row(report, "person").score is None
    assert "at least 2 people" in _row(report, "person").sentence


def test_few_recordings_are_called_too_few() -> None:
    samples = people_and_songs(seed=1, n_people=1, n_songs=6, n_chunks=20, fingerprint=1.0)
    row = _row(detect_leaks(samples), "random-chunk")
    assert not row.flagged
    assert "6 recordings are too few" in row.sentence


def test_many_windows_and_features_are_thinned_and_still_tell() -> None:
    samples = people_and_songs(seed=0, n_people=8, n_songs=6, n_features=600)
    report = detect_leaks(samples, families=_COMPARED, max_windows=250, max_features=300)
    assert report.flagged == ("random-chunk", "segment")


def test_one_clip_has_no_leak_to_look_for() -> None:
    samples, _ = music(n_clips=2)
    with pytest.raises(SettingError, match="at least 2 clips"):
        detect_leaks(samples.take(samples.clip == "c000"))
