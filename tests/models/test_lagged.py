"""Lagged samples: SciPy's filter, decimation, and a vector that holds only the past."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal

from models.errors import SettingError
from models.features import batch_features, make_extractor
from models.lagged import plan_lagged
from models.spec import SampleSpec


def test_a_vector_holds_filtered_samples_from_past_s_ago_to_now() -> None:
    rng = np.random.default_rng(1)
    samples = (1e-5 * rng.standard_normal((1000, 2))).astype(np.float32)
    extractor = make_extractor(SampleSpec(), sfreq_hz=250.0, n_channels=2)
    assert extractor.shape == (21, 2)  # 0.4 s at 50 Hz, both ends included
    assert extractor.labels[0] == "-0.4 s, channel 0"
    assert extractor.labels[-1] == "0 s, channel 1"
    sos = scipy.signal.butter(2, [1.0, 15.0], "bandpass", fs=250.0, output="sos")
    state = scipy.signal.sosfilt_zi(sos)[:, :, np.newaxis] * samples[0].astype(np.float64)
    filtered, _ = scipy.signal.sosfilt(sos, samples.astype(np.float64), axis=0, zi=state)
    features = extractor.push(samples)
    assert len(features) == 200 - 20
    for feature in features:
        window = filtered[feature.start : feature.stop : 5]
        np.testing.assert_allclose(feature.values.reshape(21, 2), window, rtol=1e-6, atol=1e-12)


def test_an_electrode_offset_makes_no_transient() -> None:
    samples = np.full((500, 1), 0.3, np.float32)
    extractor = make_extractor(SampleSpec(), sfreq_hz=250.0, n_channels=1)
    for feature in extractor.push(samples):
        assert np.max(np.abs(feature.values)) < 1e-9


@pytest.mark.parametrize(
    ("high_pass", "low_pass", "passes", "stops"),
    [(1.0, 15.0, 5.0, 0.05), (0.0, 15.0, 0.05, 100.0), (1.0, 25.0, 10.0, 100.0)],
)
def test_the_band_is_what_is_asked_for(
    high_pass: float, low_pass: float, passes: float, stops: float
) -> None:
    plan = plan_lagged(SampleSpec(high_pass_hz=high_pass, low_pass_hz=low_pass), sfreq_hz=500.0)
    _, gain = scipy.signal.freqz_sos(plan.sos, worN=[passes, stops], fs=500.0)
    assert abs(gain[0]) > 0.9
    assert abs(gain[1]) < 0.1


def test_without_a_band_samples_pass_unchanged() -> None:
    spec = SampleSpec(high_pass_hz=0.0, low_pass_hz=float("inf"), rate_hz=100.0, past_s=0.0)
    samples = np.random.default_rng(2).standard_normal((50, 3)).astype(np.float32)
    extractor = make_extractor(spec, sfreq_hz=100.0, n_channels=3)
    values = np.array([feature.values for feature in extractor.push(samples)])
    np.testing.assert_array_equal(values, samples[::2])  # hop 0.02 s


def test_values_that_are_not_finite_do_not_stay_in_the_filter() -> None:
    samples = np.random.default_rng(3).standard_normal((600, 2)).astype(np.float32)
    held = samples.copy()
    samples[100:103, 0] = [np.nan, np.inf, -np.inf]
    held[100:103, 0] = held[99, 0]
    samples[0, 1], held[0, 1] = np.nan, 0.0
    whole = make_extractor(SampleSpec(), sfreq_hz=250.0, n_channels=2).push(held)
    one_by_one = make_extractor(SampleSpec(), sfreq_hz=250.0, n_channels=2)
    pieces = [f for sample in samples for f in one_by_one.push(sample[np.newaxis])]
    assert [f.values.tobytes() for f in pieces] == [f.values.tobytes() for f in whole]
    _, _, batch = batch_features(SampleSpec(), samples, sfreq_hz=250.0)
    np.testing.assert_array_equal(batch, np.array([f.values for f in whole]))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rate_hz": 60.0}, "whole multiple of samples.rate_hz"),
        ({"rate_hz": 0.0}, "whole multiple of samples.rate_hz"),
        ({"hop_s": 0.03}, "hop_s"),
        ({"hop_s": 0.0}, "hop_s"),
        ({"past_s": -1.0}, "past_s"),
        ({"low_pass_hz": 30.0}, "fold back"),
        ({"high_pass_hz": 16.0}, "high_pass_hz < low_pass_hz"),
        ({"low_pass_hz": float("inf")}, "finite"),
        ({"order": 0}, "order"),
    ],
)
def test_unusable_settings_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        make_extractor(SampleSpec(**changes), sfreq_hz=250.0, n_channels=1)
