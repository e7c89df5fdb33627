"""The whole recipe at about a hundredth of its size: what must hold before hours are spent."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.training.checkpoint import FINAL, load_tensors, load_weights, read_note
from calibration.training.few_steps import score_few_steps
from calibration.training.loop import Progress
from calibration.training.material import Material
from calibration.training.run import train
from calibration.training.settings import (
    STAGES,
    CodecSettings,
    DistillSettings,
    EncoderSettings,
    GeneratorSettings,
    SoundsSettings,
    TokensSettings,
    TrainingSettings,
    VocoderSettings,
)
from export.checkpoint import read_training
from models.nets.sizes import make_denoiser
from models.nets.stretch import TorchGenerator
from models.stretch import GeneratorInput

_RUN = TrainingSettings(
    checkpoint_s=1e9,
    sounds=SoundsSettings(clips=104, blends=20, held_out=13),
    encoder=EncoderSettings(steps=40, batch=26, warmup=5, average=0.9),
    codec=CodecSettings(steps=80, batch=8, warmup=5, average=0.9, rate=3e-3),
    tokens=TokensSettings(steps=6, batch=4, warmup=1, average=0.5),
    vocoder=VocoderSettings(steps=12, batch=4, frames=32, warmup=2, average=0.5, plain=0.8),
    generator=GeneratorSettings(steps=130, batch=26, warmup=10, average=0.95, rate=2e-3),
    distill=DistillSettings(
        steps=120,
        batch=16,
        warmup=5,
        average=0.9,
        regression=0.75,
        teacher_steps=8,
        paths=64,
        chain=2,
        scored=39,
    ),
)
# Times as far from real sound as the teacher few steps may be: about 2 was found, 24 for random
# weights.
_WORSE = 5.0


@pytest.mark.slow
def test_a_small_recipe_learns_resumes_and_gives_a_generator(tmp_path: Path) -> None:
    losses: dict[str, list[float]] = defaultdict(list)

    def keep(at: Progress) -> None:
        for name, value in at.losses.items():
            losses[f"{at.stage} {name}"].append(value)

    assert not train(_RUN, tmp_path, resume=True, budget_min=0.0)  # renders, then stops
    assert train(_RUN, tmp_path, resume=True, progress=keep, every_s=0.0)
    for name, share in (
        ("encoder caption", 0.9),
        ("codec level", 0.5),
        ("vocoder mel", 0.95),
        ("generator loss", 0.7),
        ("distill regression", 0.95),
    ):
        few = max(3, len(losses[name]) // 8)
        first, last = np.mean(losses[name][:few]), np.mean(losses[name][-few:])
        assert last < share * first, (name, first, last)
    scores = read_note(tmp_path / "distill" / FINAL)["scores"]
    for steps in (1, 2, 4):
        assert scores[f"frechet_{steps}_steps"] < _WORSE * scores["frechet_teacher"], scores
    assert scores["frechet_1_steps"] < 0.6 * scores["frechet_undistilled_1"], scores
    assert _random_frechet(tmp_path) > _WORSE * scores["frechet_teacher"], scores
    page = (tmp_path / "card.md").read_text("utf-8")
    assert all(f"**{name}**" in page for name in STAGES)
    _makes_sound(tmp_path)


def _random_frechet(folder: Path) -> float:
    """Return how far the sounds of random weights are from real ones, in four steps."""
    torch.manual_seed(0)
    denoiser = make_denoiser("tiny")
    for layer in (denoiser.modulation, denoiser.leave_modulation, denoiser.leave):
        torch.nn.init.normal_(layer.weight, std=0.05)
    teacher = make_denoiser("tiny")
    load_weights(teacher, load_tensors(folder / "generator" / FINAL)[0], "denoiser")
    material = Material(_RUN, folder)
    found = score_few_steps(denoiser, teacher, material, folder, _RUN, steps=(4,), many=1, count=39)
    return found["frechet_4_steps"]


def _makes_sound(folder: Path) -> None:
    """The folder is what export takes, and its networks make sound."""
    trained = read_training(folder)
    assert trained.sampler == "secants"
    assert trained.distilled
    generator = TorchGenerator(trained.nets, steps=2, stretches=(4,))
    vector = np.zeros(512, np.float32)
    vector[0] = 1.0
    noise = np.random.default_rng(0).standard_normal(generator.noise_shape(4)).astype(np.float32)
    given = GeneratorInput(vector=vector)
    state = generator.initial_state()
    for _ in range(2):
        sound, state = generator.stretch(given, state, noise, n_frames=4)
        assert sound.shape == (4 * 640,)
        assert np.all(np.isfinite(sound))
