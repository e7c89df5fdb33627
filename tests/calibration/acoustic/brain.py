"""Windows of a few clips whose tokens and embeddings a small linear brain answers to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples

__all__ = ["Windows", "make_windows"]


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    samples: Samples
    tokens: NDArray[np.float32]
    decoded: NDArray[np.float32]
    true: NDArray[np.float32]


def make_windows(
    *, n_clips: int = 24, per_clip: int = 4, steps: int = 2, n_features: int = 40, seed: int = 0
) -> Windows:
    rng = np.random.default_rng(seed)
    n = n_clips * per_clip
    clip = np.repeat(np.arange(n_clips), per_clip)
    latent = np.repeat(rng.standard_normal((n_clips, 6)), per_clip, axis=0)
    latent = latent + 0.4 * rng.standard_normal((n, 6))
    world = np.random.default_rng(99)  # the same map for every seed
    tokens = np.tanh(latent @ world.standard_normal((6, 8 * steps * 768)) * 0.5)
    tokens = tokens.reshape(n, 8 * steps, 768) + world.standard_normal((8 * steps, 768))
    true = latent @ world.standard_normal((6, 512))
    decoded = true + 1.5 * rng.standard_normal(true.shape)
    x = latent @ world.standard_normal((6, n_features)) + rng.standard_normal((n, n_features))
    names = np.array([f"clip{k:02d}" for k in clip])
    once = np.full((n, 1), "1")
    samples = Samples(
        x=x.astype(np.float32)[:, None],
        y=true,
        clip=names,
        label=names,
        start_s=np.asarray(np.arange(n) % per_clip, np.float64),
        stop_s=np.asarray(np.arange(n) % per_clip + 1, np.float64),
        person=np.full(n, "ann"),
        session=once,
        run=once,
        previous_clip=names,
        order=np.asarray(np.arange(n), np.float64),
    )
    return Windows(samples, tokens.astype(np.float32), _unit(decoded), _unit(true))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
