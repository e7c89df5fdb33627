"""From noise to latents in few or many steps: one signature, `(velocity, x, times, *, noise)`.

`velocity(x, time)` is the derivative of the straight paths x(time) = (1 - time) noise + time sound
(flow matching, arXiv:2210.02747, eq. 23 with sigma 0); `times` rise from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, Protocol, TypeAlias

from torch import Tensor

from models.errors import SettingError

__all__ = [
    "FEW_STEP_SAMPLERS",
    "SAMPLERS",
    "Moment",
    "Sampler",
    "SamplerName",
    "Velocity",
    "euler",
    "heun",
    "ping_pong",
    "uniform_times",
]

SamplerName: TypeAlias = Literal["euler", "half_fresh", "ping_pong"]

Moment = float | Tensor
"""A number, or a tensor of shape () where the moments are inputs of a graph."""

Velocity = Callable[[Tensor, Any], Tensor]
"""(x, moment) to d x / d time."""


class Sampler(Protocol):
    """How every sampler is called."""

    def __call__(
        self, velocity: Velocity, x: Tensor, times: Sequence[Moment], *, noise: Sequence[Tensor]
    ) -> Tensor:
        """Return the latents at the last of the times."""
        ...


def uniform_times(steps: int) -> tuple[float, ...]:
    """Return steps + 1 moments from 0 to 1, equally far apart.

    Raises
    ------
    SettingError
        If there is not at least one step.
    """
    if steps < 1:
        raise SettingError(f"A sampler takes at least one step, got {steps}.")
    return tuple(i / steps for i in range(steps + 1))


def euler(
    velocity: Velocity, x: Tensor, times: Sequence[Moment], *, noise: Sequence[Tensor] = ()
) -> Tensor:
    """Follow the velocity in straight pieces; one evaluation a step, no noise is used.

    Parameters
    ----------
    velocity : callable
        (x, time) to d x / d time.
    x : Tensor
        Noise of unit variance, any shape.
    times : sequence of float or Tensor
        From 0 to 1; see `uniform_times`.
    noise : sequence of Tensor
        Not used.
    """
    for now, then in pairwise(times):
        x = x + (then - now) * velocity(x, now)
    return x


def heun(
    velocity: Velocity, x: Tensor, times: Sequence[Moment], *, noise: Sequence[Tensor] = ()
) -> Tensor:
    """Follow the mean of the velocities at both ends of a piece; two evaluations a step.

    Parameters are those of `euler`.
    """
    for now, then in pairwise(times):
        first = velocity(x, now)
        second = velocity(x + (then - now) * first, then)
        x = x + (then - now) * 0.5 * (first + second)
    return x


def ping_pong(
    velocity: Velocity,
    x: Tensor,
    times: Sequence[Moment],
    *,
    noise: Sequence[Tensor],
    fresh: float = 1.0,
) -> Tensor:
    """Jump to the sound, go back to the next moment with fresh noise, and so on.

    For models distilled to jump (consistency models' multistep sampling, arXiv:2303.01469,
    algorithm 1, on straight paths). With less fresh noise it is mixed with the noise that the
    velocity points away from, as `eta` does in DDIM (arXiv:2010.02502, eq. 16); with none this is
    `euler`.

    Parameters
    ----------
    velocity, x, times
        As in `euler`.
    noise : sequence of Tensor
        Each like x, and one less than there are steps: the last step ends at the sound. With one
        more it goes back too, to where a further step would begin.
    fresh : float
        Share of the fresh noise in amplitude, 0 to 1; both have unit variance together.

    Raises
    ------
    SettingError
        If there are not as many noises.
    """
    steps = len(times) - 1
    if len(noise) not in (steps - 1, steps):
        raise SettingError(f"{steps} steps need {steps - 1} noises, got {len(noise)}.")
    for step, (now, then) in enumerate(pairwise(times)):
        change = velocity(x, now)
        sound = x + (1.0 - now) * change
        if step == len(noise):
            return sound
        back = noise[step]
        if fresh != 1.0:
            back = fresh * back + math.sqrt(1.0 - fresh**2) * (x - now * change)
        x = (1.0 - then) * back + then * sound
    return x


SAMPLERS: Mapping[SamplerName, Sampler] = {
    "euler": euler,
    "half_fresh": partial(ping_pong, fresh=0.5),
    "ping_pong": ping_pong,
}

# Jumps that were learnt from states on a teacher's paths are best asked for near such states: with
# half of the noise fresh, four steps came nearer to real sounds than with all or none of it, and
# chains of stretches nearer to their condition.
FEW_STEP_SAMPLERS: Mapping[str, SamplerName] = {"arc": "half_fresh", "consistency": "ping_pong"}
"""How few steps follow one another, by the method that a denoiser was distilled by."""
