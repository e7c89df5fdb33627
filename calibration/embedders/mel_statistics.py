"""Embedders of log-mel alone: no weights, no downloads, the same numbers everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.embedders.base import WindowEmbedder
from calibration.embedding import MEL_STATISTICS_NAME, MelStatistics
from models.errors import SettingError
from models.mel import MelSpec, log_mel

__all__ = ["LogMelEmbedder", "MelStatisticsEmbedder"]

_OURS = "part of hearback (Apache-2.0); it has no weights"
_RATE_HZ = 16_000
_FLOOR = -8.0  # ln mel, as in `calibration.embedding`


@lru_cache(maxsize=1)
def _procedural() -> MelStatistics:
    """Return the statistics standardised over four procedural sounds of each class, of 1 s."""
    from calibration.stimuli import LABELS, make_stimulus

    return MelStatistics.fit(
        [make_stimulus(label, seed, 1.0).pcm for label in LABELS for seed in range(4)]
    )


class MelStatisticsEmbedder(WindowEmbedder):
    """Mean, deviation and change of 32 mel bands (`calibration.embedding`), standardised.

    Parameters
    ----------
    sounds : sequence of arrays of shape (n,), optional
        Mono at 16 kHz: the set whose mean and deviation are the zero and unit of the statistics,
        for example the library of a bundle. Without it, a fixed set of procedural sounds.
    batch_size : int
    """

    name = MEL_STATISTICS_NAME
    dim = 96
    sample_rate_hz = _RATE_HZ
    licence = _OURS
    source = "calibration/embedding.py"

    def __init__(
        self, sounds: Sequence[NDArray[np.float32]] | None = None, *, batch_size: int = 8
    ) -> None:
        super().__init__(batch_size=batch_size)
        self.statistics = _procedural() if sounds is None else MelStatistics.fit(sounds)

    def settings(self) -> dict[str, Any]:
        """Return all that the vectors depend on."""
        scales = np.stack([self.statistics.mean, self.statistics.scale]).astype("<f8")
        digest = hashlib.sha256(scales.tobytes()).hexdigest()
        return {"embedder": self.name, "standardised_by": digest, "version": 1}

    def _embed_batch(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.stack([self.statistics.embed(window) for window in windows])


class LogMelEmbedder(WindowEmbedder):
    """The AudioLDM log mel (64 bands), averaged over equal parts of the window.

    Nepers above the floor of -8, so that silence is nothing; a thousandth is added to each band,
    because silence has to have a direction too.

    Parameters
    ----------
    n_parts : int
        Parts of the window that are averaged one by one; 1 is the mean over the window.
    batch_size : int
    """

    sample_rate_hz = _RATE_HZ
    licence = _OURS
    source = "models/mel.py"

    def __init__(self, *, n_parts: int = 1, batch_size: int = 8) -> None:
        super().__init__(batch_size=batch_size)
        if n_parts < 1:
            raise SettingError(f"Expected 1 part of the window or more, got {n_parts}.")
        self._spec = MelSpec()
        self._n_parts = n_parts
        self.dim = n_parts * self._spec.n_mels
        self.name = f"log-mel-{self.dim}"

    def settings(self) -> dict[str, Any]:
        """Return all that the vectors depend on."""
        return {"embedder": "log-mel", "n_parts": self._n_parts, "version": 1}

    def _embed_batch(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        rows = []
        for window in windows:
            # The front-end reflects 512 samples at each end, and has a frame every 160.
            n_frames = 1 + len(window) // self._spec.hop
            if len(window) <= self._spec.pad_samples or n_frames < self._n_parts:
                raise SettingError(
                    f"A window of {len(window)} samples is too short for a log mel in "
                    f"{self._n_parts} parts; take at least 50 ms."
                )
            above = np.maximum(log_mel(window, self._spec).astype(np.float64) - _FLOOR, 0.0)
            parts = np.array_split(above, self._n_parts)
            rows.append(np.concatenate([part.mean(axis=0) for part in parts]) + 1e-3)
        return np.stack(rows)
