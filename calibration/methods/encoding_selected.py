"""Decode from the voxels that the embedding predicts: an encoding model chooses for the decoder.

Decoding Musical Perception (methods): ridge from embedding to voxel in nested folds, voxels whose
held-out r exceeds a threshold, ridge from those to the embedding. The threshold is the one that
identifies best; here that is judged on training rows that neither the encoding model nor the
decoder of that fold has seen.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.methods.correlate import fold_correlations
from calibration.methods.encoding import ENCODING_ALPHAS, cross_validated_r
from calibration.methods.few_columns import FewColumns
from calibration.scores import correlations, identification
from models.errors import SettingError
from models.ridge.estimator import DEFAULT_ALPHAS, Ridge, check_data
from models.ridge.folds import Folds, make_folds

__all__ = ["THRESHOLDS", "EncodingSelected"]

logger = logging.getLogger(__name__)

THRESHOLDS = (0.01, 0.02, 0.05, 0.08, 0.1, 0.15, 0.2)
_Metric = Literal["identification", "correlation"]


class EncodingSelected:
    """Ridge from the voxels that an encoding model predicts.

    Parameters
    ----------
    thresholds : float or sequence of float
        Held-out r above which a voxel is kept; with several, one is chosen inside the folds, of
        equally good ones the highest.
    alphas : sequence of float
        Penalties of the decoder, one chosen for each target.
    encoding_alphas : sequence of float
        Penalties of the encoding model, one chosen for each voxel.
    cv : int, iterable of (training, held-out) index pairs, or splitter
        Folds in which threshold and penalties are chosen.
    inner_cv : int
        Folds within the training part of each, in which voxels are judged.
    n_min : int
        So many voxels are kept at least, the best, where fewer pass the threshold.
    metric : {"identification", "correlation"}
        By which the threshold is chosen; "identification" of held-out rows among all of their fold
        with another target.

    Attributes
    ----------
    threshold_ : float
    threshold_scores_ : dict of float to float
        Held-out score of each threshold; empty with one.
    voxel_r_ : array of shape (n_features,), float64
        Held-out r of the encoding model, from all training rows.
    selected_ : array of shape (k,), intp
    alpha_, alphas_, cv_scores_
        Of the decoder from the selected voxels, as `models.ridge.estimator.Ridge`. Voxels are
        chosen from all training rows here, so these scores flatter; `held_out_` does not.
    held_out_ : array of shape (n, n_targets)
        Prediction of each training row by a fold that chose voxels, penalties and fit without it,
        at the chosen threshold; NaN where no fold holds it out.
    indices_, values_, intercept_
        Sparse weights (n_targets, k) and bias, where a small part of the voxels is in use.
    n_features_in_ : int
    """

    cv_scores_: NDArray[np.float64]
    held_out_: NDArray[Any]
    indices_: NDArray[np.intp]
    values_: NDArray[Any]
    intercept_: NDArray[Any]

    def __init__(
        self,
        thresholds: float | Sequence[float] = THRESHOLDS,
        *,
        alphas: Sequence[float] | NDArray[np.floating] = DEFAULT_ALPHAS,
        encoding_alphas: Sequence[float] | NDArray[np.floating] = ENCODING_ALPHAS,
        cv: int | Iterable[Sequence[Any]] | Any = 5,
        inner_cv: int = 5,
        n_min: int = 10,
        metric: _Metric = "identification",
    ) -> None:
        self.thresholds = thresholds
        self.alphas = alphas
        self.encoding_alphas = encoding_alphas
        self.cv = cv
        self.inner_cv = inner_cv
        self.n_min = n_min
        self.metric = metric

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Choose a threshold, then voxels, then fit.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples, n_targets)
        groups : array of shape (n_samples,), optional
            What must not be split between training and held-out data.

        Raises
        ------
        SettingError
            If shapes or settings do not fit.
        """
        x, targets = check_data(X, y)
        thresholds = self._check()
        labels = None if groups is None else np.asarray(groups)
        folds = make_folds(self.cv, len(x), groups=labels)
        held_out = np.full((len(thresholds), *targets.shape), np.nan, x.dtype)
        for train, test in folds:
            inside = None if labels is None else labels[train]
            r = self._judge(x[train], targets[train], inside)
            before: tuple[NDArray[np.intp], int] | None = None
            for k, threshold in enumerate(thresholds):
                kept = self._above(r, threshold)
                if before is not None and np.array_equal(kept, before[0]):
                    held_out[k, test] = held_out[before[1], test]
                    continue
                held_out[k, test] = (
                    self._ridge(train, inside)
                    .fit(x[np.ix_(train, kept)], targets[train], inside)
                    .predict(x[np.ix_(test, kept)])
                )
                before = kept, k
        scores = [self._score(predicted, targets, folds) for predicted in held_out]
        # Of equal scores the higher threshold wins: fewer voxels.
        best = len(scores) - 1 - int(np.argmax(scores[::-1]))
        self.threshold_ = thresholds[best]
        several = zip(thresholds, scores, strict=True) if len(thresholds) > 1 else ()
        self.threshold_scores_ = dict(several)
        self.held_out_ = held_out[best]
        self.voxel_r_ = self._judge(x, targets, labels)
        self.selected_ = self._above(self.voxel_r_, self.threshold_)
        rows = np.arange(len(x))
        ridge = self._ridge(rows, labels).fit(x[:, self.selected_], targets, labels)
        self.alphas_, self.alpha_ = np.asarray(self.alphas, np.float64), np.asarray(ridge.alpha_)
        if hasattr(self, "cv_scores_"):
            del self.cv_scores_
        if len(self.alphas_) > 1:
            self.cv_scores_ = ridge.cv_scores_
        self.n_features_in_ = x.shape[1]
        self._map = FewColumns(self.selected_, *ridge.weights(), x.shape[1])
        self._map.write_sparse(self)
        logger.info("%d voxels above r = %g", len(self.selected_), self.threshold_)
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
        """Return dense weights (n_features, n_targets) and bias (n_targets,)."""
        self._check_fitted()
        return self._map.weights()

    def _check_fitted(self) -> None:
        if not hasattr(self, "selected_"):
            raise SettingError("This EncodingSelected is not fitted. Call fit first.")

    def _check(self) -> tuple[float, ...]:
        values = np.atleast_1d(np.asarray(self.thresholds, np.float64))
        if values.ndim != 1 or not len(values) or not np.all(np.abs(values) < 1):
            raise SettingError(
                f"Expected thresholds of r between -1 and 1, got {self.thresholds!r}."
            )
        if self.n_min < 1 or self.inner_cv < 2:
            raise SettingError(
                f"Expected n_min of 1 and inner_cv of 2 at least, got {self.n_min} and "
                f"{self.inner_cv}."
            )
        if self.metric not in get_args(_Metric):
            raise SettingError(
                f"Expected metric to be one of {get_args(_Metric)}, got {self.metric!r}."
            )
        return tuple(float(value) for value in np.unique(values))

    def _judge(
        self, x: NDArray[Any], y: NDArray[Any], groups: NDArray[Any] | None
    ) -> NDArray[np.float64]:
        """Return the held-out r of each voxel within these rows."""
        n_folds = min(self.inner_cv, _most_folds(len(x), groups))
        return cross_validated_r(
            y, x, groups=groups, alphas=self.encoding_alphas, cv=n_folds, inner_cv=self.inner_cv
        )

    def _above(self, r: NDArray[np.float64], threshold: float) -> NDArray[np.intp]:
        """Return the voxels above a threshold, or the best few, in rising order."""
        kept = np.flatnonzero(r > threshold)
        if len(kept) < self.n_min:
            kept = np.sort(np.argsort(-r, kind="stable")[: self.n_min])
        return np.asarray(kept, np.intp)

    def _ridge(self, rows: NDArray[np.intp], groups: NDArray[Any] | None) -> Ridge:
        return Ridge(self.alphas, cv=min(self.inner_cv, _most_folds(len(rows), groups)))

    def _score(self, predicted: NDArray[Any], y: NDArray[Any], folds: Folds) -> float:
        """Return the score of held-out predictions, mean over rows."""
        if self.metric == "identification":
            found, n = 0.0, 0
            for _, test in folds:
                _, same = np.unique(y[test], axis=0, return_inverse=True)
                other = same[:, None] != same
                if other.any(axis=1).all():
                    similarity = correlations(predicted[test], y[test])
                    score = identification(similarity, candidates=other)
                    found, n = found + score.ties_half * len(test), n + len(test)
            if n:
                return found / n
        return float(np.mean(fold_correlations(predicted, y, folds=folds)))


def _most_folds(n: int, groups: NDArray[Any] | None) -> int:
    return n if groups is None else len(np.unique(groups))
