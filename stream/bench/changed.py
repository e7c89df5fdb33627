"""From which sample on a new condition can be heard in a stretch that was made for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.stretch import Generator, GeneratorInput

__all__ = ["changed_after_s", "first_changed_sample"]

_SETTLED = 4  # stretches under the old condition before the change


def first_changed_sample(
    one: NDArray[np.floating], other: NDArray[np.floating], *, share: float = 0.03
) -> int | None:
    """Return the first sample at which two sounds differ by more than a share of their level.

    Two streams of the same state and noise, of which one was given a new condition, are the same up
    to there.

    Parameters
    ----------
    one, other : arrays of shape (samples,)
    share : float
        Of the root mean square of `other`; .03 is 30 dB below it.
    """
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    level = float(np.sqrt(np.mean(b**2))) if len(b) else 0.0
    differs = np.flatnonzero(np.abs(a - b) > max(share * level, 1e-6))
    return int(differs[0]) if len(differs) else None


def changed_after_s(
    generator: Generator,
    conditions: Sequence[GeneratorInput],
    *,
    n_frames: int,
    rng: np.random.Generator,
    n: int = 10,
) -> float:
    """Return how long after the first sample of a stretch its new condition shows, s; the median.

    The sound of a generator is behind its frames, and its first frames are blended with those held
    back: both come on top of the time to the first sample. A stretch with the new condition is
    compared with one of the same state and noise with the old one.

    Parameters
    ----------
    generator : Generator
    conditions : sequence of GeneratorInput
        At least 2.
    n_frames : int
    rng : numpy.random.Generator
    n : int
        Changes.
    """
    spec = generator.spec
    shape = generator.noise_shape(n_frames)
    found = []
    for change in range(n):
        old, new = conditions[change % len(conditions)], conditions[(change + 1) % len(conditions)]
        state = generator.initial_state()
        for _ in range(_SETTLED):
            noise = rng.standard_normal(shape, dtype=np.float32)
            _, state = generator.stretch(old, state, noise, n_frames=n_frames)
        states = [state, state]
        pieces: list[list[NDArray[np.float32]]] = [[], []]
        for _ in range(3):  # where it shows late, in a later stretch
            noise = rng.standard_normal(shape, dtype=np.float32)
            for which, given in enumerate((old, new)):
                sound, states[which] = generator.stretch(
                    given, states[which], noise, n_frames=n_frames
                )
                pieces[which].append(sound)
        first = first_changed_sample(np.concatenate(pieces[1]), np.concatenate(pieces[0]))
        found.append(np.nan if first is None else first / spec.sample_rate_hz)
    return float(np.nanmedian(found)) if np.isfinite(found).any() else float("nan")
