"""Noise levels of the checkpoints, the few of them that a sampler visits, and what eps does there.

x_t = alpha_t x0 + sigma_t eps with alpha_t^2 = prod(1 - beta), sigma_t^2 = 1 - alpha_t^2 and betas
that rise from 0.0015 to 0.0195, linearly in their square root (DDPM, arXiv:2006.11239, eq. 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["Level", "NoiseSchedule", "Prediction", "Spacing"]

Prediction = Literal["epsilon", "v_prediction", "sample"]
Spacing = Literal["trailing", "leading"]


@dataclass(frozen=True, slots=True)
class Level:
    """One noise level; `timestep` -1 is the end, where the network is not asked any more."""

    timestep: int
    alpha: float  # share of the sound
    sigma: float  # share of the noise


@dataclass(frozen=True, slots=True)
class NoiseSchedule:
    """The levels that a checkpoint was trained on, and what its network predicts.

    Parameters
    ----------
    beta_start, beta_end : float
        First and last beta.
    n_levels : int
    prediction : {"epsilon", "v_prediction", "sample"}
        The noise (as released), v = alpha eps - sigma x0 (arXiv:2202.00512, appendix D), or x0.
    """

    beta_start: float = 0.0015
    beta_end: float = 0.0195
    n_levels: int = 1000
    prediction: Prediction = "epsilon"

    def alphas(self) -> NDArray[np.float64]:
        """Return alpha_t: (n_levels,), falling."""
        betas = np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.n_levels) ** 2
        alphas: NDArray[np.float64] = np.sqrt(np.cumprod(1.0 - betas))
        return alphas

    def level(self, timestep: int) -> Level:
        """Return the level of a timestep; -1 is free of noise."""
        if timestep < 0:
            return Level(-1, 1.0, 0.0)
        alpha = float(self.alphas()[timestep])
        return Level(timestep, alpha, (1.0 - alpha * alpha) ** 0.5)

    def amplification(self, timestep: int) -> float:
        """Return by how much an error of the predicted noise is multiplied in x0: sigma / alpha.

        84 at t = 999, 34 at 900, 4.5 at 600: one step from a noise that was predicted in half
        precision is noise. A prediction of v has sigma at most 1 in its place, one of x0 exactly 1,
        so a model is brought to one of these before few steps are taught to it.
        """
        level = self.level(timestep)
        return level.sigma / level.alpha

    def levels(
        self, n_steps: int, *, spacing: Spacing = "trailing", strength: float = 1.0
    ) -> tuple[Level, ...]:
        """Return the n_steps + 1 levels that a sampler visits, from large to none.

        Parameters
        ----------
        n_steps : int
            Network evaluations, at least 1.
        spacing : {"trailing", "leading"}
            "trailing" begins at the last level and ends without noise (arXiv:2305.08891, table 2),
            as few steps need it. "leading" is the released scheduler: it begins one step below the
            end, is off by one, and stops at the first level instead of none; right for 100 or more.
        strength : float
            Share of the schedule that is run, in (0, 1]; below 1 the sampler begins from a sound
            that was given, with noise of the level where it enters (arXiv:2108.01073).

        Raises
        ------
        SettingError
            If n_steps or strength is out of range.
        """
        if not 1 <= n_steps <= self.n_levels:
            raise SettingError(f"A sampler takes 1 to {self.n_levels} steps, got {n_steps}.")
        if not 0.0 < strength <= 1.0:
            raise SettingError(f"The strength is above 0 and at most 1, got {strength}.")
        if spacing == "leading":
            if strength != 1.0:
                raise SettingError(
                    "Leading spacing runs the whole schedule; choose trailing spacing for a "
                    f"strength of {strength}."
                )
            stride = self.n_levels // n_steps
            times = [i * stride + 1 for i in reversed(range(n_steps))]
            first = self.level(0)
            last = Level(-1, first.alpha, first.sigma)
            return (*(self.level(min(t, self.n_levels - 1)) for t in times), last)
        top = strength * self.n_levels
        rounded = [max(round(top * i / n_steps) - 1, 0) for i in range(n_steps, 0, -1)]
        return (*(self.level(t) for t in rounded), self.level(-1))
