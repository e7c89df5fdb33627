"""Sounds of 2.56 s for many conditions: whole windows in batches, or stretch by stretch as live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.generator_scores.griffin_lim import griffin_lim_mel
from calibration.generator_scores.networks import Trained
from calibration.training.generator import FRAMES, free_windows, guided
from models.errors import SettingError
from models.mel import MelSpec
from models.nets.samplers import SAMPLERS, euler
from models.stretch import Generator, GeneratorInput, cover

__all__ = ["Kind", "Make", "decode", "encode", "make_streams", "make_windows"]

Kind = Literal["teacher", "student"]
Rows = NDArray[np.float32]

_BATCH = 25
_SAMPLES = FRAMES * 640


@dataclass(frozen=True, slots=True)
class Make:
    """How whole windows are made."""

    kind: Kind
    steps: int
    guidance: float | None = None  # None: the run's for the teacher, none for the student
    strength: float = 1.0  # below 1: from the latents of a sound

    @property
    def name(self) -> str:
        """A name for files and tables."""
        guided = "" if self.guidance is None else f"-g{self.guidance:g}"
        started = "" if self.strength == 1.0 else f"-s{self.strength:g}"
        return f"{self.kind}-{self.steps}{guided}{started}"


@torch.inference_mode()
def make_windows(
    trained: Trained,
    vectors: Rows,
    make: Make,
    *,
    seed: int,
    start: Rows | None = None,
) -> list[Rows]:
    """Return a sound of 2.56 s for each condition, all its frames made at once.

    Parameters
    ----------
    trained : Trained
    vectors : array of shape (n, 512)
        Unit vectors.
    make : Make
    seed : int
        Of the noise: the same seed and row give the same noise in every setting.
    start : array of shape (n, 64, 32), optional
        Latents to begin from; needed when the strength is below 1.

    Raises
    ------
    SettingError
        If the denoiser is not trained, or there is nothing to begin from.
    """
    denoiser = trained.teacher if make.kind == "teacher" else trained.student
    if denoiser is None:
        raise SettingError(f"The {make.kind} of this run is not trained yet. Train that stage.")
    if make.strength < 1.0 and start is None:
        raise SettingError(
            f"A strength of {make.strength:g} begins from a sound; give its latents."
        )
    guidance = make.guidance
    if guidance is None:
        guidance = trained.guidance if make.kind == "teacher" else 1.0
    first = 1.0 - make.strength
    times = [first + make.strength * i / make.steps for i in range(make.steps)] + [1.0]
    sounds: list[Rows] = []
    for begin in range(0, len(vectors), _BATCH):
        rows = range(begin, min(begin + _BATCH, len(vectors)))
        noise = _noises(rows, make.steps, seed)  # (steps, batch, 64, 32)
        x = noise[0]
        if start is not None and first > 0.0:
            x = (1.0 - first) * x + first * torch.from_numpy(start[rows.start : rows.stop])
        condition = torch.from_numpy(vectors[rows.start : rows.stop])
        velocity = guided(denoiser, free_windows(condition), guidance)
        sampler = SAMPLERS[trained.sampler] if make.kind == "student" else euler
        made = sampler(velocity, x, times, noise=list(noise[1:]))
        sounds += decode(trained, made.numpy())
    return sounds


@torch.inference_mode()
def decode(trained: Trained, latents: Rows) -> list[Rows]:
    """Return the sounds of latents (n, frames, 32); by Griffin-Lim where no vocoder is trained."""
    mel = trained.codec.decode(torch.from_numpy(np.ascontiguousarray(latents)))
    if trained.vocoder is not None:
        return list(trained.vocoder.sound(mel).numpy())
    spec = MelSpec()
    rng = np.random.default_rng(0)
    return [griffin_lim_mel(rows, spec, rng=rng, iterations=30) for rows in mel.numpy()]


@torch.inference_mode()
def encode(trained: Trained, mel: Rows) -> Rows:
    """Return the standardised latents, (n, frames / 4, 32), of log mels (n, frames, 64)."""
    parts = [
        trained.codec.encode(torch.from_numpy(mel[i : i + _BATCH])).numpy()
        for i in range(0, len(mel), _BATCH)
    ]
    return np.concatenate(parts)


def make_streams(generator: Generator, vectors: Rows, *, seed: int) -> list[Rows]:
    """Return a sound of 2.56 s for each condition as the live path makes it, from silence on.

    Parameters
    ----------
    generator : Generator
    vectors : array of shape (n, 512)
    seed : int
    """
    spec = generator.spec
    late = -(-spec.delay_samples // spec.samples_per_frame)
    sounds = []
    for row, vector in enumerate(vectors):
        rng = np.random.default_rng([seed, row])
        state, pieces = generator.initial_state(), []
        for n_frames in cover(FRAMES + late, spec.stretches):
            noise = rng.standard_normal(generator.noise_shape(n_frames), dtype=np.float32)
            given = GeneratorInput(vector=vector)
            sound, state = generator.stretch(given, state, noise, n_frames=n_frames)
            pieces.append(sound)
        whole = np.concatenate(pieces)
        sounds.append(whole[spec.delay_samples : spec.delay_samples + _SAMPLES])
    return sounds


def _noises(rows: range, steps: int, seed: int) -> Tensor:
    drawn = [
        np.random.default_rng([seed, row]).standard_normal((steps, FRAMES, 32), dtype=np.float32)
        for row in rows
    ]
    return torch.from_numpy(np.stack(drawn, axis=1))
