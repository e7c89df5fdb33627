"""What the sound stage works with: conditions in, sounds with their place in the stimulus out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from stream.messages import Condition, Sound
from stream.render import PiecewiseRenderer, Renderer

__all__ = ["Companion", "SoundMaker"]

Companion: TypeAlias = Callable[[Sound], NDArray[np.float32]]
"""Given the decoded sound (one channel), return what goes to the left channel, (n,) float32."""


@dataclass(slots=True)
class SoundMaker:
    """Renders the sound of a condition, or more of the last one; called in the sound thread."""

    renderer: Renderer
    lag_s: float
    companion: Companion | None = None
    _stimulus_stop: float = float("nan")
    _in_pieces: PiecewiseRenderer | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if isinstance(self.renderer, PiecewiseRenderer):
            self._in_pieces = self.renderer

    @property
    def cost_s(self) -> float:
        """What a piece of sound takes to make, s; 0 where that is not worth counting."""
        return self._in_pieces.cost_s if self._in_pieces is not None else 0.0

    def window(self, condition: Condition, n_samples: int, *, afresh: bool) -> Sound:
        """Return the sound of a new condition; `afresh`: nothing is heard before it."""
        if afresh:
            self.renderer.reset()
        return self._sound(condition, n_samples, self._start(condition, n_samples))

    def begin(self, condition: Condition, n_samples: int, *, afresh: bool) -> Sound:
        """Return what `window` does, or its first piece where all of it takes its time."""
        if afresh:
            self.renderer.reset()
        start = self._start(condition, n_samples)
        return self._sound(condition, self._piece(n_samples), start)

    def go_on(self, condition: Condition, n_samples: int) -> Sound:
        """Return the next piece of a sound that was begun; `n_samples` of it are missing."""
        return self._sound(condition, self._piece(n_samples), self._stimulus_stop)

    def hold(self, condition: Condition, n_samples: int) -> Sound:
        """Return more of the sound of a condition, for as long as no newer one has come."""
        if condition.values.ndim == 2:
            # Mel frames: the last one goes on, rather than the whole window in a few milliseconds.
            condition = replace(condition, values=condition.values[-1:])
        return self._sound(condition, n_samples, self._stimulus_stop)

    def _start(self, condition: Condition, n_samples: int) -> float:
        """Return where the sound of a window lies in the stimulus: it ends a lag before it."""
        stop = condition.window.t_stop - self.lag_s
        return stop - n_samples / self.renderer.sample_rate_hz

    def _piece(self, n_samples: int) -> int:
        return n_samples if self._in_pieces is None else self._in_pieces.piece(n_samples)

    def _sound(self, condition: Condition, n_samples: int, start: float) -> Sound:
        rate = self.renderer.sample_rate_hz
        pcm = self.renderer.render(condition, n_samples)
        if pcm.ndim == 1:
            pcm = pcm[:, None]
        self._stimulus_stop = start + n_samples / rate
        made = Sound(pcm, rate, condition.window, start, self._stimulus_stop)
        if self.companion is None:
            return made
        left = np.asarray(self.companion(made), np.float32).reshape(n_samples, 1)
        both = np.concatenate([left, pcm[:, :1]], axis=1)  # (n, 2): heard, decoded
        return Sound(both, rate, condition.window, start, self._stimulus_stop)
