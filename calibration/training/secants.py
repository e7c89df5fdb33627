"""What a few-step student learns: velocities over long and short pieces of its teacher's paths.

A path is cut into one, two and four pieces, and the student is asked for each together with its
length (as shortcut models are, arXiv:2410.12557). Over the whole of a path, its halves and the
first quarter, where paths bend most, it learns the one velocity that leads from beginning to end,
the secant. Over the other quarters it learns the teacher's own velocity there, guidance built in
(arXiv:2210.03142, section 3.1): a network of the teacher's size can be as sharp as the teacher at
that, while its secants are means of what may come, and sounds made of such means alone are dull and
quiet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.nets.samplers import Velocity, secant_moment

__all__ = ["PIECES", "STEPS", "draw_pieces", "piece_errors", "pseudo_huber"]

STEPS = (1, 2, 4)
"""Of the samplers that are trained for; the last divides a path into the shortest pieces."""

PIECES: tuple[tuple[float, float], ...] = tuple(
    (i / steps, (i + 1) / steps) for steps in STEPS for i in range(steps)
)
"""From which moment to which."""

_SHORT = 0.5  # share of the batches that learn the shortest pieces
_INSIDE = 0.5  # share of the shortest pieces that begin inside of one
_N_LONG = len(PIECES) - STEPS[-1]
_LONG_SHARES = (0.4, 0.3, 0.3)


def draw_pieces(rng: np.random.Generator, n: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Draw pieces of paths: all short or all long.

    Returns
    -------
    pieces : int array of shape (n,)
        Places in `PIECES`.
    inside : float32 array of shape (n,)
        Where in its piece each begins, 0 to 1; 0 in all but the shortest ones.
    """
    if rng.uniform() >= _SHORT:
        return rng.choice(_N_LONG, n, p=_LONG_SHARES), np.zeros(n, np.float32)
    inside = rng.uniform(size=n) * (rng.uniform(size=n) < _INSIDE)
    return rng.integers(_N_LONG, len(PIECES), n), inside.astype(np.float32)


def piece_errors(
    student: nn.Module,
    teacher: Velocity,
    states: Tensor,
    pieces: NDArray[np.int64],
    inside: NDArray[np.float32],
    given: Mapping[str, Any],
) -> Tensor:
    """Return the mean squared error of the student's velocity over pieces of paths, (batch,).

    Parameters
    ----------
    student : nn.Module
        A denoiser.
    teacher : callable
        The teacher's velocity for these windows, guided; asked beyond the first quarter.
    states : Tensor of shape (batch, 5, frames, 32)
        Of the teacher, at the moments of four steps and at their end.
    pieces, inside : arrays of shape (batch,)
        From `draw_pieces`.
    given : mapping
        What the denoiser takes by name.
    """
    rows = torch.arange(len(states), device=states.device)
    now, then = torch.tensor(PIECES, device=states.device)[torch.from_numpy(pieces)].unbind(-1)
    first, last = (states[rows, (moment * STEPS[-1]).round().long()] for moment in (now, then))
    share = torch.from_numpy(inside).to(states.device)
    x = first + share[:, None, None] * (last - first)
    wanted = (last - first) / (then - now)[:, None, None]
    moment = secant_moment(now, then) + share * (then - now)
    followed = torch.from_numpy(pieces > _N_LONG).to(states.device)  # not the first quarter
    if followed.any():
        with torch.no_grad():
            wanted = torch.where(followed[:, None, None], teacher(x, moment), wanted)
    error: Tensor = (student(x, moment, **given) - wanted).square().mean(-1)
    return error[:, given["known"] :].mean(1)


def pseudo_huber(errors: Tensor, *, about: float = 1e-3) -> Tensor:
    """Return the mean of the roots of windows' errors: a few far windows do not rule.

    The pseudo-Huber loss (arXiv:2310.14189, section 3.3).

    Parameters
    ----------
    errors : Tensor of shape (batch,)
        Mean squares.
    about : float
        Errors well below it count as squares, those above it as distances.
    """
    loss: Tensor = (errors + about).sqrt().mean()
    return loss
