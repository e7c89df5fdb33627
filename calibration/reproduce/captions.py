"""Words about the sounds as targets: what an embedder that knows words makes of their captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.data.dataset import Stimulus
from calibration.embedders.base import unit_rows

__all__ = ["CaptionTargets", "caption_targets"]


class CaptionTargets:
    """One vector for each stimulus, whatever the stretch.

    Parameters
    ----------
    vectors : mapping of str to array of shape (dim,)
        By stimulus.
    """

    def __init__(self, vectors: Mapping[str, NDArray[np.float64]]) -> None:
        self._vectors = dict(vectors)
        self.dim = len(next(iter(self._vectors.values())))

    def targets(
        self, stimuli: Sequence[str], starts_s: ArrayLike, stops_s: ArrayLike
    ) -> NDArray[np.float64]:
        """Return the vector of each stimulus: (n, dim)."""
        rows = [self._vectors[name] for name in stimuli]
        return np.array(rows).reshape(len(stimuli), self.dim)


def caption_targets(stimuli: Mapping[str, Stimulus], embedder: Any) -> CaptionTargets | None:
    """Return the embedding of each stimulus' captions, their mean where there are several.

    None where the embedder knows no words, or a stimulus has no caption.
    """
    if not hasattr(embedder, "embed_texts") or not all(s.captions for s in stimuli.values()):
        return None
    texts = [text for item in stimuli.values() for text in item.captions]
    rows = np.asarray(embedder.embed_texts(texts), np.float64)
    vectors, at = {}, 0
    for name, item in stimuli.items():
        mean = rows[at : at + len(item.captions)].mean(axis=0, keepdims=True)
        vectors[name] = unit_rows(mean)[0].astype(np.float64)
        at += len(item.captions)
    return CaptionTargets(vectors)
