from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from stream.generator_renderer import GeneratorRenderer
from stream.messages import Condition
from stream.render import PiecewiseRenderer
from tests.stream.generators import FRAME, LATENT, RATE_HZ, ToneGenerator, pitched, tokens_of
from tests.stream.sounds import STEP_LIMIT, largest_step, tone, window

SHORTEST = 4 * FRAME
FADE = 80


def heard(seq: int, hz: float = 220.0, **more: object) -> Condition:
    return Condition(pitched(hz), window(seq), **more)  # type: ignore[arg-type]


class Latents:
    """Two sounds of 5 and 7 frames; each frame says which it is."""

    def __len__(self) -> int:
        return 2

    def read(self, item: int, position: int, n_frames: int) -> NDArray[np.float32]:
        at = (position + np.arange(n_frames)) % (5, 7)[item]
        return np.repeat((100.0 * item + at)[:, None], LATENT, axis=1).astype(np.float32)


def test_it_is_a_renderer_that_works_in_pieces() -> None:
    renderer = GeneratorRenderer(ToneGenerator(delay_samples=640))
    assert isinstance(renderer, PiecewiseRenderer)
    assert (renderer.sample_rate_hz, renderer.n_channels) == (RATE_HZ, 1)
    assert renderer.delay_s == (640 + FADE) / RATE_HZ


@given(st.lists(st.integers(0, 30_000), min_size=1, max_size=8))
def test_it_gives_exactly_what_is_asked_and_makes_less_than_a_stretch_more(
    lengths: list[int],
) -> None:
    generator = ToneGenerator()
    renderer = GeneratorRenderer(generator)
    asked = 0
    for seq, n in enumerate(lengths):
        out = renderer.render(heard(seq), n)
        assert out.shape == (n,)
        assert out.dtype == np.float32
        asked += n
        made = FRAME * sum(call.n_frames for call in generator.calls)
        assert 0 <= made - asked < SHORTEST


@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=5), st.booleans())
def test_pieces_give_the_sound_that_all_at_once_gives(lengths: list[int], resets: bool) -> None:
    sounds = []
    for in_pieces in (False, True):
        renderer = GeneratorRenderer(ToneGenerator(noise_level=0.05), seed=3)
        out = []
        for seq, n in enumerate(lengths):
            if resets and seq % 2:
                renderer.reset()
            condition, left = heard(seq, 200.0 + 50 * seq, tokens=tokens_of([0.1, 0.2, 0.3])), n
            while left:
                m = renderer.piece(left) if in_pieces else left
                assert 0 < m <= left
                out.append(renderer.render(condition, m))
                left -= m
        sounds.append(np.concatenate(out))
    assert np.array_equal(sounds[0], sounds[1])


def test_stretches_and_windows_join_without_a_step() -> None:
    renderer = GeneratorRenderer(ToneGenerator())
    out = [renderer.render(heard(k, 110.0), 4001) for k in range(12)]
    sound = np.concatenate([np.zeros(10, np.float32), *out])
    assert largest_step(sound, tone(RATE_HZ, amplitude=0.1)) < STEP_LIMIT / 5
    assert np.abs(sound[-4000:]).max() == pytest.approx(0.1, abs=1e-3)


def test_a_reset_fades_out_and_in() -> None:
    generator = ToneGenerator()
    renderer = GeneratorRenderer(generator)
    out = []
    for k in range(9):
        if k in (3, 6):
            renderer.reset()
            renderer.reset()  # harmless
        out.append(renderer.render(heard(k, 110.0), 3999))
    # Its fade of 5 ms bends the tone a little more than the tone does itself.
    assert largest_step(np.concatenate(out), tone(RATE_HZ, amplitude=0.1)) < STEP_LIMIT / 5


