from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from models.errors import SettingError
from stream.messages import Played
from stream.playback import Player, PlayerState
from tests.stream.sounds import STEP_LIMIT, largest_step, play, sound, tone

RATE = 16_000
BLOCK = 160
FADE = 160
CEILING = 10 ** (-12 / 20)


def player(**changes: float) -> Player:
    values: dict[str, float] = {"lead_s": 0.0, "max_queue_s": 60.0} | changes
    channels = int(values.pop("n_channels", 1))
    return Player(sample_rate_hz=RATE, n_channels=channels, **values)


def in_samples(p: Player) -> dict[str, int]:
    s = p.statistics()
    return {
        name: round(getattr(s, name) * RATE)
        for name in (
            "seconds_played",
            "seconds_rendered",
            "dropped_s",
            "discarded_s",
            "replaced_s",
            "waiting_s",
        )
    }


def everything_is_accounted_for(p: Player, n_put: int) -> None:
    s = in_samples(p)
    gone = s["dropped_s"] + s["discarded_s"] + s["replaced_s"]
    assert n_put == s["seconds_played"] + gone + s["waiting_s"]


# -- what goes in comes out ---------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=12),
    st.lists(st.integers(1, 700), min_size=1, max_size=4),
)
def test_sounds_come_out_as_one_signal_whatever_the_blocks(
    sounds: list[int], blocks: list[int]
) -> None:
    total = sum(sounds)
    signal = tone(total)
    p = player()
    at = 0
    for seq, n in enumerate(sounds):
        p.queue(sound(signal[at : at + n], seq))
        at += n
    p.finish()
    out: list[NDArray[np.float32]] = [np.zeros((0, 1), np.float32)]
    while not p.idle:
        out.append(p.render_block(blocks[len(out) % len(blocks)], 0.0))
    heard = np.concatenate(out)[:, 0]
    assert in_samples(p)["seconds_played"] == total
    assert not heard[total:].any()
    if total > 2 * FADE:
        assert np.array_equal(heard[FADE : total - FADE], signal[FADE : total - FADE])
    assert (np.abs(heard[:total]) <= np.abs(signal)).all()
    assert p.statistics().underruns == 0
    everything_is_accounted_for(p, total)


def test_ends_are_faded_and_joins_are_untouched() -> None:
    signal = tone(8000)
    p = player()
    for seq in range(10):
        p.queue(sound(signal[seq * 800 : (seq + 1) * 800], seq))
    p.finish()
    heard = play(p)[:, 0]
    around = np.concatenate([np.zeros(100, np.float32), heard, np.zeros(100, np.float32)])
    assert largest_step(around, signal) < STEP_LIMIT / 10


def test_a_mono_sound_goes_to_all_channels_and_stereo_stays_apart() -> None:
    p = player(n_channels=2)
    left, right = tone(1600), tone(1600, hz=150.0)
    p.queue(sound(left))
    p.queue(sound(np.stack([left, right], axis=1), 1))
    p.finish()
    heard = play(p)
    assert np.array_equal(heard[FADE:1600, 0], heard[FADE:1600, 1])
    assert np.array_equal(heard[1600:3040], np.stack([left, right], axis=1)[:1440])


@pytest.mark.parametrize(
    ("pcm", "rate"),
    [(np.zeros((10, 3)), RATE), (np.zeros((2, 2, 2)), RATE), (np.zeros(10), 48_000)],
)
def test_a_sound_of_another_kind_is_refused(pcm: NDArray[np.float64], rate: int) -> None:
    with pytest.raises(SettingError, match="player"):
        player(n_channels=2).queue(sound(pcm, rate=rate))


