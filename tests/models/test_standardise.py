"""Causal standardisation equals its batch form, and never looks ahead."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from models.spec import StandardiseSpec
from models.standardise import Standardiser, standardise_batch, standardise_offline, statistics
from tests.models.chunks import cut


def features(n: int, n_features: int, seed: int) -> NDArray[np.float32]:
    """log10 PSD of EEG: around -12, with a drift."""
    rng = np.random.default_rng(seed)
    drift = np.linspace(0, 2, n)[:, np.newaxis]
    return (-12 + drift + 0.5 * rng.standard_normal((n, n_features))).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(
    prior_n=st.sampled_from([0.5, 1.0, 37.0, 1e6, float("inf")]),
    clip=st.sampled_from([0.0, 2.0, 8.0]),
    bad=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_streaming_in_chunks_equals_batch(
    prior_n: float, clip: float, bad: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = features(120, 5, seed)
    if bad:
        values[rng.random(values.shape) < 0.1] = np.nan
        values[5, 1] = np.inf
    spec = StandardiseSpec(prior_n=prior_n, clip=clip)
    mean, std = statistics(features(200, 5, seed + 1))
    stream = Standardiser(spec, mean, std)
    ours = np.concatenate([stream.push(chunk) for chunk in cut(values, rng, longest=20)])
    batch = standardise_batch(spec, values, mean, std)
    np.testing.assert_allclose(ours, batch, rtol=1e-5, atol=1e-5)
    assert ours.dtype == batch.dtype == np.float32
    assert np.isfinite(ours).all()
    assert stream.n_invalid == np.count_nonzero(~np.isfinite(values))


def test_each_window_is_judged_by_the_prior_and_the_windows_before_it() -> None:
    prior = features(50, 3, seed=1).astype(np.float64)
    values = features(30, 3, seed=2).astype(np.float64)
    stream = Standardiser(StandardiseSpec(prior_n=50, clip=0), *statistics(prior))
    ours = stream.push(values)
    for index in range(30):
        seen = np.concatenate((prior, values[:index]))
        expected = (values[index] - seen.mean(axis=0)) / seen.std(axis=0)
        np.testing.assert_allclose(ours[index], expected, rtol=1e-5)


def test_an_infinite_prior_keeps_the_calibration_statistics_for_ever() -> None:
    mean, std = np.array([1.0, -12.0]), np.array([2.0, 0.5])
    stream = Standardiser(StandardiseSpec(), mean, std)
    values = np.array([[3.0, -11.0], [1e3, -1e3], [3.0, -11.0]])
    np.testing.assert_allclose(stream.push(values), [[1, 2], [8, -8], [1, 2]])


def test_one_vector_at_a_time_is_the_same_as_many() -> None:
    values = features(20, 4, seed=3)
    spec = StandardiseSpec(prior_n=3)
    one, many = (Standardiser(spec, np.full(4, -12.0), np.full(4, 0.5)) for _ in range(2))
    rows = np.array([one.push(row) for row in values])
    assert rows.tobytes() == many.push(values).tobytes()


def test_the_future_changes_nothing() -> None:
    values = features(20, 4, seed=4)
    other = values.copy()
    other[10:] = 99.0
    spec = StandardiseSpec(prior_n=3)
    prior = np.full(4, -12.0), np.full(4, 0.5)
    before, after = Standardiser(spec, *prior).push(values), Standardiser(spec, *prior).push(other)
    np.testing.assert_array_equal(before[:10], after[:10])


def test_a_reset_goes_back_to_the_calibration_statistics() -> None:
    stream = Standardiser(StandardiseSpec(prior_n=2), np.zeros(3), np.ones(3))
    values = features(20, 3, seed=5)
    first = stream.push(values)
    stream.push(np.full((5, 3), np.nan))
    stream.reset()
    assert stream.n_invalid == 0
    assert stream.push(values).tobytes() == first.tobytes()


def test_offline_has_zero_mean_and_unit_variance() -> None:
    values = features(500, 4, seed=6)
    ours = standardise_offline(values)
    np.testing.assert_allclose(ours.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(ours.std(axis=0), 1, atol=1e-5)
    clipped = standardise_offline(values, spec=StandardiseSpec(mode="offline", clip=1.0))
    np.testing.assert_array_equal(clipped, np.clip(ours, -1, 1))


def test_a_feature_that_does_not_vary_gives_zero() -> None:
    values = np.full((50, 2), -37.92978, np.float32)
    values[:, 1] = np.arange(50)
    assert np.all(standardise_offline(values)[:, 0] == 0)
    stream = Standardiser(StandardiseSpec(prior_n=5), *statistics(values))
    assert np.all(stream.push(values)[:, 0] == 0)


def test_invalid_values_give_zero_and_are_not_learned() -> None:
    stream = Standardiser(StandardiseSpec(prior_n=4), np.zeros(2), np.ones(2))
    clean = Standardiser(StandardiseSpec(prior_n=4), np.zeros(2), np.ones(2))
    assert np.all(stream.push([np.nan, np.inf]) == 0)
    assert stream.n_invalid == 2
    np.testing.assert_array_equal(stream.push([1.0, 2.0]), clean.push([1.0, 2.0]))


def test_mode_none_passes_values_through() -> None:
    values = features(5, 3, seed=7)
    spec = StandardiseSpec(mode="none")
    zeros, ones = np.zeros(3), np.ones(3)
    np.testing.assert_array_equal(Standardiser(spec, zeros, ones).push(values), values)
    np.testing.assert_array_equal(standardise_batch(spec, values, zeros, ones), values)


def test_offline_cannot_run_live() -> None:
    with pytest.raises(SettingError, match="causal"):
        Standardiser(StandardiseSpec(mode="offline"), np.zeros(2), np.ones(2))


@pytest.mark.parametrize(
    ("spec", "mean", "std", "says"),
    [
        (StandardiseSpec(prior_n=0), [0.0], [1.0], "prior_n"),
        (StandardiseSpec(clip=-1), [0.0], [1.0], "clip"),
        (StandardiseSpec(), [0.0, 1.0], [1.0], "same features"),
        (StandardiseSpec(), [np.nan], [1.0], "finite"),
        (StandardiseSpec(), [0.0], [-1.0], "finite"),
    ],
)
def test_unusable_statistics_are_refused(
    spec: StandardiseSpec, mean: list[float], std: list[float], says: str
) -> None:
    with pytest.raises(SettingError, match=says):
        Standardiser(spec, mean, std)


def test_the_wrong_number_of_features_is_refused() -> None:
    stream = Standardiser(StandardiseSpec(), np.zeros(3), np.ones(3))
    with pytest.raises(SettingError, match="3 features"):
        stream.push(np.zeros(4))
    with pytest.raises(SettingError, match="n_windows"):
        statistics(np.zeros((0, 3)))
