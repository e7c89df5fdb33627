"""Streaming phase recovery: as good as offline Griffin-Lim, without clicks, whatever the chunks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from models.inversion import PhaseRecovery
from models.mel import MelSpec, hann, log_mel, mel_to_magnitude
from tests.data import shared
from tests.models.chunks import cut

SPEC = MelSpec()
FLOOR = np.full((1, 64), math.log(1e-5), np.float32)


def melody() -> NDArray[np.float64]:
    """Gliding harmonic tones, one after another, and a burst of noise: 1.5 s."""
    rng = np.random.default_rng(1)
    t = np.arange(24_000) / 16_000
    pitch = np.where(t < 0.5, 220.0, np.where(t < 1.0, 330.0 + 80 * t, 165.0))
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    tone = sum(np.sin(k * phase) / k for k in range(1, 9))
    envelope = np.minimum(1.0, 8 * (t % 0.5)) * np.exp(-3 * (t % 0.5))
    burst = rng.standard_normal(t.size) * ((t > 0.7) & (t < 0.9))
    sound = 0.15 * tone * envelope + 0.03 * burst
    return np.asarray(sound, dtype=np.float64)


def griffin_lim(magnitude: NDArray[np.float64], iterations: int) -> NDArray[np.float64]:
    """Griffin & Lim 1984, offline, from random phases: the reference."""
    n, hop, window = SPEC.n_fft, SPEC.hop, hann(SPEC.n_fft)
    length = n + hop * (len(magnitude) - 1)
    rng = np.random.default_rng(0)
    spectrum = magnitude * np.exp(2j * np.pi * rng.random(magnitude.shape))
    signal = np.zeros(length)
    for iteration in range(iterations + 1):
        signal, weight = np.zeros(length), np.zeros(length)
        for index, frame in enumerate(np.fft.irfft(spectrum) * window):
            signal[index * hop : index * hop + n] += frame
            weight[index * hop : index * hop + n] += window**2
        signal /= np.maximum(weight, 1e-3)
        if iteration < iterations:
            frames = np.lib.stride_tricks.sliding_window_view(signal, n)[::hop]
            phase = np.angle(np.fft.rfft(frames * window))
            spectrum = magnitude * np.exp(1j * phase)
    return signal[SPEC.pad_samples :]


def recover(mel: NDArray[np.float32], **settings: Any) -> NDArray[np.float32]:
    """Sound of mel frames, in time with them: the delay taken off, the end faded out."""
    recovery = PhaseRecovery(SPEC, **settings)
    n_after = -(-recovery.delay_samples // SPEC.hop) + 3
    pcm = recovery.step(np.concatenate((mel, np.repeat(FLOOR, n_after, axis=0))))
    return pcm[recovery.delay_samples :]


def mel_error_db(pcm: NDArray[Any], mel: NDArray[np.float32]) -> float:
    """Mean difference, in dB, of the mel of a sound from that asked for, where it is audible."""
    again = log_mel(pcm[: (len(mel) - 1) * SPEC.hop + 1], SPEC)
    audible = mel > math.log(1e-4)
    return float(np.mean(np.abs(again - mel)[audible]) * 20 / math.log(10))


def convergence_db(pcm: NDArray[Any], mel: NDArray[np.float32]) -> float:
    """Spectral convergence to the magnitudes that the mel frames give, in dB (less is better)."""
    wanted = mel_to_magnitude(mel, SPEC).astype(np.float64)
    padded = np.pad(pcm[: (len(mel) - 1) * SPEC.hop + 1], SPEC.pad_samples, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, SPEC.n_fft)[:: SPEC.hop]
    got = np.abs(np.fft.rfft(frames * hann(SPEC.n_fft)))
    return 20 * math.log10(float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted)))


def correlation(pcm: NDArray[Any], mel: NDArray[np.float32]) -> float:
    again = log_mel(pcm[: (len(mel) - 1) * SPEC.hop + 1], SPEC)
    return float(np.corrcoef(again.ravel(), mel.ravel())[0, 1])


def check_against_griffin_lim(pcm: NDArray[Any]) -> None:
    mel = log_mel(pcm, SPEC)
    ours = recover(mel)
    offline = griffin_lim(mel_to_magnitude(mel, SPEC).astype(np.float64), 32)
    assert mel_error_db(ours, mel) < mel_error_db(offline, mel) + 0.1
    assert convergence_db(ours, mel) < convergence_db(offline, mel) + 2.0
    assert correlation(ours, mel) > 0.98


def test_sound_is_as_close_as_that_of_offline_griffin_lim() -> None:
    check_against_griffin_lim(melody())


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "audio_fsdd/1_jackson_0.wav",
        "audio_librosa/5703-47212-0000.ogg",
        "audio_librosa/sorohanro_-_solo-trumpet-06.ogg",
    ],
)
def test_recorded_sound_is_as_close_as_that_of_offline_griffin_lim(name: str) -> None:
    import soundfile
    import soxr

    pcm, rate = soundfile.read(shared(name), always_2d=True)
    pcm = soxr.resample(pcm.mean(axis=1), rate, 16_000)[:24_000]
    check_against_griffin_lim(0.5 * pcm / np.abs(pcm).max())


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), longest=st.sampled_from([1, 2, 5, 40]))
def test_chunks_change_no_bit(seed: int, longest: int) -> None:
    mel = log_mel(melody()[:12_000], SPEC)
    whole = PhaseRecovery(SPEC, iterations=3).step(mel)
    stream = PhaseRecovery(SPEC, iterations=3)
    rng = np.random.default_rng(seed)
    pieces = [stream.step(piece) for piece in cut(mel, rng, longest=longest)]
    assert all(len(piece) % SPEC.hop == 0 for piece in pieces)
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


def test_the_future_changes_no_sound_before_it() -> None:
    mel = log_mel(melody()[:8000], SPEC)
    other = mel.copy()
    other[20:] = -3.0
    before, after = (PhaseRecovery(SPEC, iterations=2).step(m) for m in (mel, other))
    np.testing.assert_array_equal(before[: 20 * SPEC.hop], after[: 20 * SPEC.hop])


def test_the_delay_is_what_is_said() -> None:
    click = np.zeros(16_000)
    click[8000] = 0.9
    for look_ahead in (0, 3, 6):
        recovery = PhaseRecovery(SPEC, look_ahead=look_ahead)
        assert recovery.delay_samples == look_ahead * 160 + 512
        sound = recovery.step(log_mel(click, SPEC)).astype(np.float64) ** 2
        centre = float(np.arange(len(sound)) @ sound / sound.sum())
        assert abs(centre - recovery.delay_samples - 8000) < 120


def test_silence_in_is_exact_silence_out() -> None:
    recovery = PhaseRecovery(SPEC)
    assert np.all(recovery.step(np.repeat(FLOOR, 20, axis=0)) == 0)
    recovery.step(log_mel(melody()[:8000], SPEC))
    tail = recovery.step(np.repeat(FLOOR, 30, axis=0))
    assert np.any(tail != 0)
    assert np.all(tail[recovery.look_ahead * 160 + 1024 :] == 0)
    assert np.all(recovery.step(np.full((5, 64), np.nan)) == 0)


def test_start_and_end_make_no_click() -> None:
    noise = 0.3 * np.random.default_rng(2).standard_normal(8000)
    mel = log_mel(noise, SPEC)
    recovery = PhaseRecovery(SPEC)
    pcm = np.concatenate([recovery.step(mel), recovery.step(np.repeat(FLOOR, 30, axis=0))])
    onset = int(np.flatnonzero(pcm)[0])
    assert onset >= recovery.look_ahead * SPEC.hop
    limit = 10 ** (-50 / 20)
    assert np.max(np.abs(pcm[: onset + 16])) < limit
    last = int(np.flatnonzero(pcm)[-1])
    assert np.max(np.abs(pcm[last - 16 :])) < limit


@settings(max_examples=20, deadline=None)
@given(
    values=st.lists(
        st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -1e30, 3.0, -11.6, -11.51293]),
        min_size=8,
        max_size=8,
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_frame_whatsoever_makes_a_nan(values: list[float], seed: int) -> None:
    mel = np.random.default_rng(seed).choice(values, size=(12, 64))
    recovery = PhaseRecovery(SPEC, iterations=2)
    assert np.all(np.isfinite(recovery.step(mel)))
    assert np.all(np.isfinite(recovery.step(np.repeat(FLOOR, 5, axis=0))))


def test_a_reset_starts_anew() -> None:
    mel = log_mel(melody()[:8000], SPEC)
    recovery = PhaseRecovery(SPEC)
    first = recovery.step(mel)
    recovery.reset()
    assert recovery.step(mel).tobytes() == first.tobytes()


def test_loudness_is_kept() -> None:
    pcm = melody()
    ours = recover(log_mel(pcm, SPEC))[: len(pcm)]
    assert abs(10 * math.log10(float(np.mean(ours**2) / np.mean(pcm**2)))) < 2.0


def test_a_steady_tone_stays_steady() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000)
    ours = recover(log_mel(tone, SPEC)).astype(np.float64)[4000:12_000]
    level = np.sqrt(np.mean(ours.reshape(-1, 160) ** 2, axis=1))
    assert level.std() / level.mean() < 0.35


@pytest.mark.parametrize(
    "make",
    [
        lambda: PhaseRecovery(SPEC, look_ahead=-1),
        lambda: PhaseRecovery(SPEC, iterations=0),
        lambda: PhaseRecovery(MelSpec(hop=600)),
        lambda: PhaseRecovery(SPEC).step(np.zeros((3, 80))),
    ],
)
def test_unusable_settings_are_refused(make: Any) -> None:
    with pytest.raises(SettingError, match="Expected"):
        make()


def test_no_frames_give_no_sound() -> None:
    assert PhaseRecovery(SPEC).step(np.zeros((0, 64))).shape == (0,)
