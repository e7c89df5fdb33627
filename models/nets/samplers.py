"""From noise to latents in few or many steps: one signature, `(velocity, x, times, *, noise)`.

`velocity(x, time)` is the derivative of the straight paths x(time) = (1 - time) noise + time sound
(flow matching, arXiv:2210.02747, eq. 23 with sigma 0); `times` rise from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    "secant_moment",
    "secants",
    "uniform_times",
]

SamplerName: TypeAlias = Literal["euler", "ping_pong", "secants"]

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
) -> Tensor:
    """Jump to the sound, go back to the next moment with fresh noise, and so on.

    For models distilled to jump (consistency models' multistep sampling, arXiv:2303.01469,
    algorithm 1, on straight paths).

    Parameters
    ----------
    velocity, x, times
        As in `euler`.
    noise : sequence of Tensor
        Each like x, and one less than there are steps: the last step ends at the sound. With one
        more it goes back too, to where a further step would begin.

    Raises
    ------
    SettingError
        If there are not as many noises.
    """
    steps = len(times) - 1
    if len(noise) not in (steps - 1, steps):
        raise SettingError(f"{steps} steps need {steps - 1} noises, got {len(noise)}.")
    for step, (now, then) in enumerate(pairwise(times)):
        sound = x + (1.0 - now) * velocity(x, now)
        if step == len(noise):
            return sound
        x = (1.0 - then) * noise[step] + then * sound
    return x


def secant_moment(now: Any, then: Any) -> Any:
    """Return the moment that a denoiser which learnt secants is asked for, of a piece of a path.

    It tells two things in one number: where the piece begins, and how long it is. Moments of
    quarters and of shorter pieces are those of their beginnings, as in the teacher; moments of
    halves lie 1 before, that of the whole path 3 before. Other lengths count as the nearest one.

    Parameters
    ----------
    now, then : float or Tensor
        From which moment to which, 0 to 1.
    """
    length = then - now
    return now - 1.0 * (length > 0.375) - 2.0 * (length > 0.75)


def secants(
    velocity: Velocity, x: Tensor, times: Sequence[Moment], *, noise: Sequence[Tensor] = ()
) -> Tensor:
    """Go from moment to moment on the velocities that lead there, for models that learnt these.

    Of them one step of full length is right, as two and four are (shortcut models,
    arXiv:2410.12557, section 3); their length is part of what the model is asked for. Parameters
    are those of `euler`.
    """
    for now, then in pairwise(times):
        x = x + (then - now) * velocity(x, secant_moment(now, then))
    return x


SAMPLERS: Mapping[SamplerName, Sampler] = {
    "euler": euler,
    "ping_pong": ping_pong,
    "secants": secants,
}

FEW_STEP_SAMPLERS: Mapping[str, SamplerName] = {"secants": "secants", "consistency": "ping_pong"}
"""How few steps follow one another, by the method that a denoiser was distilled by."""
