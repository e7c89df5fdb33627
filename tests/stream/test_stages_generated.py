"""The stages with a generator that takes its time, in virtual time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from models.stretch import GeneratorInput, GeneratorState
from stream.generator_renderer import GeneratorRenderer
from stream.messages import Condition, FeatureWindow, Sound, TimelineEvent
from stream.pipeline import Pipeline
from stream.stages import SoundMaker
from tests.stream.fakes import EchoDecoder, Witness, chunk, pipeline, run_with_sink
from tests.stream.generators import FRAME, RATE_HZ, ToneGenerator, pitched
from tests.stream.sounds import window
from tests.stream.virtual_time import VirtualLoop, run_virtually

BLOCK_S = 0.005  # of the sink


@dataclass
class SlowLevels(ToneGenerator):
    """Constant sound at a level that tells the condition; each stretch takes `took_s`."""

    loop: VirtualLoop | None = None
    took_s: float = 0.0
    made: list[float] = field(default_factory=list)  # when each stretch was ready

    def stretch(
        self,
        given: GeneratorInput,
        state: GeneratorState,
        noise: NDArray[np.float32],
        *,
        n_frames: int,
    ) -> tuple[NDArray[np.float32], GeneratorState]:
        _, state = super().stretch(given, state, noise, n_frames=n_frames)
        assert self.loop is not None
        self.loop.sleep_in_thread(self.took_s)
        self.made.append(self.loop.time())
        return np.full(n_frames * FRAME, 1e-4 * state["hz"][0], np.float32), state


class Turns(EchoDecoder):
    """Gives 500 and 1500 Hz in turn: levels .05 and .15."""

    def decode(self, window: FeatureWindow) -> Condition:
        super().decode(window)
        return Condition(pitched(500.0 + 1000.0 * (window.seq % 2)), window)


class Heard(Witness):
    """Keeps what is handed to the player, and when."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self.loop = loop
        self.sounds: list[tuple[float, Sound]] = []

    def on_sound(self, sound: Sound) -> None:
        self.sounds.append((self.loop.time(), sound))


@dataclass
class Outcome:
    line: Pipeline
    witness: Heard
    generator: SlowLevels
    sound: NDArray[np.float32]  # all that left the player


def run(*, hop: int, seconds: float, took_s: float) -> Outcome:
    async def events(loop: VirtualLoop) -> AsyncIterator[TimelineEvent]:
        for k in range(round(seconds / 0.05)):
            await asyncio.sleep(max(0.0, 0.05 * (k + 1) - loop.time()))
            yield chunk(5 * k, 5, loop.time())

    async def main(loop: VirtualLoop) -> Outcome:
        witness = Heard(loop)
        generator = SlowLevels(loop=loop, took_s=took_s)
        renderer = GeneratorRenderer(generator, clock=loop.time)
        renderer._costs.append(took_s)  # what warming up would have measured
        line = pipeline(
            events(loop), Turns(), loop.time, hop=hop, witness=witness, renderer=renderer
        )
        blocks: list[NDArray[np.float32]] = []
        line.player.add_tap(blocks.append)
        await run_with_sink(line)
        return Outcome(line, witness, generator, np.concatenate(blocks)[:, 0])

    return run_virtually(main)


@pytest.mark.parametrize("took_s", [0.012, 0.06, 0.1])
def test_a_long_window_whose_sound_takes_its_time_never_starves_the_player(took_s: float) -> None:
    outcome = run(hop=150, seconds=15.0, took_s=took_s)
    assert outcome.line.player.statistics().underruns == 0
    assert {p.seq for p in outcome.witness.played if p.seq >= 0} == set(range(10))
    assert outcome.line.player.statistics().replaced_s == 0.0  # nothing had to be held
    # Heard when what waits has been played: 70 ms, or enough to make a stretch or two meanwhile.
    ages = {p.seq: p.t_heard - p.brain_stop for p in reversed(outcome.witness.played) if p.seq > 0}
    assert max(ages.values()) <= max(0.07, 2 * took_s) + 0.02 + 2 * BLOCK_S


