"""The PSD against SciPy, over its settings; and band power against the trapezoid rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.band_power import band_weights
from models.errors import SettingError
from models.features import make_extractor
from models.psd_plan import get_taper
from models.spec import BandPowerSpec, PsdSpec

TAPERS: dict[str, Any] = {
    **{
        name: name
        for name in (
            "barthann bartlett blackman blackmanharris bohman boxcar cosine flattop hamming hann "
            "lanczos nuttall parzen taylor triang tukey"
        ).split()
    },
    "kaiser,8.6": ("kaiser", 8.6),
    "4.5": 4.5,
    "gaussian,20": ("gaussian", 20.0),
    "general_gaussian,1.5,20": ("general_gaussian", 1.5, 20.0),
    "general_cosine,0.5,0.3,0.2": ("general_cosine", [0.5, 0.3, 0.2]),
    "general_hamming,0.6": ("general_hamming", 0.6),
    "chebwin,100": ("chebwin", 100.0),
    "dpss,2.5": ("dpss", 2.5),
    "tukey,0.3": ("tukey", 0.3),
    "exponential,none,15": ("exponential", None, 15.0),
    "taylor,5,40": ("taylor", 5, 40),
}


def noise(kind: str, n: int, n_channels: int, seed: int) -> NDArray[np.float32]:
    """Signals in V, at EEG's scale."""
    rng = np.random.default_rng(seed)
    signal = 1e-5 * rng.standard_normal((n, n_channels))
    if kind == "1/f":
        signal = np.cumsum(signal, axis=0)
    if kind == "offset":  # 1e5 uV, as an electrode may have
        signal = signal + 0.1
    if kind == "line":  # 50 mV of mains on 1 uV
        signal = 0.1 * signal + 0.05 * np.sin(0.7 * np.arange(n))[:, np.newaxis]
    if kind == "tiny":
        signal = signal * 1e-5
    return signal.astype(np.float32)


