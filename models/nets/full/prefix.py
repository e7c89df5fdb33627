"""A clean beginning as input of a full-size denoiser: extra channels of its first convolution.

The published networks read noisy latents alone, so a stretch can only be held to what came before
it from outside (`keep_known`). With room, the first convolution reads the clean latents that are
known too, and a channel that is 1 where they are: one more than twice the latent channels in all.
Their weights are zero at first, which leaves the published network as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.nets.full.networks import build
from models.nets.full.published import Network

__all__ = ["clean_channels", "has_room", "make_room", "padded", "told"]

_FIRST = "conv_in.weight"


def has_room(unet: nn.Module) -> bool:
    """Return whether a UNet reads a clean beginning beside the noisy latents."""
    config: Any = unet.config
    return int(config.in_channels) == 2 * int(config.out_channels) + 1


def clean_channels(clean: Tensor, known: Tensor) -> Tensor:
    """Return the channels that tell of a beginning: its latents, and where they are known.

    Parameters
    ----------
    clean : Tensor of shape (batch, 8, frames, 16)
        What stands where nothing is known does not matter.
    known : Tensor of shape (batch or 1, 1, frames, 1)
        1 where a frame is known, else 0.

    Returns
    -------
    channels : Tensor of shape (batch, 9, frames, 16)
    """
    where = known.expand(len(clean), 1, *clean.shape[2:]).to(clean.dtype)
    return torch.cat([where * clean, where], dim=1)


def told(x: Tensor, clean: Tensor, known: Tensor) -> Tensor:
    """Return the input of a denoiser with room: noisy latents, and the beginning that is known."""
    return torch.cat([x, clean_channels(clean, known).to(x.dtype)], dim=1)


def padded(unet: nn.Module, x: Tensor) -> Tensor:
    """Return the input of a UNet: where it has room and nothing is told, nothing is known."""
    first: Any = unet.conv_in
    missing = int(first.in_channels) - x.shape[1]
    return nn.functional.pad(x, (0, 0, 0, 0, 0, missing)) if missing > 0 else x


@torch.no_grad()
def make_room(unet: nn.Module) -> nn.Module:
    """Return a UNet that computes the same and has room for a beginning.

    Parameters
    ----------
    unet : Module
        Of the published layout; it stays as it is. One with room is given back.
    """
    if has_room(unet):
        return unet
    whole: Any = unet
    config = {key: value for key, value in dict(whole.config).items() if not key.startswith("_")}
    config["in_channels"] = 2 * int(whole.config.out_channels) + 1
    made = build(Network(type(unet).__name__, config)).to(whole.conv_in.weight)
    state = dict(unet.state_dict())
    grown = torch.zeros_like(made.state_dict()[_FIRST])
    grown[:, : state[_FIRST].shape[1]] = state[_FIRST]
    state[_FIRST] = grown
    made.load_state_dict(state)
    return made
