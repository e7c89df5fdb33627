"""Live equals offline, for every kind of feature and any cut of the signal into chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from models.features import Feature, FeatureExtractor, batch_features, make_extractor
from models.spec import BandPowerSpec, FeatureSpec, PsdSpec, SampleSpec, TrMeanSpec
from tests.models.chunks import cut

CASES: dict[str, tuple[FeatureSpec, float]] = {
    "welch": (PsdSpec(window_s=2.0, hop_s=0.25, segment_s=0.5), 128.0),
    "welch, segments shared by no window": (
        PsdSpec(window_s=2.0, hop_s=0.3, segment_s=0.5, overlap=0.37, log10=False),
        100.0,
    ),
    "welch, hop of several segments": (PsdSpec(window_s=2.0, hop_s=1.0, segment_s=0.5), 100.0),
    "welch, hop past the window": (PsdSpec(window_s=1.0, hop_s=1.7, segment_s=0.5), 100.0),
    "periodogram": (PsdSpec(method="periodogram", window_s=1.0, taper="boxcar"), 125.0),
    "median, linear": (PsdSpec(average="median", detrend="linear", taper="kaiser,8.6"), 64.0),
    "bands": (BandPowerSpec(PsdSpec(window_s=2.0)), 100.0),
    "relative bands": (BandPowerSpec(PsdSpec(window_s=2.0, log10=False), relative=True), 100.0),
    "samples": (SampleSpec(), 250.0),
    "samples, undecimated": (SampleSpec(rate_hz=100.0, hop_s=0.05, past_s=0.0), 100.0),
    "volumes": (TrMeanSpec(window_s=4.5), 1 / 1.5),
    "volumes, dummies and hop": (TrMeanSpec(window_s=10.0, hop_volumes=3, start_volume=4), 0.5),
    "volumes, hop past the window": (TrMeanSpec(window_s=3.0, hop_volumes=5), 0.5),
}


def eeg(n: int, n_channels: int, seed: int) -> NDArray[np.float32]:
    """Drifting signal of EEG's scale on an electrode offset of 1e5 uV."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.standard_normal((n, n_channels)), axis=0)
    return (0.1 + 1e-6 * walk + 1e-5 * rng.standard_normal((n, n_channels))).astype(np.float32)


def run(extractor: FeatureExtractor, chunks: Any) -> list[Feature]:
    return [feature for chunk in chunks for feature in extractor.push(chunk)]


@pytest.mark.parametrize("name", CASES)
def test_streaming_equals_batch(name: str) -> None:
    spec, sfreq = CASES[name]
    samples = eeg(1500, 3, seed=1)
    extractor = make_extractor(spec, sfreq_hz=sfreq, n_channels=3)
    features = run(extractor, cut(samples, np.random.default_rng(2), longest=300))
    starts, stops, values = batch_features(spec, samples, sfreq_hz=sfreq)
    assert len(features) > 5
    assert [feature.start for feature in features] == starts.tolist()
    assert [feature.stop for feature in features] == stops.tolist()
    ours = np.array([feature.values for feature in features])
    # Relative to the value; logarithms near 0 to the size of one decade.
    scale = np.maximum(np.abs(values), 1e-3 * np.abs(values).max())
    assert np.max(np.abs(ours - values) / scale) < 1e-5


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), longest=st.sampled_from([1, 2, 7, 64, 500]))
def test_chunks_change_no_bit(name: str, seed: int, longest: int) -> None:
    spec, sfreq = CASES[name]
    samples = eeg(700, 2, seed=3)
    whole = run(make_extractor(spec, sfreq_hz=sfreq, n_channels=2), [samples])
    rng = np.random.default_rng(seed)
    pieces = run(
        make_extractor(spec, sfreq_hz=sfreq, n_channels=2), cut(samples, rng, longest=longest)
    )
    assert [(f.start, f.stop, f.values.tobytes()) for f in pieces] == [
        (f.start, f.stop, f.values.tobytes()) for f in whole
    ]


@pytest.mark.parametrize("name", CASES)
def test_shape_labels_and_window_describe_the_features(name: str) -> None:
    spec, sfreq = CASES[name]
    extractor = make_extractor(spec, sfreq_hz=sfreq, n_channels=3)
    first, second, *_ = run(extractor, [eeg(1500, 3, seed=4)])
    assert first.values.shape == (extractor.n_features,)
    assert first.values.dtype == np.float32
    assert not first.values.flags.writeable
    assert int(np.prod(extractor.shape)) == extractor.n_features == len(extractor.labels)
    assert len(set(extractor.labels)) == extractor.n_features
    assert first.stop - first.start == extractor.window_samples
    assert second.start - first.start == extractor.hop_samples


