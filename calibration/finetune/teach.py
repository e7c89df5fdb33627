"""Teach a grown denoiser what its checkpoint says with guidance: v or x0, in one evaluation.

The new output learns from the first step on; the old one, whose errors are multiplied on the way to
v or x0, has no share in the loss, and is left out in the end (see `calibration.finetune.convert`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from calibration.finetune.convert import GrownDenoiser, grow, grown_generator
from calibration.finetune.convert_settings import ConvertSettings
from calibration.finetune.taught import TaughtBatch, TaughtWindows
from calibration.training.loop import Stage, autocast
from calibration.training.settings import TrainingSettings
from models.nets.full.generator import FullGenerator

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ConvertStage"]

_CHECKS = (100, 300, 500, 700, 900)  # thousandths of the levels


class ConvertStage(Stage):
    """Train a grown denoiser on its checkpoint's guided predictions.

    Parameters
    ----------
    run : TrainingSettings
    options : ConvertSettings
    generator : FullGenerator
        The teacher, that predicts noise; frozen.
    windows : TaughtWindows
    """

    def __init__(
        self,
        run: TrainingSettings,
        options: ConvertSettings,
        generator: FullGenerator,
        windows: TaughtWindows,
    ) -> None:
        super().__init__("convert", run, options)
        self.options, self.windows = options, windows
        self.teacher = generator.to(self.device).requires_grad_(False).eval()
        self.alphas = torch.from_numpy(generator.schedule.alphas()).to(self.device)
        grown = grow(generator, options.prediction).requires_grad_(True)
        grown.share.zero_()
        self.train_network("grown", grown)

    def advance(
        self, step: int, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Any]:
        """One step at random levels and strengths."""
        grown = self.networks["grown"]
        assert isinstance(grown, GrownDenoiser)
        rows = rng.integers(0, len(self.windows), self.batch)
        low, high = self.options.low, self.options.high
        strength = torch.from_numpy(rng.uniform(low, high, len(rows)).astype(np.float32))
        given = self.windows.batch(rows, rng, self.device)
        eps = torch.randn(given.clean.shape, generator=noise, device=self.device)
        times = torch.randint(len(self.alphas), (len(rows),), generator=noise, device=self.device)
        loss = self._loss(grown, given, eps, times, strength.to(self.device)).mean()
        self.update(loss, "grown")
        return {"loss": loss}

    @torch.no_grad()
    def finish(self, out: Path) -> dict[str, float]:
        """Return how far the new output alone is from the guided teacher, over its spread."""
        grown = self.averages["grown"]
        assert isinstance(grown, GrownDenoiser)
        source = torch.Generator().manual_seed(self.run.seed + 5)
        rows = np.arange(min(len(self.windows), 32))
        given = self.windows.batch(rows, None, self.device)
        strength = torch.full((len(rows),), self.options.strength, device=self.device)
        total = 0.0
        for thousandth in _CHECKS:
            eps = torch.randn(given.clean.shape, generator=source).to(self.device)
            level = thousandth * len(self.alphas) // 1000
            times = torch.full((len(rows),), level, device=self.device)
            total += float(self._loss(grown, given, eps, times, strength).mean())
        return {"loss": total / len(_CHECKS)}

    def converted(self) -> FullGenerator:
        """Return the generator of the published layout, with the chosen strength folded in."""
        grown = self.averages["grown"]
        assert isinstance(grown, GrownDenoiser)
        return grown_generator(grown, self.teacher, strength=self.options.strength)

    def _loss(
        self,
        grown: GrownDenoiser,
        given: TaughtBatch,
        eps: Tensor,
        times: Tensor,
        strength: Tensor,
    ) -> Tensor:
        x0, parts = given.clean, given.parts
        alpha = self.alphas[times].reshape(-1, 1, 1, 1)
        sigma = (1.0 - alpha.square()).sqrt()
        x = (alpha * x0 + sigma * eps).float()
        free = [torch.zeros_like(parts[0]), *parts[1:]]
        heard = given.heard(x)
        with autocast(self.run):
            with torch.no_grad():
                said = self.teacher.denoiser(heard, times, *parts).double()
                without = self.teacher.denoiser(heard, times, *free).double()
            guided = without + strength.double().reshape(-1, 1, 1, 1) * (said - without)
            predicted = grown(heard, times, *parts, strength=strength)
        if self.options.prediction == "sample":
            said_so, so_it_is = (x - sigma * guided) / alpha, x0.double()
        else:
            said_so, so_it_is = (guided - sigma * x) / alpha, alpha * eps - sigma * x0
        wanted = torch.where(alpha < self.options.least_alpha, so_it_is, said_so)
        return given.made_error((predicted.double() - wanted).square()).float()
