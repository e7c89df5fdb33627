"""The feedback value: one number in [0, 1] for each decoded window, for bars, games and logs.

==========  ==============  ====================================================================
chain       target          value
==========  ==============  ====================================================================
retrieval   none            (1 + c) / 2, c the cosine of the embedding to the nearest sound: how
                            sure the decoder is
retrieval   a sound or      (1 + c) / 2, c the cosine to the target: the mean direction of the
            label           sounds of that name or label
direct      none            level: the mean ln mel, from the floor of the front-end (0) to a
                            magnitude of 1 (1)
==========  ==============  ====================================================================

Unrelated embeddings have c = 0, so 0.5 is chance. The target is set by the command `prompt`; an
empty one takes it back. Values of different bundles do not compare.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from export.manifest import ChainSpec, DirectChain
from models.errors import SettingError
from stream.messages import Condition

if TYPE_CHECKING:
    from export.library import Library

__all__ = ["FeedbackValue"]


class FeedbackValue:
    """Makes the feedback value of each window.

    Parameters
    ----------
    spec : DirectChain or RetrievalChain
        The chain of the bundle's manifest.
    library : Library, optional
        Of a retrieval bundle; without it no target can be set.

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
            norm = float(np.linalg.norm(condition.values))
            cosine = float(self._direction @ condition.values) / norm if norm > 0 else math.nan
            value = (1.0 + cosine) / 2.0
        else:
            value = (1.0 + condition.confidence) / 2.0
        return min(1.0, max(0.0, value)) if math.isfinite(value) else math.nan
