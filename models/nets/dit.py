"""The denoiser: a transformer over latent frames that knows condition, time and the sound so far.

A window begins with known frames and goes on with frames to be made. Known frames see only each
other and stand at the end of time, so they are read once, however many steps make the others: these
see the keys and values of the known ones, block by block. Time and the 512-d condition act on every
frame by scale, shift and gate (adaptive normalisation, DiT, arXiv:2212.09748); one such map is
shared by all blocks, each adding a learned table (PixArt, arXiv:2310.00426, section 2.3). Acoustic
tokens come per frame to be made, so that they keep their timing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "CONDITION_DIM",
    "TOKEN_DIM",
    "Denoiser",
    "Memory",
    "Modulation",
    "frame_tokens",
]

CONDITION_DIM = 512
TOKEN_DIM = 768
BANDS = 8  # tokens for one time step, from low to high
FRAMES_PER_TOKEN = 4  # latent frames for one time step of tokens: 25 Hz over 6.25 Hz

_HEAD = 32
_KERNEL = 5
_REACH = _KERNEL // 2  # frames that the convolution sees on either side
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


@dataclass(frozen=True, slots=True, eq=False)
class Modulation:
    """How a moment and a condition act on the frames; each part is (batch, 1, width) or (width,).

    Scales are 1 where nothing changes.
    """

    blocks: list[tuple[Tensor, ...]]  # of each: scale, shift, gate of attention, then of the map
    leaving: tuple[Tensor, ...]  # scale, shift


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """What a block keeps of known frames for those after them."""

    keys: Tensor  # (..., heads, known, 32)
    values: Tensor  # (..., heads, known, 32)
    tail: Tensor  # (..., 2, width), the last inputs of the convolution


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
        self.enter = nn.Linear(latent + _TOKEN_WIDTH, width)
        self.heard = nn.Linear(latent, width)
        self.time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(CONDITION_DIM, width, bias=False)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        # Tables have one axis, so that they stand in a graph as they are.
        self.leave_table = nn.Parameter(torch.zeros(2 * width))
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
        known: int,
        memory: list[Memory] | None = None,
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
            From `frame_tokens`; zeros where there are none. At known frames they do not matter.
        clean : Tensor of shape (batch, frames, latent)
            Latents of the known frames, anything elsewhere.
        known : int
            How many frames at the beginning are known.
        memory : list of Memory, optional
            From `remember`, to read them once for many moments.

        Returns
        -------
        velocity : Tensor of shape (batch, frames, latent), float32
            0 at known frames.
        """
        if memory is None:
            memory = self.remember(condition=condition, clean=clean, known=known)
        made = self.velocity(
            x[:, known:],
            self.modulated(time, condition),
            condition=condition,
            tokens=tokens[:, known:],
            memory=memory,
        )
        return functional.pad(made, (0, 0, known, 0))

    def remember(self, *, condition: Tensor, clean: Tensor, known: int) -> list[Memory] | None:
        """Return what is kept of known frames, None where there are none; see `forward`."""
        if not known:
            return None
        rest = self.modulated(torch.ones_like(condition[:, 0]), condition)
        return self.read(clean[:, :known], rest, condition)

    def modulated(self, time: Tensor, condition: Tensor) -> Modulation:
        """Return how moments, (batch,), act under conditions, (batch, 512)."""
        six, two = (part.unsqueeze(1) for part in self._modulation(time, condition))
        return Modulation(
            [(six + block.table).chunk(6, dim=-1) for block in self._each_block()],
            (two + self.leave_table).chunk(2, dim=-1),
        )

    def modulations(self, times: Tensor, condition: Tensor) -> list[Modulation]:
        """Return how each of some moments, (k,), acts under one condition, (512,): k of them.

        For all moments together these are few and large operators, for each by itself many. Their
        parts have the shape (width,): as such a scale is the gain of a norm in one operator.
        """
        count = len(times)
        six, two = self._modulation(times, condition)
        of_blocks = [(six + block.table).flatten().chunk(6 * count) for block in self._each_block()]
        leaving = (two + self.leave_table).flatten().chunk(2 * count)
        return [
            Modulation(
                [parts[6 * i : 6 * i + 6] for parts in of_blocks], leaving[2 * i : 2 * i + 2]
            )
            for i in range(count)
        ]

    def read(self, clean: Tensor, modulation: Modulation, condition: Tensor) -> list[Memory]:
        """Return what the blocks keep of known frames.

        Parameters
        ----------
        clean : Tensor of shape (batch, known, latent)
            The axis of the batch may be left out, here and in `velocity`: a graph for one window is
            half as long then.
        modulation : Modulation
            Of the moment 1.
        condition : Tensor of shape (batch, 512)
        """
        h = self.heard(clean) + self._asked(condition).unsqueeze(-2)
        turn = _rotation(range(clean.shape[-2]), clean.device)
        memory = []
        blocks = self._each_block()
        for block, parts in zip(blocks, modulation.blocks, strict=True):
            h, kept = block.read(h, parts, turn, last=block is blocks[-1])
            memory.append(kept)
        return memory

    def velocity(
        self,
        x: Tensor,
        modulation: Modulation,
        *,
        condition: Tensor,
        tokens: Tensor,
        memory: list[Memory] | None,
    ) -> Tensor:
        """Return the velocity of the frames that are to be made; see `forward`.

        Parameters
        ----------
        x : Tensor of shape (batch, frames, latent)
        modulation : Modulation
            Of the moment.
        condition : Tensor of shape (batch, 512)
        tokens : Tensor of shape (batch, frames, 768)
        memory : list of Memory, optional
            From `read`; None where no frame is known.
        """
        known = 0 if memory is None else memory[0].keys.shape[-2]
        h = self.enter(torch.cat([x, self.tokens(tokens)], dim=-1))
        h = h + self._asked(condition).unsqueeze(-2)
        turn = _rotation(range(known, known + x.shape[-2]), x.device)
        blocks = self._each_block()
        past: list[Memory | None] = [*memory] if memory is not None else [None] * len(blocks)
        for block, parts, before in zip(blocks, modulation.blocks, past, strict=True):
            h = block(h, parts, turn, before)
        scale, shift = modulation.leaving
        velocity: Tensor = self.leave(_normed(h, scale) + shift)
        return velocity.float()

    def _modulation(self, time: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        c = self.mix(self.time(_time_features(time)) + self._asked(condition))
        six, two = self.modulation(c), self.leave_modulation(c)
        return six + _ones_at((0, 3), six, self.width), two + _ones_at((0,), two, self.width)

    def _asked(self, condition: Tensor) -> Tensor:
        asked: Tensor = self.condition(condition * math.sqrt(CONDITION_DIM))
        return asked

    def _each_block(self) -> list[_Block]:
        return [block for block in self.blocks if isinstance(block, _Block)]


class _Block(nn.Module):
    """Attention over the window, a short convolution, and a map per frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // _HEAD
        self.table = nn.Parameter(torch.zeros(6 * width))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.conv = nn.Conv1d(width, width, _KERNEL, groups=width)
        nn.init.zeros_(self.conv.weight)
        self.up = nn.Linear(width, _EXPANSION * width)
        self.down = nn.Linear(_EXPANSION * width, width)

    def forward(
        self,
        x: Tensor,
        modulation: tuple[Tensor, ...],
        turn: tuple[Tensor, Tensor],
        memory: Memory | None,
    ) -> Tensor:
        """Return the frames, (..., frames, width).

        Parameters
        ----------
        x : Tensor of shape (..., frames, width)
        modulation : tuple of Tensor
            See `Modulation.blocks`.
        turn : tuple of Tensor
            From `_rotation`.
        memory : Memory, optional
            Of the frames before.
        """
        scale_a, shift_a, gate_a, *of_map = modulation
        q, k, v = self._split(_normed(x, scale_a) + shift_a, turn)
        if memory is not None:
            k = torch.cat([memory.keys, k], dim=-2)
            v = torch.cat([memory.values, v], dim=-2)
        x = x + gate_a * self._attend(q, k, v)
        h = self._before_map(x, of_map)
        return self._map(x, h, None if memory is None else memory.tail, of_map)

    def read(
        self,
        x: Tensor,
        modulation: tuple[Tensor, ...],
        turn: tuple[Tensor, Tensor],
        *,
        last: bool,
    ) -> tuple[Tensor, Memory]:
        """Return the frames and what is kept of them; of the last block only that is wanted."""
        scale_a, shift_a, gate_a, *of_map = modulation
        q, k, v = self._split(_normed(x, scale_a) + shift_a, turn)
        if last:
            x, q = x[..., -_REACH:, :], q[..., -_REACH:, :]
        x = x + gate_a * self._attend(q, k, v)
        h = self._before_map(x, of_map)
        if not last:
            x = self._map(x, h, None, of_map)
        return x, Memory(k, v, h[..., -_REACH:, :])

    def _before_map(self, x: Tensor, of_map: list[Tensor]) -> Tensor:
        scale, shift, _ = of_map
        return _normed(x, scale) + shift

    def _map(self, x: Tensor, h: Tensor, tail: Tensor | None, of_map: list[Tensor]) -> Tensor:
        """Return x after convolution and map of h, which goes on from `tail`."""
        nothing = torch.zeros_like(h[..., :1, :]).expand(*h.shape[:-2], _REACH, -1)
        seen = torch.cat([nothing if tail is None else tail.to(h.dtype), h, nothing], dim=-2)
        h = h + self.conv(seen.transpose(-2, -1)).transpose(-2, -1)
        y: Tensor = self.down(functional.gelu(self.up(h), approximate="tanh"))
        return x + of_map[-1] * y

    def _split(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (..., heads, frames, 32)."""
        qkv = self.qkv(x).unflatten(-1, (3 * self.heads, _HEAD)).transpose(-3, -2)
        both, v = torch.split(qkv, [2 * self.heads, self.heads], dim=-3)
        # Norms of queries and keys keep the logits bounded in half precision (arXiv:2302.05442).
        q, k = _turned(_normed(both), turn).to(v.dtype).chunk(2, dim=-3)
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Written out: for 64 frames the fused kernel's backward pass costs three times this.
        weights = torch.softmax((q @ k.transpose(-2, -1)).float() * (2.0 * _HEAD**-0.5), dim=-1)
        y = weights.to(v.dtype) @ v
        out: Tensor = self.out(y.transpose(-3, -2).flatten(-2))
        return out


def _normed(x: Tensor, gain: Tensor | None = None) -> Tensor:
    """Each frame by its root mean square over channels, times a gain, in float32."""
    x = x.float()
    y = x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-6)
    if gain is None and torch.compiler.is_exporting():
        # With a gain ONNX Runtime sees that this is a norm, and does it in one operator for six.
        gain = torch.ones(x.shape[-1])
    return y if gain is None else y * gain


