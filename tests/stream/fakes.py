"""Small parts for the tests of the pipeline: a listener's signal, a decoder, a renderer, a sink."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from models.features import make_extractor
from models.spec import StandardiseSpec, TrMeanSpec
from models.standardise import Standardiser
from stream.channel import Channel
from stream.freshness import LEAST_LEAD_S, SoundClock, lead_for
from stream.messages import Chunk, Condition, FeatureWindow, Played, TimelineEvent
from stream.monitor import Monitor, Observer
from stream.pipeline import Pipeline
from stream.playback import Player
from stream.render import Renderer
from stream.stages import SoundMaker
from stream.windows import Windower

T = TypeVar("T")
SFREQ_HZ = 100.0
RATE_HZ = 8000


def window(seq: int, *, hop_s: float = 0.1, t0: float = 0.0) -> FeatureWindow:
    """One window whose value is its number."""
    stop = t0 + (seq + 1) * hop_s
    return FeatureWindow(np.full(1, seq, np.float32), seq, seq, seq + 1, stop - hop_s, stop)


def chunk(first: int, n: int, arrived: float) -> Chunk:
    """Samples that are their own index."""
    index = np.arange(first, first + n)
    stamps = np.asarray((index - n - first) / SFREQ_HZ + arrived, np.float64)
    return Chunk(index[:, None].astype(np.float32), stamps, stamps, first, 0, arrived)


def windower(hop: int) -> Windower:
    """Mean of `hop` samples every `hop` samples, as they are."""
    spec = TrMeanSpec(window_s=hop / SFREQ_HZ, hop_volumes=hop)
    return Windower(
        make_extractor(spec, sfreq_hz=SFREQ_HZ, n_channels=1),
        Standardiser(StandardiseSpec(mode="none"), np.zeros(1), np.ones(1)),
        n_channels=1,
        period_s=1 / SFREQ_HZ,
        fill_max_samples=0,
    )


class EchoDecoder:
    """Gives back what it got; `before` may wait, or raise."""

    def __init__(self, before: Callable[[FeatureWindow], None] | None = None) -> None:
        self.before = before
        self.seen: list[int] = []

    def decode(self, window: FeatureWindow) -> Condition:
        self.seen.append(window.seq)
        if self.before is not None:
            self.before(window)
        return Condition(window.values, window, item=0)


class SteadyRenderer:
    """A constant, so that every step in the sound is the player's."""

    sample_rate_hz = RATE_HZ
    n_channels = 1
    delay_s = 0.0

    def __init__(self) -> None:
        self.resets = 0

    def render(self, condition: Condition, n_samples: int) -> NDArray[np.float32]:
        return np.full(n_samples, 0.1, np.float32)

    def reset(self) -> None:
        self.resets += 1


class Witness(Observer):
    """Keeps all it sees."""

    def __init__(self) -> None:
        self.windows: list[FeatureWindow] = []
        self.played: list[Played] = []
        self.events: list[tuple[str, dict[str, object]]] = []

    def on_window(self, window: FeatureWindow) -> None:
        self.windows.append(window)

    def on_played(self, played: Played) -> None:
        self.played.append(played)

    def on_event(self, kind: str, details: dict[str, object]) -> None:
        self.events.append((kind, details))


async def sink(
    player: Player, clock: Callable[[], float], stop: asyncio.Event, *, block_s: float = 0.005
) -> None:
    """Ask for blocks on an absolute schedule, as `stream.sinks.PacedSink` does in its thread."""
    start, k = clock(), 0
    n = round(block_s * player.sample_rate_hz)
    while not stop.is_set():
        await asyncio.sleep(max(0.0, start + k * block_s - clock()))
        player.render_block(n, start + (k + 1) * block_s)
        k += 1


def pipeline(
    events: AsyncIterator[TimelineEvent],
    decoder: EchoDecoder,
    clock: Callable[[], float],
    *,
    hop: int,
    witness: Witness,
    max_stage_errors: int = 5,
    lead_s: float | None = None,
    renderer: Renderer | None = None,
) -> Pipeline:
    """The real pipeline around these parts."""
    renderer = renderer or SteadyRenderer()
    rate_hz = renderer.sample_rate_hz
    slow_lead_s = LEAST_LEAD_S if lead_s is None else None
    lead_s = lead_for(hop / SFREQ_HZ) if lead_s is None else lead_s
    player = Player(sample_rate_hz=rate_hz, lead_s=lead_s, fade_s=0.005, max_queue_s=5.0)
    pace = SoundClock(
        sample_rate_hz=rate_hz,
        hop_samples=hop,
        sfreq_hz=SFREQ_HZ,
        lead_s=lead_s,
        slow_lead_s=slow_lead_s,
    )
    return Pipeline(
        events=events,
        windower=windower(hop),
        decoder=decoder,
        maker=SoundMaker(renderer, lag_s=0.0),
        player=player,
        pace=pace,
        monitor=Monitor(max_stage_errors=max_stage_errors, observers=[witness]),
        clock=clock,
        hold_s=max(1.0, 2.5 * pace.hop_s),
    )


async def run_with_sink(line: Pipeline) -> None:
    """Run a pipeline to its end, with a sink that asks for its sound."""
    stop = asyncio.Event()
    playing = asyncio.create_task(sink(line.player, line.clock, stop))
    try:
        await line.run()
    finally:
        stop.set()
        await playing


async def run_stage(
    stage: Callable[[Channel[T], Channel[T]], object], messages: Sequence[T]
) -> list[T]:
    """Give a stage messages through one channel, and return what comes out of the other."""
    incoming: Channel[T] = Channel(max(1, len(messages)))
    outgoing: Channel[T] = Channel(max(1, 10 * len(messages)))
    for message in messages:
        await incoming.send(message)
    await incoming.close()
    await stage(incoming, outgoing)  # type: ignore[misc]
    return [item async for item in outgoing]
