"""The mel front-end against its published formula, computed by another way and in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import SettingError
from models.mel import MelSpec, log_mel, mel_basis, mel_to_magnitude, normalise_waveform
from models.spec import spec_to_json

SPEC = MelSpec()
SILENCE = math.log(1e-5)

# librosa's documentation of mel_frequencies(n_mels=40): Slaney's scale up to 11,025 Hz.
LIBROSA_40 = """
0 85.317 170.635 255.952 341.269 426.586 511.904 597.221 682.538 767.855 853.173 938.49 1024.856
1119.114 1222.042 1334.436 1457.167 1591.187 1737.532 1897.337 2071.84 2262.393 2470.47 2697.686
2945.799 3216.731 3512.582 3835.643 4188.417 4573.636 4994.285 5453.621 5955.205 6502.92 7101.009
7754.107 8467.272 9246.028 10096.408 11025
"""


def sounds() -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    t = np.arange(16_000) / 16_000
    return {
        "chirp": 0.5 * np.sin(2 * np.pi * (50 * t + 3900 * t**2)),
        "loud square": np.sign(np.sin(2 * np.pi * 440 * t)),
        "noise": 0.1 * rng.standard_normal(8000),
        "faint noise": 1e-6 * rng.standard_normal(4000),
        "silence": np.zeros(3000),
        "odd length": 0.3 * rng.standard_normal(4321),
        "one hop and a sample": 0.3 * rng.standard_normal(681),
        "impulse": np.eye(1, 2000, 700)[0],
    }


def slaney_mel(hz: float) -> float:
    return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000, 6.4)


def slaney_hz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def reference_basis(edges: list[float], spec: MelSpec) -> NDArray[np.float64]:
    basis = np.zeros((spec.n_mels, spec.n_fft // 2 + 1))
    for band, (low, centre, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for k in range(spec.n_fft // 2 + 1):
            hz = k * spec.sample_rate_hz / spec.n_fft
            if low < hz <= centre:
                basis[band, k] = (hz - low) / (centre - low)
            elif centre < hz < high:
                basis[band, k] = (high - hz) / (high - centre)
        basis[band] *= 2 / (high - low)
    return basis


def reference_log_mel(pcm: NDArray[np.float64], spec: MelSpec) -> NDArray[np.float64]:
    """From the definition: a matrix of cosines and sines, no FFT."""
    top = slaney_mel(spec.fmax_hz)
    edges = [slaney_hz(top * i / (spec.n_mels + 1)) for i in range(spec.n_mels + 2)]
    n = np.arange(spec.n_fft)
    fourier = np.exp(-2j * np.pi * np.outer(n, np.arange(spec.n_fft // 2 + 1)) / spec.n_fft)
    window = np.sin(np.pi * n / spec.n_fft) ** 2
    before = pcm[1 : spec.pad_samples + 1][::-1]
    after = pcm[-spec.pad_samples - 1 : -1][::-1]
    padded = np.concatenate((before, pcm, after))
    starts = range(0, len(padded) - spec.n_fft + 1, spec.hop)
    magnitude = np.abs(np.array([padded[s : s + spec.n_fft] * window for s in starts]) @ fourier)
    mel: NDArray[np.float64] = np.log(np.maximum(magnitude @ reference_basis(edges, spec).T, 1e-5))
    return mel


@pytest.mark.parametrize("name", sounds())
def test_log_mel_equals_the_formula(name: str) -> None:
    pcm = sounds()[name]
    ours = log_mel(pcm, SPEC)
    assert ours.dtype == np.float32
    assert ours.shape == (1 + len(pcm) // 160, 64)
    np.testing.assert_allclose(ours, reference_log_mel(pcm, SPEC), atol=1e-4)


def test_hifi_gan_padding_gives_a_frame_for_each_hop() -> None:
    spec = MelSpec(pad_samples=432)
    pcm = sounds()["noise"]
    ours = log_mel(pcm, spec)
    assert len(ours) == 50
    np.testing.assert_allclose(ours, reference_log_mel(pcm, spec), atol=1e-4)


def test_stored_vector_of_a_chirp() -> None:
    ours = log_mel(sounds()["chirp"], SPEC)[[0, 37, 100]][:, [0, 7, 20, 33, 63]]
    stored = [
        [0.92371, -2.81514, -4.74182, -5.95664, -8.05942],
        [-11.51293, -11.51293, -11.51293, -11.51293, -11.51293],
        [-6.96521, -6.95997, -6.92756, -6.83320, -0.17258],
    ]
    np.testing.assert_allclose(ours, stored, atol=1e-4)


def test_basis_has_the_bands_that_librosa_documents() -> None:
    spec = MelSpec(sample_rate_hz=22_050, n_fft=2048, n_mels=38, fmax_hz=11_025.0)
    reference = reference_basis([float(hz) for hz in LIBROSA_40.split()], spec)
    np.testing.assert_allclose(mel_basis(spec), reference, atol=2e-4 * reference.max())


def test_silence_is_the_floor() -> None:
    np.testing.assert_allclose(log_mel(np.zeros(2000), SPEC), SILENCE, rtol=1e-6)


@pytest.mark.parametrize("name", ["chirp", "noise", "loud square"])
def test_magnitudes_have_the_mel_that_they_came_from(name: str) -> None:
    mel = log_mel(sounds()[name], SPEC)
    magnitude = mel_to_magnitude(mel, SPEC)
    assert magnitude.shape == (len(mel), 513)
    assert magnitude.min() >= 0
    again = np.log(np.maximum(magnitude @ mel_basis(SPEC).T, 1e-5))
    loud = mel > math.log(1e-3)
    assert np.mean(np.abs(again - mel)[loud]) < 0.05  # ln: 0.4 dB


def test_silence_and_nan_give_no_magnitude_and_wild_values_stay_finite() -> None:
    assert np.all(mel_to_magnitude(np.full((3, 64), SILENCE, np.float32), SPEC) == 0)
    assert np.all(mel_to_magnitude(np.full((3, 64), np.nan), SPEC) == 0)
    assert np.all(mel_to_magnitude(np.full((3, 64), -np.inf), SPEC) == 0)
    for value in (np.inf, 1e30, 50.0):
        assert np.all(np.isfinite(mel_to_magnitude(np.full((2, 64), value), SPEC)))
    assert mel_to_magnitude(np.zeros((0, 64)), SPEC).shape == (0, 513)


def test_normalised_waveform_has_no_offset_and_half_scale() -> None:
    pcm = normalise_waveform(0.3 + 0.01 * np.sin(np.arange(628) / 10))
    assert abs(float(pcm.mean())) < 1e-6
    np.testing.assert_allclose(np.abs(pcm).max(), 0.5, rtol=1e-4)
    assert np.all(normalise_waveform(np.zeros(10)) == 0)


def test_a_front_end_travels_as_json() -> None:
    assert MelSpec(**spec_to_json(SPEC)) == SPEC


@pytest.mark.parametrize(
    "changes",
    [
        {"hop": 0},
        {"hop": 2000},
        {"n_fft": 1023},
        {"fmax_hz": 9000.0},
        {"fmin_hz": -1.0},
        {"floor": 0.0},
        {"n_mels": 0},
    ],
)
def test_unusable_front_ends_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="Expected"):
        MelSpec(**changes)


def test_unusable_sounds_are_refused() -> None:
    for pcm in (np.zeros(0), np.zeros((100, 2))):
        with pytest.raises(SettingError, match="mono"):
            log_mel(pcm, SPEC)
    with pytest.raises(SettingError, match="at least 1024"):
        log_mel(np.zeros(100), MelSpec(pad_samples=0))
    with pytest.raises(SettingError, match=r"\(n, 64\)"):
        mel_to_magnitude(np.zeros((3, 80)), SPEC)
