"""The sound of a live session: player, sink and pace that fit each other, and its silence."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from export.bundle import Bundle
from stream.chain import Chain
from stream.config import LiveSettings
from stream.freshness import LEAST_LEAD_S, SoundClock, lead_for
from stream.lsl import clock
from stream.messages import Chunk, FeatureWindow
from stream.playback import Player
from stream.sinks import Sink, open_sink
from stream.windows import open_windower

if TYPE_CHECKING:
    from stream.stages import Decoder

__all__ = ["LiveSound", "warm_up"]

_BLOCK_S = 0.005  # of the null and the WAV sink; a device takes at least 20 ms
_DEVICE_BLOCK_S = 0.02
_FADE_S = 0.005
_MARGIN_S = 0.01  # for the event loop to notice that little sound is left
_FADE_OUT_S = 0.5  # longest wait for silence before the sink is closed after a failure


class LiveSound:
    """Where the sound of a session goes, and how much of it waits.

    Parameters
    ----------
    settings : LiveSettings
    sample_rate_hz : int
        Of the renderer.
    n_channels : int
        2 if something is played beside the decoded sound.
    hop_samples : int
        Between two windows, in samples of the stream.
    period_s : float
        Of the stream.

    Raises
    ------
    DeviceError, FileError, SettingError
        If the sink cannot be opened.
    """

    def __init__(
        self,
        settings: LiveSettings,
        *,
        sample_rate_hz: int,
        n_channels: int,
        hop_samples: int,
        period_s: float,
    ) -> None:
        hop_s = hop_samples * period_s
        block_s = _DEVICE_BLOCK_S if settings.sink.startswith("device") else _BLOCK_S
        # A block and a fade must be there whenever the sink asks; devices ask for two in a row.
        self.always_s = max(block_s + _MARGIN_S, 2 * block_s) + _FADE_S
        least_s = max(LEAST_LEAD_S, block_s + _FADE_S + 2.5 * _MARGIN_S)
        wanted_s = lead_for(hop_s) if settings.lead_s is None else settings.lead_s
        lead_s = max(wanted_s, least_s)
        self.player = Player(
            sample_rate_hz=sample_rate_hz,
            n_channels=n_channels,
            ceiling_dbfs=settings.ceiling_dbfs,
            lead_s=lead_s,
            fade_s=_FADE_S,
            max_queue_s=max(2.0, 3 * hop_s + lead_s),
        )
        self.pace = SoundClock(
            sample_rate_hz=sample_rate_hz,
            hop_samples=hop_samples,
            sfreq_hz=1.0 / period_s,
            lead_s=lead_s,
            slow_lead_s=least_s if settings.lead_s is None else None,
        )
        # The last sound goes on for so long without a new one.
        self.hold_s = max(1.0, settings.hold_hops * hop_s)
        self.sink: Sink = open_sink(settings.sink, self.player, block_s=block_s)

    async def stop(self) -> None:
        """Close the sink; may be called twice."""
        await asyncio.to_thread(self.sink.stop)

    async def fade_out(self) -> None:
        """Be silent before anything is closed."""
        if self.player.idle:
            return
        self.player.abort()
        until = clock() + _FADE_OUT_S
        # The audio thread must not be made to set an event.
        while not self.player.idle and clock() < until:  # noqa: ASYNC110
            await asyncio.sleep(_BLOCK_S)


def warm_up(bundle: Bundle, chain: Chain, decoder: Decoder) -> float:
    """Let every stage work once before a stream is opened; return what decoding takes, s.

    First calls load parts of SciPy, plan transforms and allocate: up to seconds on a busy
    machine, in which the first windows would grow old.
    """
    windower = open_windower(bundle)
    n = 2 * (windower.window_samples + windower.hop_samples)
    stamps = np.arange(n, dtype=np.float64)
    zeros = np.zeros((n, bundle.manifest.input.n_channels), np.float32)
    windower.push(Chunk(zeros, stamps, stamps, 0, 0, 0.0))
    chain.warm_up(bundle.n_features)
    nothing = FeatureWindow(np.zeros(bundle.n_features, np.float32), -1, 0, 1, 0.0, 0.0)
    start = clock()
    decoder.decode(nothing)
    return clock() - start
