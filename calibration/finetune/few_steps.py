"""The distilled denoiser follows the tuned one over pieces of its paths, on brain data.

What plays live needs four steps or fewer, and a fine-tuning changes the many-step denoiser. The
distilled one is brought after it by regression (the first phase of `calibration.training.distill`),
under the same decoded conditions.
"""

from __future__ import annotations

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
from calibration.training.paths import heun_path
from calibration.training.secants import PIECES, draw_pieces, piece_errors, pseudo_huber
from calibration.training.settings import TrainingSettings
from models.nets.dit import Denoiser

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FewSteps"]


class FewSteps(SmallFinetune):
    """Train a student whose few steps lead where the tuned denoiser's paths lead.

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
        """One step: a path of the teacher for each window, a piece of it for the student."""
        _, given = self.draw(rng)
        start = torch.randn(given["clean"].shape, generator=noise, device=self.device)
        error = self._error(self.networks["denoiser"], start, given, *draw_pieces(rng, len(start)))
        loss = pseudo_huber(error)
        self.update(loss, "denoiser")
        return {"regression": loss}

    def held_out_loss(self) -> float:
        """Return the error of velocities on the windows that select, decoded conditions."""
        rng = np.random.default_rng([self.run.seed, 6])
        source = torch.Generator().manual_seed(self.run.seed + 6)
        rows = rng.permutation(self.check_rows)[: self.options.check_windows]
        n_new = self._lengths[-1]
        total = 0.0
        for first in range(0, len(rows), 32):
            part = rows[first : first + 32]
            given = self.given(part, self.decoded(part), n_new, rng)
            start = torch.randn(given["clean"].shape, generator=source).to(self.device)
            pieces, inside = np.arange(len(part)) % len(PIECES), np.zeros(len(part), np.float32)
            error = self._error(self.averages["denoiser"], start, given, pieces, inside)
            total += float(error.sum())
        return total / len(rows)

    def _error(
        self,
        student: nn.Module,
        start: Tensor,
        given: dict[str, Any],
        pieces: NDArray[np.int64],
        inside: NDArray[np.float32],
    ) -> Tensor:
        """Return each window's error over a piece of the path from its noise, (batch,)."""
        few = self.few
        with torch.no_grad(), autocast(self.run):
            states = heun_path(
                self.teacher, start, given, steps=few.teacher_steps, guidance=few.guidance
            )
        with autocast(self.run):
            velocity = guided(self.teacher, given, few.guidance)
            return piece_errors(student, velocity, states, pieces, inside, given)