@pytest.mark.parametrize(
    "changes",
    [
        {"ceiling_dbfs": 1.0},
        {"fade_s": 0.0},
        {"lead_s": -1.0},
        {"max_queue_s": 0.01},
        {"max_queue_s": float("nan")},
        {"catch_up_s": 0.0},
        {"n_channels": 0},
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(SettingError):
        player(**changes)


# -- lead and underruns -------------------------------------------------------------------------


def test_the_first_sound_waits_for_the_lead() -> None:
    p = player(lead_s=0.06)
    assert not p.render_block(BLOCK, 0.0).any()
    p.queue(sound(tone(1600) + 0.05))
    silent = [not p.render_block(BLOCK, 0.0).any() for _ in range(8)]
    assert silent == [True] * 6 + [False] * 2  # 6 blocks of 10 ms
    assert p.state is PlayerState.PLAYING


@pytest.mark.parametrize("late_ms", [0, 10, 20, 30, 40, 50, 60, 100, 500])
def test_a_sound_later_than_the_lead_allows_is_one_underrun(late_ms: int) -> None:
    """100-ms sounds; the third is late. The lead covers 60 ms less a fade, at a block's edge."""
    p = player(lead_s=0.06)
    arrivals = {0, 10, 20 + late_ms // 10, 30 + late_ms // 10, 40 + late_ms // 10}
    for k in range(70 + late_ms // 10):
        if k in arrivals:
            p.queue(sound(tone(1600)))
        if k == max(arrivals) + 1:
            p.finish()
        p.render_block(BLOCK, 0.0)
    assert p.statistics().underruns == (1 if late_ms > 50 else 0)
    assert in_samples(p)["seconds_played"] == 5 * 1600


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 1000).map(lambda half: 2 * half)),
        min_size=1,
        max_size=15,
    ),
    st.integers(8, 250).map(lambda half: 2 * half),
    st.sampled_from([0.0, 0.03, 0.1]),
)
@example(arrivals=[(0, 2), (3, 174), (30, 176)], block=16, lead_s=0.03)
def test_underruns_equal_those_of_a_plain_model(
    arrivals: list[tuple[int, int]], block: int, lead_s: float
) -> None:
    """The model knows sample counts only: is there a block left, and a way down after it?"""
    p = player(lead_s=lead_s)
    lead = round(lead_s * RATE)
    held = waited = underruns = put = 0
    level = 0
    state = "waiting"
    for pause, n in [*arrivals, (40, 0)]:
        for _ in range(pause):
            if state == "waiting":
                if held >= block + FADE and waited >= lead:
                    state = "playing"
                elif held:
                    waited += block
            if state == "playing":
                if held - block >= min(FADE, level + block):
                    held -= block
                    level = min(FADE, level + block)
                else:
                    underruns += 1
                    state, held, waited = "falling", held - block, 0
                    fresh = 0
            elif state == "falling":
                held -= block
            if state == "falling" and held <= 0:
                # All that was held when it starved has gone; what came since waits for the lead.
                state, held, waited, level = "waiting", fresh, 0, 0
            p.render_block(block, 0.0)
        if n:
            p.queue(sound(np.full(n, 0.1)))
            put += n
            if state == "falling":
                fresh += n
            else:
                held += n
    assert p.statistics().underruns == underruns
    everything_is_accounted_for(p, put)


def test_an_underrun_fades_out_and_in_again_without_a_click() -> None:
    p = player()
    signal = tone(3200)
    out = []
    for k in range(60):
        if k in (0, 40):
            p.queue(sound(signal[:1600] if k == 0 else signal[1600:]))
        out.append(p.render_block(BLOCK, 0.0))
    heard = np.concatenate(out)[:, 0]
    assert p.statistics().underruns == 2  # nobody said that the second was the last
    assert largest_step(heard, signal) < STEP_LIMIT / 10
    assert in_samples(p)["seconds_played"] == 3200


def test_silence_after_finish_is_no_underrun_and_a_new_sound_begins_again() -> None:
    p = player(lead_s=0.02)
    for _ in range(3):
        p.queue(sound(tone(1600)))
        p.finish()
        play(p)
    assert p.statistics().underruns == 0
    assert in_samples(p)["seconds_played"] == 3 * 1600


# -- filler, and what replaces it ---------------------------------------------------------------


def test_a_newer_sound_takes_the_place_of_filler_with_a_crossfade() -> None:
    p = player()
    signal = tone(RATE, amplitude=0.1)
    p.queue(sound(signal[:800], 0))
    p.queue(sound(signal[800:2400], 0), filler=True)
    first = p.render_block(BLOCK, 0.0)
    assert p.filler_s == pytest.approx(0.1)
    p.drop_waiting(0.05)
    assert 0.05 <= p.waiting_s < 0.05 + 0.006
    p.queue(sound(tone(1600, hz=140.0, amplitude=0.1), 1))
    assert p.filler_s == 0.0  # what is left of it lies before a sound and stays
    p.drop_waiting(0.0)
    p.finish()
    out = np.concatenate([first, play(p, t=0.01)])[:, 0]
    assert largest_step(out, tone(RATE, hz=140.0, amplitude=0.1 * 2**0.5)) < STEP_LIMIT
    order = [piece.seq for piece in p.drain_played() if piece.seq >= 0]
    assert order == sorted(order)
    counts = in_samples(p)
    assert 2400 - BLOCK - 800 - 80 <= counts["replaced_s"] <= 2400 - BLOCK - 800
    everything_is_accounted_for(p, 800 + 1600 + 1600)


