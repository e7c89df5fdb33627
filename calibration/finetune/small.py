"""Fine-tuning of the embedded generator's denoiser on brain data; codec and all else are frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.acoustic.network import AcousticTransformer
from calibration.acoustic.settings import AcousticSettings
from calibration.finetune.conditions import Conditions
from calibration.finetune.settings import FinetuneSettings
from calibration.finetune.stage import BrainStage
from calibration.finetune.windows import BrainWindows
from calibration.training.generator import FADE
from calibration.training.loop import autocast
from calibration.training.settings import TrainingSettings
from models.errors import SettingError
from models.nets.dit import Denoiser, frame_tokens
from models.stretch import TOKEN_FRAMES

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PREFIX", "SmallFinetune"]

PREFIX = 32  # latent frames that may be known
_NEW = 32  # latent frames of a stretch that are made at most
_SHORTEST = 8
_MOMENTS = 4  # at which each window is checked


class SmallFinetune(BrainStage):
    """Train the small denoiser further by flow matching under decoded conditions.

    Parameters
    ----------
    run, options, acoustic, windows, decoder, train, check
        See `BrainStage`.
    denoiser : Denoiser
        The trained one.
    """

    def __init__(
        self,
        run: TrainingSettings,
        options: FinetuneSettings,
        acoustic: AcousticSettings,
        windows: BrainWindows,
        *,
        denoiser: Denoiser,
        decoder: AcousticTransformer | None,
        train: NDArray[np.int64],
        check: NDArray[np.int64],
    ) -> None:
        super().__init__(run, options, acoustic, windows, decoder=decoder, train=train, check=check)
        if windows.prefix != PREFIX or windows.frames < _SHORTEST:
            raise SettingError(
                f"The embedded generator needs latents of {PREFIX} frames before each stretch and "
                f"of {_SHORTEST} or more in it, got {windows.prefix} and {windows.frames}."
            )
        self.train_network("denoiser", denoiser.requires_grad_(True))
        fitting = [n for n in (8, 16, 32, 32) if n <= windows.frames]
        self._lengths = tuple(fitting)

    def learn(self, step: int, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Any]:
        """One step on windows whose new frames lie anywhere in their stretches."""
        conditions, given = self.draw(rng)
        x = given["clean"]
        start = torch.randn(x.shape, generator=noise, device=self.device)
        time = torch.sigmoid(torch.randn(len(x), generator=noise, device=self.device))
        with autocast(self.run):
            loss = self._loss(self.networks["denoiser"], start, time, given).mean()
        losses = {name: self.options.acoustic_weight * v for name, v in conditions.losses.items()}
        total = loss + sum(losses.values())
        self.update(total, *self.networks)
        return {"loss": loss, **losses}

    def draw(self, rng: np.random.Generator) -> tuple[Conditions, dict[str, Tensor]]:
        """Return the conditions of a batch to learn from, and what the denoiser is given.

        Vectors and tokens are dropped now and then; the new frames lie anywhere in the stretches.
        """
        rows = rng.choice(self.train_rows, self.batch)
        conditions = self.conditions(rows, rng)
        n_new = int(rng.choice(self._lengths))
        given = self.given(rows, conditions, n_new, rng, switched=self.options.switched)
        vector, tokens = self.dropped(len(rows), rng)
        given["condition"] = given["condition"] * vector[:, None]
        given["tokens"] = given["tokens"] * tokens[:, None, None]
        return conditions, given

    def given(
        self,
        rows: NDArray[np.int64],
        conditions: Conditions,
        n_new: int,
        rng: np.random.Generator,
        *,
        switched: float = 0.0,
    ) -> dict[str, Tensor]:
        """Return what the denoiser is given for windows beside its noisy latents.

        Parameters
        ----------
        rows : array of shape (batch,)
        conditions : Conditions
            Of these rows.
        n_new : int
            Frames to make, from a random step of tokens on.
        rng : numpy.random.Generator
        switched : float
            Share that goes on from another sound.
        """
        firsts = self._firsts(len(rows), n_new, rng)
        x, known = self._windows(rows, firsts, n_new, rng, switched=switched)
        return {
            "condition": conditions.vector,
            "tokens": self._words(conditions.tokens, firsts, n_new),
            "clean": x,
            "known": known,
        }

    def held_out_loss(self) -> float:
        """Return the flow-matching loss on the windows that select, under decoded conditions."""
        rng = np.random.default_rng([self.run.seed, 5])
        source = torch.Generator().manual_seed(self.run.seed + 5)
        order = rng.permutation(self.check_rows)
        rows = np.resize(order, min(self.options.check_windows, 8 * len(order)))
        n_new = self._lengths[-1]
        total, count = 0.0, 0
        for first in range(0, len(rows), 32):
            part = rows[first : first + 32]
            given = self.given(part, self.decoded(part), n_new, rng)
            shape = given["clean"].shape
            for moment in range(_MOMENTS):
                start = torch.randn(shape, generator=source).to(self.device)
                time = torch.full((len(part),), (moment + 0.5) / _MOMENTS, device=self.device)
                with autocast(self.run):
                    loss = self._loss(self.averages["denoiser"], start, time, given)
                total += float(loss.sum())
                count += len(part)
        return total / count

    def _firsts(self, n: int, n_new: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the first new frame of each window, from its stretch on; whole steps of tokens."""
        places = (self.windows.frames - n_new) // TOKEN_FRAMES + 1
        return np.asarray(rng.integers(0, places, n) * TOKEN_FRAMES, np.int64)

    def _windows(
        self,
        rows: NDArray[np.int64],
        firsts: NDArray[np.int64],
        n_new: int,
        rng: np.random.Generator,
        *,
        switched: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Return latents (batch, 32 + n_new, 32) and which frames are known.

        As the generator learnt it: most windows go on from known frames, some of those from fewer
        than 32, as a stream that has just begun; of what lies before the clip nothing is known. A
        share goes on from another sound, as after a change of what is decoded.
        """
        n = len(rows)
        pairs = zip(rows.tolist(), firsts.tolist(), strict=True)
        x = np.stack([self.windows.latents[row, at : at + PREFIX + n_new] for row, at in pairs])
        most = np.minimum(self.windows.n_known[rows] + firsts, PREFIX)
        full = rng.uniform(size=n) < 0.6
        lengths = np.where(full, most, rng.integers(0, PREFIX + 1, n).clip(max=most))
        without = rng.uniform(size=n) >= self.options.prefixed
        lengths[without] = 0
        other = np.flatnonzero((rng.uniform(size=n) < switched) & ~without)
        if len(other):
            ends = self.windows.latents[rng.choice(self.train_rows, len(other)), -PREFIX - 2 :]
            x[other, :PREFIX] = ends[:, :PREFIX]
            for k, share in enumerate(FADE):
                new = share * x[other, PREFIX + k] + (1.0 - share) * ends[:, PREFIX + k]
                x[other, PREFIX + k] = new
            lengths[other] = PREFIX
        known = np.zeros((n, PREFIX + n_new), np.float32)
        known[:, :PREFIX] = np.arange(PREFIX) >= PREFIX - lengths[:, None]
        latents = torch.from_numpy(np.asarray(x, np.float32))
        return latents.to(self.device), torch.from_numpy(known).to(self.device)

    def _words(self, tokens: Tensor, firsts: NDArray[np.int64], n_new: int) -> Tensor:
        """Return tokens per frame: zeros for the known part, as in training."""
        frames = frame_tokens(tokens)
        made = torch.stack([frames[k, at : at + n_new] for k, at in enumerate(firsts.tolist())])
        return torch.nn.functional.pad(made, (0, 0, PREFIX, 0))

    def _loss(
        self,
        denoiser: torch.nn.Module,
        start: Tensor,
        time: Tensor,
        given: dict[str, Tensor],
    ) -> Tensor:
        """Return each window's loss over its new frames, (batch,) (arXiv:2210.02747, eq. 23)."""
        at, x = time[:, None, None], given["clean"]
        velocity = denoiser((1.0 - at) * start + at * x, time, **given)
        error = (velocity - (x - start)).square().mean(-1)
        loss: Tensor = error[:, PREFIX:].mean(1)
        return loss
