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
            Noisy latents; what it holds at known frames does not matter.
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
        h = h + given.unsqueeze(1)
        c = self.mix(self.time(_time_features(time)) + given)
        modulation = self.modulation(c).unflatten(-1, (6, self.width))  # (batch, 6, width)
        turn = _rotation(x.shape[1], x.device)
        for block in self.blocks:
            h = block(h, modulation, turn)
        scale, shift = (
            (self.leave_modulation(c).unflatten(-1, (2, self.width)) + self.leave_table)
            .unsqueeze(2)
            .unbind(1)
        )
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
        """Return the frames, (batch, frames, width)."""
        scale_a, shift_a, gate_a, scale_b, shift_b, gate_b = (
            (modulation + self.table).unsqueeze(2).unbind(1)
        )  # (batch, 1, width) each
        x = x + gate_a * self._attend(_normed(x) * (1.0 + scale_a) + shift_a, turn)
        h = _normed(x) * (1.0 + scale_b) + shift_b
        h = h + self.conv(h.transpose(1, 2)).transpose(1, 2)
        y: Tensor = self.down(functional.gelu(self.up(h), approximate="tanh"))
        return x + gate_b * y

    def _attend(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        batch, frames, width = x.shape
        qkv = self.qkv(x).reshape(batch, frames, 3, self.heads, _HEAD).permute(2, 0, 3, 1, 4)
        # Norms of queries and keys keep the logits bounded in half precision (arXiv:2302.05442).
        q, k = (_turned(_normed(part), turn).to(qkv.dtype) for part in (qkv[0], qkv[1]))
        # Written out: for 64 frames the fused kernel's backward pass costs three times this.
        weights = torch.softmax((q @ k.transpose(-2, -1)).float() * (2.0 * _HEAD**-0.5), dim=-1)
        y = weights.to(qkv.dtype) @ qkv[2]
        out: Tensor = self.out(y.transpose(1, 2).reshape(batch, frames, width))
        return out


def _normed(x: Tensor) -> Tensor:
    """Each frame by its root mean square over channels, in float32."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def _time_features(time: Tensor) -> Tensor:
    """Cosines and sines of a moment in 0 .. 1, (batch, 128), periods from 1000 to .1."""
    rates = torch.exp(torch.linspace(-3.0, 1.0, 64, device=time.device) * math.log(10.0))
    phase = 2.0 * math.pi * time.float().unsqueeze(-1) * rates
    return torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)


def _rotation(frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (frames, 16), of rotary positions (arXiv:2104.09864, eq. 15)."""
    rates = 1_000.0 ** (-torch.arange(_HEAD // 2, device=device) / (_HEAD // 2))
    angle = torch.arange(frames, device=device).unsqueeze(-1) * rates
    return torch.cos(angle), torch.sin(angle)


def _turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    cosine, sine = turn
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
