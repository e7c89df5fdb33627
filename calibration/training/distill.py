"""Stage `distill`: the denoiser learns to jump, so that one to four steps do.

First regression: the student's jump from a moment on a path of the teacher must land where the
teacher's path ends (16 Heun steps, guided). Then a short adversarial phase on re-noised jumps
(ARC, arXiv:2505.08175: relativistic loss, contrastive loss, approximate R1 and R2 penalties), half
of it on windows that go on from the student's *own* sound, so that chains do not drift. The
alternative is consistency distillation (LCM, arXiv:2310.04378, on straight paths).
"""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from calibration.training.checkpoint import load_tensors, load_weights
from calibration.training.generator import (
    FRAMES,
    PREFIX,
    Windows,
    draw_windows,
    guided,
    judge_conditions,
)
from calibration.training.loop import Stage, autocast
from calibration.training.material import Material
from calibration.training.settings import TrainingSettings
from models.nets.dit import Denoiser
from models.nets.samplers import uniform_times
from models.nets.sizes import make_denoiser

__all__ = ["DistillStage", "LatentCritic"]

_MOMENTS = (0.0, 0.25, 0.5, 0.75)  # where jumps begin: those of one, two and four steps
_PENALTY_NOISE = 0.01  # spread of the disturbance in the approximate penalties
_PENALTY = 20.0
_CONTRAST = 0.5


