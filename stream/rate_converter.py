"""A player heard at another sample rate, for devices that do not run at the rate of a bundle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.limiter import Limiter
from stream.playback import Player
from stream.sound_queue import fade_table

__all__ = ["RateConverter"]


class RateConverter:
    """Render a player's sound at `output_rate_hz`, with its ceiling and its abort kept.

    Interpolation overshoots, so the ceiling is enforced once more behind it; and the filter holds
    some milliseconds of sound back, which an abort silences here as well.

    Parameters
    ----------
    player : Player
    output_rate_hz : int
    """

    def __init__(self, player: Player, output_rate_hz: int) -> None:
        import soxr

        self._player = player
        self.output_rate_hz = output_rate_hz
        self._ratio = player.sample_rate_hz / output_rate_hz
        self._stream: Any = soxr.ResampleStream(
            player.sample_rate_hz, output_rate_hz, player.n_channels, dtype="float32", quality="HQ"
        )
        self._limiter = Limiter(
            sample_rate_hz=output_rate_hz, ceiling_dbfs=player.ceiling_dbfs, lookahead_s=0.0
        )
        self._fade_out = fade_table(max(1, round(0.005 * output_rate_hz)))[::-1]
        self._silenced = False
        # Feed silence until the filter gives: from then on, each sample in gives samples out.
        silence = np.zeros((round(0.01 * player.sample_rate_hz), player.n_channels), np.float32)
        n_in, n_out = 0, 0
        self._ready = np.zeros((0, player.n_channels), np.float32)
        while len(self._ready) == 0:
            self._ready = self._stream.resample_chunk(silence)
            n_in += len(silence)
            n_out += len(self._ready)
        # What goes in now comes out this much later than it would without the filter.
        self.delay_s = n_in / player.sample_rate_hz - n_out / output_rate_hz
        self._ready = self._ready[:0]

    def render_block(self, n: int, t_heard: float) -> NDArray[np.float32]:
        """Return the next `n` samples at the output rate; arguments as `Player.render_block`."""
        parts = [self._ready]
        have = len(self._ready)
        while have < n:
            more = math.ceil((n - have) * self._ratio)
            t = t_heard + have / self.output_rate_hz + self.delay_s
            part = self._stream.resample_chunk(self._player.render_block(more, t))
            parts.append(part)
            have += len(part)
        joined = np.concatenate(parts)
        self._ready = joined[n:]
        block = self._limiter.process(joined[:n], n)
        if self._player.aborted:
            if not self._silenced:
                m = min(n, len(self._fade_out))
                fade = self._fade_out[:: max(1, len(self._fade_out) // m)][:m]
                block[:m] *= fade[:, None]
                block[m - 1 :] = 0.0
                self._silenced = True
            else:
                block[:] = 0.0
        self._player.observe_peak(float(np.abs(block).max(initial=0.0)))
        return block
