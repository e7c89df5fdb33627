"""Random weights of the true layout, at a size where sounds and errors can be seen.

The classes' own initial values make HiFi-GAN whisper at 4e-6, with which any comparison of two
computations looks perfect. Here each layer keeps the variance of what it gets, and the last one of
each network is scaled so that its output has about the size of the real one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.nets.full.generator import FullGenerator
from models.nets.full.networks import build
from models.nets.full.published import FAMILIES, SCHEDULER, VAE, VOCODER, FamilyName, Network, Part
from models.nets.full.schedule import NoiseSchedule, Prediction

__all__ = ["random_generator", "randomise", "save_checkpoint"]

# Standard deviations: of predicted noise, of a log mel around its mean, of the argument of tanh.
_TARGETS: dict[Part, float] = {"unet": 1.0, "vae": 1.0, "vocoder": 0.3}
_TRIAL_FRAMES = 8


def random_generator(
    family: FamilyName,
    *,
    seed: int = 0,
    sizes: Mapping[Part, Mapping[str, Any]] | None = None,
    prediction: Prediction = "v_prediction",
) -> FullGenerator:
    """Return a generator that has learnt nothing, with outputs of the order of 1.

    For latency, memory, export and parity, which depend on the architecture only.

    Parameters
    ----------
    family : {"musicldm", "audioldm2", "audioldm2-speech"}
    seed : int
    sizes : mapping, optional
        Entries of the configurations that differ from the published ones, by part.
    prediction : {"epsilon", "v_prediction", "sample"}
        What the numbers of the denoiser stand for. As noise they would be multiplied by 84.
    """
    changed = sizes or {}
    networks: dict[Part, Network] = {"unet": FAMILIES[family].unet, "vae": VAE, "vocoder": VOCODER}
    built = {
        part: build(Network(net.class_name, {**net.config, **changed.get(part, {})}))
        for part, net in networks.items()
    }
    source = torch.Generator().manual_seed(seed)
    for module in built.values():
        randomise(module, source)
    schedule = NoiseSchedule(
        beta_start=SCHEDULER["beta_start"],
        beta_end=SCHEDULER["beta_end"],
        n_levels=SCHEDULER["num_train_timesteps"],
        prediction=prediction,
    )
    generator = FullGenerator(
        family,
        unet=built["unet"],
        vae=built["vae"],
        vocoder=built["vocoder"],
        schedule=schedule,
    ).eval()
    _scale_outputs(generator, source)
    return generator


def randomise(module: nn.Module, source: torch.Generator) -> None:
    """Fill a network with weights that keep variances: normal with 1 / fan-in, biases 0.

    Parameters
    ----------
    module : Module
        Changed in place.
    source : torch.Generator
        On the CPU.
    """
    for layer in module.modules():
        if isinstance(layer, nn.ConvTranspose1d):
            # Each output hears kernel / stride of the taps of every input channel.
            fan_in = layer.in_channels * layer.kernel_size[0] / layer.stride[0]
        elif isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            fan_in = prod(layer.weight.shape[1:])
        else:
            continue
        with torch.no_grad():
            layer.weight.normal_(0.0, fan_in**-0.5, generator=source)
            if layer.bias is not None:
                layer.bias.zero_()


def save_checkpoint(generator: FullGenerator, folder: Path) -> None:
    """Write a generator as a folder in diffusers layout, as `load_full_generator` reads it.

    Parameters
    ----------
    generator : FullGenerator
    folder : Path
        Made where it is missing.
    """
    unet: Any = generator.denoiser.unet
    unet.save_pretrained(folder / "unet")
    generator.decoder.vae.save_pretrained(folder / "vae")
    with _no_bars():
        generator.vocoder.vocoder.save_pretrained(folder / "vocoder")
    schedule = generator.schedule
    said = {
        **SCHEDULER,
        "_class_name": "DDIMScheduler",
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "num_train_timesteps": schedule.n_levels,
        "prediction_type": schedule.prediction,
    }
    home = folder / "scheduler"
    home.mkdir(parents=True, exist_ok=True)
    (home / "scheduler_config.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Keep progress bars of transformers off the terminal."""
    import transformers

    its_logging: Any = transformers.utils.logging
    shown = its_logging.is_progress_bar_enabled()
    its_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            its_logging.enable_progress_bar()


@torch.no_grad()
def _scale_outputs(generator: FullGenerator, source: torch.Generator) -> None:
    """Bring the last layer of each network to its target, by one short pass."""
    latents = torch.randn(generator.latent_shape(_TRIAL_FRAMES), generator=source)
    condition = generator.random_condition(source)
    parts = [getattr(condition, name) for name in generator.family.conditions]
    predicted = generator.denoiser(latents, torch.tensor(500), *parts)
    unet: Any = generator.denoiser.unet
    _rescale(unet.conv_out, predicted, _TARGETS["unet"])
    mel = generator.mel(latents)
    _rescale(generator.decoder.vae.decoder.conv_out, mel, _TARGETS["vae"])
    before = torch.atanh(generator.sound(generator.mel(latents)).clamp(-0.999, 0.999))
    _rescale(generator.vocoder.vocoder.conv_post, before, _TARGETS["vocoder"])


def _rescale(layer: nn.Module, output: Tensor, target: float) -> None:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    weight.mul_(target / float(output.std()))
