"""The denoiser: a transformer over latent frames that knows condition, time and the sound so far.

A window holds known frames (the clean prefix, given beside a mask) and frames to be made. Time
and the 512-d condition act on every frame by scale, shift and gate (adaptive normalisation, DiT,
arXiv:2212.09748); one such map is shared by all blocks, each adding a learned table (PixArt,
arXiv:2310.00426, section 2.3). Acoustic tokens come per frame, so that they keep their timing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CONDITION_DIM", "TOKEN_DIM", "Denoiser", "frame_tokens"]

CONDITION_DIM = 512
TOKEN_DIM = 768
BANDS = 8  # tokens for one time step, from low to high
FRAMES_PER_TOKEN = 4  # latent frames for one time step of tokens: 25 Hz over 6.25 Hz

_HEAD = 32
_KERNEL = 5
_EXPANSION = 3
_TOKEN_WIDTH = 64


def frame_tokens(tokens: Tensor) -> Tensor:
    """Return tokens (batch, 8 n, 768), time-major, as one vector per latent frame.

    The bands of a time step are averaged and repeated over the latent frames that it covers.

    Returns
    -------
    frames : Tensor of shape (batch, 4 n, 768)
    """
    steps = tokens.reshape(len(tokens), -1, BANDS, tokens.shape[-1]).mean(2)
    return steps.repeat_interleave(FRAMES_PER_TOKEN, dim=1)


class Denoiser(nn.Module):
    """Predict the velocity from noise to sound for the frames of a window.

    Parameters
    ----------
    width, depth : int
        Channels (a multiple of 32) and blocks.
    latent : int
        Channels of a latent frame.
    """

    def __init__(self, *, width: int, depth: int, latent: int = 32) -> None:
        super().__init__()
        self.width, self.latent = width, latent
        self.tokens = nn.Linear(TOKEN_DIM, _TOKEN_WIDTH, bias=False)
        self.enter = nn.Linear(2 * latent + 1 + _TOKEN_WIDTH, width)
        self.time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(CONDITION_DIM, width, bias=False)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.leave_table = nn.Parameter(torch.zeros(2, width))
        self.leave_modulation = nn.Linear(width, 2 * width)
        self.leave = nn.Linear(width, latent)
        for layer in (self.modulation, self.leave_modulation, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        *,
        condition: Tensor,
        tokens: Tensor,
        clean: Tensor,
        known: Tensor,
    ) -> Tensor:
        """Return d x / d time at a moment between noise (0) and sound (1).

        Parameters
        ----------
        x : Tensor of shape (batch, frames, latent)
            Noisy latents; what it holds at known frames does not matter. For one window the axis
            of the batch may be left out, here and below: a graph of it is half as long then.
        time : Tensor of shape (batch,)
            0 to 1.
        condition : Tensor of shape (batch, 512)
            Unit vectors; zeros where there is none.
        tokens : Tensor of shape (batch, frames, 768)
            From `frame_tokens`; zeros where there are none.
        clean : Tensor of shape (batch, frames, latent)
            Latents of the known frames, anything elsewhere.
        known : Tensor of shape (batch, frames)
            1 where a frame is known, 0 where it is to be made.

        Returns
        -------
        velocity : Tensor of shape (batch, frames, latent), float32
            It means nothing at known frames.
        """
        mask = known.unsqueeze(-1)
        words = self.tokens(tokens)
        h = self.enter(torch.cat([x * (1.0 - mask), clean * mask, mask, words], dim=-1))
        given = self.condition(condition * math.sqrt(CONDITION_DIM))
        h = h + given.unsqueeze(-2)
        c = self.mix(self.time(_time_features(time)) + given)
        modulation = self.modulation(c).unflatten(-1, (6, self.width)) + _scales(x.device)
        turn = _rotation(x.shape[-2], x.device)
        for block in self.blocks:
            h = block(h, modulation, turn)
        leaving = self.leave_modulation(c).unflatten(-1, (2, self.width))
        scale, shift = (leaving + self.leave_table).chunk(2, dim=-2)
        velocity: Tensor = self.leave(_normed(h) * (1.0 + scale) + shift)
        return velocity.float()


class _Block(nn.Module):
    """Attention over the window, a short convolution, and a map per frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // _HEAD
        self.table = nn.Parameter(torch.zeros(6, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.conv = nn.Conv1d(width, width, _KERNEL, padding=_KERNEL // 2, groups=width)
        nn.init.zeros_(self.conv.weight)
        self.up = nn.Linear(width, _EXPANSION * width)
        self.down = nn.Linear(_EXPANSION * width, width)

    def forward(self, x: Tensor, modulation: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Return the frames, (..., frames, width).

        Parameters
        ----------
        x : Tensor of shape (..., frames, width)
        modulation : Tensor of shape (..., 6, width)
            Scale, shift and gate of attention, then of the map; scales are 1 where nothing changes.
        turn : tuple of Tensor
            From `_rotation`.
        """
        # Pieces keep their axis: for a graph of single nodes to take it away is a node each.
        scale_a, shift_a, gate_a, scale_b, shift_b, gate_b = (modulation + self.table).chunk(
            6, dim=-2
        )
        x = x + gate_a * self._attend(_normed(x) * scale_a + shift_a, turn)
        h = _normed(x) * scale_b + shift_b
        h = h + self.conv(h.transpose(-2, -1)).transpose(-2, -1)
        y: Tensor = self.down(functional.gelu(self.up(h), approximate="tanh"))
        return x + gate_b * y

    def _attend(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3 * self.heads, _HEAD)).transpose(-3, -2)
        both, v = torch.split(qkv, [2 * self.heads, self.heads], dim=-3)
        # Norms of queries and keys keep the logits bounded in half precision (arXiv:2302.05442).
        q, k = _turned(_normed(both), turn).to(v.dtype).chunk(2, dim=-3)
        # Written out: for 64 frames the fused kernel's backward pass costs three times this.
        weights = torch.softmax((q @ k.transpose(-2, -1)).float() * (2.0 * _HEAD**-0.5), dim=-1)
        y = weights.to(v.dtype) @ v
        out: Tensor = self.out(y.transpose(-3, -2).flatten(-2))
        return out


def _normed(x: Tensor) -> Tensor:
    """Each frame by its root mean square over channels, in float32."""
    x = x.float()
    y = x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-6)
    # With a gain ONNX Runtime sees that this is a norm, and does it in one operator for six.
    return y * torch.ones(x.shape[-1]) if torch.compiler.is_exporting() else y


def _scales(device: torch.device) -> Tensor:
    """Return 1 where a modulation scales and 0 where it does not: (6, 1)."""
    return torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0], device=device).unsqueeze(-1)


def _time_features(time: Tensor) -> Tensor:
    """Cosines and sines of a moment in 0 .. 1, (batch, 128), periods from 1000 to .1."""
    rates = torch.exp(torch.linspace(-3.0, 1.0, 64, device=time.device) * math.log(10.0))
    phase = 2.0 * math.pi * time.float().unsqueeze(-1) * rates
    return torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)


def _rotation(frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines, (frames, 32), of rotary positions (arXiv:2104.09864, eq. 34)."""
    rates = 1_000.0 ** (-torch.arange(_HEAD // 2, device=device) / (_HEAD // 2))
    angle = torch.arange(frames, device=device).unsqueeze(-1) * rates
    cosine, sine = torch.cos(angle), torch.sin(angle)
    return torch.cat([cosine, cosine], dim=-1), torch.cat([-sine, sine], dim=-1)


def _turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    cosine, sine = turn
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([second, first], dim=-1) * sine
