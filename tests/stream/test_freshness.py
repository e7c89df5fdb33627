from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.freshness import LEAST_LEAD_S, Batch, Freshest, SoundClock, lead_for
from stream.messages import Chunk, FeatureWindow
from tests.stream.fakes import EchoDecoder, Witness, chunk, pipeline, run_with_sink, window
from tests.stream.virtual_time import VirtualLoop, run_virtually

HOP_S = 0.1


def taken(deliveries: Sequence[Sequence[int]], cost_s: float) -> tuple[list[int], list[int]]:
    """Send deliveries, then take all: which windows are decoded, which skipped."""
    skipped: list[int] = []

    async def main() -> list[int]:
        freshest = Freshest(HOP_S, lambda w: skipped.append(w.seq))
        freshest.took(cost_s)
        for numbers in deliveries:
            await freshest.send([window(seq, hop_s=HOP_S) for seq in numbers])
        await freshest.close()
        return [w.seq async for w in freshest]

    return asyncio.run(main()), skipped


def test_a_slow_decoder_gets_the_newest_window_only() -> None:
    assert taken([[0], [1], [2]], 2 * HOP_S) == ([2], [0, 1])


def test_a_quick_decoder_gets_them_all_in_order() -> None:
    assert taken([[0], [1], [2]], 0.001) == ([0, 1, 2], [])


def test_one_delivery_is_no_backlog() -> None:
    assert taken([[0, 1, 2]], 0.9 * HOP_S) == ([0, 1, 2], [])
    assert taken([[0, 1, 2]], 1.1 * HOP_S) == ([2], [0, 1])


def test_a_backlog_of_seconds_is_left_out_however_quick_the_decoder_is() -> None:
    decoded, skipped = taken([list(range(50))], 0.0)
    assert sorted(decoded + skipped) == list(range(50))
    assert decoded == [47, 48, 49]


@given(
    st.lists(st.integers(1, 8), max_size=20),
    st.floats(0.0, 0.5),
)
def test_every_window_is_decoded_or_skipped_and_the_newest_is_decoded(
    sizes: list[int], cost_s: float
) -> None:
    bounds = np.cumsum([0, *sizes]).tolist()
    deliveries = [list(range(a, b)) for a, b in pairwise(bounds)]
    decoded, skipped = taken(deliveries, cost_s)
    assert sorted(decoded + skipped) == list(range(bounds[-1]))
    assert decoded == sorted(decoded)
    if sizes:
        assert decoded[-1] == bounds[-1] - 1


@given(
    rate=st.integers(8000, 96_000),
    hop=st.integers(1, 4000),
    sfreq=st.sampled_from([1 / 1.5, 2.0, 128.0, 250.0, 1000.0 / 3]),
)
def test_hops_become_samples_without_drift(rate: int, hop: int, sfreq: float) -> None:
    pace = SoundClock(sample_rate_hz=rate, hop_samples=hop, sfreq_hz=sfreq, lead_s=0.03)
    total = sum(pace.exact() for _ in range(500))
    assert 0 <= Fraction(rate) * hop * 500 / Fraction(sfreq) - total < 1


def pace() -> SoundClock:
    return SoundClock(sample_rate_hz=1000, hop_samples=1, sfreq_hz=1 / HOP_S, lead_s=0.03)


def alone(seq: int) -> tuple[FeatureWindow, Batch]:
    made = window(seq, hop_s=HOP_S)
    return made, Batch(seq, made.t_stop - HOP_S, made.t_stop)


def test_sound_has_the_length_of_a_hop_while_the_lead_is_about_right() -> None:
    for waiting_s in (0.016, 0.03, 0.044):
        assert pace().n_samples(*alone(3), waiting_s) == 100


def test_sound_is_lengthened_or_cut_until_the_lead_is_right() -> None:
    assert pace().n_samples(*alone(3), 0.0) == 130
    assert pace().n_samples(*alone(3), 0.08) == 50
    assert pace().n_samples(*alone(3), 0.5) == 0


def test_windows_of_one_delivery_are_heard_one_after_the_other() -> None:
    first, second, third = (window(seq, hop_s=HOP_S) for seq in (5, 6, 7))
    batch = Batch(0, first.t_stop - HOP_S, third.t_stop)
    clock = pace()
    assert [
        clock.n_samples(first, batch, 0.03),
        clock.n_samples(second, batch, 0.13),
        clock.n_samples(third, batch, 0.23),
    ] == [100, 100, 100]
    assert not clock.too_late(first, batch)
    assert clock.too_late(window(4, hop_s=HOP_S), batch)


def test_less_sound_waits_while_the_decoder_is_slow() -> None:
    clock = SoundClock(
        sample_rate_hz=1000, hop_samples=1, sfreq_hz=1 / HOP_S, lead_s=0.07, slow_lead_s=0.035
    )
    seen = []
    for cost_s in (0.01, 0.079, 0.081, 0.07, 0.061, 0.059, 0.079):
        clock.adapt(cost_s)
        seen.append(clock.lead_s)
    assert seen == [0.07, 0.07, 0.035, 0.035, 0.035, 0.07, 0.07]


