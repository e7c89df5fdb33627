"""A whole generation as one graph of tensors: what is exported, captured and timed.

Everything but tensors is fixed when it is made: the number of steps, the guidance, the length. The
sampler's loop unrolls, so that one replay takes noise and condition to sound.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.errors import SettingError
from models.nets.full.generator import Condition, FullGenerator
from models.nets.full.sampler import LevelSampler, ddim

__all__ = ["SoundGraph"]


class SoundGraph(nn.Module):
    """Noise and condition to sound, in a fixed number of steps.

    Parameters
    ----------
    generator : FullGenerator
    n_steps : int
    n_noises : int
        1, or n_steps where the sampler draws again at each step (`ping_pong`).
    guidance : float
        With another value than 1 the parts of the unconditional branch follow those of the
        condition.
    sampler : LevelSampler
    """

    def __init__(
        self,
        generator: FullGenerator,
        *,
        n_steps: int,
        n_noises: int = 1,
        guidance: float = 1.0,
        sampler: LevelSampler = ddim,
    ) -> None:
        super().__init__()
        self.generator = generator
        self._n_steps = n_steps
        self._n_noises = n_noises
        self._guidance = guidance
        self._sampler = sampler

    def forward(self, *tensors: Tensor) -> Tensor:
        """Return the sound: (batch, 640 frames), float32.

        Parameters
        ----------
        *tensors : Tensor
            The noises, the parts of the condition in the order of `Family.conditions`, and those of
            the unconditional branch where there is guidance.

        Raises
        ------
        SettingError
            If there are more or fewer.
        """
        names = self.generator.family.conditions
        branches = 1 if self._guidance == 1.0 else 2
        expected = self._n_noises + branches * len(names)
        if len(tensors) != expected:
            raise SettingError(f"This graph takes {expected} tensors, got {len(tensors)}.")
        noises, parts = tensors[: self._n_noises], tensors[self._n_noises :]
        condition = Condition(**dict(zip(names, parts, strict=False)))
        free = (
            Condition(**dict(zip(names, parts[len(names) :], strict=True)))
            if branches == 2
            else None
        )
        latents = self.generator.latents(
            condition,
            noises,
            n_steps=self._n_steps,
            guidance=self._guidance,
            unconditional=free,
            sampler=self._sampler,
        )
        return self.generator.sound(self.generator.mel(latents))