@given(n=st.integers(1, 20_000), hop=st.integers(100, 6000))
def test_a_changed_condition_is_in_the_sound_within_the_shortest_stretch_and_a_fade(
    n: int, hop: int
) -> None:
    before, after = ToneGenerator(), ToneGenerator()
    sounds = []
    for generator, hz in ((before, 220.0), (after, 330.0)):
        renderer = GeneratorRenderer(generator)
        renderer.render(heard(0), n)
        rest = [renderer.render(heard(1 + k, hz), hop) for k in range(math.ceil(6000 / hop))]
        sounds.append(np.concatenate(rest))
    first = int(np.argmax(sounds[0] != sounds[1]))
    assert not np.array_equal(sounds[0], sounds[1])
    assert first <= SHORTEST + FADE + 2


def test_holding_makes_a_stretch_only_when_the_last_one_is_used_up() -> None:
    generator = ToneGenerator()
    renderer = GeneratorRenderer(generator)
    renderer.render(heard(0), 4000)
    n = len(generator.calls)
    for _ in range(40):
        renderer.render(heard(0), 640)  # 40 ms, as `stages.sound` holds
    held = generator.calls[n:]
    assert {call.n_frames for call in held} == {4}
    assert len(held) == 10


def test_the_noise_hangs_on_seed_window_and_place_only() -> None:
    def noise_of(seed: int, lengths: dict[int, int], *, resets: bool = False) -> list[bytes]:
        generator = ToneGenerator()
        renderer = GeneratorRenderer(generator, seed=seed)
        found = {}
        for seq, n in lengths.items():
            if resets:
                renderer.reset()
            first = len(generator.calls)
            renderer.render(heard(seq), n)
            found[seq] = [call.noise.tobytes() for call in generator.calls[first:]]
        return found[7]

    usual = noise_of(1, {5: 4000, 6: 4000, 7: 2560})
    assert len(usual) == 1
    assert usual == noise_of(1, {3: 9000, 7: 2560})  # windows were left out
    assert usual == noise_of(1, {5: 4000, 7: 2560}, resets=True)
    assert usual != noise_of(2, {5: 4000, 6: 4000, 7: 2560})
    generator = ToneGenerator()
    GeneratorRenderer(generator).render(heard(0), 60_000)
    drawn = [call.noise[..., :8, :].tobytes() for call in generator.calls]
    assert len(set(drawn)) == len(drawn) == 5
    spread = float(np.concatenate([call.noise.ravel() for call in generator.calls]).std())
    assert spread == pytest.approx(1.0, abs=0.1)


