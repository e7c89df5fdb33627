"""The distilled denoiser follows the tuned one: jumps to where its paths end, on brain data.

What plays live needs four steps or fewer, and a fine-tuning changes the many-step denoiser. The
distilled one, which jumps already, is brought after it by regression (the first phase of
`calibration.training.distill`), under the same decoded conditions.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from calibration.acoustic.settings import AcousticSettings
from calibration.finetune.settings import FewStepSettings, FinetuneSettings
from calibration.finetune.small import SmallFinetune
from calibration.finetune.windows import BrainWindows
from calibration.training.generator import guided
from calibration.training.loop import autocast
from calibration.training.settings import TrainingSettings
from models.nets.dit import Denoiser
from models.nets.samplers import uniform_times
from models.nets.stretch import PREFIX

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FewSteps"]

_MOMENTS = (0.0, 0.25, 0.5, 0.75)  # where jumps begin: those of one, two and four steps


class FewSteps(SmallFinetune):
    """Train a student that jumps to where the tuned denoiser's paths end.

    Parameters
    ----------
    run : TrainingSettings
    few : FewStepSettings
    options : FinetuneSettings
        Shares of conditions and prefixes, as in the fine-tuning.
    acoustic, windows, train, check
        See `calibration.finetune.stage.BrainStage`.
    teacher : Denoiser
        The tuned one.
    student : Denoiser
        The distilled one of the training folder.
    silence : array of shape (32,)
    """

    stage_name = "few-steps"

    def __init__(
        self,
        run: TrainingSettings,
        few: FewStepSettings,
        options: FinetuneSettings,
        acoustic: AcousticSettings,
        windows: BrainWindows,
        *,
        teacher: Denoiser,
        student: Denoiser,
        silence: NDArray[np.float32],
        train: NDArray[np.int64],
        check: NDArray[np.int64],
    ) -> None:
        super().__init__(
            run,
            few.scheduled(options),
            acoustic,
            windows,
            denoiser=student,
            silence=silence,
            decoder=None,
            train=train,
            check=check,
        )
        self.few = few
        self.teacher = teacher.to(self.device).eval().requires_grad_(False)

    def learn(self, step: int, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Any]:
        """One step: a path of the teacher for each window, a jump from one of its moments."""
        _, given = self.draw(rng)
        start = torch.randn(given["clean"].shape, generator=noise, device=self.device)
        places = torch.from_numpy(rng.integers(0, len(_MOMENTS), len(start))).to(self.device)
        error = self._error(self.networks["denoiser"], start, places, given)
        # Pseudo-Huber per window (arXiv:2310.14189, section 3.3): few far ones do not rule.
        loss = (error + 1e-3).sqrt().mean()
        self.update(loss, "denoiser")
        return {"regression": loss}

    def held_out_loss(self) -> float:
        """Return the squared error of jumps on the windows that select, decoded conditions."""
        rng = np.random.default_rng([self.run.seed, 6])
        source = torch.Generator().manual_seed(self.run.seed + 6)
        rows = rng.permutation(self.check_rows)[: self.options.check_windows]
        n_new = self._lengths[-1]
        total = 0.0
        for first in range(0, len(rows), 32):
            part = rows[first : first + 32]
            given = self.given(part, self.decoded(part), n_new, rng)
            start = torch.randn(given["clean"].shape, generator=source).to(self.device)
            places = torch.arange(len(part), device=self.device) % len(_MOMENTS)
            total += float(self._error(self.averages["denoiser"], start, places, given).sum())
        return total / len(rows)

    def _error(
        self, student: nn.Module, start: Tensor, places: Tensor, given: dict[str, Any]
    ) -> Tensor:
        """Return each window's mean squared distance from the jump to the path's end, (batch,)."""
        with torch.no_grad(), autocast(self.run):
            states = self._path(start, given)
        x = states[places, torch.arange(len(start), device=self.device)]
        moment = torch.tensor(_MOMENTS, device=self.device)[places]
        with autocast(self.run):
            jump = x + (1.0 - moment)[:, None, None] * student(x, moment, **given)
        error: Tensor = (jump - states[-1]).square().mean(-1)[:, PREFIX:].mean(1)
        return error

    def _path(self, x: Tensor, given: dict[str, Any]) -> Tensor:
        """Return the teacher's states at the moments and at the end, (5, batch, frames, 32)."""
        velocity = guided(self.teacher, given, self.few.guidance)
        kept = {0.0: x}
        for now, then in pairwise(uniform_times(self.few.teacher_steps)):
            first = velocity(x, now)
            second = velocity(x + (then - now) * first, then)
            x = x + (then - now) * 0.5 * (first + second)
            kept[then] = x
        return torch.stack([*(kept[moment] for moment in _MOMENTS), x])
