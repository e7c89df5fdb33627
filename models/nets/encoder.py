"""Sounds and captions to one space of 512-d unit vectors, as CLAP does, in small.

The sound's encoder takes any length from .32 s; the caption's takes words, and numbers with a unit
as steps on a logarithmic scale, so that "440 Hz" and "450 Hz" are close to each other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.nets.codec import N_MELS, from_log
from models.nets.streaming import RmsNorm

__all__ = ["EMBEDDING_DIM", "AudioEncoder", "CaptionEncoder", "caption_words", "word_ids"]

EMBEDDING_DIM = 512
MAX_WORDS = 24

_WORD = re.compile(r"[a-z']+|[0-9]+(?:\.[0-9]+)?")


class AudioEncoder(nn.Module):
    """Log mel frames of a sound to a unit vector.

    Parameters
    ----------
    widths : tuple of int
        Channels at 50, 25 and 12.5 frames a second.
    depths : tuple of int
        Blocks at each.
    """

    def __init__(
        self, *, widths: tuple[int, ...] = (96, 160, 256), depths: tuple[int, ...] = (2, 3, 3)
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        inputs = N_MELS
        for width, depth in zip(widths, depths, strict=True):
            stages.append(nn.Conv1d(inputs, width, 4, stride=2, padding=1))
            stages += [_Block(width) for _ in range(depth)]
            inputs = width
        self.body = nn.Sequential(*stages)
        self.norm = RmsNorm(inputs)
        self.attention = nn.Linear(inputs, 2)
        self.leave = nn.Sequential(
            nn.Linear(4 * inputs, EMBEDDING_DIM), nn.GELU(), nn.Linear(EMBEDDING_DIM, EMBEDDING_DIM)
        )

    def forward(self, mel: Tensor) -> Tensor:
        """Return unit vectors, (batch, 512), of log mel frames (batch, frames, 64)."""
        h = self.body(from_log(mel).transpose(1, 2)).transpose(1, 2)
        h = self.norm(h)  # (batch, frames / 8, channels)
        weights = torch.softmax(self.attention(h).float(), dim=1)  # (batch, frames / 8, 2)
        pooled = torch.einsum("btk,btc->bkc", weights, h.float()).flatten(1)
        spread = (h.float().var(dim=1, correction=0) + 1e-5).sqrt()
        return functional.normalize(
            self.leave(torch.cat([pooled, h.float().mean(1), spread], dim=-1)).float(), dim=-1
        )


class _Block(nn.Module):
    """ConvNeXt over (batch, channels, time), symmetric: a whole sound is there when it is heard."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = RmsNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, (batch, channels, time)."""
        h = self.norm(self.conv(x).transpose(1, 2))
        y: Tensor = self.down(functional.gelu(self.up(h), approximate="tanh"))
        return x + y.transpose(1, 2)


class CaptionEncoder(nn.Module):
    """Word numbers of captions to unit vectors.

    Parameters
    ----------
    vocabulary : int
        Known words; number 0 is no word.
    width : int
        Channels inside.
    """

    def __init__(self, *, vocabulary: int, width: int = 128) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary + 1, width, padding_idx=0)
        self.places = nn.Parameter(0.02 * torch.randn(MAX_WORDS, width))
        self.blocks = nn.ModuleList(_WordBlock(width) for _ in range(2))
        self.norm = RmsNorm(width)
        self.leave = nn.Sequential(
            nn.Linear(width, EMBEDDING_DIM), nn.GELU(), nn.Linear(EMBEDDING_DIM, EMBEDDING_DIM)
        )

    def forward(self, words: Tensor) -> Tensor:
        """Return unit vectors, (batch, 512), of word numbers (batch, 24), 0 where there is none."""
        there = words > 0
        h = self.words(words) + self.places
        for block in self.blocks:
            h = block(h, there)
        weights = there.unsqueeze(-1).float()
        pooled = (self.norm(h) * weights).sum(1) / weights.sum(1).clamp(min=1.0)
        return functional.normalize(self.leave(pooled).float(), dim=-1)


class _WordBlock(nn.Module):
    """Attention between the words of a caption, and a map per word."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_a, self.norm_b = RmsNorm(width), RmsNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """Return (batch, words, width)."""
        batch, words, width = x.shape
        qkv = self.qkv(self.norm_a(x)).reshape(batch, words, 3, 4, width // 4)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        # An empty caption attends to everything: a row of masked logits would be NaN.
        mask = (there | ~there.any(dim=1, keepdim=True))[:, None, None, :]
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(y.transpose(1, 2).reshape(batch, words, width))
        more: Tensor = self.down(functional.gelu(self.up(self.norm_b(x)), approximate="tanh"))
        return x + more


def caption_words(caption: str) -> list[str]:
    """Return the words of a caption; a number becomes its step on a scale of 1/4 octaves.

    Examples
    --------
    >>> caption_words("Beeps of a pure tone at 440 Hz, fast")
    ['beeps', 'of', 'a', 'pure', 'tone', 'at', '#35', 'hz', 'fast']
    """
    found = _WORD.findall(caption.lower())
    return [
        word if not word[0].isdigit() else f"#{round(4.0 * math.log2(max(float(word), 1e-3)))}"
        for word in found
    ]


def word_ids(captions: Sequence[str], vocabulary: Sequence[str]) -> Tensor:
    """Return word numbers, (captions, 24), int64; unknown words are left out, long captions cut.

    Parameters
    ----------
    captions : sequence of str
    vocabulary : sequence of str
        Word i has number i + 1.
    """
    numbers = {word: i for i, word in enumerate(vocabulary, start=1)}
    ids = torch.zeros(len(captions), MAX_WORDS, dtype=torch.int64)
    for row, caption in enumerate(captions):
        known = [numbers[word] for word in caption_words(caption) if word in numbers][:MAX_WORDS]
        ids[row, : len(known)] = torch.tensor(known, dtype=torch.int64)
    return ids
