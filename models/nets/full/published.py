"""The published configurations of MusicLDM and AudioLDM 2, and the terms of their weights.

As they stand in the model cards' `config.json` files. MusicLDM's UNet is that of AudioLDM-S.
`sample_size` is a remark of the configuration; nothing is computed from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "FAMILIES",
    "SCHEDULER",
    "VAE",
    "VOCODER",
    "Family",
    "FamilyName",
    "Network",
    "Part",
]

FamilyName = Literal["musicldm", "audioldm2", "audioldm2-speech"]
Part = Literal["unet", "vae", "vocoder"]


@dataclass(frozen=True, slots=True)
class Network:
    """One network: the class that builds it, and its configuration."""

    class_name: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of checkpoint: what it is conditioned on, and where it is known from."""

    name: FamilyName
    title: str
    unet: Network
    conditions: tuple[str, ...]  # fields of a Condition, in the order the denoiser takes them
    guidance: float  # what its authors use with 200 steps
    hub_ids: tuple[str, ...]
    licence: str


_UNET: dict[str, Any] = {
    "act_fn": "silu",
    # Read by diffusers as the number of heads.
    "attention_head_dim": 8,
    "block_out_channels": [128, 256, 384, 640],
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "down_block_types": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 3,
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 8,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "out_channels": 8,
    "resnet_time_scale_shift": "default",
    "time_cond_proj_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "up_block_types": ["CrossAttnUpBlock2D"] * 3 + ["UpBlock2D"],
    "upcast_attention": False,
    "use_linear_projection": False,
}

_MUSICLDM = Network(
    "UNet2DConditionModel",
    {
        **_UNET,
        "class_embed_type": "simple_projection",
        "class_embeddings_concat": True,
        # No context is given, so that these are the widths of self-attention.
        "cross_attention_dim": [128, 256, 384, 640],
        "projection_class_embeddings_input_dim": 512,
        "sample_size": 128,
    },
)


def _audioldm2(contexts: list[int | None]) -> Network:
    return Network(
        "AudioLDM2UNet2DConditionModel",
        {
            **_UNET,
            "class_embed_type": None,
            "class_embeddings_concat": False,
            "cross_attention_dim": [contexts] * 4,
            "projection_class_embeddings_input_dim": None,
            "sample_size": 256,
            "transformer_layers_per_block": 1,
        },
    )


VAE = Network(
    "AutoencoderKL",
    {
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "in_channels": 1,
        "latent_channels": 8,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 1,
        "sample_size": 1024,
        # One over the spread of the latents: of each checkpoint its own. This is AudioLDM 2's.
        "scaling_factor": 0.4110932946205139,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
    },
)

VOCODER = Network(
    "SpeechT5HifiGan",
    {
        "initializer_range": 0.01,
        "leaky_relu_slope": 0.1,
        "model_in_dim": 64,
        "normalize_before": False,
        "resblock_dilation_sizes": [[1, 3, 5]] * 3,
        "resblock_kernel_sizes": [3, 7, 11],
        "sampling_rate": 16_000,
        "upsample_initial_channel": 1024,
        "upsample_kernel_sizes": [16, 16, 8, 4, 4],
        "upsample_rates": [5, 4, 2, 2, 2],
    },
)

SCHEDULER: dict[str, Any] = {
    "beta_end": 0.0195,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}

_NON_COMMERCIAL = "CC BY-NC-SA 4.0 (not for commercial use; what is made from it under the same)"

FAMILIES: dict[FamilyName, Family] = {
    "musicldm": Family(
        name="musicldm",
        title="MusicLDM",
        unet=_MUSICLDM,
        conditions=("vector",),
        guidance=2.0,
        hub_ids=("ucsd-reach/musicldm",),
        licence=_NON_COMMERCIAL,
    ),
    "audioldm2": Family(
        name="audioldm2",
        title="AudioLDM 2",
        unet=_audioldm2([None, 768, 1024]),
        conditions=("tokens", "text"),
        guidance=3.5,
        hub_ids=("cvssp/audioldm2", "cvssp/audioldm2-music"),
        licence=_NON_COMMERCIAL,
    ),
    "audioldm2-speech": Family(
        name="audioldm2-speech",
        title="AudioLDM 2 speech",
        unet=_audioldm2([None, 768]),
        conditions=("tokens",),
        guidance=3.5,
        hub_ids=("anhnct/audioldm2_gigaspeech",),
        licence=_NON_COMMERCIAL,
    ),
}
