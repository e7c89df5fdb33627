"""What a full-size checkpoint is taught to go on from: a clean beginning, and windows with one.

The published layouts have no input for it. Beside the first convolution a second one, zero at
first, reads the clean latents that are known and where they are; it is folded into the first one
afterwards (`models.nets.full.prefix`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from calibration.finetune.continued import Continued, continued, random_firsts
from calibration.finetune.windows import BrainWindows
from models.nets.full.prefix import make_room
from models.nets.full.stretches import STRETCHES

if TYPE_CHECKING:
    from torch import Tensor

    from calibration.finetune.settings import FinetuneSettings

__all__ = ["PrefixInput", "continue_windows", "lengths_of"]


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
    """Return windows of a beginning and new frames of one of the lengths of live stretches.

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
    lengths = lengths_of(windows.frames)
    if rng is None:
        n_new, firsts = lengths[-1], np.zeros(len(rows), np.int64)
    else:
        n_new = int(rng.choice(lengths))
        firsts = random_firsts(windows, len(rows), n_new, rng)
    return continued(windows, rows, firsts, n_new, options=options, rng=rng, others=others)
