"""Acoustic tokens in the shape of AudioMAE's, N x 768, from a small masked autoencoder.

A token stands for 160 ms (16 mel frames) and one of eight bands (8 mel bands each); tokens are in
order of time, then of band, as C2F-LDM and AudioLDM 2 take them. Trained as in arXiv:2207.06405:
the encoder sees one patch in four, a light decoder fills in the rest. Targets are plain log mel
patches, not normalised ones: what the decoder returns *is* a mel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.nets.codec import N_MELS, from_log, to_log
from models.nets.dit import BANDS, TOKEN_DIM
from models.nets.streaming import RmsNorm

__all__ = ["PATCH_FRAMES", "MaskedAutoencoder"]

PATCH_FRAMES = 16
_PATCH_BANDS = N_MELS // BANDS
_PATCH = PATCH_FRAMES * _PATCH_BANDS


class MaskedAutoencoder(nn.Module):
    """Log mel frames to tokens, and tokens to log mel frames.

    Parameters
    ----------
    width : int
        Channels inside.
    depth, decoder_depth : int
        Transformer blocks.
    """

    def __init__(self, *, width: int = 192, depth: int = 4, decoder_depth: int = 2) -> None:
        super().__init__()
        self.enter = nn.Linear(_PATCH, width)
        self.bands = nn.Parameter(0.02 * torch.randn(BANDS, width))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.norm = RmsNorm(width)
        self.leave = nn.Linear(width, TOKEN_DIM)
        self.decoder_enter = nn.Linear(TOKEN_DIM, width)
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.decoder_bands = nn.Parameter(0.02 * torch.randn(BANDS, width))
        self.decoder_blocks = nn.ModuleList(_Block(width) for _ in range(decoder_depth))
        self.decoder_norm = RmsNorm(width)
        self.decoder_leave = nn.Linear(width, _PATCH)

    def forward(self, mel: Tensor) -> Tensor:
        """Return tokens, (batch, frames / 2, 768), of log mel frames (batch, frames, 64).

        `frames` is a multiple of 16. Each token has a root mean square of 1.
        """
        return self._tokens(self._embed(patches(from_log(mel))))

    def encode_seen(self, mel: Tensor, seen: Tensor) -> Tensor:
        """Return tokens of the patches `seen`, (batch, n) numbers, knowing those only."""
        h = self._embed(patches(from_log(mel)))
        index = seen.unsqueeze(-1).expand(-1, -1, h.shape[-1])
        return self._tokens(h.gather(1, index))

    def decode_seen(self, tokens: Tensor, seen: Tensor, count: int) -> Tensor:
        """Return all `count` patches, (batch, count, 128), from the tokens of some."""
        known = self.decoder_enter(tokens)
        index = seen.unsqueeze(-1).expand(-1, -1, known.shape[-1])
        everywhere = self.hidden.to(known.dtype).expand(len(known), count, -1)
        return self._fill(everywhere.scatter(1, index, known))

    def decode(self, tokens: Tensor) -> Tensor:
        """Return log mel frames, (batch, 2 n, 64), of tokens (batch, n, 768)."""
        scaled = unpatched(self._fill(self.decoder_enter(tokens)).float())
        return to_log(scaled)

    def _embed(self, patched: Tensor) -> Tensor:
        h = self.enter(patched)
        placed: Tensor = h + _places(h) + self.bands.repeat(h.shape[1] // BANDS, 1)
        return placed

    def _tokens(self, h: Tensor) -> Tensor:
        for block in self.blocks:
            h = block(h)
        tokens: Tensor = self.leave(self.norm(h)).float()
        return tokens * torch.rsqrt(tokens.square().mean(-1, keepdim=True) + 1e-6)

    def _fill(self, h: Tensor) -> Tensor:
        h = h + _places(h) + self.decoder_bands.repeat(h.shape[1] // BANDS, 1)
        for block in self.decoder_blocks:
            h = block(h)
        filled: Tensor = self.decoder_leave(self.decoder_norm(h))
        return filled


class _Block(nn.Module):
    """Attention between patches, and a map per patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // 48
        self.norm_a, self.norm_b = RmsNorm(width), RmsNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, patches, width)."""
        batch, count, width = x.shape
        qkv = self.qkv(self.norm_a(x)).reshape(batch, count, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(batch, count, width))
        more: Tensor = self.down(functional.gelu(self.up(self.norm_b(x)), approximate="tanh"))
        return x + more


def patches(scaled: Tensor) -> Tensor:
    """Return mel frames (batch, 16 n, 64) as patches (batch, 8 n, 128), time first, then band."""
    batch, frames, _ = scaled.shape
    cut = scaled.reshape(batch, frames // PATCH_FRAMES, PATCH_FRAMES, BANDS, _PATCH_BANDS)
    return cut.permute(0, 1, 3, 2, 4).reshape(batch, -1, _PATCH)


def unpatched(patched: Tensor) -> Tensor:
    """Return what `patches` was given."""
    batch, count, _ = patched.shape
    cut = patched.reshape(batch, count // BANDS, BANDS, PATCH_FRAMES, _PATCH_BANDS)
    return cut.permute(0, 1, 3, 2, 4).reshape(batch, -1, N_MELS)


def _places(h: Tensor) -> Tensor:
    """Sines and cosines of the time of each patch, (patches, width)."""
    count, width = h.shape[1], h.shape[2]
    step = torch.arange(count, device=h.device) // BANDS
    rates = torch.exp(-math.log(1_000.0) * torch.arange(width // 2, device=h.device) / (width // 2))
    angle = step.unsqueeze(-1) * rates
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)
