"""What a full-size checkpoint is taught to go on from: a clean beginning, and windows with one.

The published layouts have no input for it. Beside the first convolution a second one, zero at
first, reads the clean latents that are known and where they are; it is folded into the first one
afterwards (`models.nets.full.prefix`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from calibration.finetune.windows import BrainWindows
from calibration.training.generator import FADE
from models.nets.full.prefix import make_room
from models.nets.full.stretches import STRETCHES
from models.stretch import TOKEN_FRAMES

if TYPE_CHECKING:
    from torch import Tensor

    from calibration.finetune.settings import FinetuneSettings

__all__ = ["Continued", "PrefixInput", "continue_windows", "lengths_of"]


class PrefixInput(nn.Module):
    """The weights with which the first convolution of a UNet reads a clean beginning.

    Parameters
    ----------
    unet : Module
        Not kept; only shapes are read from it.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        whole: Any = unet
        first = whole.conv_in
        channels = int(whole.config.out_channels) + 1
        self.weight = nn.Parameter(torch.zeros(first.out_channels, channels, *first.kernel_size))

    @contextmanager
    def on(self, unet: nn.Module, channels: Tensor) -> Iterator[None]:
        """Let a UNet hear of a beginning while the context lasts.

        Parameters
        ----------
        unet : Module
        channels : Tensor of shape (batch, 9, frames, 16)
            From `models.nets.full.prefix.clean_channels`.
        """

        def add(layer: Any, _given: tuple[Any, ...], made: Any) -> Any:
            more = nn.functional.conv2d(channels, self.weight, padding=layer.padding)
            return made + more.to(made.dtype)

        whole: Any = unet
        hook = whole.conv_in.register_forward_hook(add)
        try:
            yield
        finally:
            hook.remove()

    @torch.no_grad()
    def folded(self, unet: nn.Module) -> nn.Module:
        """Return a UNet with room for a beginning that computes the same by itself."""
        whole: Any = make_room(unet)
        weight = whole.conv_in.weight
        weight[:, int(whole.config.out_channels) :] += self.weight.to(weight)
        folded: nn.Module = whole
        return folded


@dataclass(frozen=True, slots=True, eq=False)
class Continued:
    """Windows of latents with a beginning: of each frame, whether it is told and whether it counts.

    What is told counts nothing, nor does what stands before the sound began.
    """

    latents: NDArray[np.float32]  # (n, prefix + frames, *latent)
    known: NDArray[np.float32]  # (n, prefix + frames), 1 where a frame is told
    counted: NDArray[np.float32]  # (n, prefix + frames), 1 where a frame is to be made


def lengths_of(frames: int) -> tuple[int, ...]:
    """Return how many new frames windows may have: those of live stretches that fit."""
    return tuple(n for n in STRETCHES if n <= frames) or (frames,)


def continue_windows(
    windows: BrainWindows,
    rows: NDArray[np.int64],
    options: FinetuneSettings,
    rng: np.random.Generator | None,
    *,
    others: NDArray[np.int64] | None = None,
) -> Continued:
    """Return windows as a stream has them: some frames of what came before, then new ones.

    A share of `prefixed` goes on from known frames, some of them from fewer than there are, as a
    stream that has just begun; the new frames lie anywhere in their stretches. A share of
    `switched` of those goes on from the end of another sound, as after a change of what is decoded.

    Parameters
    ----------
    windows : BrainWindows
        With a prefix.
    rows : array of int
    options : FinetuneSettings
    rng : Generator, optional
        None: the longest new part, at the beginning of each stretch, after all that is known.
    others : array of int, optional
        Rows whose ends other sounds are taken from.
    """
    prefix, n = windows.prefix, len(rows)
    lengths = lengths_of(windows.frames)
    if rng is None:
        n_new, firsts = lengths[-1], np.zeros(n, np.int64)
    else:
        n_new = int(rng.choice(lengths))
        places = (windows.frames - n_new) // TOKEN_FRAMES + 1
        firsts = np.asarray(rng.integers(0, places, n) * TOKEN_FRAMES, np.int64)
    pairs = zip(rows.tolist(), firsts.tolist(), strict=True)
    x = np.stack([windows.latents[row, at : at + prefix + n_new] for row, at in pairs])
    sound = np.minimum(windows.n_known[rows] + firsts, prefix)
    told = sound.copy()
    if rng is not None:
        full = rng.uniform(size=n) < 0.6
        told = np.where(full, told, rng.integers(0, prefix + 1, n).clip(max=told))
        without = rng.uniform(size=n) >= options.prefixed
        told[without] = 0
        other = np.flatnonzero((rng.uniform(size=n) < options.switched) & ~without)
        if len(other) and others is not None:
            before = rng.choice(others, len(other))
            ends = windows.latents[before, -prefix - len(FADE) :]
            x[other, :prefix] = ends[:, :prefix]
            for k, share in enumerate(FADE):
                x[other, prefix + k] *= share
                x[other, prefix + k] += (1.0 - share) * ends[:, prefix + k]
            there = windows.n_known[before] + windows.frames - len(FADE)
            told[other] = sound[other] = np.minimum(there, prefix)
    from_end = prefix - np.arange(prefix + n_new)  # 1 for the last frame of the beginning
    known = (from_end > 0) & (from_end <= told[:, None])
    counted = ~known & (from_end <= sound[:, None])
    return Continued(
        np.ascontiguousarray(x, np.float32), known.astype(np.float32), counted.astype(np.float32)
    )
