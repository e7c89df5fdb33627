"""Sounds for tests of playback, and measures of what came out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.messages import Condition, FeatureWindow, Sound
from stream.playback import Player

__all__ = ["STEP_LIMIT", "condition", "largest_step", "play", "sound", "tone", "window"]

# -50 dBFS
STEP_LIMIT = 10 ** (-50 / 20)


def window(seq: int = 0) -> FeatureWindow:
    return FeatureWindow(np.zeros(1, np.float32), seq, 0, 1, 0.0, 1.0 + seq)


def sound(pcm: NDArray[np.floating], seq: int = 0, rate: int = 16_000) -> Sound:
    return Sound(np.asarray(pcm, np.float32), rate, window(seq), 0.0, 0.0)


def condition(
    values: NDArray[np.float32] | None = None, *, item: int = -1, seq: int = 0
) -> Condition:
    return Condition(np.zeros(1, np.float32) if values is None else values, window(seq), item)


def tone(
    n: int, *, hz: float = 110.0, rate: int = 16_000, amplitude: float = 0.2
) -> NDArray[np.float32]:
    """A low tone: slow against the sample rate, so that its own second difference is tiny."""
    phase = 2 * np.pi * hz * np.arange(n) / rate
    return np.asarray(amplitude * np.sin(phase), np.float32)


def largest_step(signal: NDArray[np.float32], like: NDArray[np.float32]) -> float:
    """Return by how much the largest second difference exceeds that of an unbroken signal.

    A step of height s adds s to a second difference, wherever it stands and whatever the slope of
    the signal there; a fade of some milliseconds adds next to nothing.
    """
    joined = np.abs(np.diff(signal.astype(np.float64), n=2, axis=0)).max(initial=0.0)
    own = np.abs(np.diff(like.astype(np.float64), n=2, axis=0)).max(initial=0.0)
    return float(joined - own)


def play(
    player: Player, *, block: int = 160, blocks: int = 100_000, t: float = 0.0
) -> NDArray[np.float32]:
    """Render until the player is idle, or `blocks` blocks; return (n, n_channels)."""
    out = [np.zeros((0, player.n_channels), np.float32)]
    for k in range(blocks):
        if player.idle:
            break
        out.append(player.render_block(block, t + k * block / player.sample_rate_hz))
    return np.concatenate(out)