def assert_close(ours: NDArray[np.float32], reference: NDArray[np.float64]) -> None:
    """Equal to 1e-5 of each value, or of 1e-7 of the channel's largest where that is more.

    At bins that lie more than 70 dB below the channel's largest, and where detrending leaves
    nothing, the reference itself is the rounding of its input.
    """
    floor = 1e-7 * reference.max(axis=0, keepdims=True)
    error = np.abs(ours - reference) / np.maximum(np.abs(reference), np.maximum(floor, 1e-300))
    assert np.max(error) < 1e-5


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(["white", "1/f", "offset", "line", "tiny"]),
    segment=st.integers(8, 200),
    extra=st.integers(0, 400),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.62, 0.9]),
    taper=st.sampled_from(["hann", "boxcar", "kaiser,8.6", "flattop", "tukey,0.3", "dpss,2.5"]),
    detrend=st.sampled_from(["constant", "linear", "none"]),
    scaling=st.sampled_from(["density", "spectrum"]),
    average=st.sampled_from(["mean", "median"]),
    sfreq=st.sampled_from([1.0, 125.0, 1000.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_welch_equals_scipy(
    kind: str,
    segment: int,
    extra: int,
    overlap: float,
    taper: str,
    detrend: Any,
    scaling: Any,
    average: Any,
    sfreq: float,
    seed: int,
) -> None:
    n = segment + extra
    spec = PsdSpec(
        window_s=n / sfreq,
        hop_s=n / sfreq,
        segment_s=segment / sfreq,
        overlap=overlap,
        taper=taper,
        detrend=detrend,
        scaling=scaling,
        average=average,
        log10=False,
    )
    samples = noise(kind, n, 2, seed)
    extractor = make_extractor(spec, sfreq_hz=sfreq, n_channels=2)
    (feature,) = extractor.push(samples)
    welch: Any = scipy.signal.welch
    _, reference = welch(
        samples.astype(np.float64),
        fs=sfreq,
        window=TAPERS[taper],
        nperseg=segment,
        noverlap=int(overlap * segment + 1e-9),
        detrend=False if detrend == "none" else detrend,
        scaling=scaling,
        average=average,
        axis=0,
    )
    assert_close(feature.values.reshape(extractor.shape), reference)


@pytest.mark.parametrize("taper", TAPERS)
@pytest.mark.parametrize("detrend", ["constant", "linear", "none"])
def test_periodogram_equals_scipy_for_every_taper(taper: str, detrend: Any) -> None:
    samples = noise("1/f", 126, 3, seed=1)
    spec = PsdSpec(
        method="periodogram",
        window_s=126 / 250,
        taper=taper,
        detrend=detrend,
        log10=False,
    )
    extractor = make_extractor(spec, sfreq_hz=250.0, n_channels=3)
    (feature,) = extractor.push(samples)
    periodogram: Any = scipy.signal.periodogram
    _, reference = periodogram(
        samples.astype(np.float64),
        250.0,
        window=scipy.signal.get_window(TAPERS[taper], 126),  # welch itself takes no bare number
        detrend=False if detrend == "none" else detrend,
        axis=0,
    )
    assert_close(feature.values.reshape(extractor.shape), reference)


def test_every_window_of_a_long_stream_equals_scipy() -> None:
    samples = noise("1/f", 20_000, 4, seed=2)
    spec = PsdSpec(log10=False)  # 4 s windows, 1 s segments, hop 0.25 s
    extractor = make_extractor(spec, sfreq_hz=1000.0, n_channels=4)
    features = [f for at in range(0, 20_000, 33) for f in extractor.push(samples[at : at + 33])]
    assert len(features) == 65
    for feature in features:
        window = samples[feature.start : feature.stop].astype(np.float64)
        _, reference = scipy.signal.welch(window, 1000.0, nperseg=1000, noverlap=500, axis=0)
        assert_close(feature.values.reshape(extractor.shape), reference)


@pytest.mark.parametrize(("n_channels", "window_s"), [(70, 3.0), (3, 30.0)])
def test_more_channels_and_segments_than_are_worked_on_at_once_equal_scipy(
    n_channels: int, window_s: float
) -> None:
    samples = noise("1/f", round(100 * window_s) + 350, n_channels, seed=11)
    spec = PsdSpec(window_s=window_s, hop_s=0.5, segment_s=0.6, log10=False)
    extractor = make_extractor(spec, sfreq_hz=100.0, n_channels=n_channels)
    features = extractor.push(samples)
    assert len(features) == 8
    for feature in features:
        window = samples[feature.start : feature.stop].astype(np.float64)
        _, reference = scipy.signal.welch(window, 100.0, nperseg=60, noverlap=30, axis=0)
        assert_close(feature.values.reshape(extractor.shape), reference)


def test_the_buffer_size_of_numpy_is_left_as_it_was() -> None:
    usual = np.getbufsize()
    extractor = make_extractor(PsdSpec(), sfreq_hz=100.0, n_channels=2)
    assert extractor.push(noise("white", 1000, 2, seed=12))
    assert np.getbufsize() == usual


def test_one_second_at_125_hz_has_the_shape_of_eeg_to_mel() -> None:
    spec = PsdSpec(method="periodogram", window_s=1.0, hop_s=1.0, taper="boxcar", log10=False)
    extractor = make_extractor(spec, sfreq_hz=125.0, n_channels=125)
    assert extractor.shape == (63, 125)
    samples = noise("white", 125, 125, seed=3)
    (feature,) = extractor.push(samples)
    _, reference = scipy.signal.periodogram(samples.astype(np.float64), 125.0, axis=0)
    assert_close(feature.values.reshape(63, 125), reference)


def test_log10_is_that_of_the_power_with_a_floor_for_a_dead_channel() -> None:
    samples = noise("offset", 500, 2, seed=4)
    samples[:, 1] = 0.1
    linear = make_extractor(PsdSpec(window_s=2.0, log10=False), sfreq_hz=250.0, n_channels=2)
    log = make_extractor(PsdSpec(window_s=2.0), sfreq_hz=250.0, n_channels=2)
    power = linear.push(samples)[0].values.reshape(linear.shape)
    values = log.push(samples)[0].values.reshape(log.shape)
    np.testing.assert_allclose(values[:, 0], np.log10(power[:, 0]), rtol=1e-6)
    assert np.all(power[:, 1] == 0)
    np.testing.assert_allclose(values[:, 1], np.log10(np.finfo(np.float32).tiny), rtol=1e-6)


def test_what_detrending_leaves_at_0_hz_without_a_taper_is_exactly_nothing() -> None:
    spec = PsdSpec(method="periodogram", window_s=1.0, taper="boxcar", log10=False)
    extractor = make_extractor(spec, sfreq_hz=125.0, n_channels=2)
    values = extractor.push(noise("offset", 125, 2, seed=5))[0].values.reshape(63, 2)
    assert np.all(values[0] == 0)
    assert np.all(values[1:] > 0)


def test_bins_are_kept_from_fmin_to_fmax_both_included() -> None:
    spec = PsdSpec(fmin_hz=0.3, fmax_hz=0.7, window_s=20.0, segment_s=10.0, log10=False)
    extractor = make_extractor(spec, sfreq_hz=100.0, n_channels=1)
    assert extractor.labels[0] == "0.3 Hz, channel 0"
    assert extractor.shape == (5, 1)
    samples = noise("white", 2000, 1, seed=6)
    _, reference = scipy.signal.welch(samples.astype(np.float64), 100.0, nperseg=1000, axis=0)
    assert_close(extractor.push(samples)[0].values.reshape(5, 1), reference[3:8])


@pytest.mark.parametrize("hop", [1, 3, 250])
def test_a_window_is_the_same_whether_segments_are_shared_or_not(hop: int) -> None:
    samples = noise("1/f", 600, 2, seed=7)
    spec = PsdSpec(window_s=2.0, hop_s=hop / 100, segment_s=0.5, log10=False)
    alone = PsdSpec(window_s=2.0, hop_s=2.0, segment_s=0.5, log10=False)
    for feature in make_extractor(spec, sfreq_hz=100.0, n_channels=2).push(samples)[-20:]:
        window = samples[feature.start : feature.stop]
        (single,) = make_extractor(alone, sfreq_hz=100.0, n_channels=2).push(window)
        assert single.values.tobytes() == feature.values.tobytes()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "fft"}, "psd.method"),
        ({"detrend": "cubic"}, "psd.detrend"),
        ({"window_s": 0.0}, "psd.window_s"),
        ({"hop_s": float("nan")}, "psd.hop_s"),
        ({"segment_s": 5.0}, "segment_s <= window_s"),
        ({"overlap": 1.0}, "psd.overlap"),
        ({"overlap": -0.1}, "psd.overlap"),
        ({"taper": "hanning?"}, "no taper"),
        ({"taper": "kaiser"}, "no taper"),
        ({"taper": "kaiser,x"}, "no taper"),
        ({"fmin_hz": 200.0}, "No frequency bin"),
        ({"fmin_hz": 10.2, "fmax_hz": 10.8}, "No frequency bin"),
    ],
)
def test_unusable_settings_are_refused_with_what_is_wrong(
    changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(SettingError, match=says):
        make_extractor(PsdSpec(**changes), sfreq_hz=250.0, n_channels=2)


def test_taper_names_take_spaces_and_periodic_windows() -> None:
    np.testing.assert_array_equal(
        get_taper(" kaiser , 8.6 ", 50), scipy.signal.get_window(("kaiser", 8.6), 50)
    )


def test_bands_on_bins_are_integrated_as_scipy_does() -> None:
    samples = noise("1/f", 1000, 3, seed=8)
    bands = (("theta", 4.0, 8.0), ("alpha", 8.0, 12.0), ("beta", 12.0, 30.0))
    psd = PsdSpec(window_s=4.0, log10=False, fmax_hz=45.0)
    freqs, power = scipy.signal.welch(samples.astype(np.float64), 250.0, nperseg=250, axis=0)
    for relative in (False, True):
        spec = BandPowerSpec(psd, bands=bands, relative=relative)
        extractor = make_extractor(spec, sfreq_hz=250.0, n_channels=3)
        values = extractor.push(samples)[0].values.reshape(3, 3)
        for row, (_, low, high) in zip(values, bands, strict=True):
            inside = (freqs >= low) & (freqs <= high)
            reference = scipy.integrate.trapezoid(power[inside], freqs[inside], axis=0)
            if relative:
                kept = freqs <= 45.0
                reference /= scipy.integrate.trapezoid(power[kept], freqs[kept], axis=0)
            np.testing.assert_allclose(row, reference, rtol=1e-5)


def test_log10_band_power_is_taken_after_the_integral() -> None:
    samples = noise("white", 1000, 2, seed=9)
    values = [
        make_extractor(BandPowerSpec(PsdSpec(log10=log10)), sfreq_hz=250.0, n_channels=2)
        .push(samples)[0]
        .values
        for log10 in (False, True)
    ]
    np.testing.assert_allclose(values[1], np.log10(values[0]), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    edges=st.lists(st.floats(0.0, 50.0), min_size=3, max_size=3, unique=True).map(sorted),
    seed=st.integers(0, 2**32 - 1),
)
def test_adjoining_bands_add_up_to_their_union(edges: list[float], seed: int) -> None:
    low, middle, high = edges
    freqs = np.arange(51.0)
    density = np.random.default_rng(seed).random(51)
    if min(middle - low, high - middle) < 1e-6:
        return
    parts = band_weights((("a", low, middle), ("b", middle, high), ("c", low, high)), freqs)
    first, second, union = parts @ density
    np.testing.assert_allclose(first + second, union, rtol=1e-6, atol=1e-6)
    fine = np.linspace(low, high, 20_001)
    exact = scipy.integrate.trapezoid(np.interp(fine, freqs, density), fine)
    np.testing.assert_allclose(union, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("bands", "says"),
    [
        ((("gamma", 80.0, 200.0),), "'gamma' goes from 80 to 200 Hz"),
        ((("none", 8.0, 8.0),), "'none' goes"),
        ((), "different names"),
        ((("a", 1.0, 2.0), ("a", 2.0, 3.0)), "different names"),
    ],
)
def test_unusable_bands_are_refused(bands: Any, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        make_extractor(BandPowerSpec(PsdSpec(), bands=bands), sfreq_hz=250.0, n_channels=1)


def test_band_power_of_a_spectrum_is_refused() -> None:
    with pytest.raises(SettingError, match="density"):
        make_extractor(BandPowerSpec(PsdSpec(scaling="spectrum")), sfreq_hz=250.0, n_channels=1)