@pytest.mark.parametrize("name", CASES)
def test_the_future_changes_no_feature(name: str) -> None:
    spec, sfreq = CASES[name]
    samples = eeg(1500, 2, seed=5)
    other = samples.copy()
    other[1000:] = 7.0
    before = run(make_extractor(spec, sfreq_hz=sfreq, n_channels=2), [samples])
    after = run(make_extractor(spec, sfreq_hz=sfreq, n_channels=2), [other])
    for a, b in zip(before, after, strict=True):
        if a.stop <= 1000:
            assert a.values.tobytes() == b.values.tobytes()


@pytest.mark.parametrize("name", CASES)
def test_a_reset_forgets_all_and_counts_from_where_it_is_told(name: str) -> None:
    spec, sfreq = CASES[name]
    samples = eeg(900, 2, seed=6)
    extractor = make_extractor(spec, sfreq_hz=sfreq, n_channels=2)
    extractor.push(eeg(777, 2, seed=7))
    extractor.reset(first=10_000)
    again = run(extractor, cut(samples, np.random.default_rng(0), longest=100))
    fresh = make_extractor(spec, sfreq_hz=sfreq, n_channels=2)
    fresh.reset(first=10_000)
    whole = run(fresh, [samples])
    assert whole[0].start == 10_000
    assert [(f.start, f.values.tobytes()) for f in again] == [
        (f.start, f.values.tobytes()) for f in whole
    ]


@pytest.mark.parametrize("name", CASES)
def test_too_little_signal_gives_no_feature(name: str) -> None:
    spec, sfreq = CASES[name]
    for n in (0, 1):
        samples = np.ones((n, 2), np.float32)
        starts, stops, values = batch_features(spec, samples, sfreq_hz=sfreq)
        extractor = make_extractor(spec, sfreq_hz=sfreq, n_channels=2)
        assert len(extractor.push(samples)) == len(starts) == len(stops) == len(values)
        assert values.shape[1] == extractor.n_features


def test_a_pushed_chunk_may_be_overwritten_by_its_owner() -> None:
    for spec, sfreq in CASES.values():
        samples = eeg(700, 2, seed=8)
        kept = run(make_extractor(spec, sfreq_hz=sfreq, n_channels=2), [samples])
        extractor = make_extractor(spec, sfreq_hz=sfreq, n_channels=2)
        buffer, features = np.empty((100, 2), np.float32), []
        for at in range(0, 700, 100):
            buffer[:] = samples[at : at + 100]
            features += extractor.push(buffer)
            buffer[:] = np.nan
        assert [f.values.tobytes() for f in features] == [f.values.tobytes() for f in kept]


@pytest.mark.parametrize(
    ("samples", "says"),
    [(np.zeros((5, 3)), r"\(n, 2\), got \(5, 3\)"), (np.zeros(5), r"got \(5,\)")],
)
def test_samples_of_another_shape_are_refused(samples: NDArray[np.float64], says: str) -> None:
    extractor = make_extractor(TrMeanSpec(), sfreq_hz=0.5, n_channels=2)
    with pytest.raises(SettingError, match=says):
        extractor.push(samples)


@pytest.mark.parametrize("sfreq", [0.0, -1.0, float("nan"), float("inf")])
def test_an_irregular_rate_is_refused(sfreq: float) -> None:
    with pytest.raises(SettingError, match="sampling rate"):
        make_extractor(PsdSpec(), sfreq_hz=sfreq, n_channels=2)
    with pytest.raises(SettingError, match="sampling rate"):
        batch_features(PsdSpec(), np.zeros((10, 2)), sfreq_hz=sfreq)


def test_something_else_than_a_specification_is_refused() -> None:
    wrong: Any = {"kind": "psd"}
    with pytest.raises(SettingError, match="feature specification"):
        make_extractor(wrong, sfreq_hz=100.0, n_channels=2)
    with pytest.raises(SettingError, match="feature specification"):
        batch_features(wrong, np.zeros((10, 2)), sfreq_hz=100.0)
    with pytest.raises(SettingError, match="one channel"):
        make_extractor(TrMeanSpec(), sfreq_hz=1.0, n_channels=0)
