from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from models.inversion import PhaseRecovery
from models.mel import MelSpec, log_mel
from stream.render import LibraryRenderer, MelRenderer, Renderer, SoundList, loudness_gain
from tests.stream.sounds import STEP_LIMIT, condition, largest_step, tone

RATE = 16_000
SPEC = MelSpec()
FADE = 160


class Oscillator:
    """A vocoder with a memory: a 110-Hz tone, as loud as the first mel band says.

    After a reset it starts at its peak, at once: the worst that a vocoder can do.
    """

    delay_samples = 0

    def __init__(self) -> None:
        self.n = 0
        self.resets = 0
        self.last = math.nan

    def step(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        n = len(mel) * SPEC.hop
        now = np.exp(mel[:, 0])
        level = np.concatenate([now[:1] if math.isnan(self.last) else [self.last], now])
        self.last = float(level[-1])
        loud = np.interp(np.arange(n), np.arange(len(level)) * SPEC.hop, level)
        at = self.n + np.arange(n)
        self.n += n
        return np.asarray(loud * np.cos(2 * np.pi * 110 * at / RATE), np.float32)

    def reset(self) -> None:
        self.n, self.last = 0, math.nan
        self.resets += 1


def mel(n_frames: int, level: float = 0.2) -> NDArray[np.float32]:
    return np.full((n_frames, SPEC.n_mels), math.log(level), np.float32)


# -- direct -------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5000)), min_size=1, max_size=12))
def test_mel_renderer_gives_exactly_what_is_asked_and_never_falls_behind(
    windows: list[tuple[int, int]],
) -> None:
    vocoder = Oscillator()
    renderer = MelRenderer(SPEC, vocoder)
    total = 0
    for n_frames, n_samples in windows:
        out = renderer.render(condition(mel(n_frames)), n_samples)
        assert out.shape == (n_samples,)
        assert out.dtype == np.float32
        total += n_samples
        assert 0 <= vocoder.n - total < SPEC.hop


def test_mel_windows_join_without_a_step() -> None:
    renderer = MelRenderer(SPEC, Oscillator())
    # 4001 samples are no whole number of frames.
    out = [renderer.render(condition(mel(25)), 4001) for _ in range(8)]
    heard = np.concatenate([np.zeros(10, np.float32), *out])
    assert largest_step(heard, tone(RATE)) < STEP_LIMIT / 5
    assert np.abs(heard[-4000:]).max() == pytest.approx(0.2, abs=1e-3)


def test_mel_renderer_fades_across_a_reset() -> None:
    vocoder = Oscillator()
    renderer = MelRenderer(SPEC, vocoder)
    out = []
    for k in range(9):
        if k in (3, 6):
            renderer.reset()
            renderer.reset()  # harmless
        out.append(renderer.render(condition(mel(25)), 3999))
    heard = np.concatenate(out)
    assert vocoder.resets == 2
    assert largest_step(heard, tone(RATE)) < STEP_LIMIT / 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, 50.0])
def test_bad_mel_values_are_silence_and_do_not_last(bad: float) -> None:
    renderer = MelRenderer(SPEC, Oscillator())
    broken = mel(25)
    broken[10:12] = bad
    out = [renderer.render(condition(frames), 4000) for frames in (mel(25), broken, mel(25))]
    assert np.abs(np.concatenate(out)).max() < 0.21
    assert renderer.n_invalid == 2 * SPEC.n_mels
    assert np.abs(out[2]).max() > 0.19


def test_a_vocoder_that_gives_nan_is_reset(caplog: pytest.LogCaptureFixture) -> None:
    class Once(Oscillator):
        def step(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
            out = super().step(mel)
            return out if self.resets else out * np.nan

    vocoder = Once()
    renderer = MelRenderer(SPEC, vocoder)
    assert not renderer.render(condition(mel(25)), 4000).any()
    assert "NaN" in caplog.text
    assert np.abs(renderer.render(condition(mel(25)), 4000)).max() > 0.19


def test_frames_are_stretched_over_the_time_of_the_window() -> None:
    renderer = MelRenderer(SPEC, Oscillator())
    ramp = np.repeat(np.log(np.linspace(0.02, 0.2, 10))[:, None], SPEC.n_mels, axis=1)
    out = renderer.render(condition(ramp.astype(np.float32)), 8000)
    loud = np.abs(out).reshape(-1, 400).max(axis=1)
    assert (np.diff(loud) > 0).mean() > 0.8
    assert loud[-1] == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("shape", [(0, 64), (10, 63), (64,)])
def test_what_is_no_mel_spectrogram_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match="ln mel frames"):
        MelRenderer(SPEC, Oscillator()).render(condition(np.zeros(shape, np.float32)), 100)


