"""Ridge regression on the few features most correlated with each target, chosen inside the folds.

The decoder of C2F-LDM and of Kamitani's pipelines (PyFastL2LiR), with its penalty chosen by
cross-validation; weights are kept sparse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from models.errors import SettingError
from models.ridge.estimator import check_alphas, check_data
from models.ridge.folds import Folds, make_folds
from models.ridge.gram import column_means
from models.ridge.parameters import Parameters
from models.ridge.scoring import HeldOutScores, Metric, best_alphas, check_metric
from models.ridge.selected_solver import GramSource, InterceptKind, Shrinkage, fit_parts, score_part
from models.ridge.selection import Array, Columns, Rows, select_in_parts
from models.ridge.small_systems import usable_cores

__all__ = ["SelectedRidge"]

_ALPHAS = tuple(float(alpha) for alpha in np.logspace(2, 7, 20))


class SelectedRidge(Parameters):
    """Ridge regression of each target on its `n_selected` most correlated features.

    In each training part, features are ordered by |Pearson r| with the target over that part alone,
    so held-out samples never take part in the selection; the penalty with the least squared error
    on held-out samples is then used on features selected from all samples. Selecting first and
    cross-validating afterwards finds r > 0.2 in pure noise (a test keeps it).

    Parameters
    ----------
    n_selected : int
        Features per target; all of them if there are no more.
    alphas : sequence of float
        Penalties to choose from, 0 or more. With one there is nothing to choose, and no
        cross-validation.
    cv : int, iterable of (training, held-out) indices, or splitter
        As `models.ridge.folds.make_folds`.
    alpha_per_target : bool
        One penalty for each target, or one for all: the best mean score over targets.
    fit_intercept : bool
        If not, data are taken as centred.
    metric : {"r2", "neg_mse", "correlation"}
        What held-out predictions are scored by, as in `models.ridge.estimator.Ridge`; of equal
        scores the larger alpha wins.
    dtype : float32 or float64, optional
        Of the computation; if not given, that of X (float64 where X holds integers).
    penalise_bias : bool
        Put the intercept's square into the penalty, as PyFastL2LiR does. On data that are not
        centred it is then too small: only for comparison with that package.
    keep_held_out : bool
        Keep `held_out_`; needs n_alphas times the memory of y while fitting.
    n_threads : int, optional
        Threads over targets; as many as this process may use cores if not given.

    Attributes
    ----------
    indices_ : array of shape (n_targets, k), intp
        Features of each target, rising.
    values_ : array of shape (n_targets, k), dtype of X
        Their weights.
    intercept_ : array of shape (n_targets,), or float
    alpha_ : array of shape (n_targets,), float64, or float
    cv_scores_ : array of shape (n_alphas, n_targets), float64
        Score for each of `alphas`, in their order; absent with one alpha.
    held_out_ : array of shape (n, n_targets) or (n,)
        Prediction of each sample at the chosen penalty by the fold that held it out, NaN where none
        did; only with `keep_held_out`.
    n_features_in_ : int
    """

    def __init__(
        self,
        n_selected: int = 500,
        alphas: Sequence[float] | NDArray[np.floating] = _ALPHAS,
        *,
        cv: int | Iterable[Sequence[Any]] | Any = 5,
        alpha_per_target: bool = True,
        fit_intercept: bool = True,
        metric: Metric = "r2",
        dtype: DTypeLike | None = None,
        penalise_bias: bool = False,
        keep_held_out: bool = False,
        n_threads: int | None = None,
    ) -> None:
        self.n_selected = n_selected
        self.alphas = alphas
        self.cv = cv
        self.alpha_per_target = alpha_per_target
        self.fit_intercept = fit_intercept
        self.metric = metric
        self.dtype = dtype
        self.penalise_bias = penalise_bias
        self.keep_held_out = keep_held_out
        self.n_threads = n_threads

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Select and fit, and before that choose the penalties if there are several.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples, n_targets) or (n_samples,)
        groups : array of shape (n_samples,), optional
            What must not be split between training and held-out data: run, clip or session.

        Returns
        -------
        self

        Raises
        ------
        SettingError
            If shapes do not fit, values are not finite, or settings are not usable.
        """
        x, targets = check_data(X, y, dtype=self.dtype)
        alphas = check_alphas(self.alphas)
        k, n_threads = self._check_settings(x.shape[1])
        scored = len(alphas) > 1 or self.keep_held_out
        folds = make_folds(self.cv, len(x), groups=groups) if scored else []
        order = _fold_order(folds, len(x))
        data = _columns(x, targets, order)
        shrinkage = Shrinkage(self._intercept_kind())
        parts, whole = select_in_parts(data, _positions(folds, order), k)
        grams = GramSource(data, [*parts, whole])
        for name in ("cv_scores_", "held_out_"):
            if hasattr(self, name):
                delattr(self, name)
        self._single = np.ndim(y) == 1

        chosen = np.full(targets.shape[1], alphas[0])
        if scored:
            scores = HeldOutScores(self.metric, len(alphas), data.y.T)
            shape = (len(alphas), *data.y.shape)
            kept = np.full(shape, np.nan, x.dtype) if self.keep_held_out else None
            for part in parts:
                score_part(
                    data, part, grams, alphas, scores=scores,
                    shrinkage=shrinkage, n_threads=n_threads, predictions=kept,
                )  # fmt: skip
            by_alpha = scores.result()
            best = best_alphas(by_alpha, alphas, per_target=self.alpha_per_target)
            chosen = alphas[best]
            if len(alphas) > 1:
                self.cv_scores_ = by_alpha
            if kept is not None:
                held_out = np.empty((len(x), len(best)), x.dtype)
                held_out[order] = kept[best, np.arange(len(best))].T
                held_out += data.y_mean.astype(x.dtype)
                self.held_out_ = held_out[:, 0] if self._single else held_out
        values, intercept = fit_parts(
            data, whole, grams, chosen, shrinkage=shrinkage, n_threads=n_threads
        )
        self.n_features_in_ = x.shape[1]
        self.indices_, self.values_ = whole.indices, values
        self.intercept_ = float(intercept[0]) if self._single else intercept.astype(x.dtype)
        self.alpha_ = float(chosen[0]) if self._single else chosen
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Return predictions (n_samples, n_targets), or (n_samples,) for a single target.

        Raises
        ------
        SettingError
            If the model is not fitted, or the number of features is wrong.
        """
        from scipy.sparse import csr_array

        self._check_fitted()
        x = np.asarray(X, self.values_.dtype)
        if x.ndim != 2 or x.shape[1] != self.n_features_in_:
            raise SettingError(f"Expected {self.n_features_in_} features, got shape {x.shape}.")
        n_targets, k = self.indices_.shape
        weights = csr_array(
            (self.values_.ravel(), self.indices_.ravel(), np.arange(n_targets + 1) * k),
            shape=(n_targets, self.n_features_in_),
        )
        predictions = np.ascontiguousarray((weights @ x.T).T)
        predictions += np.asarray(self.intercept_, predictions.dtype)
        return predictions[:, 0] if self._single else predictions

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return R^2, averaged over targets; a target without variance counts as 0."""
        truth = np.asarray(y, np.float64)
        residual = ((truth - self.predict(X)) ** 2).sum(axis=0)
        total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
        explained = np.divide(residual, total, out=np.ones_like(residual), where=total > 0)
        return float(np.mean(1.0 - explained))

    def weights(self) -> tuple[Array, Array]:
        """Return the decoder as dense (n_features, n_targets) weights and (n_targets,) bias."""
        self._check_fitted()
        dense = np.zeros((self.n_features_in_, len(self.indices_)), self.values_.dtype)
        np.put_along_axis(dense, self.indices_.T, self.values_.T, axis=0)
        return dense, np.atleast_1d(np.asarray(self.intercept_, dense.dtype))

    @property
    def coef_(self) -> Array:
        """Dense weights (n_targets, n_features), or (n_features,), made anew at each call."""
        dense = self.weights()[0]
        return dense[:, 0] if self._single else np.ascontiguousarray(dense.T)

    def _check_fitted(self) -> None:
        if not hasattr(self, "values_"):
            raise SettingError("This SelectedRidge is not fitted. Call fit first.")

    def _intercept_kind(self) -> InterceptKind:
        if not self.fit_intercept:
            return "none"
        return "penalised" if self.penalise_bias else "free"

    def _check_settings(self, n_features: int) -> tuple[int, int]:
        """Return features per target, and threads."""
        check_metric(self.metric)
        if self.n_selected < 1:
            raise SettingError(f"Expected n_selected of at least 1, got {self.n_selected}.")
        if self.penalise_bias and not self.fit_intercept:
            raise SettingError("penalise_bias needs an intercept; set fit_intercept=True.")
        n_threads = usable_cores() if self.n_threads is None else self.n_threads
        if n_threads < 1:
            raise SettingError(f"Expected n_threads of at least 1, got {self.n_threads}.")
        return min(int(self.n_selected), n_features), int(n_threads)


