"""What a sound's vector says of it: class and factors, read off by two small maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.nets.encoder import EMBEDDING_DIM

__all__ = ["Readout"]


class Readout(nn.Module):
    """Classes and factors of a sound, read off its vector; the scale of similarities beside them.

    Parameters
    ----------
    n_classes, n_factors : int
    temperature : float
        Where the temperature of similarities starts.
    """

    def __init__(self, n_classes: int, n_factors: int, *, temperature: float = 0.07) -> None:
        super().__init__()
        self.classes = nn.Linear(EMBEDDING_DIM, n_classes)
        self.factors = nn.Sequential(
            nn.Linear(EMBEDDING_DIM, 128), nn.GELU(), nn.Linear(128, n_factors)
        )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits, (batch, classes), and factors, (batch, factors), of unit vectors."""
        # Entries of a unit vector are near .04; layers are made for inputs near 1.
        scaled = vectors * EMBEDDING_DIM**0.5
        return self.classes(scaled), self.factors(scaled)

    def scale(self) -> Tensor:
        """Return one over the temperature, at most 100."""
        return self.log_scale.clamp(max=4.6).exp()
