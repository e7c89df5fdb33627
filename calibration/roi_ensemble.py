"""A ridge for each region; the best few by inner cross-validation decode together, averaged.

Brain2Music (Denk et al. 2023, arXiv:2307.11078, section 3.3): of 150 regions the six whose held-out
correlation is best. Which regions is part of the fit: choosing them with the test data in view
would find six lucky ones in noise.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.methods.correlate import fold_correlations
from calibration.methods.few_columns import FewColumns
from models.errors import SettingError
from models.ridge.estimator import DEFAULT_ALPHAS, Ridge, check_data
from models.ridge.folds import Folds, make_folds

__all__ = ["RoiEnsemble", "feature_rois"]

logger = logging.getLogger(__name__)

_INNER_FOLDS = 3  # within each fold, where a choice of regions is repeated to be judged


class RoiEnsemble:
    """Average of ridge regressions on the regions that decode best.

    Parameters
    ----------
    rois : mapping of str to columns
        Columns of X of each region: indices or a mask. Empty regions are passed over; regions may
        overlap.
    n_rois : int
        How many decode together; all, if there are fewer. 6 in Brain2Music.
    alphas : sequence of float
        Penalties that each target chooses from, in each region by itself (their grid is not
        published).
    cv : int, iterable of (training, held-out) index pairs, or splitter
        Folds in which penalties and regions are chosen; a number means
        `models.ridge.folds.group_folds`.
    keep_held_out : bool
        Decode each fold by an ensemble that was chosen without it. Where regions have to be chosen
        this about doubles the time: every fold is fitted again with folds of its own, with the few
        penalties that were mostly chosen.

    Attributes
    ----------
    chosen_ : tuple of str
        The regions that decode, best first.
    roi_scores_ : dict of str to float
        Held-out correlation of each region alone (`fold_correlations`), mean over targets.
    alpha_ : array of shape (n_targets,), float64
        Median penalty over the chosen regions; `roi_alphas_` has each region's own.
    alphas_ : array of shape (n_alphas,), float64
    cv_scores_ : array of shape (n_alphas, n_targets), float64
        Held-out R^2, mean over the chosen regions; absent with one alpha.
    held_out_ : array of shape (n, n_targets)
        If kept: prediction of each sample by an ensemble that never saw it.
    indices_, values_, intercept_
        Sparse weights (n_targets, k) and bias, where the chosen regions are a small part of X.
    n_features_in_ : int
    """

    cv_scores_: NDArray[np.float64]
    held_out_: NDArray[Any]
    indices_: NDArray[np.intp]
    values_: NDArray[Any]
    intercept_: NDArray[Any]

    def __init__(
        self,
        rois: Mapping[str, ArrayLike],
        *,
        n_rois: int = 6,
        alphas: Sequence[float] | NDArray[np.floating] = DEFAULT_ALPHAS,
        cv: int | Iterable[Sequence[Any]] | Any = 5,
        keep_held_out: bool = True,
    ) -> None:
        self.rois = rois
        self.n_rois = n_rois
        self.alphas = alphas
        self.cv = cv
        self.keep_held_out = keep_held_out

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit every region, choose, and average.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples, n_targets)
        groups : array of shape (n_samples,), optional
            What must not be split between training and held-out data.

        Raises
        ------
        SettingError
            If shapes or settings do not fit, or there is no region.
        """
        x, targets = check_data(X, y)
        columns = _columns(self.rois, x.shape[1])
        if self.n_rois < 1:
            raise SettingError(f"Expected n_rois of at least 1, got {self.n_rois}.")
        labels = None if groups is None else np.asarray(groups)
        folds = make_folds(self.cv, len(x), groups=labels)
        fits: dict[str, Ridge] = {}
        self.roi_scores_: dict[str, float] = {}
        for name in ("held_out_", "cv_scores_"):
            if hasattr(self, name):
                delattr(self, name)
        for name, of in columns.items():
            ridge = Ridge(self.alphas, cv=folds, keep_held_out=True)
            fits[name] = ridge.fit(np.ascontiguousarray(x[:, of]), targets)
            self.roi_scores_[name] = float(
                np.mean(fold_correlations(ridge.held_out_, targets, folds=folds))
            )
            if len(columns) > self.n_rois:
                del ridge.held_out_  # those of 150 regions together are large
        ranked = sorted(columns, key=lambda name: -self.roi_scores_[name])
        self.chosen_ = tuple(ranked[: self.n_rois])
        self._keep({name: fits[name] for name in self.chosen_}, columns, x.shape[1])
        if self.keep_held_out:
            self.held_out_ = self._held_out(x, targets, labels, folds, fits)
        logger.info("regions %s, best alone %.3f", self.chosen_, self.roi_scores_[ranked[0]])
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return predictions (n_samples, n_targets).

        Raises
        ------
        SettingError
            If it is not fitted, or the number of features is wrong.
        """
        self._check_fitted()
        return self._map.predict(X)

    def weights(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the ensemble as one linear map: weights (n_features, n_targets) and bias."""
        self._check_fitted()
        return self._map.weights()

    def _check_fitted(self) -> None:
        if not hasattr(self, "chosen_"):
            raise SettingError("This RoiEnsemble is not fitted. Call fit first.")

    def _keep(
        self, fits: Mapping[str, Ridge], columns: Mapping[str, NDArray[np.intp]], n_features: int
    ) -> None:
        """Set the attributes of the average of some regions' fits."""
        self.n_features_in_ = n_features
        self.alphas_ = np.asarray(self.alphas, np.float64)
        used = np.unique(np.concatenate([columns[name] for name in fits]))
        share = 1.0 / len(fits)
        parts = {name: ridge.weights() for name, ridge in fits.items()}
        bias = share * np.sum([bias for _, bias in parts.values()], axis=0)
        values = np.zeros((len(used), len(bias)), bias.dtype)
        for name, (weights, _) in parts.items():
            values[np.searchsorted(used, columns[name])] += share * weights
        self._map = FewColumns(used, values, bias, n_features)
        self._map.write_sparse(self)
        self.roi_alphas_ = {name: np.asarray(ridge.alpha_) for name, ridge in fits.items()}
        self.alpha_ = np.median(list(self.roi_alphas_.values()), axis=0)
        if len(self.alphas_) > 1:
            self.cv_scores_ = np.mean([ridge.cv_scores_ for ridge in fits.values()], axis=0)

    def _held_out(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        labels: NDArray[Any] | None,
        folds: Folds,
        fits: Mapping[str, Ridge],
    ) -> NDArray[Any]:
        """Return predictions of each fold by an ensemble whose choice it had no part in."""
        if len(fits) <= self.n_rois:  # nothing to choose
            return np.asarray(np.mean([ridge.held_out_ for ridge in fits.values()], axis=0))
        used = np.concatenate([np.atleast_1d(ridge.alpha_) for ridge in fits.values()])
        alphas = np.unique(np.quantile(used, (0.1, 0.5, 0.9), method="nearest"))
        out = np.full(y.shape, np.nan, x.dtype)
        for train, test in folds:
            inside = None if labels is None else labels[train]
            n_groups = len(train) if inside is None else len(np.unique(inside))
            part = RoiEnsemble(
                self.rois,
                n_rois=self.n_rois,
                alphas=alphas,
                cv=min(_INNER_FOLDS, n_groups),
                keep_held_out=False,
            )
            out[test] = part.fit(x[train], y[train], inside).predict(x[test])
        return out


