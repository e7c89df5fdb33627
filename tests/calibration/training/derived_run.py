"""A run whose derived arrays and generator are random: what distillation needs, in no time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from calibration.training.checkpoint import save_tensors
from calibration.training.material import WINDOW_STARTS, Material, prepare_sounds
from calibration.training.settings import (
    DistillSettings,
    GeneratorSettings,
    SoundsSettings,
    TrainingSettings,
)
from models.nets.sizes import LATENT, make_denoiser

__all__ = ["RUN", "derived_run", "shorter"]

RUN = TrainingSettings(
    precision="fp32",
    checkpoint_s=1e9,
    sounds=SoundsSettings(clips=15, blends=4, held_out=2),
    generator=GeneratorSettings(steps=3, batch=4, warmup=1, average=0.5),
    distill=DistillSettings(
        steps=4, batch=4, warmup=1, teacher_steps=4, regression=0.5, paths=32, chain=2, average=0.5
    ),
)


def shorter(**settings: object) -> TrainingSettings:
    """Return the run with some settings of distillation changed."""
    return replace(RUN, distill=replace(RUN.distill, **settings))  # type: ignore[arg-type]


def derived_run(out: Path) -> Material:
    """Make the run's folder."""
    material = prepare_sounds(RUN, out)
    rng = np.random.default_rng(0)
    n = len(material.clips)
    for name, shape in (
        ("latents", (n, 128, LATENT)),
        ("vectors", (n, len(WINDOW_STARTS), 512)),
        ("tokens", (n, len(WINDOW_STARTS), 16, 768)),
        ("silence", (LATENT,)),
    ):
        array = material.derive(name, shape)
        array[:] = rng.standard_normal(shape)
        array.flush()
        material.derive_done(name)
    torch.manual_seed(0)
    denoiser = make_denoiser("tiny")
    for layer in (denoiser.modulation, denoiser.leave_modulation, denoiser.leave):
        torch.nn.init.normal_(layer.weight, std=0.05)  # zeros at first: nothing would depend on it
    weights = {f"denoiser.{name}": value for name, value in denoiser.state_dict().items()}
    save_tensors(out / "generator" / "final.safetensors", weights, {"step": 0})
    return material
