"""The published layouts with few channels: the same classes, made in a tenth of a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.nets.full.generator import FullGenerator
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
