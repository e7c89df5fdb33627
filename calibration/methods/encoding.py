"""Encoding models: how well the embedding of what was heard predicts each voxel.

Brain2Music (Denk et al. 2023, arXiv:2307.11078, section 3.6): ridge from embedding to voxel,
Pearson's r on the test part, a null of responses that changed places, false discovery rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.data.samples import Samples
from calibration.honest.ceiling import NoiseCeiling, noise_ceiling
from calibration.honest.fdr import significant
from calibration.honest.permutation import column_permutation_p
from models.errors import SettingError
from models.ridge.estimator import Ridge, check_data
from models.ridge.folds import make_folds
from models.ridge.shared import column_correlations

__all__ = [
    "ENCODING_ALPHAS",
    "EncodingModel",
    "cross_validated_r",
    "encode_samples",
    "encoding_model",
]

# Of an embedding whose columns have a mean square of 1; P1's grid is 1e-2 to 1e3 by decades, for
# vectors as CLAP gives them.
ENCODING_ALPHAS = tuple(float(10.0**k) for k in range(-1, 7))
_VOXELS = 8192  # fitted at once: held-out responses of 4,800 windows are then 160 MB


@dataclass(frozen=True, slots=True, eq=False)
class EncodingModel:
    """What a linear model of an embedding predicts of each voxel, on data that it never saw."""

    r: NDArray[np.float64]  # (n_voxels,) Pearson's with the mean over repetitions
    p: NDArray[np.float64]  # (n_voxels,) one-sided, of n_permutations
    significant: NDArray[np.bool_]  # (n_voxels,) at the false discovery rate
    weights: NDArray[np.floating]  # (n_dims, n_voxels) of the embedding as it was given
    alpha: NDArray[np.float64]  # (n_voxels,)
    predictable: NDArray[np.bool_]  # (n_voxels,) held-out R^2 above 0 in the training part
    ceiling: NoiseCeiling | None  # None: the test part was heard once
    n_permutations: int
    rate: float
    n_test: int
    n_blocks: int

    @property
    def of_ceiling(self) -> float | None:
        """Mean r over the pooled ceiling, of the voxels that the training part predicts.

        Voxels chosen by the test part, as the significant ones are, would flatter.
        """
        if self.ceiling is None or not self.predictable.any():
            return None
        ceiling = self.ceiling.pooled(self.predictable)
        return float(self.r[self.predictable].mean()) / ceiling if ceiling > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Return the numbers of all voxels together."""
        found = self.significant
        return {
            "n_voxels": len(self.r),
            "mean_r": float(self.r.mean()),
            "median_r": float(np.median(self.r)),
            "max_r": float(self.r.max()),
            "n_significant": int(found.sum()),
            "mean_r_significant": float(self.r[found].mean()) if found.any() else None,
            "false_discovery_rate": self.rate,
            "n_permutations": self.n_permutations,
            "n_test": self.n_test,
            "n_blocks": self.n_blocks,
            "ceiling": self.ceiling.pooled() if self.ceiling is not None else None,
            "n_predictable": int(self.predictable.sum()),
            "of_ceiling": self.of_ceiling,
        }


def encoding_model(
    embedding: ArrayLike,
    responses: ArrayLike,
    *,
    test: tuple[ArrayLike, ArrayLike],
    rng: np.random.Generator,
    groups: ArrayLike | None = None,
    blocks: ArrayLike | None = None,
    alphas: Sequence[float] | NDArray[np.floating] = ENCODING_ALPHAS,
    cv: int | Any = 5,
    n_permutations: int = 1000,
    rate: float = 0.05,
) -> EncodingModel:
    """Fit voxels from an embedding, and test each on other data.

    Parameters
    ----------
    embedding : array of shape (n, n_dims)
        Of what was heard; brought to a mean of 0 and a mean square of 1 by the training part.
    responses : array of shape (n, n_voxels)
    test : (embedding, responses)
        Responses of shape (n_test, n_voxels), or (n_test, n_repetitions, n_voxels) with NaN where
        a repetition is missing: the mean is predicted, and there is a ceiling.
    rng : numpy.random.Generator
        Of the permutations.
    groups : array of shape (n,), optional
        What folds never divide: clip or run.
    blocks : array of shape (n_test,), optional
        What changes places under the null: the clip of each row, or blocks of at least 10 TR
        (`honest.permutation.block_units`). By default every row by itself, which is right only
        where a row is a whole clip.
    alphas : sequence of float
        One is chosen for each voxel.
    cv : int, iterable of (training, held-out), or splitter
    n_permutations : int
    rate : float
        False discovery rate (Benjamini and Hochberg).

    Raises
    ------
    SettingError
        If shapes do not fit or values are not finite.
    """
    x, y = check_data(embedding, responses)
    x_test = np.asarray(test[0], x.dtype)
    measured, ceiling = _mean_response(np.asarray(test[1]))
    if x_test.shape[1:] != x.shape[1:] or measured.shape != (len(x_test), y.shape[1]):
        raise SettingError(
            f"The test part needs the {x.shape[1]} dimensions and {y.shape[1]} voxels of the "
            f"training part, got {x_test.shape} and {measured.shape}."
        )
    units = np.arange(len(x_test)) if blocks is None else np.asarray(blocks)
    mean, size = _scale(x)
    folds = make_folds(cv, len(x), groups=groups)
    weights = np.empty((x.shape[1], y.shape[1]), x.dtype)
    alpha, p, r = (np.empty(y.shape[1]) for _ in range(3))
    predictable = np.ones(y.shape[1], bool)
    # One state for all pieces: voxels of different pieces see the same permutations.
    seed = int(rng.integers(2**63))
    for start in range(0, y.shape[1], _VOXELS):
        of = slice(start, start + _VOXELS)
        ridge = Ridge(alphas, cv=folds).fit((x - mean) / size, y[:, of])
        predicted = np.asarray(ridge.predict((x_test - mean) / size), np.float64)
        weights[:, of], alpha[of] = ridge.weights()[0] / size, np.asarray(ridge.alpha_)
        if len(np.atleast_1d(alphas)) > 1:
            predictable[of] = ridge.cv_scores_.max(axis=0) > 0
        r[of] = column_correlations(predicted, measured[:, of])
        p[of] = column_permutation_p(
            predicted,
            measured[:, of],
            blocks=units,
            n_permutations=n_permutations,
            rng=np.random.default_rng(seed),
        )
    return EncodingModel(
        r=r,
        p=p,
        significant=significant(p, rate=rate),
        weights=weights,
        alpha=alpha,
        predictable=predictable,
        ceiling=ceiling,
        n_permutations=n_permutations,
        rate=rate,
        n_test=len(x_test),
        n_blocks=len(np.unique(units)),
    )


