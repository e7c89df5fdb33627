"""Stage `distill`: the denoiser learns long steps, so that one to four of them do.

First regression: on velocities over long and short pieces of the teacher's paths
(`calibration.training.secants`; Heun's method, guided; laid down beforehand by
`calibration.training.paths`).
Then a short adversarial phase (ARC, arXiv:2505.08175: relativistic loss, contrastive loss,
approximate R1 and R2 penalties), half of it on windows that go on from several stretches of the
student's *own* sound, so that chains do not drift. The alternative is consistency distillation
(LCM, arXiv:2310.04378, on straight paths). Guidance becomes part of the student in each of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from calibration.training.checkpoint import load_tensors, load_weights, weights_digest
from calibration.training.few_steps import score_few_steps
from calibration.training.generator import draw_windows, guided
from calibration.training.loop import Stage, autocast, learning_rate
from calibration.training.material import Material
from calibration.training.paths import TeacherPaths, windows_given
from calibration.training.secants import STEPS, draw_pieces, piece_errors, pseudo_huber
from calibration.training.settings import TrainingSettings
from models.nets.dit import Denoiser
from models.nets.samplers import (
    FEW_STEP_SAMPLERS,
    SAMPLERS,
    Velocity,
    secant_moment,
    uniform_times,
)
from models.nets.sizes import make_denoiser
from models.nets.stretch import PREFIX

__all__ = ["DistillStage", "LatentCritic"]

_PENALTY_NOISE = 0.01  # spread of the disturbance in the approximate penalties
_PENALTY = 20.0
_CONTRAST = 0.5
_COMPARED = 256  # paths kept, and as many others

Given = dict[str, Any]  # what the denoiser is given beside the noisy latents


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
        if self.options.method == "secants":
            self.train_network("critic", LatentCritic(self.teacher))
        self.teacher.to(self.device).eval().requires_grad_(False)
        self.paths = TeacherPaths(material, run, teacher=weights_digest(tensors))
        regression = self.options.regression if self.options.method == "secants" else 1.0
        self.first = round(regression * self.settings.steps)
        self.sampler = SAMPLERS[FEW_STEP_SAMPLERS[self.options.method]]

    def prepare(
        self,
        *,
        ended: Callable[[], bool] = lambda: False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> bool:
        """Lay down the teacher's paths."""
        if self.options.method != "secants":
            return True
        # One process writes them; the others, which may not read them before, ask along with it.
        return self.paths.make(
            self.teacher, ended=ended, progress=progress, write=self.processes.first
        )

    def rates(self, step: int) -> dict[str, float]:
        """Each phase has its own rise and fall."""
        if step < self.first:
            share = learning_rate(step, self.settings, steps=self.first)
            return {"denoiser": share * self.settings.rate}
        share = learning_rate(
            step - self.first, self.settings, steps=self.settings.steps - self.first
        )
        return dict.fromkeys(("denoiser", "critic"), share * self.options.adversarial_rate)

    def advance(
        self, step: int, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Any]:
        """One step of the phase that it is in."""
        if self.options.method == "consistency":
            return self._consistency(self._windows(rng), noise)
        if step < self.first:
            return self._regression(rng)
        given = self._windows(rng)
        if rng.uniform() < self.options.own_prefixes:
            return self._adversarial(given, self._continued(given, rng, noise), rng, noise)
        return self._adversarial(given, None, rng, noise)

    def _windows(self, rng: np.random.Generator) -> Given:
        windows = draw_windows(self.material, self.run.generator, rng, self.batch)
        return windows_given(windows, self.device)

    def _regression(self, rng: np.random.Generator) -> dict[str, Any]:
        """Learn the velocities over pieces of the teacher's paths."""
        windows, states = self.paths.draw(rng, self.batch)
        given = windows_given(windows, self.device)
        with autocast(self.run):
            error = piece_errors(
                self.networks["denoiser"],
                guided(self.teacher, given, self.options.guidance),
                states.to(self.device),
                *draw_pieces(rng, self.batch),
                given,
            )
        loss = pseudo_huber(error)
        self.update(loss, "denoiser")
        return {"regression": loss}

    def _adversarial(
        self,
        given: Given,
        own: Given | None,
        rng: np.random.Generator,
        noise: torch.Generator,
    ) -> dict[str, Any]:
        """One step of the critic, one of the student.

        With `own`, which holds the student's own sound where the known frames are, its last step is
        judged as the sampler would come to it; without, last steps from disturbed real sounds are.
        """
        real = given["clean"]
        if own is None:
            now = torch.from_numpy(1.0 - 1.0 / rng.choice(STEPS, len(real))).float()
            now = now.to(self.device)
            at = now[:, None, None]
            x = (1.0 - at) * _like(real, noise) + at * real
            own = given
        else:
            x, moment = self._before_the_end(own, rng, noise)
            now = real.new_full((len(real),), moment)
        with autocast(self.run):
            velocity = self.networks["denoiser"](x, secant_moment(now, 1.0), **own)
        end = _with_known(x + (1.0 - now)[:, None, None] * velocity, own)
        # Judged at a random noise level: an undisturbed sound is told apart too easily.
        level = torch.rand(len(real), generator=noise, device=self.device) * 0.9 + 0.1
        shared = _like(real, noise)
        here = level[:, None, None]
        seen_real = here * real + (1.0 - here) * shared
        seen_made = here * end + (1.0 - here) * shared
        losses = self._critic_step(
            (seen_real, given), (seen_made.detach(), own), level=level, noise=noise
        )
        critic = self.networks["critic"]
        critic.requires_grad_(False)
        with autocast(self.run):
            made = _mean(critic(seen_made, level, **own), own)
            with torch.no_grad():
                model = _mean(critic(seen_real, level, **given), given)
        critic.requires_grad_(True)
        losses["student"] = functional.softplus(model - made).mean()
        self.update(losses["student"], "denoiser")
        return losses

    def _critic_step(
        self,
        real: tuple[Tensor, Given],
        made: tuple[Tensor, Given],
        *,
        level: Tensor,
        noise: torch.Generator,
    ) -> dict[str, Any]:
        """Train the critic on disturbed windows and what each was given."""
        critic = self.networks["critic"]
        (x, given), (y, own) = real, made
        order = torch.roll(torch.arange(len(x), device=self.device), 1)
        other = {**given, "condition": given["condition"][order], "tokens": given["tokens"][order]}
        aside = _PENALTY_NOISE * _like(x, noise)
        with autocast(self.run):
            on_real, on_made = (_mean(critic(a, level, **b), b) for a, b in (real, made))
            misplaced = _mean(critic(x, level, **other), given)
            near_real = _mean(critic(x + aside, level, **given), given)
            near_made = _mean(critic(y + aside, level, **own), own)
        relative = functional.softplus(on_made - on_real).mean()
        contrast = functional.softplus(misplaced - on_real).mean()
        rough = ((near_real - on_real).square() + (near_made - on_made).square()).mean()
        penalty = rough / _PENALTY_NOISE**2
        loss = relative + _CONTRAST * contrast + _PENALTY * _PENALTY_NOISE * penalty
        self.update(loss, "critic")
        return {"critic": relative, "contrast": contrast, "penalty": penalty}

    @torch.no_grad()
    def _continued(self, given: Given, rng: np.random.Generator, noise: torch.Generator) -> Given:
        """Put the student's own sound where the known frames are, after several continuations.

        What was asked for stays the same; the first stretch goes on from what each window knew.
        """
        steps = int(rng.choice(STEPS))
        made = self._made(given, noise, steps=steps)[:, -PREFIX:]
        for _ in range(int(rng.integers(self.options.chain))):
            made = self._made(self._after(given, made), noise, steps=steps)[:, -PREFIX:]
        return self._after(given, made)

    def _after(self, given: Given, before: Tensor) -> Given:
        clean = given["clean"].clone()
        clean[:, :PREFIX] = before
        return {**given, "clean": clean, "known": PREFIX}

    def _made(self, given: Given, noise: torch.Generator, *, steps: int) -> Tensor:
        """Return whole windows, what is known and what the student makes after it."""
        x = _like(given["clean"], noise)
        with autocast(self.run):
            made = self.sampler(self._velocity(given), x, uniform_times(steps), noise=[])
        return _with_known(made, given)

    @torch.no_grad()
    def _before_the_end(
        self, given: Given, rng: np.random.Generator, noise: torch.Generator
    ) -> tuple[Tensor, float]:
        """Return where the sampler stands before its last step, and the moment."""
        *times, _ = uniform_times(int(rng.choice(STEPS)))
        start = _like(given["clean"], noise)
        with autocast(self.run):
            return self.sampler(self._velocity(given), start, times, noise=[]), times[-1]

    def _consistency(self, given: Given, noise: torch.Generator) -> dict[str, Any]:
        """Neighbouring moments of one path must jump to the same sound."""
        real, n = given["clean"], self.options.points
        place = torch.randint(n, (len(real),), generator=noise, device=self.device)
        now, then = place / n, (place + 1) / n
        x = (1.0 - now)[:, None, None] * _like(real, noise) + now[:, None, None] * real
        with torch.no_grad(), autocast(self.run):
            ahead = x + guided(self.teacher, given, self.options.guidance)(x, now) / n
            target = self._jump(ahead, then, given, self.averages["denoiser"])
        with autocast(self.run):
            jump = self._jump(x, now, given)
        loss = pseudo_huber(_mean((jump - target).square().mean(-1), given), about=1e-4)
        self.update(loss, "denoiser")
        return {"consistency": loss}

    def _velocity(self, given: Given) -> Velocity:
        student = self.networks["denoiser"]
        assert isinstance(student, Denoiser)
        return guided(student, given, 1.0)

    def _jump(
        self, x: Tensor, time: Tensor, given: Given, network: nn.Module | None = None
    ) -> Tensor:
        velocity = (network or self.networks["denoiser"])(x, time, **given)
        jump: Tensor = x + (1.0 - time)[:, None, None] * velocity
        return jump

    @torch.no_grad()
    def path_errors(self) -> dict[str, float]:
        """Return errors of one step from noise to sound, on paths learnt from and on others.

        They tell when a student has learnt its paths by heart: a few thousand of them are soon
        learnt, and then its steps from other noise get no better, however small the loss is.

        Returns
        -------
        errors : dict
            `path_error_kept` and `path_error_fresh`, mean squares of latents (variance 1).
        """
        student, errors = self.averages["denoiser"], []
        for windows, states in self.paths.kept_and_fresh(self.teacher, _COMPARED):
            first = np.zeros(len(states), np.int64)  # of the pieces, all of the path
            given = windows_given(windows, self.device)
            with autocast(self.run):
                error = piece_errors(
                    student,
                    guided(self.teacher, given, self.options.guidance),
                    states.to(self.device),
                    first,
                    first.astype(np.float32),
                    given,
                )
            errors.append(float(error.mean()))
        return dict(zip(("path_error_kept", "path_error_fresh"), errors, strict=True))

    @torch.no_grad()
    def finish(self, out: Path) -> dict[str, float]:
        """Score one, two and four steps beside many steps of the teacher, guided as strongly."""
        student = self.averages["denoiser"]
        assert isinstance(student, Denoiser)
        errors = self.path_errors() if self.options.method == "secants" else {}
        return errors | score_few_steps(
            student,
            self.teacher,
            self.material,
            self.run_folder,
            self.run,
            sampler=self.sampler,
            steps=STEPS,
            count=self.options.scored,
        )


def _like(x: Tensor, noise: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=noise, device=x.device)


def _with_known(made: Tensor, given: Given) -> Tensor:
    """Return windows, (batch, frames, 32), with the known frames in their place."""
    return torch.cat([given["clean"][:, : given["known"]], made[:, given["known"] :]], dim=1)


def _mean(values: Tensor, given: Given) -> Tensor:
    """Mean over the frames that are made, (batch,)."""
    return values[:, given["known"] :].mean(1)
