from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import StageError
from stream import stages
from stream.channel import Channel
from stream.freshness import Freshest
from stream.messages import (
    Chunk,
    Condition,
    FeatureWindow,
    Gap,
    GapReason,
    Sound,
    SourceState,
    StateChange,
    TimelineEvent,
)
from stream.monitor import Monitor
from stream.pipeline import Pipeline, first_error
from stream.stages import SoundMaker
from tests.stream.fakes import (
    RATE_HZ,
    EchoDecoder,
    SteadyRenderer,
    Witness,
    chunk,
    pipeline,
    run_with_sink,
    window,
    windower,
)
from tests.stream.virtual_time import VirtualLoop, run_virtually


class Planted(Exception):
    pass


def fail_at(*numbers: int) -> EchoDecoder:
    def before(window: FeatureWindow) -> None:
        if window.seq in numbers:
            raise Planted(f"window {window.seq}")

    return EchoDecoder(before)


async def decoded(
    windows: list[FeatureWindow], decoder: EchoDecoder, monitor: Monitor
) -> list[Condition]:
    """Run the decode stage alone on a list of windows."""
    freshest = Freshest(1000.0, monitor.stale)  # such a hop that nothing is ever late
    conditions: Channel[Condition] = Channel(len(windows) + 1)
    for item in windows:
        await freshest.send([item])
    await freshest.close()
    clock = asyncio.get_running_loop().time
    await stages.decode(freshest, conditions, decoder, monitor, clock)
    return [condition async for condition in conditions]


def test_decode_keeps_order_and_closes_downwards() -> None:
    monitor = Monitor()
    found = asyncio.run(decoded([window(i) for i in range(5)], EchoDecoder(), monitor))
    assert [c.window.seq for c in found] == [0, 1, 2, 3, 4]
    assert (monitor.decoded, monitor.skipped_windows) == (5, 0)


def test_a_failure_for_one_window_costs_that_window() -> None:
    witness = Witness()
    monitor = Monitor(observers=[witness])
    found = asyncio.run(decoded([window(i) for i in range(6)], fail_at(1, 2, 4), monitor))
    assert [c.window.seq for c in found] == [0, 3, 5]
    assert monitor.skipped == {"error": 3}
    assert monitor.errors == {"decode": 3}
    assert [d["seq"] for kind, d in witness.events if kind == "failed"] == [1, 2, 4]


def test_failures_in_a_row_end_the_session_and_say_which_stage() -> None:
    monitor = Monitor(max_stage_errors=3)
    decoder = fail_at(1, 3, 4, 5)
    with pytest.raises(StageError, match=r"Stage 'decode' failed 3 times.*Planted: window 5"):
        asyncio.run(decoded([window(i) for i in range(9)], decoder, monitor))
    assert decoder.seen == [0, 1, 2, 3, 4, 5]


def test_features_stage_makes_windows_from_chunks() -> None:
    async def main() -> tuple[list[int], Monitor]:
        monitor = Monitor()
        chunks: Channel[Chunk] = Channel(10)
        out = Freshest(1000.0, monitor.stale)
        for k in range(4):
            await chunks.send(chunk(5 * k, 5, arrived=0.05 * (k + 1)))
        await chunks.close()
        clock = asyncio.get_running_loop().time
        await stages.features(chunks, out, windower(10), monitor, clock)
        return [w.seq async for w in out], monitor

    numbers, monitor = asyncio.run(main())
    assert numbers == [0, 1]
    assert monitor.windows == 2


def test_source_stage_reports_gaps_and_states_and_passes_chunks() -> None:
    gap = Gap(GapReason.DROPPED, 5, 2, 0.05, 0.07, 0.07)
    state = StateChange(SourceState.LOST, 0.1, 0.2)

    async def events() -> AsyncIterator[TimelineEvent]:
        yield chunk(0, 5, 0.05)
        yield gap
        yield chunk(7, 5, 0.12)
        yield state

    async def main() -> tuple[list[int], Monitor]:
        monitor = Monitor()
        chunks: Channel[Chunk] = Channel(10)
        await stages.source(events(), chunks, monitor)
        return [c.first async for c in chunks], monitor

    firsts, monitor = asyncio.run(main())
    assert firsts == [0, 7]
    assert monitor.gaps == 1
    assert monitor.source_state is SourceState.LOST


