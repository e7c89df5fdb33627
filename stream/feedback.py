"""The feedback value: one number in [0, 1] for each decoded window, for bars, games and logs.

==============  ==============  ================================================================
chain           target          value
==============  ==============  ================================================================
with a library  none            (1 + c) / 2, c the cosine of the embedding to the nearest sound:
                                how sure the decoder is
with a library  a sound or      (1 + c) / 2, c the cosine to the target: the mean direction of
                label           the sounds of that name or label
generator       none            (1 + c) / 2, c the cosine of the embedding to the one before: how
without one                     steady the decoder is; unknown (NaN) for the first window
direct          none            level: the mean ln mel, from the floor of the front-end (0) to a
                                magnitude of 1 (1)
==============  ==============  ================================================================

Retrieval chains have a library of sounds; semantic and coarse-to-fine ones have it if they begin
from retrieved sounds, or may. Unrelated embeddings have c = 0, so 0.5 is chance. The target is set
by the command `prompt`; an empty one takes it back. Values of different bundles do not compare.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from export.chains import ChainSpec, DirectChain, library_of
from models.errors import SettingError
from stream.messages import Condition

if TYPE_CHECKING:
    from export.library import Library

__all__ = ["FeedbackValue"]


class FeedbackValue:
    """Makes the feedback value of each window.

    Parameters
    ----------
    spec : ChainSpec
        The chain of the bundle's manifest.
    library : Library, optional
        Of the bundle; without it no target can be set.

    Attributes
    ----------
    target : str
        Name or label that was set; "" if none.
    """

    def __init__(self, spec: ChainSpec, library: Library | None = None) -> None:
        self.target = ""
        self._library = library
        self._ln_floor = math.log(spec.mel.floor) if isinstance(spec, DirectChain) else None
        self._direction: NDArray[np.float32] | None = None
        self._steadiness = not isinstance(spec, DirectChain) and library_of(spec) is None
        self._before: NDArray[np.float32] | None = None

    def set_target(self, text: str) -> None:
        """Choose the sound or label that the value is measured against; "" for none.

        Raises
        ------
        SettingError
            If there is nothing of that name.
        """
        text = text.strip()
        if not text:
            self.target, self._direction = "", None
            return
        if self._library is None:
            raise SettingError("This bundle has no library of sounds that a target could be in.")
        found = self._library.find(text)
        if not found:
            raise SettingError(f"No sound and no label of the library is called {text!r}.")
        mean = self._library.embeddings[list(found)].mean(axis=0)
        norm = float(np.linalg.norm(mean))
        if norm < 1e-6:
            raise SettingError(f"The sounds called {text!r} point in opposite directions.")
        self.target, self._direction = text, mean / np.float32(norm)

    def __call__(self, condition: Condition) -> float:
        """Return the value of one window, in [0, 1]; NaN if the decoder gave nothing usable."""
        if self._ln_floor is not None:
            if self._ln_floor >= 0.0:  # a floor at or above 1 leaves no range
                return math.nan
            value = 1.0 - float(np.mean(condition.values)) / self._ln_floor
        elif self._direction is not None:
            value = (1.0 + _cosine(condition.values, self._direction)) / 2.0
        elif self._steadiness:
            before, self._before = self._before, condition.values
            value = math.nan if before is None else (1 + _cosine(condition.values, before)) / 2
        else:
            value = (1.0 + condition.confidence) / 2.0
        return min(1.0, max(0.0, value)) if math.isfinite(value) else math.nan


def _cosine(values: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    norm = float(np.linalg.norm(values)) * float(np.linalg.norm(other))
    return float(other @ values) / norm if norm > 0 else math.nan