def test_what_is_no_filler_is_never_taken_back() -> None:
    p = player()
    p.queue(sound(tone(1600)), filler=True)
    p.queue(sound(tone(1600), 1))
    p.drop_waiting(0.0)
    assert p.waiting_s == 0.2
    p.queue(sound(tone(800), 1), filler=True)
    p.drop_waiting(0.0)
    assert p.waiting_s == 0.2
    assert in_samples(p)["replaced_s"] == 800


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["sound", "filler", "drop", "block"]), st.integers(1, 900)),
        max_size=40,
    )
)
def test_with_filler_too_every_sample_is_accounted_for(steps: list[tuple[str, int]]) -> None:
    p = player()
    n_put = 0
    for what, n in steps:
        if what == "block":
            p.render_block(n, 0.0)
        elif what == "drop":
            waited, filler = p.waiting_s, p.filler_s
            p.drop_waiting(n / RATE)
            assert p.waiting_s >= min(waited, n / RATE) - 1e-9
            assert waited - p.waiting_s <= filler + 1e-9
        else:
            p.queue(sound(tone(n)), filler=what == "filler")
            n_put += n
        assert 0.0 <= p.filler_s <= p.waiting_s
        everything_is_accounted_for(p, n_put)


# -- too much, too old --------------------------------------------------------------------------


def test_the_oldest_is_dropped_with_a_crossfade_and_counted() -> None:
    p = player(max_queue_s=0.5)
    signal = tone(RATE * 3, amplitude=0.1)  # far from the limiter, also where two are mixed
    out = []
    for k in range(3):
        p.queue(sound(signal[k * RATE : (k + 1) * RATE], k))
        out.append(p.render_block(BLOCK, 0.0))
    p.finish()
    out.append(play(p))
    heard = np.concatenate(out)[:, 0]
    assert largest_step(np.append(heard, np.zeros(10, np.float32)), signal) < STEP_LIMIT / 5
    assert in_samples(p)["dropped_s"] > 2.2 * RATE
    everything_is_accounted_for(p, 3 * RATE)
    # The newest is what was kept.
    n = in_samples(p)["seconds_played"]
    tail = heard[:n][-FADE - 3200 : -FADE]
    assert np.array_equal(tail, signal[-FADE - 3200 : -FADE])


def test_the_queue_is_bounded_while_nobody_plays() -> None:
    p = player(max_queue_s=0.5)
    for k in range(100):
        p.queue(sound(tone(1600), k))
    assert p.waiting_s <= 0.5
    everything_is_accounted_for(p, 160_000)


@pytest.mark.parametrize("catch_up_s", [2.0, float("inf")])
def test_a_source_that_is_too_fast_does_not_add_to_the_delay_for_ever(catch_up_s: float) -> None:
    """100 ms of sound each 98 ms, for a minute."""
    p = player(lead_s=0.06, catch_up_s=catch_up_s)
    signal = tone(700 * 1600, amplitude=0.1)
    out, waiting, seq = [], [], 0
    for k in range(6000):
        while seq * 9.8 <= k:
            p.queue(sound(signal[seq * 1600 : (seq + 1) * 1600], seq))
            seq += 1
        out.append(p.render_block(BLOCK, 0.0))
        waiting.append(p.waiting_s)
    assert p.statistics().underruns == 0
    if catch_up_s < 10:
        assert max(waiting) < 0.06 + 0.1 + 0.04 + 0.1
        heard = np.concatenate(out)[:, 0]
        assert largest_step(heard, signal) < STEP_LIMIT / 5
    else:
        assert max(waiting) > 1.0
    everything_is_accounted_for(p, seq * 1600)


# -- invalid samples ----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("at", [1590, 1597, 1599, 1600, 1601, 1605, 2400, 3197, 3199, 3350])
def test_invalid_samples_are_silence_between_fades(bad: float, at: int) -> None:
    signal = tone(4800)
    broken = signal.copy()
    broken[at : at + 3] = bad
    p = player()
    for seq in range(3):
        p.queue(sound(broken[seq * 1600 : (seq + 1) * 1600], seq))
        p.render_block(BLOCK, 0.0) if seq == 0 else None
    p.finish()
    heard = np.concatenate([np.zeros((BLOCK, 1), np.float32), play(p)])[:, 0]
    assert p.statistics().n_invalid == 3
    assert not heard[at : at + 3].any()
    assert largest_step(heard[BLOCK:4800], signal) < STEP_LIMIT / 5
    far = np.abs(np.arange(4800) - at) > FADE + 3
    far[: BLOCK + FADE] = far[-FADE:] = False
    assert np.array_equal(heard[:4800][far], signal[far])


