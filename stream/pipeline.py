"""Wires the stages in one TaskGroup: what comes in at one end is heard at the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from models.errors import HearbackError
from stream import stages
from stream.channel import Channel
from stream.freshness import Freshest, SoundClock
from stream.messages import Chunk, Condition, TimelineEvent
from stream.monitor import Monitor
from stream.playback import Player
from stream.stages import Decoder, SoundMaker
from stream.windows import Windower

__all__ = ["Pipeline", "first_error"]

_CHUNKS = 64  # between source and features; the timeline behind it holds the rest
_CONDITIONS = 4
_IDLE_POLL_S = 0.01


@dataclass(slots=True)
class Pipeline:
    """All the parts of a live session, from timeline events to the player.

    A stream ends by closing downwards: when `events` ends, each stage finishes what it holds and
    closes the next, the player plays what waits, and `run` returns.

    Attributes
    ----------
    events : async iterable of TimelineEvent
    windower, decoder, maker, player
        What the stages work with.
    pace : SoundClock
        Says how long the sound of each window is.
    monitor : Monitor
    clock : callable
        The LSL clock, s.
    hold_s : float
        How long the last sound goes on when no window comes.
    hold_below_s : float
        It goes on when less than this waits in the player.
    drain_s : float
        Longest time to wait at the end for the player to play what it holds.
    decoder_cost_s : float
        What decoding took in the warm-up.
    """

    events: AsyncIterable[TimelineEvent]
    windower: Windower
    decoder: Decoder
    maker: SoundMaker
    player: Player
    pace: SoundClock
    monitor: Monitor
    clock: Callable[[], float]
    hold_s: float = 1.0
    hold_below_s: float = 0.02
    drain_s: float = 5.0
    decoder_cost_s: float = 0.0
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Run until the events end.

        Raises
        ------
        StageError
            If a stage failed too often in a row.
        Exception
            What went wrong in the wiring, out of the group that ended with it.
        """
        chunks: Channel[Chunk] = Channel(_CHUNKS)
        windows = Freshest(self.pace.hop_s, self.monitor.stale)
        if self.decoder_cost_s > 0:
            windows.took(self.decoder_cost_s)
        conditions: Channel[Condition] = Channel(_CONDITIONS)
        monitor, clock = self.monitor, self.clock
        sound = stages.sound(
            conditions,
            self.player,
            self.maker,
            windows,
            self.pace,
            monitor,
            clock,
            hold_s=self.hold_s,
            hold_below_s=self.hold_below_s,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(stages.source(self.events, chunks, monitor), name="stage: source")
                tasks.create_task(
                    stages.features(chunks, windows, self.windower, monitor, clock),
                    name="stage: features",
                )
                tasks.create_task(
                    stages.decode(windows, conditions, self.decoder, monitor, clock),
                    name="stage: decode",
                )
                tasks.create_task(self._sound_to_the_end(sound), name="stage: sound")
                tasks.create_task(
                    stages.playback(self.player, monitor, self._ended), name="stage: playback"
                )
        except BaseExceptionGroup as group:
            raise first_error(group) from group

    async def _sound_to_the_end(self, sound: Coroutine[Any, Any, None]) -> None:
        try:
            await sound
            deadline = self.clock() + self.drain_s
            # The audio thread must not be made to set an event.
            while not self.player.idle and self.clock() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(_IDLE_POLL_S)
        finally:
            self._ended.set()


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one exception that says most: ours if there is one, else the first."""
    leaves: list[BaseException] = []

    def collect(error: BaseException) -> None:
        if isinstance(error, BaseExceptionGroup):
            for item in error.exceptions:
                collect(item)
        else:
            leaves.append(error)

    collect(group)
    return next((leaf for leaf in leaves if isinstance(leaf, HearbackError)), leaves[0])
