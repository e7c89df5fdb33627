"""From noise to latents in few or many steps: one signature, `(velocity, x, times, *, noise)`.

`velocity(x, time)` is the derivative of the straight paths x(time) = (1 - time) noise + time sound
(flow matching, arXiv:2210.02747, eq. 23 with sigma 0); `times` rise from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

from torch import Tensor

from models.errors import SettingError

__all__ = ["Moment", "Sampler", "Velocity", "euler", "heun", "ping_pong", "uniform_times"]

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
    velocity: Velocity, x: Tensor, times: Sequence[Moment], *, noise: Sequence[Tensor]
) -> Tensor:
    """Jump to the sound, go back to the next moment with fresh noise, and so on.

    For models distilled to jump (consistency models' multistep sampling, arXiv:2303.01469,
    algorithm 1, on straight paths).

    Parameters
    ----------
    velocity, x, times
        As in `euler`.
    noise : sequence of Tensor
        One less than there are steps, each like x.

    Raises
    ------
    SettingError
        If there is too little noise.
    """
    if len(noise) < len(times) - 2:
        raise SettingError(
            f"{len(times) - 1} steps need {len(times) - 2} noises, got {len(noise)}."
        )
    for step, (now, then) in enumerate(pairwise(times)):
        sound = x + (1.0 - now) * velocity(x, now)
        last = step == len(times) - 2
        x = sound if last else (1.0 - then) * noise[step] + then * sound
    return x
