"""What a fine-tuning learns from: windows of a brain, what was heard, and how it was decoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.acoustic.crossfit import check_decoded
from calibration.acoustic.fit import fit_acoustic, inner_split
from calibration.acoustic.ridge import fit_ridge
from calibration.acoustic.settings import AcousticSettings
from calibration.data.samples import Samples
from models.errors import SettingError
from models.ridge.folds import group_folds
from models.stretch import TOKEN_FRAMES, TOKENS_PER_STEP

__all__ = ["BrainWindows", "decode_tokens"]

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class BrainWindows:
    """Training windows of one participant; the same rows everywhere.

    Latents cover the stretch of sound and some frames before it; `n_known` says how many of those
    are sound of the same clip.
    """

    samples: Samples  # with their features, standardised as live
    groups: NDArray[Any]  # (n,)
    decoded: Array  # (n, 512) out of fold, unit length
    true: Array  # (n, 512) unit length
    tokens: Array  # (n, 8 m, 768) of the stretch
    latents: Array  # (n, prefix + frames, *latent)
    n_known: NDArray[np.int64]  # (n,)
    prefix: int
    decoded_tokens: Array | None = None  # (n, 8 m, 768) out of fold

    def __post_init__(self) -> None:
        n = len(self.samples)
        counts = (self.groups, self.decoded, self.true, self.tokens, self.latents, self.n_known)
        if any(len(rows) != n for rows in counts):
            raise SettingError(
                f"Expected {n} rows of everything that is trained on, got "
                f"{[len(rows) for rows in counts]}."
            )
        frames = self.latents.shape[1] - self.prefix
        steps = self.tokens.shape[1] // TOKENS_PER_STEP
        if frames < 1 or frames > TOKEN_FRAMES * steps:
            raise SettingError(
                f"Latents of {self.prefix} + {frames} frames do not fit {steps} steps of tokens, "
                f"{TOKEN_FRAMES} frames each."
            )
        check_decoded(self.decoded, self.true, n=n)

    @property
    def features(self) -> Array:
        """Brain features, repetitions averaged: (n, n_features)."""
        return np.asarray(self.samples.mean_x(), np.float32)

    @property
    def frames(self) -> int:
        """Latent frames of the stretch."""
        return int(self.latents.shape[1]) - self.prefix

    def split(
        self, settings: AcousticSettings, *, seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows to train on and to select with: the same as the acoustic decoder's."""
        return inner_split(self.samples, self.groups, settings, seed=seed)


def decode_tokens(
    windows: BrainWindows, settings: AcousticSettings, *, n_folds: int = 0, seed: int = 0
) -> BrainWindows:
    """Return the windows with tokens decoded out of fold: what errors are modelled from.

    Parameters
    ----------
    windows : BrainWindows
    settings : AcousticSettings
    n_folds : int
        Fits of the decoder that `settings` describe, each without its fold; 0: the closed form's
        held-out predictions, which cost nothing more.
    seed : int
    """
    x, groups = windows.features, np.asarray(windows.groups)
    if not n_folds:
        ridge, held_out = fit_ridge(x, windows.decoded, windows.tokens, groups, settings=settings)
        return replace(windows, decoded_tokens=ridge.basis.decode(held_out))
    out = np.empty_like(windows.tokens)
    for train, test in group_folds(len(x), min(n_folds, len(np.unique(groups))), groups=groups):
        fitted = fit_acoustic(
            windows.samples.take(train),
            windows.tokens[train],
            windows.decoded[train],
            groups[train],
            settings,
            true_embeddings=windows.true[train],
            seed=seed,
        )
        out[test] = fitted.predict(x[test], windows.decoded[test])
    return replace(windows, decoded_tokens=out)
