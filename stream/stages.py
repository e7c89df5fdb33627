"""The stages of the live path: for each message, do the work in a thread, send the result on.

Each is a coroutine that reads one channel and writes the next, and closes that when it ends. What
goes wrong with one window costs that window; the `Monitor` counts it and decides when it is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Protocol

from stream.channel import Channel
from stream.freshness import Freshest, SoundClock
from stream.messages import (
    Chunk,
    Condition,
    FeatureWindow,
    Gap,
    SourceState,
    StateChange,
    TimelineEvent,
)
from stream.monitor import Monitor
from stream.playback import Player, PlayerState
from stream.sound_maker import Companion, SoundMaker
from stream.windows import Windower
from stream.worker import Worker

__all__ = [
    "Companion",
    "Decoder",
    "SoundMaker",
    "decode",
    "features",
    "playback",
    "sound",
    "source",
]

Clock = Callable[[], float]

# The last sound goes on in stretches of this length. A new window takes back what it does not need
# of them, so they may be long: the longer, the longer we may be kept from the processor.
_HOLD_BLOCK_S = 0.04
_SLOW_HOLD_S = 0.06  # so much waits always while a slow decoder makes holding the rule
_PLAYED_EVERY_S = 0.02
_LOOK_S = 0.05  # how often a lost source is noticed while no condition comes


class Decoder(Protocol):
    """A window in, what it was decoded to out."""

    def decode(self, window: FeatureWindow) -> Condition:
        """Decode one window; called in a thread of its own."""
        ...


async def source(
    events: AsyncIterable[TimelineEvent], chunks: Channel[Chunk], monitor: Monitor
) -> None:
    """Pass chunks on; report gaps and changes of state at once, however busy the rest is."""
    try:
        async for event in events:
            if isinstance(event, Chunk):
                await chunks.send(event)
            elif isinstance(event, Gap):
                monitor.gap(event)
            elif isinstance(event, StateChange):
                monitor.state(event)
    finally:
        await chunks.close()


async def features(
    chunks: Channel[Chunk], windows: Freshest, windower: Windower, monitor: Monitor, clock: Clock
) -> None:
    """Turn chunks into feature windows; all of them are made, recorded and counted."""
    try:
        async with Worker("features") as worker:
            async for chunk in chunks:
                entered = clock()
                made, failures = await worker(windower.push, chunk)
                left = clock()
                for window in made:
                    monitor.window(window, chunk.arrived)
                    monitor.tracer.mark(window.seq, "features_in", entered)
                    monitor.tracer.mark(window.seq, "features_out", left)
                    monitor.worked("features")
                for failure in failures:
                    monitor.windows += 1
                    monitor.failed("features", failure.seq, failure.error)
                await windows.send(made)
    finally:
        await windows.close()


async def decode(
    windows: Freshest,
    conditions: Channel[Condition],
    decoder: Decoder,
    monitor: Monitor,
    clock: Clock,
) -> None:
    """Decode the newest window, again and again."""
    try:
        async with Worker("decode") as worker:
            async for window in windows:
                entered = clock()
                monitor.tracer.mark(window.seq, "decode_in", entered)
                try:
                    condition = await worker(decoder.decode, window)
                except Exception as error:
                    monitor.failed("decode", window.seq, error)
                    continue
                left = clock()
                windows.took(left - entered)
                monitor.tracer.mark(window.seq, "decode_out", left)
                monitor.worked("decode")
                monitor.condition(condition)
                await conditions.send(condition)
    finally:
        await conditions.close()


async def sound(
    conditions: Channel[Condition],
    player: Player,
    maker: SoundMaker,
    windows: Freshest,
    pace: SoundClock,
    monitor: Monitor,
    clock: Clock,
    *,
    hold_s: float,
    hold_below_s: float,
) -> None:
    """Give each condition its stretch of sound; hold the last one while the next is late.

    Parameters
    ----------
    hold_s : float
        The last sound goes on for at most so long; then the player fades it out, and counts it.
    hold_below_s : float
        What must always wait in the player: a block, a fade, and time to notice. More of the last
        sound is made when half the lead is used up, or this is reached; sooner where making sound
        takes its time (`_reserve_s`).
    """
    pace.adapt(windows.cost_s, reserve_s=_reserve_s(maker, hold_below_s))
    player.lead_s = pace.lead_s
    last: Condition | None = None
    held_s = 0.0
    coming: asyncio.Task[Condition | None] | None = None
    try:
        async with Worker("sound") as worker:
            while True:
                if coming is None:
                    coming = asyncio.create_task(_take(conditions), name="sound: next condition")
                if monitor.source_state is not SourceState.CONNECTED and last is not None:
                    player.finish()  # the silence to come is not the player's fault
                    last = None
                may_hold = last is not None and held_s < hold_s and _sounding(player)
                below_s = _SLOW_HOLD_S if pace.slow else pace.lead_s / 2
                below_s = max(below_s, hold_below_s, _reserve_s(maker, hold_below_s))
                wait_s = max(0.001, player.waiting_s - below_s) if may_hold else _LOOK_S
                await asyncio.wait({coming}, timeout=wait_s)
                if coming.done():
                    condition, coming = coming.result(), None
                    if condition is None:
                        break
                    await _sound_window(
                        condition,
                        player,
                        maker,
                        windows,
                        pace,
                        monitor,
                        clock,
                        worker,
                        least_s=hold_below_s,
                    )
                    last, held_s = condition, 0.0
                elif may_hold and last is not None and player.waiting_s <= below_s:
                    n = round(_HOLD_BLOCK_S * pace.sample_rate_hz)
                    try:
                        more = await worker(maker.hold, last, n)
                    except Exception as error:
                        monitor.failed("sound", last.window.seq, error)
                        last = None
                        continue
                    held_s += _HOLD_BLOCK_S
                    player.queue(more, filler=True)
                    monitor.sound(more)
    finally:
        if coming is not None:
            coming.cancel()
        player.drop_waiting(0.0)
        player.finish()


async def _sound_window(
    condition: Condition,
    player: Player,
    maker: SoundMaker,
    windows: Freshest,
    pace: SoundClock,
    monitor: Monitor,
    clock: Clock,
    worker: Worker,
    *,
    least_s: float,
) -> None:
    """Render and queue the sound of one condition, in place of what was held for want of it.

    Of a sound that takes its time the first piece is queued before the others are made.
    """
    window = condition.window
    monitor.tracer.mark(window.seq, "sound_in", clock())
    batch = windows.batch(window)
    if pace.too_late(window, batch):
        pace.exact()  # its time passes all the same
        monitor.unheard(window, "superseded")
        return
    pace.adapt(windows.cost_s, reserve_s=_reserve_s(maker, least_s))
    player.lead_s = pace.lead_s
    entered, due_s = clock(), pace.due_s(window, batch)
    waiting_s = player.waiting_s
    # Held sound beyond what is due gives way.
    waiting_s = max(waiting_s - player.filler_s, min(waiting_s, due_s))
    begun = player.state is PlayerState.PLAYING
    afresh = waiting_s == 0.0 and not begun
    n = pace.n_samples(window, batch, waiting_s, begun=begun)
    if n == 0:
        monitor.unheard(window, "superseded")
        return
    missing = n
    while missing and not player.aborted:
        try:
            if missing == n:
                made = await worker(maker.begin, condition, n, afresh=afresh)
            else:
                made = await worker(maker.go_on, condition, missing)
        except Exception as error:
            monitor.failed("sound", window.seq, error)
            return
        if missing == n:
            took_s = clock() - entered
            player.drop_waiting(max(least_s, due_s - took_s))
            if afresh:
                player.lead_s = max(least_s, pace.lead_s - took_s)  # part of it has passed
        player.queue(made)
        monitor.tracer.mark(window.seq, "sound_out", clock())  # the first time counts
        monitor.sound(made)
        missing -= len(made.pcm)
    monitor.worked("sound")


def _reserve_s(maker: SoundMaker, always_s: float) -> float:
    """Return how much sound must wait when the making of a piece begins; 0 if that takes no time.

    If a window comes while a block is made to hold the last one, two pieces are made in a row.
    """
    cost_s = maker.cost_s
    return always_s + max(cost_s, 2 * cost_s - _HOLD_BLOCK_S) if cost_s > 0.0 else 0.0


def _sounding(player: Player) -> bool:
    return player.state in (PlayerState.PLAYING, PlayerState.WAITING)


async def _take(conditions: Channel[Condition]) -> Condition | None:
    async for condition in conditions:
        return condition
    return None


async def playback(player: Player, monitor: Monitor, ended: asyncio.Event) -> None:
    """Report what is heard, until `ended` is set and all of it was reported."""
    while True:
        last = ended.is_set()
        for played in player.drain_played():
            monitor.played(played)
        if last:
            return
        try:
            await asyncio.wait_for(ended.wait(), _PLAYED_EVERY_S)
        except TimeoutError:
            continue