WILD = st.one_of(
    st.floats(width=32),
    st.sampled_from([0.0, 0.9, -0.9, 99.0, 101.0, 1e30, float("nan"), float("-inf")]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        arrays(np.float32, st.tuples(st.integers(0, 400), st.just(2)), elements=WILD),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 400),
    st.floats(-40, 0),
    st.data(),
)
def test_nothing_that_comes_out_passes_the_ceiling(
    sounds: list[NDArray[np.float32]], block: int, ceiling: float, data: st.DataObject
) -> None:
    p = player(n_channels=2, ceiling_dbfs=ceiling, max_queue_s=0.04, fade_s=0.005)
    out: list[NDArray[np.float32]] = []
    for seq, pcm in enumerate(sounds):
        p.queue(sound(pcm, seq))
        wish = data.draw(st.sampled_from(["", "pause", "resume", "finish", "abort"]))
        if wish:
            getattr(p, wish)()
        out.extend(p.render_block(block, 0.0) for _ in range(data.draw(st.integers(0, 4))))
    p.resume()
    p.finish()
    out.append(play(p, block=block))
    heard = np.concatenate(out)
    assert np.isfinite(heard).all()
    limit = 10 ** (ceiling / 20)
    assert float(np.abs(heard).max(initial=0.0)) <= limit
    assert 10 ** (p.statistics().peak_dbfs / 20) <= limit * (1 + 1e-9)
    everything_is_accounted_for(p, sum(len(pcm) for pcm in sounds))
    assert sum(piece.n_samples for piece in p.drain_played()) == len(heard)