def test_windows_give_the_sound_that_all_frames_at_once_give() -> None:
    """With the real phase recovery: a chirp, window by window, bit for bit."""
    t = np.arange(2 * RATE) / RATE
    chirp = (0.2 * np.sin(2 * np.pi * (200 * t + 100 * t**2))).astype(np.float32)
    frames = log_mel(chirp, SPEC)[:200].astype(np.float32)
    whole = PhaseRecovery(SPEC).step(frames)
    renderer = MelRenderer(SPEC, PhaseRecovery(SPEC))
    out = np.concatenate(
        [renderer.render(condition(frames[k : k + 25]), 4000) for k in range(0, 200, 25)]
    )
    assert renderer.delay_s == (PhaseRecovery(SPEC).delay_samples + FADE) / RATE
    assert np.array_equal(out[2 * FADE :], whole[FADE:-FADE])
    assert not out[:FADE].any()
    # And it is the sound that went in, where the delay says.
    late = round(renderer.delay_s * RATE)
    for at in (8000, 20_000):
        spectra = [
            np.abs(np.fft.rfft(x[at : at + 2048] * np.hanning(2048))) for x in (chirp, out[late:])
        ]
        assert abs(int(spectra[0].argmax()) - int(spectra[1].argmax())) <= 2


# -- retrieval ----------------------------------------------------------------------------------


def library(*hz: float, seconds: float = 0.73) -> SoundList:
    n = round(seconds * RATE)
    return SoundList([tone(n, hz=one, amplitude=0.1) for one in hz], sample_rate_hz=RATE)


def level(renderer_input: NDArray[np.float32]) -> np.float32:
    return np.float32(loudness_gain(renderer_input, RATE))


def test_renderers_fit_the_protocol() -> None:
    assert isinstance(LibraryRenderer(library(110)), Renderer)
    assert isinstance(MelRenderer(SPEC, Oscillator()), Renderer)


def test_a_sound_is_played_from_its_beginning_and_goes_on() -> None:
    sounds = library(110.0, 90.0)
    renderer = LibraryRenderer(sounds, crossfade_s=0.05)
    out = np.concatenate([renderer.render(condition(item=1), 1000) for _ in range(10)])
    pcm = sounds.sound(1) * level(sounds.sound(1))
    assert np.array_equal(out[800:10_000], pcm[800:10_000])
    assert (np.abs(out[:800]) <= np.abs(pcm[:800])).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-1, 2), st.integers(1, 6000)), min_size=1, max_size=10),
    st.lists(st.integers(1, 999), min_size=1, max_size=3),
)
def test_library_sound_does_not_depend_on_the_stretches_asked_for(
    turns: list[tuple[int, int]], sizes: list[int]
) -> None:
    sounds = library(110.0, 90.0, 70.0)
    whole = LibraryRenderer(sounds)
    pieces = LibraryRenderer(sounds)
    for item, n in turns:
        expected = whole.render(condition(item=item), n)
        got, k = [], 0
        while n:
            m = min(n, sizes[k % len(sizes)])
            got.append(pieces.render(condition(item=item), m))
            n, k = n - m, k + 1
        assert np.abs(np.concatenate(got) - expected).max() < 1e-6


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=2, max_size=30), st.integers(100, 4000))
def test_wavering_between_sounds_makes_no_step(items: list[int], n: int) -> None:
    renderer = LibraryRenderer(library(110.0, 90.0, 70.0, 50.0))
    out = [np.zeros(10, np.float32)]
    for k, item in enumerate(items):
        if k % 11 == 7:
            renderer.reset()
        out.append(renderer.render(condition(item=item), n))
    # Where sounds overlap, up to four are heard at once.
    assert largest_step(np.concatenate(out), 4 * tone(RATE, amplitude=0.1)) < STEP_LIMIT / 5


