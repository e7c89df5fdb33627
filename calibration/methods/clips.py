"""Identification of clips from decoded windows, as every method here is judged by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.scores import correlations, identification

__all__ = ["clip_identification"]


def clip_identification(
    predictions: NDArray[np.floating],
    samples: Samples,
    *,
    centre: NDArray[np.float64] | None = None,
    of: NDArray[np.bool_] | None = None,
) -> float:
    """Return how well clips are told apart, windows averaged to clips, ties at one half.

    Parameters
    ----------
    predictions : array of shape (n, d)
        In the space of the targets.
    samples : Samples
    centre : array of shape (d,), optional
        Mean of the training targets, taken off predictions and targets; a decoder that knows
        nothing but that mean must not look as if it did.
    of : array of shape (n,), bool, optional
        Windows whose clips are scored; all clips remain candidates.

    Raises
    ------
    SettingError
        If there are fewer than 2 clips.
    """
    off = 0.0 if centre is None else centre
    clips, number = np.unique(samples.clip, return_inverse=True)
    count = np.bincount(number)[:, None]
    means = []
    for rows in (np.asarray(predictions, np.float64) - off, samples.y - off):
        total = np.zeros((len(clips), rows.shape[1]))
        np.add.at(total, number, rows)
        means.append(total / count)
    wanted = np.arange(len(clips)) if of is None else np.unique(number[of])
    return identification(correlations(means[0][wanted], means[1]), own=wanted).ties_half
