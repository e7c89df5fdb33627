"""What a full-size checkpoint is taught on: latents of sounds, conditions, and known beginnings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.nets.full.prefix import told

__all__ = ["TaughtBatch", "TaughtWindows"]


@dataclass(frozen=True, slots=True, eq=False)
class TaughtWindows:
    """Windows by row, and what the family's denoiser is given with each."""

    latents: NDArray[np.float32]  # (n, 8, frames, 16)
    conditions: Callable[[NDArray[np.int64]], list[Tensor]]  # rows to parts, on any device
    # For a checkpoint that learnt to go on from a beginning: frames of each that are known before
    # frame `prefix`, (n,), and the share of the windows that go on from one.
    n_known: NDArray[np.int64] | None = None
    prefix: int = 0
    prefixed: float = 0.0

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.latents)

    def batch(
        self, rows: NDArray[np.int64], rng: np.random.Generator | None, device: torch.device
    ) -> TaughtBatch:
        """Return some of the windows.

        Parameters
        ----------
        rows : array of int
        rng : numpy.random.Generator, optional
            Draws which windows go on from what is known; without, all that can do.
        device : torch.device
        """
        clean = torch.from_numpy(self.latents[rows]).to(device)
        parts = [part.to(device) for part in self.conditions(rows)]
        if self.n_known is None or not self.prefix:
            return TaughtBatch(clean, parts, None)
        count = np.minimum(self.n_known[rows], self.prefix)
        if rng is not None:
            count = np.where(rng.uniform(size=len(rows)) < self.prefixed, count, 0)
        from_end = self.prefix - np.arange(self.latents.shape[2])
        known = (from_end > 0) & (from_end <= count[:, None])
        told_frames = torch.from_numpy(known.astype(np.float32)[:, None, :, None])
        return TaughtBatch(clean, parts, told_frames.to(device))


@dataclass(frozen=True, slots=True, eq=False)
class TaughtBatch:
    """Sounds, their conditions, and which of their frames are told."""

    clean: Tensor  # (batch, 8, frames, 16)
    parts: list[Tensor]  # as the family's denoiser takes them
    known: Tensor | None  # (batch, 1, frames, 1), 1 where told; None: nothing ever is

    def heard(self, x: Tensor) -> Tensor:
        """Return what the denoiser reads: noisy latents, and what is told."""
        return x if self.known is None else told(x, self.clean, self.known)

    def made_error(self, squares: Tensor) -> Tensor:
        """Return each window's mean over the frames that are to be made, (batch,).

        Parameters
        ----------
        squares : Tensor of shape (batch, 8, frames, 16)
        """
        if self.known is not None:  # what is told is not to be made
            squares = squares * (1.0 - self.known) / (1.0 - self.known).mean(2, keepdim=True)
        error: Tensor = squares.flatten(1).mean(1)
        return error
