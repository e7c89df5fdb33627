"""Embeddings that were decoded out of fold: what the acoustic decoder may be trained on.

A semantic decoder says its own training windows far better than new ones. An acoustic decoder that
learnt from such embeddings, or from true ones, would trust live embeddings that are not worth it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.decoders import Decoder
from models.errors import SettingError
from models.ridge.folds import group_folds

__all__ = ["check_decoded", "out_of_fold"]

_UNIT = 1e-2
_TOO_GOOD = 0.999


def out_of_fold(
    features: NDArray[Any],
    targets: NDArray[Any],
    groups: NDArray[Any],
    make: Callable[[], Decoder],
    *,
    n_folds: int = 5,
) -> NDArray[np.float64]:
    """Return predictions for each row by a decoder that never saw the row's group.

    Parameters
    ----------
    features : array of shape (n, n_features)
    targets : array of shape (n, d)
        Not centred: each fold takes the mean of its own training part off and adds it again.
    groups : array of shape (n,)
    make : callable
        Returns a decoder that is not fitted; what it chooses, it chooses inside each fold.
    n_folds : int
        At most as many as there are groups.

    Raises
    ------
    SettingError
        If there are fewer than three groups: a fold would leave nothing to choose in.
    """
    n_groups = len(np.unique(groups))
    if n_groups < 3:
        raise SettingError(
            f"Decoding out of fold needs windows of 3 clips or more, got {n_groups}. Record more."
        )
    x, y = np.asarray(features), np.asarray(targets, np.float64)
    out = np.full(y.shape, np.nan)
    for train, test in group_folds(len(x), min(n_folds, n_groups), groups=groups):
        centre = y[train].mean(axis=0)
        decoder = make().fit(x[train], y[train] - centre, groups=groups[train])
        out[test] = np.asarray(decoder.predict(x[test]), np.float64) + centre
    return out


def check_decoded(
    decoded: NDArray[Any], true: NDArray[Any] | None, *, n: int, dim: int = 512
) -> None:
    """Refuse embeddings that were not decoded, or do not look as they will look live.

    Raises
    ------
    SettingError
        If shapes are wrong, lengths are not 1, or the decoded ones are the true ones.
    """
    for name, rows in (("decoded", decoded), ("true", true)):
        if rows is None:
            continue
        if rows.shape != (n, dim) or not np.isfinite(rows).all():
            raise SettingError(
                f"Expected {name} embeddings of shape ({n}, {dim}), all finite, got {rows.shape}."
            )
        length = np.linalg.norm(np.asarray(rows, np.float64), axis=1)
        if np.abs(length - 1.0).max() > _UNIT:
            raise SettingError(
                f"Expected {name} embeddings of length 1, as a bundle's decoder gives them, got "
                f"lengths from {length.min():.3g} to {length.max():.3g}. Divide them by their "
                "length."
            )
    if true is not None and float(np.mean(np.sum(decoded * true, axis=1))) > _TOO_GOOD:
        raise SettingError(
            "The decoded embeddings are the true ones. An acoustic decoder must be trained on "
            "embeddings that were decoded from a brain, out of fold "
            "(calibration.acoustic.out_of_fold), because it gets such ones later."
        )
