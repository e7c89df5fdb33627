"""Log mel frames to latents at a quarter of their rate, and back: a small causal autoencoder.

Mel frames go in and come out as natural logarithms as `models.mel` makes them; inside, silence
is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.nets.streaming import CausalConv, ConvNeXt, RmsNorm, State, Streamed

__all__ = [
    "FRAMES_PER_LATENT",
    "N_MELS",
    "Codec",
    "CodecDecoder",
    "CodecEncoder",
    "from_log",
    "to_log",
]

N_MELS = 64
FRAMES_PER_LATENT = 4  # 40 ms: 25 latents a second

_FLOOR = math.log(1e-5)
_SPAN = 4.0  # so that common sounds lie between 0 and 3


def from_log(mel: Tensor) -> Tensor:
    """Return log mel frames on the scale of the networks: 0 is silence, loud frames are near 3."""
    return (mel - _FLOOR) / _SPAN


def to_log(scaled: Tensor) -> Tensor:
    """Return what `from_log` was given; what lies below silence becomes silence."""
    return functional.relu(scaled) * _SPAN + _FLOOR


class CodecEncoder(Streamed):
    """Scaled mel frames, (batch, n, 4 * 64), to mean and log variance, (batch, n, 2 latent).

    Parameters
    ----------
    width, depth, latent : int
        Channels inside, blocks, channels of a latent.
    """

    lookahead = 2  # latents, 80 ms; sound that is encoded is there already, so nothing waits for it

    def __init__(self, *, width: int, depth: int, latent: int) -> None:
        super().__init__()
        self.enter = CausalConv(FRAMES_PER_LATENT * N_MELS, width, self.lookahead + 1)
        self.blocks = nn.ModuleList(ConvNeXt(width, expansion=4, depth=depth) for _ in range(depth))
        self.norm = RmsNorm(width)
        self.leave = nn.Linear(width, 2 * latent)

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return (batch, n, 2 latent) for x of shape (batch, n, 4 * 64)."""
        after: State = []
        x, past = self.enter(x, state[0])
        after.append(past)
        for block, past in zip(self.blocks, state[1:], strict=True):
            x, past = block(x, past)
            after.append(past)
        return self.leave(self.norm(x)), after


class CodecDecoder(Streamed):
    """Latents, (batch, n, latent), to scaled mel frames, (batch, n, 4 * 64); it never waits.

    Parameters
    ----------
    width, depth, latent : int
        Channels inside, blocks, channels of a latent.
    """

    lookahead = 0

    def __init__(self, *, width: int, depth: int, latent: int) -> None:
        super().__init__()
        self.enter = CausalConv(latent, width, 3)
        self.blocks = nn.ModuleList(ConvNeXt(width, expansion=4, depth=depth) for _ in range(depth))
        self.norm = RmsNorm(width)
        self.leave = nn.Linear(width, FRAMES_PER_LATENT * N_MELS)

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return (batch, n, 4 * 64) for x of shape (batch, n, latent)."""
        after: State = []
        x, past = self.enter(x, state[0])
        after.append(past)
        for block, past in zip(self.blocks, state[1:], strict=True):
            x, past = block(x, past)
            after.append(past)
        return self.leave(self.norm(x)), after


class Codec(nn.Module):
    """Encoder and decoder, with the statistics that bring latents to zero mean and unit variance.

    Parameters
    ----------
    width, depth, latent : int
        Channels inside, blocks, channels of a latent.
    """

    centre: Tensor
    spread: Tensor
    silence: Tensor

    def __init__(self, *, width: int, depth: int, latent: int = 32) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = CodecEncoder(width=width, depth=depth, latent=latent)
        self.decoder = CodecDecoder(width=width, depth=depth, latent=latent)
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("spread", torch.ones(latent))
        self.register_buffer("silence", torch.zeros(latent))

    def posterior(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, (batch, n, latent), of log mel frames (batch, 4 n, 64)."""
        frames = from_log(mel)
        packed = frames.reshape(len(mel), -1, FRAMES_PER_LATENT * N_MELS)
        mean, log_variance = self.encoder(packed).float().chunk(2, dim=-1)
        return mean, log_variance.clamp(-12.0, 4.0)

    def encode(self, mel: Tensor) -> Tensor:
        """Return standardised latents, (batch, n, latent), of log mel frames (batch, 4 n, 64)."""
        mean, _ = self.posterior(mel)
        return (mean - self.centre) / self.spread

    def scaled_mel(self, raw: Tensor) -> Tensor:
        """Return mel frames on the networks' scale, (batch, 4 n, 64), of raw latents."""
        frames: Tensor = self.decoder(raw)
        return frames.float().reshape(len(raw), -1, N_MELS)

    def decode(self, latents: Tensor) -> Tensor:
        """Return log mel frames, (batch, 4 n, 64), of standardised latents (batch, n, latent)."""
        return to_log(self.scaled_mel(latents * self.spread + self.centre))

    def step(self, latents: Tensor, memory: Sequence[Tensor]) -> tuple[Tensor, State]:
        """Return scaled mel frames, (batch, 4 n, 64), of standardised latents, and the memory.

        The memory is the decoder's: latents may come in pieces.
        """
        frames, after = self.decoder.step(latents * self.spread + self.centre, list(memory))
        return frames.float().reshape(len(latents), -1, N_MELS), after
