"""How much of the held-out variance each group of features explains alone, and what they share.

Banded ridge is fitted on every subset of the groups, inside outer folds, and scored on what those
hold out. With R^2 of subsets, what group A adds to all others is unique to it; what remains is
shared (de Heer et al. 2017, "The hierarchical cortical organization of human speech processing",
J. Neurosci. 37:6539, for three groups; Nimon and Oswald 2013 call the general form commonality
analysis). The product measure divides the R^2 of the whole instead, and needs one fit only
(Dupre la Tour et al. 2022, NeuroImage 264:119728).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.ridge.banded import BandedRidge, check_bands
from models.ridge.estimator import DEFAULT_ALPHAS, check_data
from models.ridge.folds import make_folds

__all__ = ["VariancePartition", "commonalities", "product_measure", "variance_partition"]

logger = logging.getLogger(__name__)

Subset = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class VariancePartition:
    """Shares of the variance of each target, on samples that no fit has seen.

    Held-out shares may be negative: a group that only adds noise predicts worse with it.
    """

    names: tuple[str, ...]
    r2: dict[Subset, NDArray[np.float64]]  # of each subset of groups, (n_targets,)
    shares: dict[Subset, NDArray[np.float64]]  # common to exactly these groups; sum to `union`
    product: dict[str, NDArray[np.float64]]  # product measure of each group; sum to `union`

    @property
    def union(self) -> NDArray[np.float64]:
        """R^2 of all groups together: (n_targets,)."""
        return self.r2[self.names]

    def unique(self, name: str) -> NDArray[np.float64]:
        """Return what a group adds to all others: R^2(all) - R^2(all others), (n_targets,)."""
        return self.shares[(name,)]

    def shared(self) -> NDArray[np.float64]:
        """Return what is not unique to one group: (n_targets,)."""
        unique = [self.unique(name) for name in self.names]
        return np.asarray(self.union - np.sum(unique, axis=0))


def variance_partition(
    X: ArrayLike,
    y: ArrayLike,
    *,
    bands: Mapping[str, Any],
    groups: ArrayLike | None = None,
    cv: int | Iterable[Sequence[Any]] | Any = 5,
    inner_cv: int = 5,
    alphas: Sequence[float] | NDArray[np.floating] = DEFAULT_ALPHAS,
    n_candidates: int = 50,
    fit_intercept: bool = True,
    random_state: int = 0,
) -> VariancePartition:
    """Divide the held-out variance among groups of features.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples, n_targets) or (n_samples,)
    bands : mapping of name to columns
        At most 6 groups: 2^6 - 1 subsets are fitted in every outer fold.
    groups : array of shape (n_samples,), optional
        What must not be split: clip, run or session; for outer and inner folds.
    cv : int, iterable of (training, held-out), or splitter
        Outer folds, for the scores.
    inner_cv : int
        Folds inside each training part, for penalties and weights of the groups.
    alphas, n_candidates, fit_intercept, random_state
        As `models.ridge.banded.BandedRidge`.

    Returns
    -------
    partition : VariancePartition
        R^2 is 1 - sum (y - prediction)^2 / sum (y - mean)^2 over all held-out samples together.

    Raises
    ------
    SettingError
        If shapes or settings are not usable, or there are more than 6 groups.
    """
    x, targets = check_data(X, y)
    names = tuple(bands)
    if not 1 <= len(names) <= 6:
        raise SettingError(f"Expected 1 to 6 groups of features, got {len(names)}.")
    columns = dict(zip(names, check_bands(bands, x.shape[1]), strict=True))
    labels = None if groups is None else np.asarray(groups)
    folds = make_folds(cv, len(x), groups=groups)
    rows = np.concatenate([test for _, test in folds])
    truth = targets[rows].astype(np.float64)

    r2: dict[Subset, NDArray[np.float64]] = {}
    parts: NDArray[np.float64] | None = None
    for subset in _subsets(names):
        predictions, of_bands = [], []
        for train, test in folds:
            sizes = np.cumsum([0, *(len(columns[name]) for name in subset)])
            chosen = np.concatenate([columns[name] for name in subset])
            model = BandedRidge(
                [np.arange(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)],  # noqa: RUF007
                alphas,
                n_candidates=n_candidates,
                cv=inner_cv,
                fit_intercept=fit_intercept,
                random_state=random_state,
            ).fit(x[np.ix_(train, chosen)], targets[train], _take(labels, train))
            held_out = x[np.ix_(test, chosen)]
            predictions.append(model.predict(held_out))
            if subset == names:
                own_mean = x[np.ix_(train, chosen)].mean(axis=0)
                of_bands.append(model.predict_bands(held_out - own_mean))
        predicted = np.concatenate(predictions).astype(np.float64)
        r2[subset] = _r2(truth, predicted)
        if subset == names:
            parts = np.concatenate(of_bands, axis=1).astype(np.float64)
            product = product_measure(truth, parts, predicted)
        logger.info("R2 of %s: mean %.3f", " + ".join(subset), float(r2[subset].mean()))
    return VariancePartition(
        names, r2, commonalities(names, r2), dict(zip(names, product, strict=True))
    )


def commonalities(
    names: Subset, r2: Mapping[Subset, NDArray[np.float64]]
) -> dict[Subset, NDArray[np.float64]]:
    """Return what is common to exactly the groups of each subset.

    C(S) = sum over T within S of (-1)^(|T| + 1) R^2(T and all groups outside S), with
    R^2(nothing) = 0; for two groups C(A) = R^2(AB) - R^2(B) and C(AB) = R^2(A) + R^2(B) - R^2(AB).

    Parameters
    ----------
    names : tuple of str
    r2 : mapping of subset to array
        For every subset, its names in the order of `names`.

    Returns
    -------
    shares : dict of subset to array
        They sum to R^2 of all groups.
    """
    zero = np.zeros_like(r2[names])
    shares = {}
    for subset in _subsets(names):
        outside = [name for name in names if name not in subset]
        total = zero - (r2[tuple(outside)] if outside else zero)
        for part in _subsets(subset):
            with_part = tuple(name for name in names if name in part or name in outside)
            total = total + (-1) ** (len(part) + 1) * r2[with_part]
        shares[subset] = total
    return shares


def product_measure(
    truth: NDArray[np.float64], parts: NDArray[np.float64], predicted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what each band contributes to R^2 of the sum of all, (n_bands, n_targets).

    R^2_b = sum_i (2 (y_i - m) p_bi - p_bi p_i) / sum_i (y_i - m)^2, p = sum_b p_b without the
    intercept. What the intercept's distance from the mean m of the held-out samples explains, and
    no band does, is given to the bands alike, so that they sum to the R^2 of `predicted`.

    Parameters
    ----------
    truth : array of shape (n, n_targets)
    parts : array of shape (n_bands, n, n_targets)
        What each band adds, about zero over the training part.
    predicted : array of shape (n, n_targets)
    """
    centred = truth - truth.mean(axis=0)
    spread = (centred**2).sum(axis=0)
    joint = parts.sum(axis=0)
    raw = np.stack([(2 * centred * part - part * joint).sum(axis=0) for part in parts])
    shares = np.divide(raw, spread, out=np.zeros_like(raw), where=spread > 0)
    return np.asarray(shares + (_r2(truth, predicted) - shares.sum(axis=0)) / len(parts))


def _subsets(names: Subset) -> list[Subset]:
    """Return all subsets but the empty one, names in their order."""
    return [subset for size in range(1, len(names) + 1) for subset in combinations(names, size)]


def _take(labels: NDArray[Any] | None, rows: NDArray[np.intp]) -> NDArray[Any] | None:
    return None if labels is None else labels[rows]


def _r2(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    spread = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    error = ((truth - predicted) ** 2).sum(axis=0)
    return np.asarray(1 - np.divide(error, spread, out=np.ones_like(error), where=spread > 0))