def _fold_order(folds: Folds, n: int) -> NDArray[np.intp]:
    """Return an order of samples in which each fold's held-out ones lie together, if there is one.

    Then what a fold leaves out is a view of the data, not a copy.
    """
    held_out = np.concatenate([test for _, test in folds]) if folds else np.arange(n)
    if len(held_out) == n and len(np.unique(held_out)) == n:
        return np.asarray(held_out, np.intp)
    return np.arange(n, dtype=np.intp)


def _positions(folds: Folds, order: NDArray[np.intp]) -> list[tuple[Rows, Rows]]:
    """Return (left out of training, held out) of each fold as positions in `order`."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    positions = []
    for train, test in folds:
        trained = np.zeros(len(order), bool)
        trained[place[train]] = True
        positions.append((_rows(np.flatnonzero(~trained)), _rows(np.sort(place[test]))))
    return positions


def _rows(index: NDArray[np.intp]) -> Rows:
    """Return a slice where indices follow one another."""
    if len(index) and index[-1] - index[0] + 1 == len(index):
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def _columns(x: Array, y: Array, order: NDArray[np.intp]) -> Columns:
    """Return the data less their means, samples in `order`, turned so that features are rows."""
    x_mean, y_mean = column_means(x, wanted=True), column_means(y, wanted=True)
    turned = np.empty((x.shape[1], len(order)), x.dtype)
    step = max(1, (16 << 20) // max(1, x.shape[1] * x.itemsize))
    for start in range(0, len(order), step):  # by rows, which lie together in x
        turned[:, start : start + step] = (x[order[start : start + step]] - x_mean).T
    targets = np.ascontiguousarray((y[order] - y_mean).T)
    # A constant target is exactly 0, not nearly: all penalties then tie.
    targets[np.ptp(y, axis=0) == 0] = 0
    return Columns(turned, targets, x_mean.astype(np.float64), y_mean.astype(np.float64))