def test_cancelling_a_stage_waits_for_its_thread_and_closes_downwards() -> None:
    entered, leave = threading.Event(), threading.Event()
    left: list[int] = []

    def before(window: FeatureWindow) -> None:
        entered.set()
        assert leave.wait(30)
        left.append(window.seq)

    async def main() -> list[Condition]:
        monitor = Monitor()
        freshest = Freshest(1.0, monitor.stale)
        conditions: Channel[Condition] = Channel(4)
        await freshest.send([window(0)])
        clock = asyncio.get_running_loop().time
        task = asyncio.create_task(
            stages.decode(freshest, conditions, EchoDecoder(before), monitor, clock)
        )
        assert await asyncio.to_thread(entered.wait, 30)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, leave.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        return [condition async for condition in conditions]

    assert asyncio.run(main()) == []
    assert left == [0]


def test_sound_of_a_window_lies_its_lag_before_the_window_and_held_sound_goes_on() -> None:
    maker = SoundMaker(SteadyRenderer(), lag_s=0.2)
    condition = EchoDecoder().decode(window(9, hop_s=0.1))
    first = maker.window(condition, 800, afresh=True)
    more = maker.hold(condition, 160)
    assert first.pcm.shape == (800, 1)
    assert (first.stimulus_start, first.stimulus_stop) == pytest.approx((0.7, 0.8))
    assert (more.stimulus_start, more.stimulus_stop) == pytest.approx((0.8, 0.82))


def test_held_mel_goes_on_with_its_last_frame() -> None:
    seen: list[NDArray[np.float32]] = []

    class Renderer(SteadyRenderer):
        def render(self, condition: Condition, n_samples: int) -> NDArray[np.float32]:
            seen.append(condition.values)
            return super().render(condition, n_samples)

    mel = np.arange(6, dtype=np.float32).reshape(3, 2)
    maker = SoundMaker(Renderer(), lag_s=0.0)
    maker.hold(Condition(mel, window(0)), 10)
    assert np.array_equal(seen[0], [[4.0, 5.0]])


def test_a_companion_is_played_on_the_left() -> None:
    def companion(sound: Sound) -> NDArray[np.float32]:
        return np.full(len(sound.pcm), -0.5, np.float32)

    maker = SoundMaker(SteadyRenderer(), 0.0, companion)
    made = maker.window(EchoDecoder().decode(window(0)), 4, afresh=False)
    assert np.allclose(made.pcm, [[-0.5, 0.1]] * 4)


# ------------------------------------------------------------------ all stages together


async def steady(loop: VirtualLoop, n: int, *, wait_at: int = -1) -> AsyncIterator[TimelineEvent]:
    """100 samples a second in chunks of 5; `wait_at`: the source stalls for 2 s there."""
    late = 0.0
    for k in range(n):
        if k == wait_at:
            yield StateChange(SourceState.STALLED, loop.time(), loop.time())
            late = 2.0
            await asyncio.sleep(max(0.0, 0.05 * k + late - loop.time()))
            yield StateChange(SourceState.CONNECTED, loop.time(), loop.time())
        await asyncio.sleep(max(0.0, 0.05 * (k + 1) + late - loop.time()))
        yield chunk(5 * k, 5, loop.time())


def run(decoder: EchoDecoder, *, n: int = 100, wait_at: int = -1) -> tuple[Pipeline, Witness]:
    async def main(loop: VirtualLoop) -> tuple[Pipeline, Witness]:
        witness = Witness()
        line = pipeline(
            steady(loop, n, wait_at=wait_at), decoder, loop.time, hop=10, witness=witness
        )
        await run_with_sink(line)
        return line, witness

    return run_virtually(main)


def test_all_that_comes_in_is_heard() -> None:
    line, witness = run(EchoDecoder())
    assert {p.seq for p in witness.played if p.seq >= 0} == set(range(50))
    assert line.monitor.tracer.outcomes == {"heard": 50}
    assert line.player.statistics().underruns == 0
    assert line.monitor.tracer.mismatched == 0


def test_one_failed_window_is_bridged_by_the_sound_before_it() -> None:
    line, witness = run(fail_at(20, 21))
    assert line.monitor.skipped == {"error": 2}
    assert line.player.statistics().underruns == 0
    assert {p.seq for p in witness.played if p.seq >= 0} == set(range(50)) - {20, 21}


