"""Each front-end against the program that its model was trained with, and stored numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from models.frontends.audioldm import AudioLdm48kMel, AudioLdmMel
from models.frontends.audiomae import AudioMaeFbank
from models.frontends.clap import LaionClapMel, MsClapMel
from models.frontends.mel_decibels import MelDecibels
from models.frontends.panns import PannsMel
from models.frontends.vggish import VggishMel
from models.mel import log_mel

Sound = NDArray[np.float32]
SOUNDS = ("chirp", "noise", "silence", "odd length", "loud square", "faint noise", "impulse")
SHORT = ("short", "one sample")


def sound(name: str, rate: int) -> Sound:
    """One second at a rate, or a little more or less."""
    rng = np.random.default_rng(1)
    t = np.arange(rate) / rate
    made: dict[str, NDArray[np.float64]] = {
        "chirp": 0.5 * np.sin(2 * np.pi * (50 * t + 0.2 * rate * t**2)),
        "noise": 0.1 * rng.standard_normal(rate),
        "silence": np.zeros(rate),
        "odd length": 0.3 * rng.standard_normal(rate + 321),
        "loud square": np.sign(np.sin(2 * np.pi * 440 * t)),
        "faint noise": 1e-6 * rng.standard_normal(rate),
        "impulse": np.eye(1, rate, 5000)[0],
        "short": 0.2 * rng.standard_normal(rate // 7),
        "one sample": np.array([0.5]),
    }
    return np.asarray(made[name], np.float32)


def librosa_bands(pcm: NDArray[Any], rate: int, **options: Any) -> NDArray[np.float64]:
    librosa = pytest.importorskip("librosa")
    bands: NDArray[np.float64] = librosa.feature.melspectrogram(
        y=np.asarray(pcm, np.float64), sr=rate, **options
    ).T
    return bands


@pytest.mark.parametrize("name", SOUNDS)
def test_audiomae_is_kaldi(name: str) -> None:
    knf = pytest.importorskip("kaldi_native_fbank")
    pcm = sound(name, 16_000)
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = 16_000
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "hanning"
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = 128
    options.mel_opts.low_freq = 20
    options.mel_opts.high_freq = 8_000
    options.use_energy = False
    kaldi = knf.OnlineFbank(options)
    kaldi.accept_waveform(16_000, (pcm - pcm.mean(dtype=np.float64)).astype(np.float32).tolist())
    kaldi.input_finished()
    theirs = np.array([kaldi.get_frame(i) for i in range(kaldi.num_frames_ready)])
    ours = AudioMaeFbank(n_frames=None, standardised=False)(pcm)
    assert ours.shape == theirs.shape
    # Kaldi's FFT is float32: 12 nepers of power (52 dB) below the loudest band of a frame it
    # begins to show its rounding. Down there the formula in float64 is the reference (below).
    loud = theirs > theirs.max(axis=1, keepdims=True) - 12.0
    np.testing.assert_allclose(ours[loud], theirs[loud], atol=1e-4)
    np.testing.assert_allclose(ours, theirs, atol=0.02)


@pytest.mark.parametrize("name", SOUNDS)
def test_audiomae_is_the_formula_in_every_band(name: str) -> None:
    pcm = sound(name, 16_000).astype(np.float64)
    pcm = pcm - pcm.mean()
    mel = [
        1127 * np.log(np.float32(1) + np.float32(k * 31.25) / np.float32(700)) for k in range(256)
    ]
    low, high = (1127 * np.log(np.float32(1) + np.float32(f) / np.float32(700)) for f in (20, 8000))
    step = (high - low) / np.float32(129)
    ours = AudioMaeFbank(n_frames=None, standardised=False)(pcm)
    assert len(ours) == 1 + (len(pcm) - 400) // 160
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(400), np.arange(256)) / 512)
    basis = np.zeros((256, 128))
    for band in range(128):
        left, top, right = (low + np.float32(band + i) * step for i in range(3))
        for k in range(256):
            if left < mel[k] < right:
                rises = mel[k] <= top
                basis[k, band] = (mel[k] - left) / step if rises else (right - mel[k]) / step
    for frame in range(0, len(ours), 7):
        x = pcm[160 * frame : 160 * frame + 400]
        x = x - x.mean()
        x = np.append(x[0] * (1 - 0.97), x[1:] - 0.97 * x[:-1])
        x = x * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399))
        power = np.abs(x @ fourier) ** 2
        expected = np.log(np.maximum(power @ basis, 1.1920929e-07))
        # Bands whose only bin lies at the very edge of the triangle: float32 weights differ.
        np.testing.assert_allclose(ours[frame], expected, atol=2e-3)
        assert np.mean(np.abs(ours[frame] - expected) > 1e-4) < 0.05


def test_audiomae_fills_with_zeros_before_it_standardises() -> None:
    raw = AudioMaeFbank(n_frames=None, standardised=False)(sound("noise", 16_000))
    ours = AudioMaeFbank()(sound("noise", 16_000))
    assert ours.shape == (1024, 128)
    np.testing.assert_allclose(ours[:98], (raw + 4.2677393) / (2 * 4.5689974), atol=1e-6)
    np.testing.assert_allclose(ours[98:], 4.2677393 / (2 * 4.5689974), atol=1e-6)
    long = np.tile(sound("noise", 16_000), 11)
    np.testing.assert_array_equal(
        AudioMaeFbank(n_frames=64)(long - long.mean()), AudioMaeFbank()(long - long.mean())[:64]
    )


def test_audiomae_patches_are_counted_and_ordered_by_time() -> None:
    assert [AudioMaeFbank.n_patches(round(s * 16_000)) for s in (4, 1.5, 2)] == [208, 80, 112]
    mel = np.arange(1024 * 128, dtype=np.float32).reshape(1024, 128)
    patches = AudioMaeFbank.patches(mel)
    assert patches.shape == (512, 256)
    np.testing.assert_array_equal(patches[8 * 3 + 5].reshape(16, 16), mel[48:64, 80:96])


@pytest.mark.parametrize("fmin_hz", [0.0, 50.0])
@pytest.mark.parametrize(("truncation", "scale"), [("rand_trunc", "slaney"), ("fusion", "htk")])
@pytest.mark.parametrize("name", [*SOUNDS, *SHORT])
def test_laion_clap_is_that_of_transformers(
    name: str, truncation: str, scale: Any, fmin_hz: float
) -> None:
    transformers = pytest.importorskip("transformers")
    pcm = sound(name, 48_000)
    extractor = transformers.ClapFeatureExtractor(
        frequency_min=fmin_hz, truncation=truncation, max_length_s=3
    )
    theirs = extractor(pcm, sampling_rate=48_000, return_tensors="np")["input_features"][0, 0]
    ours = LaionClapMel(fmin_hz=fmin_hz, scale=scale, seconds=3.0)(pcm)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_laion_clap_has_1001_frames_of_ten_seconds_and_refuses_more() -> None:
    assert LaionClapMel()(np.tile(sound("noise", 48_000), 10)).shape == (1001, 64)
    with pytest.raises(SettingError, match="fixed windows"):
        LaionClapMel()(np.zeros(480_001))


def test_laion_clap_rounds_to_16_bits_when_asked() -> None:
    rounded = LaionClapMel(int16=True, seconds=1.0)
    pcm = sound("noise", 48_000)
    steps = np.trunc(np.clip(pcm, -1, 1).astype(np.float64) * 32767) / 32767
    np.testing.assert_array_equal(rounded(pcm), LaionClapMel(seconds=1.0)(steps))
    assert np.all(rounded(sound("faint noise", 48_000)) == -100.0)


@pytest.mark.parametrize("name", [*SOUNDS, *SHORT])
def test_ms_clap_is_that_of_librosa_on_a_repeated_sound(name: str) -> None:
    librosa = pytest.importorskip("librosa")
    pcm = sound(name, 44_100)
    n = 7 * 44_100
    whole = np.tile(pcm, -(-n // len(pcm)))[:n]
    bands = librosa_bands(
        whole, 44_100, n_fft=1024, hop_length=320, n_mels=64, fmin=50, fmax=8_000,
        pad_mode="reflect",
    )  # fmt: skip
    ours = MsClapMel()(pcm)
    assert ours.shape == (965, 64)
    np.testing.assert_allclose(ours, librosa.power_to_db(bands, amin=1e-10, top_db=None), atol=1e-4)


@pytest.mark.parametrize("name", [*SOUNDS, *SHORT])
@pytest.mark.parametrize(
    ("rate", "n_fft", "hop", "fmax"), [(32_000, 1024, 320, 14_000), (16_000, 512, 160, 8_000)]
)
def test_panns_is_that_of_librosa(name: str, rate: int, n_fft: int, hop: int, fmax: int) -> None:
    librosa = pytest.importorskip("librosa")
    pcm = sound(name, rate)
    padded = np.pad(pcm.astype(np.float64), n_fft // 2, mode="reflect")
    bands = librosa_bands(
        padded, rate, n_fft=n_fft, hop_length=hop, n_mels=64, fmin=50, fmax=fmax, center=False
    )
    ours = PannsMel(rate)(pcm)
    assert ours.shape == (1 + len(pcm) // hop, 64)
    np.testing.assert_allclose(ours, librosa.power_to_db(bands, amin=1e-10, top_db=None), atol=1e-4)


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("front_end", [AudioLdmMel(), AudioLdm48kMel()])
def test_audioldm_is_that_of_librosa(name: str, front_end: AudioLdmMel) -> None:
    spec = front_end.spec
    pcm = sound(name, spec.sample_rate_hz).astype(np.float64)
    pcm = pcm - pcm.mean()
    pcm = pcm / (np.abs(pcm).max() + 1e-8) * 0.5
    bands = librosa_bands(
        pcm, spec.sample_rate_hz, n_fft=spec.n_fft, hop_length=spec.hop, n_mels=spec.n_mels,
        fmin=spec.fmin_hz, fmax=spec.fmax_hz, power=1.0, pad_mode="reflect",
    )  # fmt: skip
    ours = front_end(sound(name, spec.sample_rate_hz))
    np.testing.assert_allclose(ours, np.log(np.maximum(bands, 1e-5)), atol=1e-4)


def test_audioldm_keeps_loudness_when_asked() -> None:
    pcm = sound("noise", 16_000)
    plain = AudioLdmMel(normalised=False)
    np.testing.assert_array_equal(plain(pcm), log_mel(pcm, plain.spec))


@pytest.mark.parametrize("name", SOUNDS)
def test_vggish_is_the_released_formula(name: str) -> None:
    pcm = sound(name, 16_000).astype(np.float64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    n_frames = 1 + (len(pcm) - 400) // 160
    magnitude = np.abs(
        np.fft.rfft([pcm[160 * i : 160 * i + 400] * window for i in range(n_frames)], 512)
    )
    mel_of = np.vectorize(lambda hz: 1127.0 * np.log(1.0 + hz / 700.0))
    bins = mel_of(np.linspace(0.0, 8_000.0, 257))
    edges = np.linspace(mel_of(125.0), mel_of(7_500.0), 66)
    basis = np.empty((257, 64))
    for i in range(64):
        low, centre, high = edges[i : i + 3]
        basis[:, i] = np.maximum(
            0.0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
        )
    basis[0] = 0.0
    expected = np.log(magnitude @ basis + 0.01)
    ours = VggishMel()(pcm)
    assert ours.shape == (n_frames // 96, 96, 64)
    np.testing.assert_allclose(ours[0], expected[:96], atol=1e-4)


def test_vggish_drops_what_does_not_fill_a_window() -> None:
    assert VggishMel()(np.zeros(15_600)).shape == (1, 96, 64)
    assert VggishMel()(np.zeros(15_600 + 96 * 160 - 1)).shape == (1, 96, 64)
    assert VggishMel()(np.zeros(15_600 + 96 * 160)).shape == (2, 96, 64)
    with pytest.raises(SettingError, match="at least 15600"):
        VggishMel()(np.zeros(15_599))


@pytest.mark.parametrize("padding", ["constant", "reflect"])
@pytest.mark.parametrize("name", SOUNDS)
def test_mel_decibels_are_those_of_librosa_counted_double(name: str, padding: Any) -> None:
    pcm = sound(name, 22_050)
    x = 20 * np.log10(np.maximum(1e-5, librosa_bands(pcm, 22_050, pad_mode=padding)))
    plain = MelDecibels(scaled=False, padding=padding)(pcm)
    np.testing.assert_allclose(plain, x, atol=1e-4)
    scaled = MelDecibels(padding=padding)(pcm)
    np.testing.assert_allclose(scaled, np.clip((x - 46 + 100) / 100, 0, 1), atol=1e-6)


def test_one_second_is_44_mel_frames() -> None:
    assert MelDecibels()(np.zeros(22_050)).shape == (44, 128)
    assert np.all(MelDecibels()(np.zeros(22_050)) == 0)


FRONT_ENDS: dict[str, Callable[[Any], Sound]] = {
    "audiomae": AudioMaeFbank(),
    "laion-clap": LaionClapMel(),
    "laion-clap fusion": LaionClapMel(scale="htk"),
    "audioldm": AudioLdmMel(),
    "audioldm 48k": AudioLdm48kMel(),
    "panns 32k": PannsMel(32_000),
    "panns 16k": PannsMel(16_000),
    "vggish": VggishMel(),
    "ms-clap": MsClapMel(),
    "mel decibels": MelDecibels(),
}

# One line per front-end: frame, band, value; of the chirp in float64.
STORED = {
    "audiomae": (
        "0 4 0.54746, 0 6 0.66569, 33 70 0.91737, 33 72 1.30154, "
        "66 98 0.74826, 66 100 1.44486, 99 0 0.46703, 99 0 0.46703"
    ),
    "laion-clap": (
        "0 0 16.01236, 0 1 19.85164, 33 48 -36.0699, 33 50 17.60947, "
        "66 60 -70.63166, 66 62 14.07111, 99 10 -70.03188, 99 12 -69.61366"
    ),
    "laion-clap fusion": (
        "0 0 25.96276, 0 2 35.7384, 33 46 -13.75387, 33 48 43.14303, "
        "66 60 -33.77214, 66 62 43.52833, 99 61 -44.03047, 99 63 -41.71618"
    ),
    "audioldm": (
        "0 0 0.95648, 0 1 1.01205, 33 35 -0.58436, 33 37 0.97915, "
        "66 49 -5.15713, 66 51 0.78994, 99 57 -2.77219, 99 59 0.40953"
    ),
    "audioldm 48k": (
        "0 6 0.94482, 0 8 2.14265, 33 173 0.76678, 33 175 1.25889, "
        "66 215 -1.66674, 66 217 1.20038, 99 240 -2.19512, 99 242 1.04527"
    ),
    "panns 32k": (
        "0 0 19.27851, 0 1 21.31828, 33 41 -13.56376, 33 43 18.24112, "
        "66 53 -63.26691, 66 55 16.67228, 99 60 -24.19955, 99 62 14.05742"
    ),
    "panns 16k": (
        "0 0 14.82624, 0 0 14.82624, 33 34 -18.8708, 33 36 16.20962, "
        "66 49 -29.45737, 66 51 13.04283, 99 57 -22.38925, 99 59 12.07488"
    ),
    "vggish": (
        "0 0 3.53508, 0 0 3.53508, 32 32 -0.33873, 32 34 4.44282, "
        "64 48 0.17669, 64 50 4.5018, 95 57 -2.52467, 95 59 4.85136"
    ),
    "ms-clap": (
        "0 0 16.43785, 0 1 19.99885, 33 49 -5.24196, 33 51 18.7762, "
        "66 61 -76.881, 66 63 -54.67833, 99 0 -100.0, 99 0 -100.0"
    ),
    "mel decibels": (
        "0 1 0.95649, 0 3 1.0, 14 75 0.8989, 14 77 1.0, "
        "29 103 0.77602, 29 105 1.0, 43 117 0.37408, 43 119 0.96314"
    ),
}


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_stored_vector_of_a_chirp(name: str) -> None:
    front_end = FRONT_ENDS[name]
    rate = front_end.sample_rate_hz  # type: ignore[attr-defined]
    t = np.arange(rate) / rate
    mel = front_end(0.5 * np.sin(2 * np.pi * (50 * t + 0.2 * rate * t**2)))
    assert mel.dtype == np.float32
    mel = mel.reshape(-1, mel.shape[-1])
    for point in STORED[name].split(","):
        frame, band, value = point.split()
        np.testing.assert_allclose(mel[int(frame), int(band)], float(value), atol=1e-4)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_unusable_sound_is_refused_in_words(name: str) -> None:
    for pcm in (np.zeros((2, 20_000)), np.zeros(0)):
        with pytest.raises(SettingError, match=r"mono|at least"):
            FRONT_ENDS[name](pcm)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(400, 30_000), seed=st.integers(0, 2**32 - 1))
def test_any_length_gives_frames_of_the_promised_number(n: int, seed: int) -> None:
    pcm = np.random.default_rng(seed).standard_normal(n) * 0.1
    assert PannsMel()(pcm).shape == (1 + n // 320, 64)
    assert AudioLdmMel()(pcm).shape == (1 + n // 160, 64)
    assert MelDecibels()(pcm).shape == (1 + n // 512, 128)
    assert AudioMaeFbank(n_frames=None)(pcm).shape == (1 + (n - 400) // 160, 128)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AudioMaeFbank(n_frames=100),
        lambda: LaionClapMel(scale="bark"),  # type: ignore[arg-type]
        lambda: LaionClapMel(seconds=0),
        lambda: LaionClapMel(fmax_hz=25_000),
        lambda: PannsMel(22_050),
        lambda: MelDecibels(padding="edge"),  # type: ignore[arg-type]
    ],
)
def test_front_ends_that_no_model_was_trained_with_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(SettingError, match=r"Expected|trained"):
        make()
