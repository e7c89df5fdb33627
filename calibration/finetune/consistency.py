"""Teach a full-size checkpoint few steps: from every level of a path a jump to the same sound.

Consistency distillation of latents (LCM, arXiv:2310.04378, section 4) in v or x0: what the student
jumps to from one level is what its average jumps to from the next, where the teacher leads. Where
no noise is left the jump is the sound itself. Guidance is inside the teacher already (see
`calibration.finetune.convert`), so a level costs it one evaluation, or two by Heun's method.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from calibration.finetune.convert_settings import ConsistencySettings
from calibration.finetune.taught import TaughtWindows, made_error
from calibration.training.loop import Stage, autocast
from calibration.training.secants import pseudo_huber
from calibration.training.settings import TrainingSettings
from models.errors import SettingError
from models.nets.full.generator import FullGenerator
from models.nets.full.prefix import told

if TYPE_CHECKING:
    from numpy.typing import NDArray
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


@dataclass(frozen=True, slots=True, eq=False)
class _Given:
    """Sounds of a batch, their conditions, and which of their frames are told."""

    clean: Tensor  # (batch, 8, frames, 16)
    parts: list[Tensor]
    known: Tensor | None  # (batch, 1, frames, 1)


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
        given = self._given(self.windows, rng.integers(0, len(self.windows), self.batch), rng)
        eps = torch.randn(given.clean.shape, generator=noise, device=self.device)
        place = torch.randint(
            self.options.points, (self.batch,), generator=noise, device=self.device
        )
        x = _at(self.alphas, place) * given.clean + _at(self.sigmas, place) * eps
        with torch.no_grad():
            ahead = self._ahead(x, place, given)
            target = self._jump(self.averages["denoiser"], ahead, place + 1, given)
        jump = self._jump(self.networks["denoiser"], x, place, given)
        loss = pseudo_huber(made_error((jump - target).square(), given.known))
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
        given = self._given(self.held, np.arange(min(len(self.held), _SCORED)), None)
        source = torch.Generator().manual_seed(self.run.seed + 5)
        noise = torch.randn(given.clean.shape, generator=source).to(self.device)
        first = torch.zeros(len(noise), dtype=torch.int64, device=self.device)
        x = self._with_known(noise, first, given, noise)
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
            name: float(made_error((jump - x).square(), given.known).mean() / spread)
            for name, jump in jumps.items()
        }

    def distilled(self) -> FullGenerator:
        """Return the generator that jumps, of the published layout; for the sampler `ping_pong`."""
        denoiser: Any = self.averages["denoiser"]
        teacher = self.teacher
        return FullGenerator(
            teacher.family.name,
            unet=denoiser.unet,
            vae=teacher.decoder.vae,
            vocoder=teacher.vocoder.vocoder,
            schedule=teacher.schedule,
        ).eval()

    def _given(
        self, windows: TaughtWindows, rows: NDArray[np.int64], rng: np.random.Generator | None
    ) -> _Given:
        return _Given(
            windows.sounds(rows, self.device),
            windows.parts(rows, self.device),
            windows.known(rows, rng, self.device),
        )

    def _with_known(self, x: Tensor, place: Tensor, given: _Given, noise: Tensor) -> Tensor:
        """Return noisy latents whose known frames are of the sound that they are of."""
        if given.known is None:
            return x
        known = _at(self.alphas, place) * given.clean + _at(self.sigmas, place) * noise
        return given.known * known + (1.0 - given.known) * x

    def _jump(self, network: nn.Module, x: Tensor, place: Tensor, given: _Given) -> Tensor:
        """Return x0 from latents at levels; where no noise is left, what is there."""
        heard = x if given.known is None else told(x, given.clean, given.known)
        with autocast(self.run):
            predicted = network(heard, self.times[place].clamp(min=0), *given.parts).float()
        if self.teacher.schedule.prediction == "v_prediction":
            predicted = _at(self.alphas, place) * x - _at(self.sigmas, place) * predicted
        jump = torch.where(_at(self.sigmas, place) == 0.0, x, predicted)
        if given.known is not None:  # as the sampler keeps them
            jump = given.known * given.clean + (1.0 - given.known) * jump
        return jump

    def _ahead(self, x: Tensor, place: Tensor, given: _Given) -> Tensor:
        """Return latents at the next levels, where the teacher's path leads (without gradient).

        Paths are straight in x / alpha over sigma / alpha as far as the noise predicted stays the
        same (arXiv:2010.02502, eq. 13): DDIM is Euler's method there, and Heun's takes the mean of
        the noise predicted at both ends.
        """
        teacher = self.teacher.denoiser
        alpha, sigma = _at(self.alphas, place), _at(self.sigmas, place)
        after, less = _at(self.alphas, place + 1), _at(self.sigmas, place + 1)
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


def _at(values: Tensor, place: Tensor) -> Tensor:
    """Return values of levels for a batch of latents, (batch, 1, 1, 1)."""
    return values[place].reshape(-1, 1, 1, 1)
