"""Sliding-TR averages: how many volumes, which ones, and their mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import SettingError
from models.features import batch_features, make_extractor
from models.spec import TrMeanSpec
from models.tr_mean import average_at, n_volumes, volumes_at
from tests.models.chunks import cut


@pytest.mark.parametrize(
    ("window_s", "tr_s", "n"),
    [
        (4.5, 1.5, 3),
        (4.5, 1 / 0.6667, 3),  # a rate with four digits
        (4.5, float(1 / np.float32(1 / 1.5)), 3),
        (10.0, 1.5, 7),  # Brain2Music's list: 0-1.5 ... 9-10.5
        (5.0, 1.5, 4),
        (15.0, 1.5, 10),
        (1.5, 1.5, 1),
        (0.1, 2.0, 1),
        (2.0045, 2.0045, 1),
        (8.018, 2.0045, 4),
        (4.6, 1.5, 4),
    ],
)
def test_number_of_volumes_is_the_ceiling_safe_against_rounded_rates(
    window_s: float, tr_s: float, n: int
) -> None:
    assert n_volumes(window_s, tr_s=tr_s) == n


@given(n=st.integers(1, 200), tr_s=st.floats(0.3, 5.0))
def test_a_window_of_n_volumes_is_n_volumes(n: int, tr_s: float) -> None:
    assert n_volumes(n * tr_s, tr_s=tr_s) == n
    assert n_volumes(n * tr_s, tr_s=1.0 / (1.0 / tr_s)) == n
    assert n_volumes((n - 0.5) * tr_s, tr_s=tr_s) == n


def test_an_average_is_that_of_its_volumes() -> None:
    volumes = (1000 + np.random.default_rng(1).standard_normal((40, 7))).astype(np.float32)
    spec = TrMeanSpec(window_s=10.0, hop_volumes=2, start_volume=3)
    extractor = make_extractor(spec, sfreq_hz=1 / 1.5, n_channels=7)
    features = extractor.push(volumes)
    assert [f.start for f in features] == list(range(3, 34, 2))
    for feature in features:
        assert feature.stop - feature.start == 7
        mean = volumes[feature.start : feature.stop].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(feature.values, mean, rtol=1e-7)


@settings(max_examples=20, deadline=None)
@given(
    n_delays=st.integers(1, 5),
    window_s=st.sampled_from([1.5, 4.0, 9.0]),
    hop_volumes=st.integers(1, 3),
    start_volume=st.integers(0, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_delays_put_successive_averages_side_by_side_in_any_chunks(
    n_delays: int, window_s: float, hop_volumes: int, start_volume: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    volumes = (1000 + rng.standard_normal((40, 3))).astype(np.float32)
    one = TrMeanSpec(window_s=window_s, start_volume=start_volume)
    spec = replace(one, n_delays=n_delays, hop_volumes=hop_volumes)
    extractor = make_extractor(spec, sfreq_hz=1 / 1.5, n_channels=3)
    features = [f for chunk in cut(volumes, rng, longest=9) for f in extractor.push(chunk)]
    starts, stops, values = batch_features(spec, volumes, sfreq_hz=1 / 1.5)
    assert [(f.start, f.stop) for f in features] == list(zip(starts, stops, strict=True))
    np.testing.assert_array_equal(
        np.array([f.values for f in features]).reshape(-1, 3 * n_delays), values
    )
    assert extractor.n_features == len(extractor.labels) == int(np.prod(extractor.shape))
    _, _, single = batch_features(one, volumes, sfreq_hz=1 / 1.5)
    for row, start in zip(values, starts - start_volume, strict=True):
        np.testing.assert_array_equal(row.reshape(n_delays, 3), single[start : start + n_delays])
    assert len(starts) == len(single[: len(single) - n_delays + 1 : hop_volumes])


def test_delays_are_named_by_their_age() -> None:
    extractor = make_extractor(TrMeanSpec(n_delays=2), sfreq_hz=1 / 1.5, n_channels=2)
    assert extractor.labels[0] == "voxel 0, 1 volumes ago"
    assert extractor.labels[3] == "voxel 1, 0 volumes ago"
    assert extractor.window_samples == 4
    with pytest.raises(SettingError, match="n_delays"):
        average_at(np.zeros((20, 2)), [0.0], TrMeanSpec(n_delays=2), tr_s=1.5)


def test_dummies_are_not_left_out_again_after_a_gap() -> None:
    extractor = make_extractor(TrMeanSpec(window_s=2.0, start_volume=4), sfreq_hz=1.0, n_channels=1)
    extractor.reset(first=100)
    assert [f.start for f in extractor.push(np.ones((3, 1)))] == [100, 101]
    extractor.reset(first=2)
    assert [f.start for f in extractor.push(np.ones((6, 1)))] == [4, 5, 6]


def test_a_lag_of_three_volumes_moves_the_answer_by_three() -> None:
    spec = TrMeanSpec(window_s=15.0)
    assert volumes_at(0.0, spec, tr_s=1.5) == (0, 10)
    assert volumes_at(0.0, spec, tr_s=1.5, lag_s=4.5) == (3, 13)
    assert volumes_at(15.0, spec, tr_s=1.5, lag_s=4.5) == (13, 23)
    assert volumes_at(15.0, spec, tr_s=1.5, lag_s=5.0) == (14, 24)  # starts at or after 20 s


def test_offline_averages_are_those_that_the_stream_gives() -> None:
    volumes = np.random.default_rng(2).standard_normal((60, 5)).astype(np.float32)
    spec = TrMeanSpec(window_s=6.0, start_volume=2)
    live = {
        f.start: f.values for f in make_extractor(spec, sfreq_hz=0.5, n_channels=5).push(volumes)
    }
    onsets = np.arange(0.0, 90.0, 12.0)
    offline = average_at(volumes, onsets, spec, tr_s=2.0, lag_s=5.0)
    for onset, row in zip(onsets, offline, strict=True):
        start, _ = volumes_at(float(onset), spec, tr_s=2.0, lag_s=5.0)
        np.testing.assert_allclose(row, live[start], rtol=1e-6)


def test_stimuli_without_their_volumes_are_refused() -> None:
    volumes = np.zeros((10, 2), np.float32)
    with pytest.raises(SettingError, match="the run has 10"):
        average_at(volumes, [18.0], TrMeanSpec(window_s=4.0), tr_s=2.0)
    with pytest.raises(SettingError, match="left out"):
        average_at(volumes, [0.0], TrMeanSpec(start_volume=2), tr_s=2.0)
    assert average_at(volumes, [], TrMeanSpec(), tr_s=2.0).shape == (0, 2)


@pytest.mark.parametrize(
    "spec", [TrMeanSpec(hop_volumes=0), TrMeanSpec(start_volume=-1), TrMeanSpec(window_s=0.0)]
)
def test_unusable_settings_are_refused(spec: TrMeanSpec) -> None:
    with pytest.raises(SettingError, match="Expected"):
        make_extractor(spec, sfreq_hz=0.5, n_channels=1)
