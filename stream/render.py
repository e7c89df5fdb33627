"""From what a window was decoded to, to sound: one renderer for each kind of chain.

A renderer returns exactly the number of samples it is asked for, and successive stretches join
without a click; the player adds nothing to the joins.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream.messages import Condition

__all__ = ["Renderer"]


class Renderer(Protocol):
    """Makes the sound of one window after another, as one continuous signal."""

    @property
    def sample_rate_hz(self) -> int:
        """Samples a second."""

    @property
    def n_channels(self) -> int:
        """Channels of what `render` returns: 1 means shape (n,)."""

    def render(self, condition: Condition, n_samples: int) -> NDArray[np.float32]:
        """Return the next `n_samples` of sound: shape (n_samples,), float32, full scale 1."""

    def reset(self) -> None:
        """Begin anew after a gap or skipped windows: what follows fades in from silence."""
