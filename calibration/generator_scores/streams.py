"""Streams made stretch by stretch, with where their joins are and the latents behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError
from models.stretch import Generator, GeneratorInput, GeneratorState

__all__ = ["Stream", "make_stream"]


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One continuous sound."""

    sound: NDArray[np.float32]  # (n,), as it came out
    latents: NDArray[np.float32] | None  # (frames, d), None if the generator's state hides them
    n_frames: int  # of each stretch
    samples_per_frame: int
    delay_samples: int  # by which the sound is behind its latents

    @property
    def latent_joins(self) -> NDArray[np.int64]:
        """First frame of each stretch but the first."""
        n = len(self.sound) // (self.n_frames * self.samples_per_frame)
        return np.arange(1, n, dtype=np.int64) * self.n_frames

    @property
    def joins(self) -> NDArray[np.int64]:
        """Sample where the sound of each stretch but the first begins, the delay counted in."""
        places = self.latent_joins * self.samples_per_frame + self.delay_samples
        return places[places < len(self.sound)]

    def mel_joins(self, hop: int = 160) -> NDArray[np.int64]:
        """Return the joins in mel frames."""
        return np.asarray(np.round(self.joins / hop), np.int64)


def make_stream(
    generator: Generator,
    inputs: Sequence[GeneratorInput],
    *,
    n_frames: int,
    rng: np.random.Generator,
    state: GeneratorState | None = None,
) -> Stream:
    """Make one stretch for each input, each going on from the last.

    Parameters
    ----------
    generator : Generator
    inputs : sequence of GeneratorInput
        The condition of each stretch.
    n_frames : int
        Length of a stretch, latent frames.
    rng : numpy.random.Generator
        Of the noise.
    state : dict, optional
        To begin from; default: silence.

    Raises
    ------
    SettingError
        If there is no input, or the generator does not take one.
    """
    if not inputs:
        raise SettingError("A stream needs at least one stretch, got none.")
    shape = generator.noise_shape(n_frames)
    now = generator.initial_state() if state is None else state
    sounds, latents = [], []
    for given in inputs:
        noise = rng.standard_normal(shape, dtype=np.float32)
        sound, now = generator.stretch(given, now, noise, n_frames=n_frames)
        sounds.append(sound)
        if "prefix" in now:  # what the small generators remember of their own latents
            latents.append(now["prefix"][0, -n_frames:])
    spec = generator.spec
    return Stream(
        np.concatenate(sounds),
        np.concatenate(latents).astype(np.float32) if latents else None,
        n_frames,
        spec.samples_per_frame,
        spec.delay_samples,
    )
