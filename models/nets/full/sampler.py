"""From noise to latents through a checkpoint's noise levels: `(denoise, x, levels, *, noise)`.

`denoise(x, timestep)` returns an estimate of the clean latents x0; `as_denoiser` makes one of a
network that predicts noise, v or x0, with guidance or without. Each sampler is one visible loop, in
single precision whatever the network computes in, and unrolls into one graph when it is exported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from models.errors import SettingError
from models.nets.full.schedule import Level, NoiseSchedule

__all__ = ["Denoise", "LevelSampler", "as_denoiser", "ddim", "keep_known", "ping_pong"]

Denoise = Callable[[Tensor, Level], Tensor]


class LevelSampler(Protocol):
    """How every sampler is called."""

    def __call__(
        self, denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Sequence[Tensor]
    ) -> Tensor:
        """Return the latents at the last of the levels."""
        ...


def as_denoiser(
    network: Callable[[Tensor, int], Tensor],
    schedule: NoiseSchedule,
    *,
    guidance: float = 1.0,
    unconditional: Callable[[Tensor, int], Tensor] | None = None,
) -> Denoise:
    """Return x0 from what a network predicts.

    From noise: x0 = (x - sigma eps) / alpha, which multiplies errors by `schedule.amplification`.
    From v: x0 = alpha x - sigma v. Guidance extrapolates in what is predicted,
    u + guidance (c - u) (arXiv:2207.12598, eq. 6); all three are linear in it.

    Parameters
    ----------
    network : callable
        (x, timestep) to the prediction, under the condition.
    schedule : NoiseSchedule
    guidance : float
        1: none, one evaluation a step. Otherwise two.
    unconditional : callable, optional
        The same network without the condition; needed for guidance.

    Raises
    ------
    SettingError
        If there is guidance and nothing to be guided away from.
    """
    if guidance != 1.0 and unconditional is None:
        raise SettingError(
            f"Guidance of {guidance} needs an unconditional branch, and there is none. Give one "
            "(the embedding of an empty text, or what condition dropout was trained with), or set "
            "guidance to 1."
        )

    def denoise(x: Tensor, level: Level) -> Tensor:
        predicted = network(x, level.timestep).to(x.dtype)
        if unconditional is not None and guidance != 1.0:
            free = unconditional(x, level.timestep).to(x.dtype)
            predicted = free + guidance * (predicted - free)
        if schedule.prediction == "sample":
            return predicted
        if schedule.prediction == "v_prediction":
            return level.alpha * x - level.sigma * predicted
        return (x - level.sigma * predicted) / level.alpha

    return denoise


def ddim(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Sequence[Tensor] = ()
) -> Tensor:
    """Go down the levels without new noise (DDIM, arXiv:2010.02502, eq. 12 with sigma 0).

    Parameters
    ----------
    denoise : callable
        (x, level) to x0.
    x : Tensor
        At the first level: noise of unit variance where that is the top.
    levels : sequence of Level
        See `NoiseSchedule.levels`.
    noise : sequence of Tensor
        Not used.
    """
    for now, then in pairwise(levels):
        clean = denoise(x, now)
        if _is_free(then):
            x = clean
        else:
            x = then.alpha * clean + then.sigma * ((x - now.alpha * clean) / now.sigma)
    return x


def ping_pong(
    denoise: Denoise, x: Tensor, levels: Sequence[Level], *, noise: Sequence[Tensor]
) -> Tensor:
    """Jump to x0 and back to the next level with fresh noise (arXiv:2303.01469, algorithm 1).

    For students that were taught to jump (consistency, ARC).

    Parameters
    ----------
    denoise, x, levels
        As in `ddim`.
    noise : sequence of Tensor
        One less than there are steps, each like x.

    Raises
    ------
    SettingError
        If there is too little noise.
    """
    if len(noise) < len(levels) - 2:
        raise SettingError(
            f"{len(levels) - 1} steps need {len(levels) - 2} noises, got {len(noise)}."
        )
    for step, (now, then) in enumerate(pairwise(levels)):
        clean = denoise(x, now)
        x = clean if _is_free(then) else then.alpha * clean + then.sigma * noise[step]
    return x


def keep_known(denoise: Denoise, known: Tensor, mask: Tensor) -> Denoise:
    """Return a denoiser that knows a part of the clean latents already.

    Its x0 is what is known, where it is known; both samplers then carry the known part down with
    exactly the noise that it began with (RePaint's conditioning, arXiv:2201.09865, eq. 8, once a
    step). A model that was not trained to be given a beginning follows it only loosely.

    Parameters
    ----------
    denoise : callable
    known : Tensor
        Clean latents, like x.
    mask : Tensor
        1 where they are known, 0 elsewhere; broadcasts to x.
    """

    def told(x: Tensor, level: Level) -> Tensor:
        return mask * known + (1.0 - mask) * denoise(x, level)

    return told


def _is_free(level: Level) -> bool:
    """Return whether a level has no noise; only the last one can, which is always a number."""
    # In a graph whose moments are inputs the others are tensors, whose values nobody knows yet.
    return not isinstance(level.sigma, Tensor) and level.sigma == 0.0
