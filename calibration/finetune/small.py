"""Fine-tuning of the embedded generator's denoiser on brain data; codec and all else are frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.acoustic.network import AcousticTransformer
from calibration.acoustic.settings import AcousticSettings
from calibration.finetune.conditions import Conditions
from calibration.finetune.continued import continued, random_firsts
from calibration.finetune.settings import FinetuneSettings
from calibration.finetune.stage import BrainStage
from calibration.finetune.windows import BrainWindows
from calibration.training.loop import autocast
from calibration.training.settings import TrainingSettings
from models.errors import SettingError
from models.nets.dit import Denoiser, frame_tokens
from models.nets.stretch import PREFIX

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SmallFinetune"]

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
    silence : array of shape (32,)
        Its latents: what stands before a stream that has just begun.
    """

    def __init__(
        self,
        run: TrainingSettings,
        options: FinetuneSettings,
        acoustic: AcousticSettings,
        windows: BrainWindows,
        *,
        denoiser: Denoiser,
        silence: NDArray[np.float32],
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
        self._silence = silence
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

    def draw(self, rng: np.random.Generator) -> tuple[Conditions, dict[str, Any]]:
        """Return the conditions of a batch to learn from, and what the denoiser is given.

        Vectors and tokens are dropped now and then; the new frames lie anywhere in the stretches.
        """
        rows = rng.choice(self.train_rows, self.batch)
        conditions = self.conditions(rows, rng)
        n_new = int(rng.choice(self._lengths))
        given = self.given(rows, conditions, n_new, rng, switched=True)
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
        switched: bool = False,
    ) -> dict[str, Any]:
        """Return what the denoiser is given for windows beside its noisy latents.

        Where a stream has not begun yet there was silence.

        Parameters
        ----------
        rows : array of shape (batch,)
        conditions : Conditions
            Of these rows.
        n_new : int
            Frames to make, from a random step of tokens on.
        rng : numpy.random.Generator
        switched : bool
            Whether a share goes on from another sound.
        """
        firsts = random_firsts(self.windows, len(rows), n_new, rng)
        made = continued(
            self.windows,
            rows,
            firsts,
            n_new,
            options=self.options,
            rng=rng,
            others=self.train_rows if switched else None,
        )
        heard = made.known[:, :PREFIX, None] > 0
        made.latents[:, :PREFIX] = np.where(heard, made.latents[:, :PREFIX], self._silence)
        return {
            "condition": conditions.vector,
            "tokens": self._words(conditions.tokens, firsts, n_new),
            "clean": torch.from_numpy(made.latents).to(self.device),
            "known": PREFIX,
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
        given: dict[str, Any],
    ) -> Tensor:
        """Return each window's loss over its new frames, (batch,) (arXiv:2210.02747, eq. 23)."""
        at, x = time[:, None, None], given["clean"]
        velocity = denoiser((1.0 - at) * start + at * x, time, **given)
        error = (velocity - (x - start)).square().mean(-1)
        loss: Tensor = error[:, PREFIX:].mean(1)
        return loss