def encode_samples(
    train: Samples,
    test: Samples,
    *,
    rng: np.random.Generator,
    alphas: Sequence[float] | NDArray[np.floating] = ENCODING_ALPHAS,
    cv: int | Any = 5,
    n_permutations: int = 1000,
    rate: float = 0.05,
) -> EncodingModel:
    """Return the encoding model of samples: from their targets to their features, clip by clip."""
    rows = train.separate()
    return encoding_model(
        rows.y,
        rows.x[:, 0],
        test=(test.y, test.x),
        rng=rng,
        groups=rows.clip,
        blocks=test.clip,
        alphas=alphas,
        cv=cv,
        n_permutations=n_permutations,
        rate=rate,
    )


def cross_validated_r(
    embedding: ArrayLike,
    responses: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    alphas: Sequence[float] | NDArray[np.floating] = ENCODING_ALPHAS,
    cv: int | Any = 5,
    inner_cv: int = 5,
) -> NDArray[np.float64]:
    """Return how well each voxel is predicted by folds that never saw it, penalties nested.

    Parameters
    ----------
    embedding : array of shape (n, n_dims)
    responses : array of shape (n, n_voxels)
    groups : array of shape (n,), optional
    alphas : sequence of float
        With one there is nothing to nest.
    cv : int, iterable of (training, held-out), or splitter
    inner_cv : int
        Folds within each training part, for the penalties.

    Returns
    -------
    r : array of shape (n_voxels,), float64
        Mean over folds (`calibration.methods.correlate.fold_correlations` says why).
    """
    x, y = check_data(embedding, responses)
    labels = None if groups is None else np.asarray(groups)
    total, weight = np.zeros(y.shape[1]), 0
    for train, test in make_folds(cv, len(x), groups=labels):
        mean, size = _scale(x[train])
        inside = None if labels is None else labels[train]
        most = len(train) if inside is None else len(np.unique(inside))
        for start in range(0, y.shape[1], _VOXELS):
            of = slice(start, start + _VOXELS)
            ridge = Ridge(alphas, cv=min(inner_cv, most))
            ridge.fit((x[train] - mean) / size, y[train, of], inside)
            predicted = ridge.predict((x[test] - mean) / size)
            total[of] += (len(test) - 1) * column_correlations(predicted, y[test, of])
        weight += len(test) - 1
    return np.asarray(total / max(weight, 1))


def _scale(x: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """Return the mean of each column, and one size for all: the geometry stays."""
    mean = x.mean(axis=0)
    size = float(np.sqrt(np.mean(np.square(x - mean), dtype=np.float64)))
    return mean, size if size > 0 else 1.0


def _mean_response(measured: NDArray[Any]) -> tuple[NDArray[np.float64], NoiseCeiling | None]:
    """Return the mean over repetitions, and the ceiling where there are several."""
    values = np.asarray(measured, np.float64)
    if values.ndim == 2:
        return values, None
    mean = values[:, 0] if values.shape[1] == 1 else np.asarray(np.nanmean(values, axis=1))
    repeated = np.sum(np.sum(~np.isnan(values[:, :, 0]), axis=1) >= 2)
    return mean, noise_ceiling(values) if repeated >= 2 else None
