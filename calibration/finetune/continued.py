"""Windows of latents as a stream has them: some frames of what came before, then new ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.finetune.settings import FinetuneSettings
from calibration.finetune.windows import BrainWindows
from calibration.training.generator import FADE
from models.stretch import TOKEN_FRAMES

__all__ = ["Continued", "continued", "random_firsts"]


@dataclass(frozen=True, slots=True, eq=False)
class Continued:
    """Windows of latents with a beginning: of each frame, whether it is told and whether it counts.

    What is told counts nothing, nor does what stands before the sound began.
    """

    latents: NDArray[np.float32]  # (n, prefix + frames, *latent)
    known: NDArray[np.float32]  # (n, prefix + frames), 1 where a frame is told
    counted: NDArray[np.float32]  # (n, prefix + frames), 1 where a frame is to be made


def random_firsts(
    windows: BrainWindows, n: int, n_new: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return where in their stretches the new frames of n windows begin; whole steps of tokens."""
    places = (windows.frames - n_new) // TOKEN_FRAMES + 1
    return np.asarray(rng.integers(0, places, n) * TOKEN_FRAMES, np.int64)


def continued(
    windows: BrainWindows,
    rows: NDArray[np.int64],
    firsts: NDArray[np.int64],
    n_new: int,
    *,
    options: FinetuneSettings,
    rng: np.random.Generator | None,
    others: NDArray[np.int64] | None = None,
) -> Continued:
    """Return windows of a beginning and `n_new` frames after it.

    A share of `prefixed` goes on from known frames, some of them from fewer than there are, as a
    stream that has just begun; of what lies before a clip nothing is known. A share of `switched`
    of those goes on from the end of another sound, as after a change of what is decoded.

    Parameters
    ----------
    windows : BrainWindows
        With a prefix.
    rows : array of int, shape (n,)
    firsts : array of int, shape (n,)
        Where in their stretches the new frames begin.
    n_new : int
    options : FinetuneSettings
    rng : Generator, optional
        None: after all that is known.
    others : array of int, optional
        Rows whose ends other sounds are taken from; none goes on from another sound without.
    """
    prefix, n = windows.prefix, len(rows)
    pairs = zip(rows.tolist(), firsts.tolist(), strict=True)
    x = np.stack([windows.latents[row, at : at + prefix + n_new] for row, at in pairs])
    sound = np.minimum(windows.n_known[rows] + firsts, prefix)
    told = sound.copy()
    if rng is not None:
        full = rng.uniform(size=n) < 0.6
        told = np.where(full, told, rng.integers(0, prefix + 1, n).clip(max=told))
        without = rng.uniform(size=n) >= options.prefixed
        told[without] = 0
        other = np.flatnonzero((rng.uniform(size=n) < options.switched) & ~without)
        if len(other) and others is not None:
            before = rng.choice(others, len(other))
            ends = windows.latents[before, -prefix - len(FADE) :]
            x[other, :prefix] = ends[:, :prefix]
            for k, share in enumerate(FADE):
                x[other, prefix + k] *= share
                x[other, prefix + k] += (1.0 - share) * ends[:, prefix + k]
            there = windows.n_known[before] + windows.frames - len(FADE)
            told[other] = sound[other] = np.minimum(there, prefix)
    from_end = prefix - np.arange(prefix + n_new)  # 1 for the last frame of the beginning
    known = (from_end > 0) & (from_end <= told[:, None])
    counted = ~known & (from_end <= sound[:, None])
    return Continued(
        np.ascontiguousarray(x, np.float32), known.astype(np.float32), counted.astype(np.float32)
    )
