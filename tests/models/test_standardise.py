"""Causal standardisation equals its batch form, and never looks ahead."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from models.spec import StandardiseSpec
from models.standardise import Standardiser, standardise_batch, standardise_offline, statistics
from tests.models.chunks import cut

Learn = Literal["mean_std", "mean"]


def features(n: int, n_features: int, seed: int) -> NDArray[np.float32]:
    """log10 PSD of EEG: around -12, with a drift."""
    rng = np.random.default_rng(seed)
    drift = np.linspace(0, 2, n)[:, np.newaxis]
    return (-12 + drift + 0.5 * rng.standard_normal((n, n_features))).astype(np.float32)


def by_weights(
    spec: StandardiseSpec,
    values: NDArray[np.float64],
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Standardise by weighted means over all that came before, each written out anew.

    What is known counts for n windows: the prior for min(prior_n, forget_n), each window for one.
    Before the next window is added, all weights shrink so that they sum to forget_n at most.
    """
    n, n_features = values.shape
    out = np.zeros(values.shape)
    for k in range(n_features):
        weights, rows = np.array([min(spec.prior_n, spec.forget_n)]), np.array([mean[k]])
        for t in range(n):
            centre = np.average(rows, weights=weights)
            # The prior is itself a set of windows with a spread.
            square = np.average((rows - centre) ** 2, weights=weights)
            square += weights[0] / weights.sum() * std[k] ** 2
            spread = np.sqrt(square) if spec.learn == "mean_std" else std[k]
            if np.isfinite(values[t, k]):
                out[t, k] = (values[t, k] - centre) / spread
                weights, rows = np.append(weights, 1.0), np.append(rows, values[t, k])
                if weights.sum() > spec.forget_n:
                    weights = weights * (spec.forget_n / weights.sum())
    return np.clip(out, -spec.clip, spec.clip) if spec.clip else out


@settings(max_examples=40, deadline=None)
@given(
    prior_n=st.sampled_from([0.5, 1.0, 37.0, 1e6, float("inf")]),
    forget_n=st.sampled_from([1.0, 12.5, 60.0, float("inf")]),
    learn=st.sampled_from(["mean_std", "mean"]),
    clip=st.sampled_from([0.0, 2.0, 8.0]),
    bad=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_streaming_in_chunks_equals_batch_bit_for_bit(
    prior_n: float, forget_n: float, learn: Learn, clip: float, bad: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = features(120, 5, seed)
    if bad:
        values[rng.random(values.shape) < 0.1] = np.nan
        values[5, 1] = np.inf
    spec = StandardiseSpec(prior_n=prior_n, clip=clip, forget_n=forget_n, learn=learn)
    mean, std = statistics(features(200, 5, seed + 1))
    stream = Standardiser(spec, mean, std)
    ours = np.concatenate([stream.push(chunk) for chunk in cut(values, rng, longest=20)])
    batch = standardise_batch(spec, values, mean, std)
    assert ours.tobytes() == batch.tobytes()
    assert ours.dtype == batch.dtype == np.float32
    assert np.isfinite(ours).all()
    assert stream.n_invalid == np.count_nonzero(~np.isfinite(values))


@settings(max_examples=20, deadline=None)
@given(
    prior_n=st.sampled_from([0.5, 3.0, 40.0]),
    forget_n=st.sampled_from([1.0, 12.5, 60.0, float("inf")]),
    learn=st.sampled_from(["mean_std", "mean"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_running_statistics_equal_weighted_means_of_all_that_came_before(
    prior_n: float, forget_n: float, learn: Learn, seed: int
) -> None:
    values = features(50, 3, seed)
    values[7, 1] = np.nan
    spec = StandardiseSpec(prior_n=prior_n, clip=0.0, forget_n=forget_n, learn=learn)
    mean, std = statistics(features(200, 3, seed + 1))
    expected = by_weights(spec, values.astype(np.float64), mean, std)
    np.testing.assert_allclose(
        standardise_batch(spec, values, mean, std), expected, rtol=1e-4, atol=1e-4
    )


def test_a_forgetful_standardiser_follows_a_drift_and_finds_a_new_baseline() -> None:
    rng = np.random.default_rng(0)
    n = 410
    fast = rng.standard_normal((n, 50))
    drift = np.linspace(0.0, 6.0, n)[:, np.newaxis] + 4.0  # another session: 4 deviations higher
    mean, std = np.zeros(50), np.ones(50)
    late = slice(60, None)

    def error(spec: StandardiseSpec) -> float:
        ours = standardise_batch(spec, fast + drift, mean, std)
        return float(np.sqrt(np.mean((ours[late] - fast[late]) ** 2)))

    kept = error(StandardiseSpec())
    remembers = error(StandardiseSpec(prior_n=5, learn="mean"))
    forgets = error(StandardiseSpec(prior_n=5, learn="mean", forget_n=40))
    assert forgets < 0.7 < 1.8 < remembers < kept
    # A spread that goes on learning takes the jump of the baseline for noise.
    spread = standardise_batch(StandardiseSpec(prior_n=20), fast + drift, mean, std)
    assert spread[late].std(axis=0).mean() < 0.8


def test_without_a_limit_nothing_is_forgotten() -> None:
    values = features(60, 3, seed=8)
    prior = statistics(features(50, 3, seed=9))
    plain = standardise_batch(StandardiseSpec(prior_n=5), values, *prior)
    far = standardise_batch(StandardiseSpec(prior_n=5, forget_n=1e9), values, *prior)
    assert plain.tobytes() == far.tobytes()


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
        (StandardiseSpec(forget_n=0.5), [0.0], [1.0], "forget_n"),
        (StandardiseSpec(learn="std"), [0.0], [1.0], "learn"),  # type: ignore[arg-type]
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