# -- abort, pause -------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [16, 64, 160, 1024])
def test_abort_is_silent_within_one_block_and_for_ever(block: int) -> None:
    p = player(n_channels=2)
    signal = np.stack([tone(RATE), tone(RATE, hz=90.0)], axis=1)
    p.queue(sound(signal))
    before = [p.render_block(block, 0.0) for _ in range(2048 // block)]
    p.abort()
    last = p.render_block(block, 0.0)
    assert not last[-1].any()
    at = len(before) * block
    assert (np.abs(last) <= np.abs(signal[at : at + block])).all()
    if block >= FADE:
        assert largest_step(np.concatenate([*before, last]), signal) < STEP_LIMIT / 5
    for seq in range(20):
        p.queue(sound(signal, seq))
        p.resume()
        assert not p.render_block(block, 0.0).any()
    assert p.state is PlayerState.ABORTED
    assert p.idle
    assert p.statistics().underruns == 0
    everything_is_accounted_for(p, 21 * RATE)


def test_abort_before_any_sound_is_silence() -> None:
    p = player()
    p.abort()
    assert not play(p, blocks=3).any()
    assert p.idle


def test_a_pause_fades_out_discards_what_comes_and_fades_in_again() -> None:
    p = player()
    signal = tone(RATE * 4)
    out: list[NDArray[np.float32]] = []
    for k in range(400):
        if k % 10 == 0:
            p.queue(sound(signal[k * BLOCK : (k + 10) * BLOCK], k // 10))
        if k == 100:
            p.pause()
        if k == 200:
            p.resume()
        out.append(p.render_block(BLOCK, 0.0))
    heard = np.concatenate(out)[:, 0]
    assert not heard[101 * BLOCK : 200 * BLOCK].any()
    assert heard[60 * BLOCK : 100 * BLOCK].any()
    assert heard[220 * BLOCK : 240 * BLOCK].any()
    assert largest_step(heard, signal) < STEP_LIMIT / 5
    s = p.statistics()
    assert s.discarded_s > 0.99
    everything_is_accounted_for(p, 400 * BLOCK)
    assert all(piece.seq == -1 or not 101 * BLOCK <= at < 200 * BLOCK for at, piece in starts(p))


def test_a_pause_is_no_underrun() -> None:
    p = player()
    p.queue(sound(tone(4800)))
    p.render_block(BLOCK, 0.0)
    p.pause()
    play(p, blocks=50)
    assert p.statistics().underruns == 0
    assert p.state is PlayerState.PAUSED


def test_a_sink_that_stood_still_is_followed_by_a_fade_in() -> None:
    p = player()
    signal = tone(4800)
    p.queue(sound(signal))
    p.render_block(800, 0.0)
    p.interrupted()
    heard = p.render_block(800, 0.0)[:, 0]
    assert largest_step(np.append(np.zeros(10, np.float32), heard), signal) < STEP_LIMIT / 5
    assert np.array_equal(heard[FADE:], signal[800 + FADE : 1600])


# -- the log ------------------------------------------------------------------------------------


def starts(p: Player) -> Iterator[tuple[int, Played]]:
    at = 0
    for piece in p.drain_played():
        yield at, piece
        at += piece.n_samples


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 3000)), min_size=1, max_size=12),
    st.integers(1, 700),
    st.sampled_from([0.1, 60.0]),
)
def test_the_log_says_what_came_out_sample_by_sample(
    arrivals: list[tuple[int, int]], block: int, max_queue_s: float
) -> None:
    """Every sample has a value of its own, so that the log can be checked against each."""
    p = player(max_queue_s=max_queue_s)
    sounds: list[NDArray[np.float32]] = []
    out: list[NDArray[np.float32]] = []
    t0 = 1000.0
    made = 0
    for pause, n in arrivals:
        pcm = (0.1 + 1e-7 * (made + np.arange(n))).astype(np.float32)
        made += n
        p.queue(sound(pcm, len(sounds)))
        sounds.append(pcm)
        out += [p.render_block(block, t0 + (len(out) + k) * block / RATE) for k in range(pause)]
    p.finish()
    out.append(play(p, block=block, t=t0 + len(out) * block / RATE))
    heard = np.concatenate(out)[:, 0]
    told = np.full(len(heard), np.nan, np.float32)
    at = 0
    for piece in p.drain_played():
        assert piece.t_heard == pytest.approx(t0 + at / RATE, abs=1e-9)
        if piece.seq >= 0:
            source = sounds[piece.seq][piece.offset : piece.offset + piece.n_samples]
            assert len(source) == piece.n_samples
            told[at : at + piece.n_samples] = source
            assert piece.brain_stop == 1.0 + piece.seq
        at += piece.n_samples
    assert at == len(heard)
    assert not heard[np.isnan(told)].any()  # silence is told as silence
    real = ~np.isnan(told)
    assert real.sum() == in_samples(p)["seconds_played"]
    if max_queue_s > 10:  # no crossfades: only fades, which lower the value
        assert (heard[real] <= told[real]).all()
        # All but two fades for each stretch are bit for bit what is told; each stretch but the
        # last ends in an underrun. (One too short for both may have a sample between them.)
        stretches = 1 + p.statistics().underruns
        assert (heard[real] != told[real]).sum() <= (2 * FADE + 1) * stretches


def test_nobody_draining_the_log_does_not_grow_memory() -> None:
    p = player()
    for _ in range(61_000):
        p.render_block(1, 0.0)
    assert len(p.drain_played()) == 60_000


# -- around it ----------------------------------------------------------------------------------


def test_a_tap_sees_every_block_and_its_failure_does_not_stop_the_sound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    p = player()
    seen: list[NDArray[np.float32]] = []

    def broken(block: NDArray[np.float32]) -> None:
        raise OSError("full")

    p.add_tap(broken)
    p.add_tap(seen.append)
    p.queue(sound(tone(1600)))
    p.finish()
    heard = play(p)
    assert np.array_equal(np.concatenate(seen), heard)
    assert p.statistics().tap_errors == len(seen)
    assert len(caplog.records) == 1


def test_counts_stay_exact_while_several_threads_use_the_player() -> None:
    p = player(max_queue_s=0.3, n_channels=2)
    put = [0, 0]
    ready = threading.Barrier(3)

    def put_in(which: int) -> None:
        ready.wait()
        for k in range(400):
            n = 1 + (k * 37) % 900
            p.queue(sound(np.full(n, 0.1), k))
            put[which] += n

    threads = [threading.Thread(target=put_in, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    ready.wait()
    rendered = 0
    while any(thread.is_alive() for thread in threads):
        assert np.isfinite(p.render_block(BLOCK, 0.0)).all()
        rendered += BLOCK
    for thread in threads:
        thread.join()
    p.finish()
    rendered += len(play(p))
    everything_is_accounted_for(p, sum(put))
    assert in_samples(p)["seconds_rendered"] == rendered
    assert in_samples(p)["waiting_s"] == 0
