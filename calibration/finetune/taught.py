"""What a full-size checkpoint is taught on: latents of sounds, conditions, and known beginnings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["TaughtWindows", "made_error"]


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

    def sounds(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """Return clean latents, (batch, 8, frames, 16)."""
        return torch.from_numpy(self.latents[rows]).to(device)

    def parts(self, rows: NDArray[np.int64], device: torch.device) -> list[Tensor]:
        """Return the parts of the conditions."""
        return [part.to(device) for part in self.conditions(rows)]

    def known(
        self, rows: NDArray[np.int64], rng: np.random.Generator | None, device: torch.device
    ) -> Tensor | None:
        """Return which frames are told, (batch, 1, frames, 1); None if that is never so.

        Parameters
        ----------
        rows : array of int
        rng : numpy.random.Generator, optional
            Draws which windows go on from what is known; without, all that can do.
        device : torch.device
        """
        if self.n_known is None or not self.prefix:
            return None
        count = np.minimum(self.n_known[rows], self.prefix)
        if rng is not None:
            count = np.where(rng.uniform(size=len(rows)) < self.prefixed, count, 0)
        from_end = self.prefix - np.arange(self.latents.shape[2])
        known = (from_end > 0) & (from_end <= count[:, None])
        return torch.from_numpy(known.astype(np.float32)[:, None, :, None]).to(device)


def made_error(squares: Tensor, known: Tensor | None) -> Tensor:
    """Return each window's mean over the frames that are to be made, (batch,).

    Parameters
    ----------
    squares : Tensor of shape (batch, 8, frames, 16)
    known : Tensor of shape (batch, 1, frames, 1), optional
        What is told is not to be made.
    """
    if known is not None:
        squares = squares * (1.0 - known) / (1.0 - known).mean(2, keepdim=True)
    error: Tensor = squares.flatten(1).mean(1)
    return error