def _ones_at(parts: tuple[int, ...], like: Tensor, width: int) -> Tensor:
    """Return a row with 1 in some of its parts of a width and 0 elsewhere."""
    row = torch.zeros(like.shape[-1], device=like.device)
    for part in parts:
        row[part * width : (part + 1) * width] = 1.0
    return row


def _time_features(time: Tensor) -> Tensor:
    """Cosines and sines of a moment in 0 .. 1, (batch, 128), periods from 1000 to .1."""
    rates = torch.exp(torch.linspace(-3.0, 1.0, 64, device=time.device) * math.log(10.0))
    phase = 2.0 * math.pi * time.float().unsqueeze(-1) * rates
    return torch.cat([torch.cos(phase), torch.sin(phase)], dim=-1)


def _rotation(places: range, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines, (frames, 32), of rotary positions (arXiv:2104.09864, eq. 34)."""
    rates = 1_000.0 ** (-torch.arange(_HEAD // 2, device=device) / (_HEAD // 2))
    angle = torch.arange(places.start, places.stop, device=device).unsqueeze(-1) * rates
    cosine, sine = torch.cos(angle), torch.sin(angle)
    return torch.cat([cosine, cosine], dim=-1), torch.cat([-sine, sine], dim=-1)


def _turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    cosine, sine = turn
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([second, first], dim=-1) * sine