def test_a_sound_loops_without_a_seam() -> None:
    sounds = library(110.0, seconds=0.3)  # 0.3 s of 110 Hz is exactly 33 periods,
    sounds = SoundList([sounds.sound(0)[:4750]], sample_rate_hz=RATE)  # these are not
    renderer = LibraryRenderer(sounds)
    out = np.concatenate([renderer.render(condition(item=0), 1601) for _ in range(40)])
    assert largest_step(out, tone(RATE, amplitude=0.1)) < STEP_LIMIT / 5
    # The loop is one crossfade shorter than the sound.
    period = 4750 - 800
    assert np.array_equal(out[1000 : 1000 + 50_000], out[1000 + period : 1000 + period + 50_000])


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10])
def test_tiny_sounds_are_looped_too(n: int) -> None:
    renderer = LibraryRenderer(SoundList([np.ones(n, np.float32)], sample_rate_hz=RATE))
    out = renderer.render(condition(item=0), 500)
    assert out.shape == (500,)
    assert np.isfinite(out).all()


def test_a_crossfade_keeps_the_power() -> None:
    """A constant beside silence, in both orders, shows the two gains of the fade."""
    ones, zeros = np.ones(RATE, np.float32), np.zeros(RATE, np.float32)
    fades = []
    for sounds in ([ones, zeros], [zeros, ones]):
        renderer = LibraryRenderer(SoundList(sounds, sample_rate_hz=RATE), crossfade_s=0.05)
        renderer.render(condition(item=0), 2000)
        fades.append(renderer.render(condition(item=1), 2000) / loudness_gain(ones, RATE))
    assert np.allclose(fades[0] ** 2 + fades[1] ** 2, 1.0, atol=1e-5)
    assert fades[0][0] == pytest.approx(1.0, abs=1e-5)
    assert fades[1][800] == pytest.approx(1.0, abs=1e-5)


def test_a_sound_that_comes_back_goes_on_where_it_was_left_until_a_reset() -> None:
    sounds = library(110.0, 90.0)
    pcm = sounds.sound(0) * level(sounds.sound(0))
    renderer = LibraryRenderer(sounds)
    for item in (0, 1):
        renderer.render(condition(item=item), 2000)
    back = renderer.render(condition(item=0), 2000)
    left = 2000 + 800  # it was heard for one crossfade longer
    position = left + np.arange(2000)
    # No longer compared where the loop point comes in.
    assert np.array_equal(back[800:], pcm[position[800:]])
    renderer.reset()
    again = renderer.render(condition(item=0), 2000)
    assert np.array_equal(again[800:], pcm[800:2000])


def test_no_item_fades_to_silence() -> None:
    renderer = LibraryRenderer(library(110.0))
    renderer.render(condition(item=0), 4000)
    out = renderer.render(condition(item=-1), 4000)
    assert out[:100].any()
    assert not out[800:].any()


@pytest.mark.parametrize("item", [-2, 2])
def test_an_item_that_is_not_there_is_refused(item: int) -> None:
    with pytest.raises(SettingError, match="different bundles"):
        LibraryRenderer(library(110.0, 90.0)).render(condition(item=item), 10)


def test_sounds_of_a_library_are_about_equally_loud() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(RATE).astype(np.float32)
    pausing = noise.copy()
    pausing[: RATE // 2] = 0.0
    sounds = [0.001 * noise, 3 * noise, 0.1 * pausing, tone(RATE), tone(400)]
    for pcm in sounds:
        loud = pcm * loudness_gain(pcm, RATE)
        active = loud[loud != 0.0]
        rms = 20 * np.log10(np.sqrt(np.mean(active**2)))
        assert rms == pytest.approx(-26.0, abs=0.3)
        assert np.abs(loud).max() <= 10 ** (-12 / 20)


def test_peaks_win_over_loudness() -> None:
    click = np.zeros(RATE, np.float32)
    click[::800] = 0.9
    assert np.abs(click * loudness_gain(click, RATE)).max() == pytest.approx(10 ** (-13 / 20))
    assert loudness_gain(np.zeros(10, np.float32), RATE) == 1.0


def test_a_library_larger_than_memory_is_prepared_piece_by_piece() -> None:
    renderer = LibraryRenderer(library(*np.linspace(50, 120, 80), seconds=0.1))
    for item in range(80):
        renderer.render(condition(item=item), 100)
    assert len(renderer._prepared) == 64
    assert len(renderer._voices) < 12
