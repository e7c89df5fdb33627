"""Detrending equals its references, z-scores are what they say, and bad voxels are reported."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from calibration.data.dataset import Run
from calibration.preprocess import (
    PreprocessSpec,
    find_bad_channels,
    preprocess_run,
)
from models.errors import SettingError

TR_S = 1.5


def a_run(signal: NDArray[np.floating], tr_s: float = TR_S) -> Run:
    stamps = np.asarray(np.arange(len(signal)) * tr_s, np.float64)
    return Run("sub-01", "", "run-1", "", signal.astype(np.float32), 1 / tr_s, stamps, ())


def drifting(n: int, n_voxels: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    t = np.linspace(-1, 1, n)[:, None]
    return 1000 + 60 * t + 30 * t**2 + 10 * rng.standard_normal((n, n_voxels))


@pytest.mark.parametrize("edge", ["reflect", "nearest", "mirror"])
def test_the_running_median_is_scipys_with_an_odd_window(edge: str) -> None:
    signal = drifting(410, 7).astype(np.float32)
    spec = PreprocessSpec(edge=edge, zscore=False)  # type: ignore[arg-type]
    ours, _ = preprocess_run(a_run(signal), spec)
    slow = median_filter(signal, size=(161, 1), mode=edge)  # type: ignore[arg-type]
    expected = signal - slow + signal.mean(axis=0)
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_the_polynomial_is_numpys_least_squares_fit() -> None:
    signal = drifting(200, 5).astype(np.float32)
    ours, _ = preprocess_run(
        a_run(signal), PreprocessSpec(detrend="polynomial", order=3, zscore=False)
    )
    t = np.arange(200.0)
    for voxel in range(5):
        fit = np.polynomial.Polynomial.fit(t, signal[:, voxel].astype(np.float64), 3)(t)
        np.testing.assert_allclose(
            ours[:, voxel] - signal[:, voxel].mean(), signal[:, voxel] - fit, atol=5e-3
        )


def test_the_high_pass_takes_slow_cosines_away_and_leaves_fast_ones() -> None:
    n = 400
    t = np.arange(n) + 0.5
    # Periods of 2 n TR / k: 400 s for k = 3 goes, 100 s for k = 12 stays (cut-off 128 s).
    slow, fast = (np.cos(np.pi * k * t / n) for k in (3, 12))
    signal = 500 + 20 * np.stack([slow, fast, slow + fast], axis=1)
    spec = PreprocessSpec(detrend="high_pass", cutoff_s=128.0, zscore=False)
    ours, _ = preprocess_run(a_run(signal), spec)
    np.testing.assert_allclose(ours - 500, 20 * np.stack([0 * t, fast, fast], axis=1), atol=2e-3)


@pytest.mark.parametrize("detrend", ["median", "polynomial", "high_pass", "none"])
def test_z_scores_have_no_mean_and_unit_variance(detrend: str) -> None:
    spec = PreprocessSpec(detrend=detrend)  # type: ignore[arg-type]
    ours, report = preprocess_run(a_run(drifting(410, 20)), spec)
    np.testing.assert_allclose(ours.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(ours.std(axis=0), 1, atol=1e-4)
    assert report.text == ""


def test_drift_is_taken_off_and_fast_changes_stay() -> None:
    rng = np.random.default_rng(1)
    fast = rng.standard_normal((410, 30))
    t = np.linspace(0, 1, 410)[:, None]
    signal = 1000 + 10 * fast + 80 * t * rng.standard_normal(30)
    for detrend in ("median", "polynomial", "high_pass"):
        ours, _ = preprocess_run(a_run(signal), PreprocessSpec(detrend=detrend))
        r = [np.corrcoef(ours[:, k], fast[:, k])[0, 1] for k in range(30)]
        assert np.median(r) > 0.97


def test_voxels_without_data_are_zero_and_reported() -> None:
    signal = drifting(100, 3000)
    signal[:, 4] = 700.0
    signal[:, 1500] = np.nan
    signal[10:13, 2999] = np.nan
    signal[0, 2998] = np.inf
    run = a_run(signal)
    before = run.signal.copy()
    ours, report = preprocess_run(run, PreprocessSpec(detrend="polynomial"))
    np.testing.assert_array_equal(run.signal, before)
    assert np.isfinite(ours).all()
    assert np.all(ours[:, [4, 1500]] == 0)
    assert report.constant.tolist() == [4]
    assert report.missing.tolist() == [1500]
    assert report.filled.tolist() == [2998, 2999]
    assert report.n_filled == 4
    assert "1 constant, 1 without data, 2 with 4 interpolated values" in report.text


def test_a_voxel_that_only_drifts_is_constant_once_the_drift_is_off() -> None:
    signal = drifting(100, 2)
    signal[:, 0] = 1000 + np.linspace(0, 50, 100)
    ours, report = preprocess_run(a_run(signal), PreprocessSpec(detrend="polynomial", order=1))
    assert report.constant.tolist() == [0]
    assert np.all(ours[:, 0] == 0)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (PreprocessSpec(median_window_s=1.0), "median_window_s"),
        (PreprocessSpec(detrend="polynomial", order=60), "order"),
        (PreprocessSpec(detrend="high_pass", cutoff_s=2.0), "cutoff_s"),
        (PreprocessSpec(detrend="wavelet"), "wavelet"),  # type: ignore[arg-type]
        (PreprocessSpec(edge="wrap"), "edge"),  # type: ignore[arg-type]
    ],
)
def test_unusable_settings_are_refused(spec: PreprocessSpec, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        preprocess_run(a_run(drifting(100, 2)), spec)


def test_a_run_of_one_volume_is_refused() -> None:
    with pytest.raises(SettingError, match="at least 2"):
        preprocess_run(a_run(drifting(1, 2)))


def test_flat_broken_and_noisy_channels_are_named() -> None:
    rng = np.random.default_rng(2)
    signal = (1e-5 * rng.standard_normal((1000, 8))).astype(np.float32)
    names = [f"E{k}" for k in range(8)]
    assert find_bad_channels(signal, names) == ()
    signal[:, 1] = 0.2
    signal[:, 3] *= 50
    signal[7, 5] = np.nan
    bad = {channel.name: channel.why for channel in find_bad_channels(signal, names)}
    assert list(bad) == ["E1", "E3", "E5"]
    assert bad["E1"] == "flat"
    assert "times the median" in bad["E3"]
    assert bad["E5"] == "1 of 1000 values are not finite"
