"""The truth: what it promises of decoding, ceilings and lags, against recordings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV

from calibration.scores import correlations, identification
from calibration.simulate import (
    RegionSettings,
    SimulationSettings,
    best_linear_decoder,
    default_regions,
    simulate_runs,
    simulated_truth,
)
from calibration.simulate.oracle import ar1_mean_variance
from models.errors import SettingError

SMALL = SimulationSettings(
    embedding="latent",
    snr=0.1,
    drift=0.0,
    regions=default_regions(n_informative=3, n_uninformative=3, n_voxels=8),
    n_other_voxels=6,
    latent_dim=6,
    embedding_dim=8,
)


def clip_windows(
    settings: SimulationSettings, *, lag_s: float = 4.5
) -> dict[str, dict[str, list[np.ndarray]]]:
    """Return the mean of the volumes that answer to each clip, by part and clip."""
    found: dict[str, dict[str, list[np.ndarray]]] = {"train": {}, "test": {}}
    n = round(settings.clip_duration_s / settings.tr_s)
    for run in simulate_runs(settings).runs:
        for event in run.events:
            first = round((event.onset_s + lag_s) / settings.tr_s)
            window = run.signal[first : first + n].astype(np.float64)
            if len(window) >= n / 2:
                found[run.part].setdefault(event.stimulus, []).append(window.mean(axis=0))
    return found


def fitted_identification(settings: SimulationSettings) -> float:
    """Return what ridge regression scores on a simulation, nothing of the truth known to it."""
    truth, found = simulated_truth(settings), clip_windows(settings)
    x, y = {}, {}
    for part, clips in found.items():
        x[part] = np.array([np.mean(rows, axis=0) for rows in clips.values()])
        y[part] = truth.clip_targets(np.array(list(clips)))
    mean, scale = x["train"].mean(axis=0), x["train"].std(axis=0)
    ridge = RidgeCV(alphas=np.logspace(-1, 5, 19)).fit((x["train"] - mean) / scale, y["train"])
    decoded = ridge.predict((x["test"] - mean) / scale)
    return identification(correlations(decoded, y["test"])).ties_half


@pytest.mark.slow
def test_a_fit_with_much_data_comes_to_the_oracle_over_a_sweep_of_snr() -> None:
    scores = []
    for snr in (0.03, 0.1, 0.4):
        gaps = []
        for seed in range(4):
            settings = replace(SMALL, snr=snr, seed=seed, n_runs=(60, 12))
            oracle = simulated_truth(settings).oracle(0)
            gaps.append(fitted_identification(settings) - oracle.identification)
        assert np.mean(gaps) == pytest.approx(0.0, abs=0.02)
        scores.append(oracle.identification)
    assert scores == sorted(scores)
    assert scores[0] < 0.85 < 0.9 < scores[-1]


def test_a_fit_on_the_real_timetable_scores_as_ridge_with_the_best_penalty_does() -> None:
    gaps = []
    for seed in range(3):
        settings = replace(SMALL, snr=0.03, seed=seed)
        truth = simulated_truth(settings)
        trained = truth.oracle(0, trained=True)
        assert trained.identification < truth.oracle(0).identification + 0.01
        gaps.append(fitted_identification(settings) - trained.identification)
    assert np.mean(gaps) == pytest.approx(0.0, abs=0.03)


def test_nothing_is_decoded_at_zero_snr() -> None:
    score = simulated_truth(replace(SMALL, snr=0.0)).oracle("sub-01")
    assert score.identification == 0.5
    assert (score.n, score.n_repetitions) == (60, 4)


def test_the_best_decoder_solves_its_normal_equations_and_beats_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 5)) @ rng.standard_normal((5, 12))
    y = x[:, :3] + 0.1 * rng.standard_normal((50, 3))
    root = rng.standard_normal((12, 12))
    noise = root @ root.T + np.eye(12)
    decoder = best_linear_decoder(x, y, noise)
    xc, yc = x - x.mean(axis=0), y - y.mean(axis=0)
    wanted = np.linalg.solve(xc.T @ xc / 50 + noise, xc.T @ yc / 50)
    np.testing.assert_allclose(decoder.weights, wanted, atol=1e-10)
    np.testing.assert_allclose(decoder.predict(x).mean(axis=0), y.mean(axis=0), atol=1e-10)
    with pytest.raises(SettingError, match="covariance"):
        best_linear_decoder(x, y, noise[:3, :3])


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_variance_of_a_mean_of_ar1_noise_is_that_of_its_covariance(n: int) -> None:
    index = np.arange(n)
    covariance = 0.6 ** np.abs(index[:, None] - index)
    assert ar1_mean_variance(n, 0.6) == pytest.approx(covariance.mean())


def test_the_covariance_of_the_noise_is_that_of_windows_of_noise() -> None:
    settings = replace(SMALL, drift=0.7, n_runs=(40, 0))
    noise = [run.signal for run in simulate_runs(settings, part="noise").runs]
    rows = np.concatenate([x.reshape(41, 10, -1).mean(axis=1) for x in noise]).astype(np.float64)
    truth = simulated_truth(settings)
    wanted = truth.noise_covariance(0, n_volumes=10, drift=True)
    assert np.trace(np.cov(rows.T)) == pytest.approx(np.trace(wanted), rel=0.1)
    still = replace(settings, drift=0.0)
    noise = [run.signal for run in simulate_runs(still, part="noise").runs]
    rows = np.concatenate([x.reshape(41, 10, -1).mean(axis=1) for x in noise]).astype(np.float64)
    wanted = truth.noise_covariance(0, n_volumes=10)
    np.testing.assert_allclose(np.cov(rows.T), wanted, atol=0.12 * wanted.max())


@pytest.mark.parametrize("n_volumes", [1, 10])
def test_the_ceiling_is_how_well_repetitions_follow_the_response(n_volumes: int) -> None:
    settings = replace(SMALL, snr=0.5, n_runs=(40, 0))
    mean = np.ones(n_volumes) / n_volumes

    def windows(part: str) -> np.ndarray:
        runs = simulate_runs(settings, part=part).runs  # type: ignore[arg-type]
        rows = [np.apply_along_axis(np.convolve, 0, run.signal[10:], mean, "valid") for run in runs]
        return np.concatenate(rows).astype(np.float64)

    measured, clean = windows("all"), windows("signal")
    ceiling = simulated_truth(settings).noise_ceiling(0, n_volumes=n_volumes)
    informative = ceiling > 0
    assert informative.sum() == 24
    found = [np.corrcoef(measured[:, v], clean[:, v])[0, 1] for v in np.flatnonzero(informative)]
    np.testing.assert_allclose(found, ceiling[informative], atol=0.04)
    more = simulated_truth(settings).noise_ceiling(0, n_repetitions=4, n_volumes=n_volumes)
    assert (more[informative] > ceiling[informative]).all()


def test_the_true_lag_is_where_windows_are_decoded_best() -> None:
    for peak in (3.0, 8.0):
        settings = replace(SMALL, peak_s=peak, snr=0.05)
        truth = simulated_truth(settings)
        lag = truth.lag_s()["heschl"]
        assert lag == pytest.approx(peak, abs=1.0)
        scores = {k * 1.5: truth.oracle(0, lag_s=k * 1.5, n_draws=10).correlation for k in range(9)}
        assert max(scores, key=lambda key: scores[key]) == pytest.approx(lag, abs=1.5)


def test_each_region_tells_its_own_lag() -> None:
    regions = (
        RegionSettings("a", 5, peak_s=4.0),
        RegionSettings("b", 5),
        RegionSettings("c", 5, 0),
    )
    truth = simulated_truth(replace(SMALL, regions=regions, peak_s=7.0))
    assert truth.peak_s() == {"a": 4.0, "b": 7.0, "c": 7.0}
    assert truth.lag_s()["a"] < truth.lag_s()["b"] == truth.lag_s()["c"]


def test_the_response_to_a_clip_is_the_mean_of_its_noise_free_volumes() -> None:
    truth = simulated_truth(SMALL)
    found = truth.clip_responses(0, "test", lag_s=4.5)
    assert len(found.clip) == 60
    run = next(r for r in simulate_runs(SMALL, part="signal").runs if r.part == "test")
    event = run.events[3]
    brain = truth.brain(0)
    rows = [
        (run.signal[round(e.onset_s / 1.5) + 3 :][:10] - brain.baseline).mean(axis=0)
        for e in run.events
        if e.stimulus == event.stimulus
    ]
    np.testing.assert_allclose(
        found.values[list(found.clip).index(event.stimulus)], np.mean(rows, axis=0), atol=1e-3
    )


def test_targets_of_ones_own_are_used_and_missing_ones_named() -> None:
    truth = simulated_truth(SMALL)
    clips = truth.features.clips
    own = {clip: truth.target(clip, 0.0, 15.0)[:4] for clip in clips}
    assert truth.oracle_decoder(0, targets=own).weights.shape == (54, 4)
    with pytest.raises(SettingError, match="no target for 479 clips"):
        truth.oracle(0, targets={clips[0]: np.zeros(4)})


def test_people_go_by_name_or_number() -> None:
    truth = simulated_truth(replace(SMALL, n_people=2))
    assert [truth.number_of(who) for who in ("sub-02", "02", 1)] == [1, 1, 1]
    with pytest.raises(SettingError, match="sub-01, sub-02"):
        truth.number_of("sub-03")
    assert truth.brain("sub-01") is truth.brain(0)