def test_the_first_stretch_is_queued_while_the_others_are_made() -> None:
    outcome = run(hop=150, seconds=7.5, took_s=0.06)
    pieces = [(t, s) for t, s in outcome.witness.sounds if s.window.seq == 2 and len(s.pcm) > 640]
    made = [t for t in outcome.generator.made if 4.5 <= t < 5.9]
    assert len(pieces) == len(made) >= 2
    assert [t for t, _ in pieces] == pytest.approx(made, abs=1e-6)
    assert sum(len(s.pcm) for _, s in pieces) == pytest.approx(1.5 * RATE_HZ, abs=0.1 * RATE_HZ)
    for (_, a), (_, b) in pairwise(pieces):
        assert b.stimulus_start == pytest.approx(a.stimulus_stop)
    assert pieces[-1][1].stimulus_stop == pytest.approx(pieces[-1][1].window.t_stop)
    stage = outcome.line.monitor.tracer.stage_ms()["sound"]
    assert stage["p50"] == pytest.approx(60.0, abs=1.0)
    assert outcome.line.monitor.tracer.mismatched == 0


def test_a_changed_condition_is_heard_within_a_quarter_of_a_second() -> None:
    hop = 25
    outcome = run(hop=hop, seconds=30.0, took_s=0.012)
    assert outcome.line.player.statistics().underruns == 0
    at = np.flatnonzero(np.diff((outcome.sound > 0.1).astype(int))) + 1  # each turn, in samples
    heard = at / RATE_HZ + BLOCK_S  # the first block is heard one block after it is asked for
    decided = 0.25 * np.arange(1, 121)
    turns = decided[1:]
    assert len(heard) >= len(turns)  # the first rise and the end are no turns
    after = [float(heard[heard >= t].min()) - t for t in turns if (heard >= t).any()]
    assert len(after) > 100
    assert np.percentile(after, 95) <= 0.25


def test_short_hops_with_a_generator_neither_starve_nor_grow_old() -> None:
    outcome = run(hop=10, seconds=20.0, took_s=0.03)
    assert outcome.line.player.statistics().underruns == 0
    ages = {p.seq: p.t_heard - p.brain_stop for p in reversed(outcome.witness.played) if p.seq > 0}
    assert len(ages) >= 190
    assert max(ages.values()) <= 0.1 + 0.05


def test_pieces_are_shown_to_a_companion_as_they_follow_each_other() -> None:
    seen: list[tuple[float, float]] = []

    def companion(sound: Sound) -> NDArray[np.float32]:
        seen.append((sound.stimulus_start, sound.stimulus_stop))
        return np.zeros(len(sound.pcm), np.float32)

    generator = ToneGenerator()
    maker = SoundMaker(GeneratorRenderer(generator), 0.5, companion)
    condition = Condition(pitched(220.0), window(0))
    n = 24_000
    made = [maker.begin(condition, n, afresh=True)]
    while (missing := n - sum(len(m.pcm) for m in made)) > 0:
        made.append(maker.go_on(condition, missing))
    assert [call.n_frames for call in generator.calls] == [4, 8, 28]
    assert [m.pcm.shape[1] for m in made] == [2, 2, 2]
    assert seen[0][0] == pytest.approx(1.0 - 0.5 - 1.5)
    assert seen[-1][1] == pytest.approx(0.5)
    assert [a[1] for a in seen[:-1]] == pytest.approx([b[0] for b in seen[1:]])
    whole = SoundMaker(GeneratorRenderer(ToneGenerator()), 0.5).window(condition, n, afresh=True)
    assert np.array_equal(np.concatenate([m.pcm[:, 1] for m in made]), whole.pcm[:, 0])


def test_an_abort_stops_making_sound() -> None:
    stopped = threading.Event()

    async def main(loop: VirtualLoop) -> Outcome:
        async def events() -> AsyncIterator[TimelineEvent]:
            for k in range(60):
                await asyncio.sleep(max(0.0, 0.05 * (k + 1) - loop.time()))
                yield chunk(5 * k, 5, loop.time())

        witness = Heard(loop)
        generator = SlowLevels(loop=loop, took_s=0.1)
        renderer = GeneratorRenderer(generator, clock=loop.time)
        line = pipeline(events(), Turns(), loop.time, hop=150, witness=witness, renderer=renderer)

        def abort() -> None:
            line.player.abort()
            stopped.set()

        loop.call_at(1.55, abort)  # in the middle of the first stretch
        await run_with_sink(line)
        return Outcome(line, witness, generator, np.zeros(0, np.float32))

    outcome = run_virtually(main)
    assert stopped.is_set()
    assert len(outcome.generator.calls) == 1
    assert not [p for p in outcome.witness.played if p.seq >= 0]