def feature_rois(
    rois: Mapping[str, ArrayLike], *, n_voxels: int, n_features: int
) -> dict[str, NDArray[np.intp]]:
    """Return the columns of each region where features hold every voxel once for each delay.

    Parameters
    ----------
    rois : mapping of str to array
        Voxels of each region.
    n_voxels, n_features : int
        Features are `n_features / n_voxels` times all voxels, one delay after the other
        (`models.spec.TrMeanSpec`).

    Raises
    ------
    SettingError
        If the features are not whole sets of voxels.
    """
    if n_voxels < 1 or n_features % n_voxels:
        raise SettingError(
            f"{n_features} features are not a number of delays of {n_voxels} voxels, so regions of "
            "voxels say nothing about them."
        )
    starts = np.arange(0, n_features, n_voxels)
    return {
        name: (starts[:, None] + np.asarray(voxels, np.intp)).ravel()
        for name, voxels in rois.items()
    }


def _columns(rois: Mapping[str, ArrayLike], n_features: int) -> dict[str, NDArray[np.intp]]:
    """Return the columns of each region that has any."""
    found: dict[str, NDArray[np.intp]] = {}
    for name, given in rois.items():
        values = np.asarray(given)
        of = np.unique(np.flatnonzero(values) if values.dtype == np.bool_ else values)
        if of.size and (of[0] < 0 or of[-1] >= n_features):
            raise SettingError(
                f"Region {name!r} names columns {of[0]} to {of[-1]}, but there are {n_features} "
                "features. Give regions of the voxels that are decoded from."
            )
        if of.size:
            found[name] = of.astype(np.intp)
    if not found:
        raise SettingError(
            f"Expected at least one region with columns, got {len(rois)} without. Check the label "
            "file against the mask."
        )
    return found
