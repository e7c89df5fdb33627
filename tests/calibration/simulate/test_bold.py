"""Simulated BOLD: variances, lags, noise in time and space, against their formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import welch

from calibration.listener_bold import double_gamma_hrf
from calibration.simulate.anatomy import head, region_labels
from calibration.simulate.bold import haemodynamics, space_covariance
from calibration.simulate.runs import simulate_runs, simulation
from calibration.simulate.settings import RegionSettings, SimulationSettings, default_regions
from models.errors import SettingError

SMALL = SimulationSettings(
    embedding="latent",
    snr=0.5,
    drift=0.0,
    regions=default_regions(n_informative=2, n_uninformative=2, n_voxels=30),
    n_other_voxels=40,
    latent_dim=8,
    n_runs=(12, 2),
)
SHORT = replace(SMALL, timetable="short", n_runs=(4, 1))


def test_windows_hold_the_published_shares_of_own_previous_and_next_clip() -> None:
    # Of a 15-s window of 10 volumes at TR 1.5 s, by lag (methods for ds003720).
    matrix = haemodynamics(80, 1.5, 240, 5.0)
    published = {
        0: (0.71, 0.32, 0.0),
        2: (0.91, 0.09, 0.0),
        3: (0.975, 0.006, 0.026),
        4: (0.975, -0.05, 0.08),
        5: (0.92, -0.07, 0.16),
    }
    for lag, shares in published.items():
        window = matrix[30 + lag : 40 + lag].mean(axis=0)
        own, before, after = (window[a : a + 30].sum() for a in (90, 60, 120))
        np.testing.assert_allclose((own, before, after), shares, atol=0.012)


@pytest.mark.parametrize("peak_s", [3.0, 5.0, 6.5, 8.0])
def test_the_response_peaks_where_it_is_told_to(peak_s: float) -> None:
    matrix = haemodynamics(300, 0.1, 60, peak_s)  # ten volumes a second
    impulse = np.zeros(60)
    impulse[0] = 1.0  # half a second of stimulus
    assert (np.argmax(matrix @ impulse) + 0.5) * 0.1 == pytest.approx(peak_s + 0.25, abs=0.15)
    t_s = np.arange(0.0, 40.0, 0.01)
    assert t_s[np.argmax(double_gamma_hrf(t_s, peak_s=peak_s))] == pytest.approx(peak_s, abs=0.1)


def test_the_canonical_response_is_what_it_was() -> None:
    t_s = np.arange(0.0, 30.0, 0.5)
    np.testing.assert_array_equal(double_gamma_hrf(t_s), double_gamma_hrf(t_s, peak_s=5.0))


def test_snr_is_the_ratio_of_variances_in_informative_voxels() -> None:
    simulated = simulation(SMALL)
    brain = simulated.brain(0)
    informative = brain.snr > 0
    assert informative.sum() == 60
    assert brain.snr[informative].mean() == pytest.approx(0.5, rel=1e-9)
    train = [run for run in simulate_runs(SMALL, part="signal").runs if run.part == "train"]
    signal = np.concatenate([run.signal[10:] for run in train])
    noise = np.concatenate([run.signal for run in simulate_runs(SMALL, part="noise").runs])
    measured = signal.var(axis=0)[informative] / noise.var(axis=0)[informative]
    np.testing.assert_allclose(measured, brain.snr[informative], rtol=0.15)
    assert measured.mean() == pytest.approx(0.5, rel=0.03)
    assert np.ptp(signal[:, ~informative], axis=0).max() < 1e-3
    np.testing.assert_allclose(noise.std(axis=0), brain.scale, rtol=0.08)
    np.testing.assert_allclose(noise.mean(axis=0), brain.baseline, rtol=0.002)


def test_noise_is_ar1_in_time_and_as_alike_in_space_as_the_formula_says() -> None:
    noise = simulate_runs(SMALL, part="noise").runs
    rows = np.concatenate([run.signal for run in noise]).astype(np.float64)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    by_run = rows.reshape(len(noise), -1, rows.shape[1])
    for lag in (1, 2, 3):
        product = np.mean(by_run[:, lag:] * by_run[:, :-lag])
        assert product == pytest.approx(0.4**lag, abs=0.02)
    expected = space_covariance(SMALL)
    np.testing.assert_allclose(np.diagonal(expected), 1.0)
    assert np.linalg.eigvalsh(expected).min() > 0.49  # the part that is each voxel's own
    off = ~np.eye(len(expected), dtype=bool)
    measured = rows.T @ rows / len(rows)
    assert np.corrcoef(measured[off], expected[off])[0, 1] > 0.95
    # 5,740 volumes with AR(1) count as 5,740 (1 - .16) / (1 + .16) = 4,160: SE 0.0155.
    assert np.sqrt(np.mean((measured - expected)[off] ** 2)) < 0.02


def test_the_spectrum_of_the_noise_is_that_of_ar1() -> None:
    noise = np.concatenate([run.signal for run in simulate_runs(SMALL, part="noise").runs])
    noise = (noise - noise.mean(axis=0)) / noise.std(axis=0)
    frequency, power = welch(noise, fs=1 / 1.5, nperseg=128, axis=0)
    measured = power.mean(axis=1)[2:-1]
    angle = 2 * np.pi * frequency[2:-1] * 1.5
    wanted = 2 * 1.5 * (1 - 0.16) / np.abs(1 - 0.4 * np.exp(-1j * angle)) ** 2
    np.testing.assert_allclose(measured, wanted, rtol=0.12)


def test_drift_is_slow_and_as_large_as_told() -> None:
    still = simulate_runs(SMALL, part="noise").runs
    moved = simulate_runs(replace(SMALL, drift=1.5), part="noise").runs
    brain = simulation(SMALL).brain(0)
    pairs = zip(still, moved, strict=True)
    drift = np.stack([(b.signal - a.signal) / brain.scale for a, b in pairs])
    assert np.sqrt(np.mean(drift**2)) == pytest.approx(1.5, rel=0.15)
    _, power = welch(drift, fs=1 / 1.5, nperseg=410, axis=1)
    power = power.mean(axis=(0, 2))
    assert power[6:].sum() < 0.02 * power.sum()  # above 1 / 100 s


def test_regions_are_compact_and_of_the_sizes_asked_for() -> None:
    settings = replace(SMALL, regions=(*SMALL.regions, RegionSettings("tiny", 3)))
    space = head(settings)
    assert int(space.mask.sum()) == settings.n_voxels == 163
    for region in settings.regions:
        voxels = space.rois[region.name]
        assert len(voxels) == region.n_voxels
        place = np.argwhere(space.mask)[voxels]
        assert np.prod(np.ptp(place, axis=0) + 1) <= 6 * len(voxels)
    labels = region_labels(settings)
    assert (labels == 0).sum() == 40
    assert not space.mask[0].any()
    assert not space.mask[..., -1].any()


def test_regions_have_their_own_lag_snr_and_share() -> None:
    regions = (
        RegionSettings("early", 30, 1.0, 3.0),
        RegionSettings("late", 30, 1.0, 8.0, snr_factor=2.0),
        RegionSettings("half", 30, 0.5),
    )
    settings = replace(SHORT, regions=regions)
    brain, space = simulation(settings).brain(0), head(settings)
    assert set(brain.peak_s[space.rois["early"]]) == {3.0}
    assert set(brain.peak_s[space.rois["late"]]) == {8.0}
    assert brain.snr[space.rois["late"]].mean() == pytest.approx(1.0)
    assert brain.snr[space.rois["early"]].mean() == pytest.approx(0.5)
    assert np.sum(brain.snr[space.rois["half"]] > 0) == 15


def test_people_see_one_stimulus_through_rotations_of_one_map() -> None:
    simulated = simulation(replace(SHORT, n_people=2))
    a, b = (simulated.brain(k) for k in range(2))
    informative = a.snr > 0
    np.testing.assert_array_equal(informative, b.snr > 0)
    one, two = (brain.weights[:, informative].ravel() for brain in (a, b))
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.5
    # What one person's voxels say, the other's say too: their noise-free responses span one space.
    both = simulate_runs(replace(SHORT, n_people=2), part="signal")
    one = np.concatenate([r.signal - a.baseline for r in both.of("sub-01")])[:, informative]
    two = np.concatenate([r.signal - b.baseline for r in both.of("sub-02")])[:, informative]
    fit, *_ = np.linalg.lstsq(one, two, rcond=1e-4)
    assert np.linalg.matrix_rank(one.astype(np.float64), tol=1e-4 * np.linalg.norm(one)) == 8
    assert np.sqrt(np.mean((one @ fit - two) ** 2)) < 1e-3 * np.std(two)


def test_no_response_at_zero_snr() -> None:
    settings = replace(SHORT, snr=0.0)
    silent = simulate_runs(settings, part="signal").runs[0]
    assert np.ptp(silent.signal, axis=0).max() == 0.0
    assert not simulation(settings).brain(0).snr.any()


def test_a_run_does_not_depend_on_who_else_is_simulated() -> None:
    alone = simulate_runs(SHORT).runs[1]
    among = simulate_runs(replace(SHORT, n_people=3), people=[0]).runs[1]
    np.testing.assert_array_equal(alone.signal, among.signal)
    other = simulate_runs(replace(SHORT, n_people=2), people=[1]).runs[1]
    assert other.participant == "sub-02"
    assert np.abs(other.signal - alone.signal).mean() > 1.0


def test_volumes_are_whole_scanner_units_and_the_sum_of_their_parts() -> None:
    whole, signal, noise = (
        simulate_runs(SHORT, part=part).runs[0].signal for part in ("all", "signal", "noise")
    )
    np.testing.assert_array_equal(whole, np.rint(whole))
    baseline = simulation(SHORT).brain(0).baseline
    assert np.abs(signal + noise - baseline - whole).max() <= 0.501


def test_more_dimensions_than_the_clips_have_are_refused() -> None:
    few = replace(
        SHORT, timetable="short", clip_s=1.0, n_runs=(1, 0), clips_per_run=2, latent_dim=30
    )
    with pytest.raises(SettingError, match="latent_dim"):
        simulate_runs(few)


def test_a_person_who_is_not_there_is_refused() -> None:
    with pytest.raises(SettingError, match="n_people"):
        simulate_runs(SHORT, people=[1])
