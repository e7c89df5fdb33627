"""The published layouts with few channels: the same classes, made in a tenth of a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.nets.full.generator import FullGenerator
from models.nets.full.prefix import make_room
from models.nets.full.published import FamilyName, Part
from models.nets.full.random_weights import random_generator
from models.nets.full.schedule import Prediction

NAMES: tuple[FamilyName, ...] = ("musicldm", "audioldm2", "audioldm2-speech")
_CONTEXTS: dict[FamilyName, list[Any]] = {
    "musicldm": [32, 32, 32, 64],
    "audioldm2": [[None, 768, 1024]] * 4,
    "audioldm2-speech": [[None, 768]] * 4,
}


def tiny_sizes(family: FamilyName) -> dict[Part, dict[str, Any]]:
    return {
        "unet": {
            "block_out_channels": [32, 32, 32, 64],
            "cross_attention_dim": _CONTEXTS[family],
            "attention_head_dim": 4,
            "norm_num_groups": 8,
            "layers_per_block": 1,
        },
        "vae": {"block_out_channels": [16, 16, 32], "norm_num_groups": 8, "layers_per_block": 1},
        "vocoder": {"upsample_initial_channel": 64},
    }


def tiny_generator(
    family: FamilyName, *, seed: int = 0, prediction: Prediction = "v_prediction"
) -> FullGenerator:
    return random_generator(family, seed=seed, sizes=tiny_sizes(family), prediction=prediction)


def noise(generator: FullGenerator, n_frames: int, *, seed: int = 1) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(generator.latent_shape(n_frames), generator=source)


def shallow_generator(
    family: FamilyName, *, prediction: Prediction = "v_prediction"
) -> FullGenerator:
    """Two of the four blocks to either side: the exporter takes its time by the operator."""
    sizes = tiny_sizes(family)
    contexts = sizes["unet"]["cross_attention_dim"]
    sizes["unet"] |= {
        "block_out_channels": [32, 32],
        "cross_attention_dim": contexts[:2],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    }
    return random_generator(family, sizes=sizes, prediction=prediction)


def with_room(generator: FullGenerator, *, heard: float = 0.0) -> FullGenerator:
    """Return a generator with an input for a beginning, with weights of that size."""
    unet: Any = make_room(generator.denoiser.unet)
    with torch.no_grad():
        more = unet.conv_in.weight[:, 8:]
        more.copy_(heard * torch.randn(more.shape, generator=torch.Generator().manual_seed(5)))
    return generator.with_unet(unet)