def test_tokens_move_on_with_the_sound_of_their_window_and_the_last_step_goes_on() -> None:
    generator = ToneGenerator()
    renderer = GeneratorRenderer(generator)
    steps = [0.1, 0.2, 0.3]
    first = heard(0, tokens=tokens_of(steps))
    renderer.render(first, 2400)  # leaves 80 samples, of the first step
    for _ in range(4):
        renderer.render(first, 2560)  # holds
    told = [call.given.tokens for call in generator.calls]
    assert [len(tokens) // 8 for tokens in told if tokens is not None] == [3, 2, 1, 1, 1]
    assert told[1] is not None
    assert told[1][0, 0] == np.float32(0.2)
    # A new window: its own tokens from the beginning, less what is carried of the old one.
    renderer.render(heard(1, tokens=tokens_of(steps)), 2560)
    last = generator.calls[-1].given.tokens
    assert last is not None
    assert np.array_equal(last, tokens_of(steps))


def test_a_full_size_checkpoint_is_given_all_tokens_of_the_window() -> None:
    from dataclasses import replace

    class Full(ToneGenerator):
        given: list[int] = []  # noqa: RUF012

        @property
        def spec(self):  # type: ignore[no-untyped-def]
            return replace(super().spec, family="audioldm2", startable=False)

        def stretch(self, given, state, noise, *, n_frames):  # type: ignore[no-untyped-def]
            self.given.append(len(given.tokens))
            return np.zeros(n_frames * FRAME, np.float32), state

    renderer = GeneratorRenderer(Full())
    condition = heard(0, tokens=tokens_of([0.1] * 8))
    for _ in range(3):
        renderer.render(condition, 2560)
    assert Full.given == [64, 64, 64]


def test_it_begins_from_the_sound_that_was_found_which_runs_beside_it() -> None:
    generator = ToneGenerator()
    renderer = GeneratorRenderer(generator, start=Latents(), strength=0.6)
    for seq, item in enumerate((0, 0, 1, 0, -1)):
        renderer.render(heard(seq, item=item), SHORTEST)
    told = [call.given for call in generator.calls]
    assert [given.strength for given in told] == [0.6] * 4 + [1.0]
    starts = [None if given.start is None else given.start[:, 0].tolist() for given in told]
    assert starts == [
        [0, 1, 2, 3, 4, 0, 1, 2],
        [4, 0, 1, 2, 3, 4, 0, 1],
        [100, 101, 102, 103, 104, 105, 106, 100],
        [3, 4, 0, 1, 2, 3, 4, 0],  # where it was left
        None,
    ]
    renderer.reset()
    renderer.render(heard(9, item=0), SHORTEST)
    again = generator.calls[-1].given.start
    assert again is not None
    assert again[0, 0] == 0.0


def test_a_strength_of_one_needs_no_start_and_others_are_held_to_their_range() -> None:
    generator = ToneGenerator()
    GeneratorRenderer(generator, start=Latents(), strength=1.0).render(heard(0, item=1), 100)
    assert generator.calls[0].given.start is None
    with pytest.raises(SettingError, match="0 to 1"):
        GeneratorRenderer(generator, start=Latents(), strength=1.5)
    with pytest.raises(SettingError, match="cannot begin from a sound"):
        GeneratorRenderer(ToneGenerator(startable=False), start=Latents(), strength=0.5)


def test_what_is_not_finite_is_silence_with_fades_and_the_generator_begins_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    generator = ToneGenerator(broken={3})
    renderer = GeneratorRenderer(generator)
    out = [renderer.render(heard(k, 110.0), SHORTEST) for k in range(7)]
    sound = np.concatenate(out)
    assert np.isfinite(sound).all()
    assert "NaN" in caplog.text
    assert renderer.n_invalid == 1
    assert largest_step(sound, tone(RATE_HZ, amplitude=0.1)) < STEP_LIMIT / 5
    assert not sound[3 * SHORTEST + FADE : 4 * SHORTEST].any()
    assert np.abs(out[6]).max() == pytest.approx(0.1, abs=1e-3)


def test_a_condition_that_the_generator_does_not_take_is_refused() -> None:
    renderer = GeneratorRenderer(ToneGenerator())
    with pytest.raises(SettingError, match=r"\(512,\)"):
        renderer.render(Condition(np.ones(4, np.float32), window(0)), 100)


def test_warming_up_makes_every_length_and_leaves_no_trace() -> None:
    generator = ToneGenerator()
    renderer = GeneratorRenderer(generator, start=Latents(), strength=0.5)
    renderer.warm_up()
    assert {call.n_frames for call in generator.calls} == {4, 8, 16, 28}
    fresh = GeneratorRenderer(ToneGenerator(), start=Latents(), strength=0.5)
    ours, theirs = (r.render(heard(0, item=0), 9000) for r in (renderer, fresh))
    assert np.array_equal(ours, theirs)


def test_it_tells_what_a_stretch_takes_and_forgives_one_that_took_long() -> None:
    ticks = iter(np.cumsum([0.0, 0.012] * 4 + [0.0, 0.5] + [0.0, 0.02] + [0.0, 0.013] * 30))
    renderer = GeneratorRenderer(ToneGenerator(), clock=lambda: float(next(ticks)))
    assert renderer.cost_s == 0.0
    costs = []
    for seq in range(30):
        renderer.render(heard(seq), SHORTEST)
        costs.append(round(renderer.cost_s, 6))
    assert costs[3:6] == [0.012, 0.012, 0.02]
    assert costs[-1] == 0.013


def test_stretches_that_hang_do_not_make_all_others_late() -> None:
    ticks = iter(np.cumsum([0.0, 0.01] * 8 + [0.0, 3.0] * 2 + [0.0, 0.01] * 8))
    renderer = GeneratorRenderer(ToneGenerator(), clock=lambda: float(next(ticks)))
    costs = []
    for seq in range(18):
        renderer.render(heard(seq), SHORTEST)
        costs.append(renderer.cost_s)
    assert max(costs) == pytest.approx(0.04)
