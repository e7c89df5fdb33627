"""Teach a full-size checkpoint few steps: from every level of a path a jump to the same sound.

Consistency distillation of latents (LCM, arXiv:2310.04378, section 4) in v or x0: what the student
jumps to from one level is what its average jumps to from the next, where the teacher leads. Where
no noise is left the jump is the sound itself. Guidance is inside the teacher already (see
`calibration.finetune.convert`), so a level costs it one evaluation, or two by Heun's method.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from calibration.finetune.convert_settings import ConsistencySettings
from calibration.finetune.taught import TaughtBatch, TaughtWindows
from calibration.training.loop import Stage, autocast
from calibration.training.secants import pseudo_huber
from calibration.training.settings import TrainingSettings
from models.errors import SettingError
from models.nets.full.generator import FullGenerator
from models.nets.full.sampler import as_denoiser, keep_known
from models.nets.full.schedule import Level

if TYPE_CHECKING:
    from torch import Tensor

    from models.nets.full.schedule import Prediction

__all__ = ["ConsistencyStage", "check_jumpable"]

_SCORED = 32  # windows


def check_jumpable(prediction: Prediction) -> None:
    """Refuse a checkpoint that few steps cannot be taught to.

    Raises
    ------
    SettingError
        If it predicts noise.
    """
    if prediction == "epsilon":
        raise SettingError(
            "This checkpoint predicts noise, whose errors few steps multiply by 84. Add the table "
            "[full.convert], which brings it to v or x0 before [full.distill]."
        )


class ConsistencyStage(Stage):
    """Train a student of a checkpoint that jumps.

    Parameters
    ----------
    run : TrainingSettings
    options : ConsistencySettings
    generator : FullGenerator
        The teacher, that predicts v or x0, its guidance inside; frozen.
    windows : TaughtWindows
        That are learnt from.
    held : TaughtWindows
        That score.

    Raises
    ------
    SettingError
        If the checkpoint predicts noise.
    """

    def __init__(
        self,
        run: TrainingSettings,
        options: ConsistencySettings,
        generator: FullGenerator,
        windows: TaughtWindows,
        *,
        held: TaughtWindows,
    ) -> None:
        super().__init__("distill", run, options)
        schedule = generator.schedule
        check_jumpable(schedule.prediction)
        self.options, self.windows, self.held = options, windows, held
        self.teacher = generator.to(self.device).requires_grad_(False).eval()
        self.train_network("denoiser", copy.deepcopy(generator.denoiser).requires_grad_(True))
        levels = schedule.levels(options.points)
        self.times = torch.tensor([level.timestep for level in levels], device=self.device)
        self.alphas, self.sigmas = (
            torch.tensor(values, device=self.device)
            for values in zip(*((level.alpha, level.sigma) for level in levels), strict=True)
        )

    def advance(
        self, step: int, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Any]:
        """One step at random levels."""
        rows = rng.integers(0, len(self.windows), self.batch)
        given = self.windows.batch(rows, rng, self.device)
        eps = torch.randn(given.clean.shape, generator=noise, device=self.device)
        place = torch.randint(
            self.options.points, (self.batch,), generator=noise, device=self.device
        )
        alpha, sigma = self._shares(place)
        x = alpha * given.clean + sigma * eps
        with torch.no_grad():
            ahead = self._ahead(x, place, given)
            target = self._jump(self.averages["denoiser"], ahead, place + 1, given)
        jump = self._jump(self.networks["denoiser"], x, place, given)
        loss = pseudo_huber(given.made_error((jump - target).square()))
        self.update(loss, "denoiser")
        return {"consistency": loss}

    @torch.no_grad()
    def finish(self, out: Path) -> dict[str, float]:
        """Return how far jumps from noise end from where the teacher's path ends.

        Returns
        -------
        scores : dict
            `jump_error` of the student and `jump_error_undistilled` of its teacher, mean squares
            over the variance of the paths' ends; from noise alone, on the windows held back.
        """
        rows = np.arange(min(len(self.held), _SCORED))
        given = self.held.batch(rows, None, self.device)
        source = torch.Generator().manual_seed(self.run.seed + 5)
        x = torch.randn(given.clean.shape, generator=source).to(self.device)
        first = torch.zeros(len(x), dtype=torch.int64, device=self.device)
        jumps = {
            name: self._jump(network, x, first, given)
            for name, network in (
                ("jump_error", self.averages["denoiser"]),
                ("jump_error_undistilled", self.teacher.denoiser),
            )
        }
        for place in range(self.options.points):
            x = self._ahead(x, first + place, given)
        spread = x.var().clamp(min=1e-6)
        return {
            name: float(given.made_error((jump - x).square()).mean() / spread)
            for name, jump in jumps.items()
        }

    def distilled(self) -> FullGenerator:
        """Return the generator that jumps, of the published layout; for the sampler `ping_pong`."""
        denoiser: Any = self.averages["denoiser"]
        return self.teacher.with_unet(denoiser.unet)

    def _jump(self, network: nn.Module, x: Tensor, place: Tensor, given: TaughtBatch) -> Tensor:
        """Return x0 from latents at levels; where no noise is left, what is there."""

        def predict(x: Tensor, timestep: Any) -> Tensor:
            with autocast(self.run):
                predicted: Tensor = network(given.heard(x), timestep, *given.parts)
            return predicted.float()

        denoise = as_denoiser(predict, self.teacher.schedule)
        if given.known is not None:
            denoise = keep_known(denoise, given.clean, given.known)
        alpha, sigma = self._shares(place)
        # A level is of numbers; here it is one of each window's.
        level = Level(*(cast("Any", v) for v in (self.times[place].clamp(min=0), alpha, sigma)))
        return torch.where(sigma == 0.0, x, denoise(x, level))

    def _shares(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return shares of sound and noise at levels, (batch, 1, 1, 1) each."""
        alpha, sigma = (values[place].reshape(-1, 1, 1, 1) for values in (self.alphas, self.sigmas))
        return alpha, sigma

    def _ahead(self, x: Tensor, place: Tensor, given: TaughtBatch) -> Tensor:
        """Return latents at the next levels, where the teacher's path leads (without gradient).

        Paths are straight in x / alpha over sigma / alpha as far as the noise predicted stays the
        same (arXiv:2010.02502, eq. 13): DDIM is Euler's method there, and Heun's takes the mean of
        the noise predicted at both ends.
        """
        teacher = self.teacher.denoiser
        (alpha, sigma), (after, less) = self._shares(place), self._shares(place + 1)
        clean = self._jump(teacher, x, place, given)
        eps = (x - alpha * clean) / sigma
        ahead = after * clean + less * eps
        if self.options.solver == "ddim":
            return ahead
        again = self._jump(teacher, ahead, place + 1, given)
        last = less == 0.0
        other = (ahead - after * again) / torch.where(last, torch.ones_like(less), less)
        corrected = after * (x / alpha + (less / after - sigma / alpha) * 0.5 * (eps + other))
        return torch.where(last, ahead, corrected)
