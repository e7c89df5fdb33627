"""How far an exported generator is from the torch networks, stage by stage and as a running stream.

The bounds are those that an export must keep; a report says each figure beside its bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import StageError
from models.mel import MelSpec, log_mel
from models.stretch import (
    CONDITION_DIM,
    Generator,
    GeneratorInput,
    GeneratorSpec,
    GeneratorState,
)

__all__ = [
    "BOUNDS",
    "Bound",
    "ParityCheck",
    "check_bounds",
    "mel_correlation",
    "random_input",
    "relative_error",
    "run_stream",
    "stress",
]

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bound:
    """The largest or smallest value that a figure may have."""

    limit: float
    at_most: bool = True

    def holds(self, value: float) -> bool:
        """Return whether a value keeps it; NaN does not."""
        return value <= self.limit if self.at_most else value >= self.limit


# By the beginning and the end of a figure's name.
BOUNDS: dict[str, dict[str, Bound]] = {
    "single": {
        "relative_l2": Bound(1e-5),
        "mel_pcc": Bound(0.9999, at_most=False),
    },
    "half": {
        "latents.relative_l2": Bound(1e-2),
        "mel_pcc": Bound(0.995, at_most=False),
        "cosine_change": Bound(5e-3),
    },
    "random": {"not_finite": Bound(0.0)},
}


@dataclass(frozen=True, slots=True)
class ParityCheck:
    """A figure that is not within its bound."""

    name: str
    value: float
    bound: Bound

    def __str__(self) -> str:
        """Return it as words for a message."""
        word = "at most" if self.bound.at_most else "at least"
        return f"{self.name} is {self.value:.3g}, {word} {self.bound.limit:g} was expected"


class Progress(Protocol):
    """Called with what is done and how much there is."""

    def __call__(self, done: int, total: int) -> None:
        """Take note."""
        ...


def check_bounds(figures: Mapping[str, float]) -> list[ParityCheck]:
    """Return the figures that are not within their bounds."""
    failed = []
    for name, value in figures.items():
        for ending, bound in BOUNDS.get(name.split(".")[0], {}).items():
            if name.endswith(ending) and not bound.holds(value):
                failed.append(ParityCheck(name, value, bound))
    return failed


def relative_error(found: NDArray[Any], expected: NDArray[Any], *, floor: float = 0.0) -> float:
    """Return |found - expected| / |expected|, Euclidean; 0 where both are 0.

    Parameters
    ----------
    found, expected : arrays of one shape
    floor : float
        Root mean square that less counts as.
    """
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    error = float(np.linalg.norm(found - expected))
    size = max(float(np.linalg.norm(expected)), floor * math.sqrt(expected.size))
    if size == 0.0:
        return 0.0 if error == 0.0 else float("inf")
    return error / size


def mel_correlation(found: Array, expected: Array) -> float:
    """Return Pearson's correlation of the log mel spectrograms of two sounds at 16 kHz.

    1 where both are silent.
    """
    a, b = (log_mel(sound, MelSpec()).astype(np.float64).ravel() for sound in (found, expected))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    if size == 0.0:
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(a @ b / size)


def random_input(
    spec: GeneratorSpec, n_frames: int, rng: np.random.Generator, *, plain: bool = False
) -> GeneratorInput:
    """Return a condition drawn at random, of everything that the generator takes.

    Parameters
    ----------
    spec : GeneratorSpec
    n_frames : int
    rng : numpy.random.Generator
    plain : bool
        Only what it must be given: no start.
    """
    vector = rng.standard_normal(CONDITION_DIM).astype(np.float32)
    vector /= np.linalg.norm(vector)
    tokens: Array | None = None
    if "tokens" in spec.conditions:
        count = {"audioldm2": 8, "audioldm2-speech": 512}.get(spec.family)
        if count is not None or rng.uniform() < 0.5:
            count = count or 8 * int(rng.integers(1, 9))
            tokens = rng.standard_normal((count, 768)).astype(np.float32)
    begins = spec.startable and not plain and rng.uniform() < 0.5
    shape = (n_frames + spec.held, *spec.latent)
    return GeneratorInput(
        vector=vector if "vector" in spec.conditions else None,
        tokens=tokens,
        start=rng.standard_normal(shape).astype(np.float32) if begins else None,
        strength=float(rng.uniform(0.2, 1.0)) if begins else 1.0,
    )


def run_stream(
    generator: Generator,
    lengths: Sequence[int],
    *,
    seed: int,
    states: list[GeneratorState] | None = None,
) -> list[Array]:
    """Return the sounds of stretches that follow one another, each with its own condition.

    The same seed gives the same conditions and the same noise to any generator. The state after
    each stretch is added to `states`, if a list is given.
    """
    rng = np.random.default_rng(seed)
    state, sounds = generator.initial_state(), []
    for n_frames in lengths:
        given = random_input(generator.spec, n_frames, rng)
        noise = rng.standard_normal(generator.noise_shape(n_frames)).astype(np.float32)
        sound, state = generator.stretch(given, state, noise, n_frames=n_frames)
        sounds.append(sound)
        if states is not None:
            states.append(state)
    return sounds


def stress(
    generator: Generator,
    *,
    count: int,
    seed: int = 0,
    progress: Progress | None = None,
    ended: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Run random conditions through the shortest stretch, one after another.

    Parameters
    ----------
    generator : Generator
    count : int
        Conditions.
    seed : int
    progress : callable, optional
    ended : callable
        Asked between stretches; True ends early.

    Returns
    -------
    figures : dict
        `random.conditions`, and `random.not_finite`: how many gave a sound or a state that is not
        finite.

    Raises
    ------
    StageError
        If it was ended before the last one.
    """
    rng = np.random.default_rng(seed)
    n_frames = generator.spec.stretches[0]
    state, broken = generator.initial_state(), 0
    for number in range(count):
        if ended():
            raise StageError(f"Stopped after {number} of {count} random conditions.")
        given = random_input(generator.spec, n_frames, rng)
        noise = rng.standard_normal(generator.noise_shape(n_frames)).astype(np.float32)
        sound, state = generator.stretch(given, state, noise, n_frames=n_frames)
        if not (np.isfinite(sound).all() and all(np.isfinite(v).all() for v in state.values())):
            broken += 1
            state = generator.initial_state()
        if progress is not None:
            progress(number + 1, count)
    return {"random.conditions": float(count), "random.not_finite": float(broken)}
