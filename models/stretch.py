"""What every generator is to the live path: a condition and the sound so far give the next stretch.

One call, `Generator.stretch`, whatever is behind it: the embedded networks or a full-size
checkpoint, run by torch or as exported graphs. All that a stretch depends on is passed in: the
condition, the state, the noise. So the same arguments give the same sound, and a stream can be
repeated, split or compared with another backend.

Time is counted in latent frames, 40 ms each. The frames of a stretch that come last are made but
kept back (`GeneratorSpec.held`); the next stretch makes them again and the two are blended.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = [
    "CONDITION_DIM",
    "FRAME_S",
    "TOKENS_PER_STEP",
    "TOKEN_DIM",
    "TOKEN_FRAMES",
    "Generator",
    "GeneratorFamily",
    "GeneratorInput",
    "GeneratorSpec",
    "GeneratorState",
    "cover",
]

CONDITION_DIM = 512
TOKEN_DIM = 768
TOKENS_PER_STEP = 8  # one for each band, from low to high
TOKEN_FRAMES = 4  # latent frames for one step of tokens: 25 Hz over 6.25 Hz
FRAME_S = 0.04

GeneratorFamily: TypeAlias = Literal["small", "musicldm", "audioldm2", "audioldm2-speech"]
GeneratorState: TypeAlias = dict[str, NDArray[np.float32]]
"""Named arrays that a stretch takes and gives; nobody but the generator reads them."""


@dataclass(frozen=True, slots=True)
class GeneratorSpec:
    """What a generator is, as far as the live path must know."""

    family: GeneratorFamily
    size: str  # "tiny", "small", or the name of the checkpoint
    steps: int  # of the sampler, fixed
    stretches: tuple[int, ...]  # lengths it can make, latent frames, rising
    held: int  # frames that it makes beyond a stretch and blends with the next one
    conditions: tuple[Literal["vector", "tokens"], ...]  # what it can be given
    startable: bool  # whether it can begin from the latents of a sound
    latent: tuple[int, ...] = (32,)  # shape of one latent frame
    sample_rate_hz: int = 16_000
    samples_per_frame: int = 640
    delay_samples: int = 0  # by how much the sound is behind the frames

    def __post_init__(self) -> None:
        if (
            self.steps < 1
            or self.held < 0
            or not self.stretches
            or list(self.stretches) != sorted(set(self.stretches))
            or self.stretches[0] < 1
        ):
            raise SettingError(
                "A generator needs at least 1 step, rising lengths of stretches of at least 1 "
                f"frame and no less than 0 frames held back, got {self}."
            )


@dataclass(frozen=True, slots=True, eq=False)
class GeneratorInput:
    """What the next stretch is to sound like; what is None is left open."""

    vector: NDArray[np.float32] | None = None  # (512,), unit length
    tokens: NDArray[np.float32] | None = None  # (8 n, 768), in order of time, then of band
    start: NDArray[np.float32] | None = None  # (frames + held, *latent): a sound to begin from
    strength: float = 1.0  # 1: all from noise; towards 0: more and more of `start`


class Generator(Protocol):
    """Makes one stretch of sound after another."""

    @property
    def spec(self) -> GeneratorSpec:
        """What it is."""
        ...

    def noise_shape(self, n_frames: int) -> tuple[int, ...]:
        """Return the shape of the noise that a stretch of so many frames takes; unit variance.

        Raises
        ------
        SettingError
            If `n_frames` is not one of `spec.stretches`.
        """
        ...

    def initial_state(self) -> GeneratorState:
        """Return the state before the first stretch: silence was heard."""
        ...

    def stretch(
        self,
        given: GeneratorInput,
        state: GeneratorState,
        noise: NDArray[np.float32],
        *,
        n_frames: int,
    ) -> tuple[NDArray[np.float32], GeneratorState]:
        """Return the next sound, (n_frames * samples_per_frame,), and the state after it.

        Tokens begin with the first frame of the stretch; where they end before it, the last step
        goes on.

        Raises
        ------
        SettingError
            If an argument has another shape than said, or the generator does not take it.
        """
        ...


@lru_cache(maxsize=1024)
def cover(n_frames: int, stretches: tuple[int, ...]) -> tuple[int, ...]:
    """Return stretches that make at least so many frames: with least to spare, then the fewest.

    Longest first; of equally good choices the one with the shortest stretches in it. So what is
    left after the last of them, and then the next to last, is what they cover themselves.

    Parameters
    ----------
    n_frames : int
    stretches : tuple of int
        Lengths that can be made, rising.

    Examples
    --------
    >>> cover(38, (2, 4, 8, 16, 28))
    (28, 8, 2)
    >>> cover(7, (2, 4, 8, 16, 28))
    (8,)
    """
    if n_frames <= 0:
        return ()
    last = n_frames + stretches[0]
    fewest = [0] + [last] * last  # stretches that make exactly so many frames
    for total in range(1, last + 1):
        fewest[total] = 1 + min(
            (fewest[total - length] for length in stretches if length <= total), default=last
        )
    left = next(total for total in range(n_frames, last + 1) if fewest[total] <= total)
    chosen: list[int] = []
    while left:
        shortest = next(s for s in stretches if s <= left and fewest[left - s] + 1 == fewest[left])
        chosen.append(shortest)
        left -= shortest
    return tuple(reversed(chosen))