def test_more_sound_waits_where_making_some_takes_longer_than_what_waits() -> None:
    clock = SoundClock(
        sample_rate_hz=1000, hop_samples=1, sfreq_hz=1 / HOP_S, lead_s=0.07, slow_lead_s=0.035
    )
    seen = []
    for cost_s, reserve_s in ((0.01, 0.0), (0.01, 0.04), (0.01, 0.08), (0.09, 0.08), (0.09, 0.0)):
        clock.adapt(cost_s, reserve_s=reserve_s)
        seen.append(clock.lead_s)
    # The reserve, what arriving takes, and what decoding takes unless that is always too late.
    assert seen == pytest.approx([0.07, 0.07, 0.08 + 0.02 + 0.01, 0.08 + 0.02, 0.035])


@given(st.floats(0.001, 10.0))
def test_the_lead_leaves_room_in_the_contract(hop_s: float) -> None:
    assert LEAST_LEAD_S <= lead_for(hop_s) <= max(LEAST_LEAD_S, hop_s + 0.0301)


# ------------------------------------------------------------------ the whole pipeline, virtually


def session(
    *, hop_s: float, decoder_s: float, seconds: float, chunk_s: float, jitter_s: float = 0.0
) -> tuple[Witness, dict[str, float]]:
    """Run the real pipeline and player in virtual time; return what was heard, and the counts."""

    async def main(loop: VirtualLoop) -> tuple[Witness, dict[str, float]]:
        rng = np.random.default_rng(5)
        n = round(chunk_s * 100)

        async def events() -> AsyncIterator[Chunk]:
            for k in range(int(seconds / chunk_s)):
                due = (k + 1) * chunk_s + jitter_s * float(rng.random())
                await asyncio.sleep(max(0.0, due - loop.time()))
                made = chunk(k * n, n, (k + 1) * chunk_s)
                yield Chunk(made.samples, made.stamps, made.raw_stamps, k * n, 0, loop.time())

        witness = Witness()
        line = pipeline(
            events(),
            EchoDecoder(lambda _: loop.sleep_in_thread(decoder_s)),
            loop.time,
            hop=round(hop_s * 100),
            witness=witness,
        )
        await run_with_sink(line)
        counts = line.player.statistics()
        return witness, {
            "windows": line.monitor.windows,
            "decoded": line.monitor.decoded,
            "skipped": line.monitor.skipped_windows,
            "silent": sum(line.monitor.silent.values()),
            "underruns": counts.underruns,
            "mismatched": line.monitor.tracer.mismatched,
            "heard": line.monitor.tracer.outcomes["heard"],
            "open": line.monitor.tracer.n_open,
            "seconds_played": counts.seconds_played,
        }

    return run_virtually(main)


def ages(witness: Witness) -> list[float]:
    """Age of the brain behind each output, when the first of its sound is heard, s."""
    first: dict[int, float] = {}
    for played in witness.played:
        if played.seq >= 0:
            first.setdefault(played.seq, played.t_heard - played.brain_stop)
    return list(first.values())


@pytest.mark.parametrize(("hop_s", "ratio"), [(0.25, 2.0), (0.1, 2.0), (0.25, 1.3), (1.5, 2.0)])
def test_a_decoder_slower_than_the_hop_never_makes_the_sound_older(
    hop_s: float, ratio: float
) -> None:
    decoder_s = ratio * hop_s
    seen, counts = session(hop_s=hop_s, decoder_s=decoder_s, seconds=60.0, chunk_s=0.05)
    heard = ages(seen)
    assert len(heard) >= 0.8 * 60.0 / (decoder_s + hop_s)
    assert max(heard) <= hop_s + decoder_s + 0.050
    assert counts["windows"] == len(seen.windows) == int(60.0 / hop_s)
    assert counts["decoded"] + counts["skipped"] == counts["windows"]
    assert counts["skipped"] >= counts["windows"] * (1 - 1 / ratio) - 2
    assert counts["underruns"] == 0
    assert counts["mismatched"] == 0
    assert counts["open"] == 0


def test_a_quick_decoder_skips_nothing_and_adds_only_the_lead() -> None:
    seen, counts = session(hop_s=0.1, decoder_s=0.002, seconds=20.0, chunk_s=0.02)
    assert (counts["skipped"], counts["silent"], counts["underruns"]) == (0, 0, 0)
    assert counts["heard"] == counts["windows"] == 200
    assert max(ages(seen)) <= 0.002 + lead_for(0.1) + 0.015
    assert counts["seconds_played"] == pytest.approx(20.0, abs=0.05)


def test_chunks_longer_than_the_hop_are_decoded_and_heard_in_full() -> None:
    seen, counts = session(hop_s=0.02, decoder_s=0.003, seconds=20.0, chunk_s=0.1)
    assert (counts["skipped"], counts["silent"], counts["underruns"]) == (0, 0, 0)
    assert counts["heard"] == counts["windows"] == 1000
    assert max(ages(seen)) <= 0.1 + 5 * 0.003 + lead_for(0.02) + 0.015


@settings(deadline=None, max_examples=8)
@given(
    hop=st.sampled_from([0.1, 0.25]),
    ratio=st.floats(0.05, 3.0),
    jitter_s=st.floats(0.0, 0.03),
)
def test_freshness_holds_at_any_load(hop: float, ratio: float, jitter_s: float) -> None:
    decoder_s = hop * ratio
    seen, counts = session(
        hop_s=hop, decoder_s=decoder_s, seconds=8.0, chunk_s=0.05, jitter_s=jitter_s
    )
    assert counts["decoded"] + counts["skipped"] == counts["windows"]
    assert max(ages(seen)) <= hop + decoder_s + jitter_s + 0.050
    assert counts["mismatched"] == 0
