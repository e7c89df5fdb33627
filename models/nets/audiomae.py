"""AudioMAE's encoder, with the names of its published weights.

A Vision Transformer over a log mel of 1,024 frames x 128 bands (`models.frontends.audiomae`), in
patches of 16 x 16 that are counted along frequency first (Huang et al. 2022, arXiv:2207.06405).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["AudioMaeConfig", "AudioMaeEncoder"]

_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class AudioMaeConfig:
    """Sizes of the encoder; the defaults are the published ones (ViT-B)."""

    dim: int = 768
    depth: int = 12
    n_heads: int = 12
    n_frames: int = 1024
    n_mels: int = 128
    patch: int = 16

    @property
    def n_patches(self) -> int:
        """Patches of a whole mel."""
        return (self.n_frames // self.patch) * (self.n_mels // self.patch)


class _PatchEmbed(nn.Module):
    def __init__(self, config: AudioMaeConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, config.dim, kernel_size=config.patch, stride=config.patch)

    def forward(self, mel: Tensor) -> Tensor:
        patches: Tensor = self.proj(mel)  # (batch, dim, steps, bands)
        return patches.flatten(2).transpose(1, 2)  # (batch, steps * bands, dim)


class _Attention(nn.Module):
    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, n, dim = x.shape
        qkv = self.qkv(x).reshape(batch, n, 3, self.n_heads, dim // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, n, head_dim)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, n, dim))
        return out


class _Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class _Block(nn.Module):
    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_EPS)
        self.attn = _Attention(dim, n_heads)
        self.norm2 = nn.LayerNorm(dim, eps=_EPS)
        self.mlp = _Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class AudioMaeEncoder(nn.Module):
    """Log mel to one vector per patch, without masking.

    Parameters
    ----------
    config : AudioMaeConfig
    """

    def __init__(self, config: AudioMaeConfig | None = None) -> None:
        super().__init__()
        self.config = config or AudioMaeConfig()
        dim = self.config.dim
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + self.config.n_patches, dim))
        self.patch_embed = _PatchEmbed(self.config)
        self.blocks = nn.ModuleList(
            _Block(dim, self.config.n_heads) for _ in range(self.config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=_EPS)

    def forward(self, mel: Tensor, *, last_blocks: int = 1) -> Tensor:
        """Return the tokens of a mel: the class token, then the patches.

        Parameters
        ----------
        mel : tensor of shape (batch, n_frames, n_mels)
            Standardised.
        last_blocks : int
            Each of the last blocks' outputs is normed, and their mean taken: 1 is what AudioMAE's
            own decoder gets, 3 what AudioLDM 2 is conditioned on.

        Returns
        -------
        tokens : tensor of shape (batch, 1 + n_patches, dim)
            Patch 8 t + f stands at place 1 + 8 t + f.
        """
        x = self.patch_embed(mel[:, None]) + self.pos_embed[:, 1:]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([first, x], dim=1)
        kept = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number >= len(self.blocks) - last_blocks:
                kept.append(self.norm(x))
        return torch.stack(kept).mean(dim=0)