def test_held_sound_gives_way_to_a_new_window_and_makes_nothing_older() -> None:
    async def main(loop: VirtualLoop) -> tuple[Pipeline, Witness]:
        witness = Witness()
        decoder = EchoDecoder(lambda _: loop.sleep_in_thread(0.23))
        line = pipeline(steady(loop, 200), decoder, loop.time, hop=10, witness=witness)
        await run_with_sink(line)
        return line, witness

    line, witness = run_virtually(main)
    counts = line.player.statistics()
    assert counts.underruns == 0
    assert counts.replaced_s > 0.1
    heard = {p.seq: p.t_heard - p.brain_stop for p in reversed(witness.played) if p.seq >= 0}
    assert len(heard) >= 30
    assert max(heard.values()) <= 0.1 + 0.23 + 0.05


def test_a_decoder_that_fails_for_ever_ends_in_silence_and_an_error() -> None:
    async def main(loop: VirtualLoop) -> tuple[Pipeline, Witness]:
        witness = Witness()
        decoder = fail_at(*range(20, 1000))
        line = pipeline(steady(loop, 400), decoder, loop.time, hop=10, witness=witness)
        with pytest.raises(StageError):
            await run_with_sink(line)
        return line, witness

    line, witness = run_virtually(main)
    assert line.monitor.errors == {"decode": 5}
    assert len(witness.windows) < 40


def test_a_stalled_source_is_silent_and_not_an_underrun() -> None:
    line, witness = run(EchoDecoder(), wait_at=60)
    assert line.player.statistics().underruns == 0
    silences = [p.n_samples for p in witness.played if p.seq < 0]
    assert 1.8 * RATE_HZ < sum(silences) < 2.2 * RATE_HZ
    assert {p.seq for p in witness.played if p.seq >= 0} == set(range(50))


def test_a_decoder_that_hangs_is_an_underrun_after_the_hold() -> None:
    async def main(loop: VirtualLoop) -> Pipeline:
        def before(window: FeatureWindow) -> None:
            if window.seq == 20:
                loop.sleep_in_thread(3.0)

        witness = Witness()
        line = pipeline(steady(loop, 200), EchoDecoder(before), loop.time, hop=10, witness=witness)
        await run_with_sink(line)
        return line

    line = run_virtually(main)
    assert line.player.statistics().underruns == 1
    assert line.monitor.windows == 100
    assert line.monitor.decoded + line.monitor.skipped_windows == 100
    assert 25 <= line.monitor.skipped["stale"] <= 31


def test_abort_is_silent_within_one_block_and_ends_in_order() -> None:
    async def main(loop: VirtualLoop) -> tuple[Pipeline, Witness, float]:
        witness = Witness()
        line = pipeline(steady(loop, 60), EchoDecoder(), loop.time, hop=10, witness=witness)
        loop.call_at(1.503, line.player.abort)
        await run_with_sink(line)
        return line, witness, loop.time()

    line, witness, _ = run_virtually(main)
    last = max(p.t_heard + p.n_samples / RATE_HZ for p in witness.played if p.seq >= 0)
    # The sink asks for the next block within 5 ms, it is heard 5 ms later, and fades while it is.
    assert last <= 1.503 + 3 * 0.005
    assert line.monitor.decoded == 30
    assert line.player.aborted


def test_a_fault_in_the_wiring_ends_everything_at_once() -> None:
    class Broken(Witness):
        def on_condition(self, condition: Condition) -> None:
            raise ZeroDivisionError("a bug")

    async def main(loop: VirtualLoop) -> None:
        line = pipeline(steady(loop, 1000), EchoDecoder(), loop.time, hop=10, witness=Broken())
        with pytest.raises(ZeroDivisionError):
            await run_with_sink(line)
        assert loop.time() < 1.0

    run_virtually(main)


def test_the_error_that_says_most_comes_out_of_a_group() -> None:
    ours = StageError("ours")
    group = BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [KeyError(), ours])])
    assert first_error(group) is ours
    plain = ValueError()
    assert first_error(BaseExceptionGroup("", [plain])) is plain


def test_an_index_that_nobody_knows_is_not_heard_twice() -> None:
    line, witness = run(EchoDecoder(), n=40)
    heard = [p for p in witness.played if p.seq >= 0]
    total = sum(p.n_samples for p in heard)
    assert total == pytest.approx(line.player.statistics().seconds_played * RATE_HZ)
    for a, b in pairwise(heard):
        if a.seq == b.seq:
            assert b.offset == a.offset + a.n_samples or b.offset == 0
        else:
            assert b.seq == a.seq + 1