class LatentCritic(nn.Module):
    """A denoiser whose features say how real a noisy window is, given its condition.

    Parameters
    ----------
    denoiser : Denoiser
        Its copy is the start.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.body = copy.deepcopy(denoiser).requires_grad_(True)
        self.body.leave = nn.Linear(denoiser.width, denoiser.width)
        self.judge = nn.Sequential(
            nn.Conv1d(denoiser.width, 64, 5, padding=2), nn.SiLU(), nn.Conv1d(64, 1, 3, padding=1)
        )

    def forward(self, x: Tensor, time: Tensor, **windows: Tensor) -> Tensor:
        """Return a judgement per frame, (batch, frames)."""
        features = self.body(x, time, **windows)
        judgement: Tensor = self.judge(features.transpose(1, 2))
        return judgement[:, 0].float()


class DistillStage(Stage):
    """Train a student of the generator that needs few steps.

    Parameters
    ----------
    run : TrainingSettings
    material : Material
    out : Path
        Folder of the run, where the teacher is.
    """

    def __init__(self, run: TrainingSettings, material: Material, out: Path) -> None:
        super().__init__("distill", run, run.distill)
        self.options = run.distill
        self.material = material
        self.run_folder = out
        self.teacher = make_denoiser(run.size)
        tensors, _ = load_tensors(out / "generator" / "final.safetensors")
        load_weights(self.teacher, tensors, "denoiser")
        self.train_network("denoiser", copy.deepcopy(self.teacher))
        self.train_network("critic", LatentCritic(self.teacher), rate=run.distill.rate)
        self.teacher.to(self.device).eval().requires_grad_(False)
        self.first = round(self.options.regression * self.settings.steps)

    def advance(
        self, step: int, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Any]:
        """One step of the phase that it is in."""
        windows = draw_windows(self.material, self.run.generator, rng, self.settings.batch)
        given = _given(windows, self.device)
        if self.options.method == "consistency":
            return self._consistency(given, noise)
        if step < self.first:
            return self._regression(given, noise)
        if rng.uniform() < self.options.own_prefixes:
            given = self._continued(windows, given, rng, noise)
        return self._adversarial(given, noise)

    def _regression(self, given: dict[str, Tensor], noise: torch.Generator) -> dict[str, Any]:
        """Jump from four moments of the teacher's path to its end."""
        start = _like(given["clean"], noise)
        with torch.no_grad(), autocast(self.run):
            path = self._teacher_path(start, given)
        free = 1.0 - given["known"]
        total = start.new_zeros(())
        for moment in _MOMENTS:
            with autocast(self.run):
                jump = self._jump(path[moment], moment, given)
            error = (jump - path[1.0]).square().mean(-1)
            # Pseudo-Huber per window (arXiv:2310.14189, section 3.3): few far ones do not rule.
            window = ((error * free).sum(1) / free.sum(1) + 1e-3).sqrt()
            total = total + window.mean()
        loss = total / len(_MOMENTS)
        self.update(loss, "denoiser")
        return {"regression": loss}

    def _adversarial(self, given: dict[str, Tensor], noise: torch.Generator) -> dict[str, Any]:
        """One step of the critic, one of the student, on re-noised sounds."""
        real = given["clean"]
        batch = len(real)
        places = torch.randint(len(_MOMENTS), (batch,), generator=noise, device=self.device)
        moments = torch.tensor(_MOMENTS, device=self.device)[places]
        at = moments[:, None, None]
        x = (1.0 - at) * _like(real, noise) + at * real
        with autocast(self.run):
            jump = self._jump(x, moments, given)
        jump = torch.where(given["known"].unsqueeze(-1) > 0, real, jump)
        # Judged at a random noise level: an undisturbed sound is told apart too easily.
        level = torch.rand(batch, generator=noise, device=self.device) * 0.9 + 0.1
        shared = _like(real, noise)
        here = level[:, None, None]
        seen_real = here * real + (1.0 - here) * shared
        seen_made = here * jump + (1.0 - here) * shared
        losses = self._critic_step(seen_real, seen_made.detach(), level, given, noise)
        critic = self.networks["critic"]
        critic.requires_grad_(False)
        with autocast(self.run):
            made, model = critic(seen_made, level, **given), critic(seen_real, level, **given)
        critic.requires_grad_(True)
        losses["student"] = functional.softplus(_mean(model - made, given)).mean()
        self.update(losses["student"], "denoiser")
        return losses

    def _critic_step(
        self,
        real: Tensor,
        made: Tensor,
        level: Tensor,
        given: dict[str, Tensor],
        noise: torch.Generator,
    ) -> dict[str, Any]:
        critic = self.networks["critic"]
        order = torch.roll(torch.arange(len(real), device=self.device), 1)
        other = {**given, "condition": given["condition"][order], "tokens": given["tokens"][order]}
        aside = _PENALTY_NOISE * _like(real, noise)
        with autocast(self.run):
            on_real, on_made = critic(real, level, **given), critic(made, level, **given)
            misplaced = critic(real, level, **other)
            near_real = critic(real + aside, level, **given)
            near_made = critic(made + aside, level, **given)
        relative = functional.softplus(_mean(on_made - on_real, given)).mean()
        contrast = functional.softplus(_mean(misplaced - on_real, given)).mean()
        rough_real = _mean(near_real - on_real, given) / _PENALTY_NOISE
        rough_made = _mean(near_made - on_made, given) / _PENALTY_NOISE
        penalty = (rough_real.square() + rough_made.square()).mean()
        loss = relative + _CONTRAST * contrast + _PENALTY * _PENALTY_NOISE * penalty
        self.update(loss, "critic")
        return {"critic": relative, "contrast": contrast, "penalty": penalty}

    def _continued(
        self,
        windows: Windows,
        given: dict[str, Tensor],
        rng: np.random.Generator,
        noise: torch.Generator,
    ) -> dict[str, Tensor]:
        """Put the student's own sound of the same condition where the known frames are."""
        steps = int(rng.integers(1, 5))
        known = torch.zeros_like(given["known"])
        earlier = {**given, "known": known, "condition": windows.vectors.to(self.device)}
        with torch.no_grad(), autocast(self.run):
            x = _like(given["clean"], noise)
            times = uniform_times(steps)
            for now, then in pairwise(times):
                sound = self._jump(x, now, earlier)
                x = (1.0 - then) * _like(x, noise) + then * sound
        clean = given["clean"].clone()
        clean[:, :PREFIX] = x[:, -PREFIX:] if x.shape[1] == FRAMES else x[:, :PREFIX]
        return {**given, "clean": clean}

    def _consistency(self, given: dict[str, Tensor], noise: torch.Generator) -> dict[str, Any]:
        """Neighbouring moments of one path must jump to the same sound."""
        real, n = given["clean"], 32
        place = torch.randint(n, (len(real),), generator=noise, device=self.device)
        now, then = place / n, (place + 1) / n
        x = (1.0 - now)[:, None, None] * _like(real, noise) + now[:, None, None] * real
        with torch.no_grad(), autocast(self.run):
            velocity = guided(self.teacher, given, self.options.guidance)
            ahead = x + velocity(x, now) / n
            target = self._jump(ahead, then, given, self.averages["denoiser"])
        with autocast(self.run):
            jump = self._jump(x, now, given)
        free = 1.0 - given["known"]
        error = ((jump - target).square().mean(-1) * free).sum(1) / free.sum(1)
        loss = ((error + 1e-4).sqrt()).mean()
        self.update(loss, "denoiser")
        return {"consistency": loss}

    def _teacher_path(self, x: Tensor, given: dict[str, Tensor]) -> dict[float, Tensor]:
        """Return the teacher's states at the moments where jumps begin, and at the end."""
        velocity = guided(self.teacher, given, self.options.guidance)
        times = uniform_times(self.options.teacher_steps)
        path = {0.0: x}
        for now, then in pairwise(times):
            first = velocity(x, now)
            second = velocity(x + (then - now) * first, then)
            x = x + (then - now) * 0.5 * (first + second)
            path[then] = x
        return path

    def _jump(
        self,
        x: Tensor,
        time: Tensor | float,
        given: dict[str, Tensor],
        network: nn.Module | None = None,
    ) -> Tensor:
        moment = torch.as_tensor(time, device=x.device).expand(len(x))
        velocity = (network or self.networks["denoiser"])(x, moment, **given)
        jump: Tensor = x + (1.0 - moment)[:, None, None] * velocity
        return jump

    @torch.no_grad()
    def finish(self, out: Path) -> dict[str, float]:
        """Score one, two and four steps."""
        student = self.averages["denoiser"]
        assert isinstance(student, Denoiser)
        scores: dict[str, float] = {}
        for steps in (1, 2, 4):
            found = judge_conditions(
                student,
                self.material,
                self.run_folder,
                self.run,
                steps=steps,
                guidance=(1.0,),
                jumping=True,
            )
            scores |= {f"{name}_{steps}_steps": value for name, value in found.items()}
        return scores


def _given(windows: Windows, device: torch.device) -> dict[str, Tensor]:
    return {
        "condition": windows.condition.to(device),
        "tokens": windows.tokens.to(device),
        "clean": windows.latents.to(device),
        "known": windows.known.to(device),
    }


def _like(x: Tensor, noise: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=noise, device=x.device)


def _mean(judgement: Tensor, given: dict[str, Tensor]) -> Tensor:
    """Mean over the frames that are made, (batch,)."""
    free = 1.0 - given["known"]
    return (judgement * free).sum(1) / free.sum(1)
