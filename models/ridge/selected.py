"""Ridge regression on the few features most correlated with each target, chosen inside the folds.

The decoder of C2F-LDM and of Kamitani's pipelines (PyFastL2LiR), with its penalty chosen by
cross-validation; weights are kept sparse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.ridge.folds import Folds, make_folds
from models.ridge.gram import is_finite
from models.ridge.selected_solver import GramSource, InterceptKind, Shrinkage, fit_parts, score_part
from models.ridge.selection import Array, Columns, Rows, select_in_parts
from models.ridge.small_systems import usable_cores

__all__ = ["SelectedRidge"]

_ALPHAS = tuple(float(alpha) for alpha in np.logspace(2, 7, 20))


class SelectedRidge:
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
        Penalties to choose from, each 0 or more; the largest wins a tie. With one there is nothing
        to choose and no cross-validation.
    cv : int, iterable of (training, held-out) indices, or splitter
        As `models.ridge.folds.make_folds`.
    alpha_per_target : bool
        One penalty for each target, or the one for all that has the largest mean R^2.
    fit_intercept : bool
        If not, data are taken as centred.
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
    intercept_ : array of shape (n_targets,), or float for a single target
    alpha_ : array of shape (n_targets,), or float for a single target or a shared penalty
    alphas_ : array of shape (n_alphas,)
        The penalties, falling.
    cv_scores_ : array of shape (n_alphas, n_targets)
        R^2 on held-out samples, 1 - sum (y - prediction)^2 / sum (y - training mean)^2; in the
        order of `alphas_`. Absent with one alpha and without `keep_held_out`.
    held_out_ : array of shape (n, n_targets) or (n,)
        Prediction of each sample at the chosen penalty by the fold that held it out, NaN where none
        did; only with `keep_held_out`.
    n_features_in_ : int
    """

    def __init__(
        self,
        n_selected: int = 500,
        alphas: Sequence[float] = _ALPHAS,
        *,
        cv: int | Iterable[Sequence[Any]] | Any = 5,
        alpha_per_target: bool = True,
        fit_intercept: bool = True,
        penalise_bias: bool = False,
        keep_held_out: bool = False,
        n_threads: int | None = None,
    ) -> None:
        self.n_selected = n_selected
        self.alphas = alphas
        self.cv = cv
        self.alpha_per_target = alpha_per_target
        self.fit_intercept = fit_intercept
        self.penalise_bias = penalise_bias
        self.keep_held_out = keep_held_out
        self.n_threads = n_threads

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the constructor (scikit-learn's contract)."""
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the constructor.

        Raises
        ------
        SettingError
            If there is none of that name.
        """
        for name, value in params.items():
            if name not in _PARAMETERS:
                raise SettingError(
                    f"SelectedRidge has no parameter {name!r}; it knows {sorted(_PARAMETERS)}."
                )
            setattr(self, name, value)
        return self

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Select and fit, and before that choose the penalties if there are several.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            float32 is computed in float32, everything else in float64.
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
        x, targets = _check_data(X, y)
        alphas, k, n_threads = self._check_settings(x.shape[1])
        scored = len(alphas) > 1 or self.keep_held_out
        folds = make_folds(self.cv, len(x), groups=groups) if scored else []
        order = _fold_order(folds, len(x))
        data = _columns(x, targets, order)
        shrinkage = Shrinkage(self._intercept_kind())
        parts, whole = select_in_parts(data, _positions(folds, order), k)
        grams = GramSource(data, [*parts, whole])

        n_targets = targets.shape[1]
        best = np.zeros(n_targets, np.intp)
        kept = None
        if scored:
            if self.keep_held_out:
                kept = np.full((len(alphas), n_targets, data.n), np.nan, x.dtype)
            error, spread = np.zeros((len(alphas), n_targets)), np.zeros(n_targets)
            for part in parts:
                error += score_part(
                    data, part, grams, alphas,
                    shrinkage=shrinkage, n_threads=n_threads, predictions=kept,
                )  # fmt: skip
                y_out = data.y[:, part.held_out] - part.y_mean[:, np.newaxis]
                spread += np.einsum("tn,tn->t", y_out, y_out)
            explained = np.divide(error, spread, out=np.ones_like(error), where=spread > 0)
            self.cv_scores_ = 1.0 - explained
            if self.alpha_per_target:
                best = np.argmax(self.cv_scores_, axis=0)
            else:
                best[:] = np.argmax(self.cv_scores_.mean(axis=1))
        chosen = alphas[best]
        values, intercept = fit_parts(
            data, whole, grams, chosen, shrinkage=shrinkage, n_threads=n_threads
        )
        single = np.ndim(y) == 1
        self.alphas_, self.n_features_in_ = alphas, x.shape[1]
        self.indices_, self.values_ = whole.indices, values
        self.intercept_ = float(intercept[0]) if single else intercept.astype(x.dtype)
        self.alpha_ = float(chosen[0]) if single or not self.alpha_per_target else chosen
        self._single = single
        if kept is not None:
            held_out = kept[best, np.arange(n_targets)] + data.y_mean[:, np.newaxis].astype(x.dtype)
            self.held_out_ = np.empty((len(x), n_targets), x.dtype)
            self.held_out_[order] = held_out.T
            if single:
                self.held_out_ = self.held_out_[:, 0]
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

    def _check_settings(self, n_features: int) -> tuple[NDArray[np.float64], int, int]:
        """Return alphas in falling order, features per target, and threads."""
        alphas = np.array(sorted({float(alpha) for alpha in self.alphas}, reverse=True))
        if alphas.size == 0 or not np.isfinite(alphas).all() or alphas[-1] < 0:
            raise SettingError(f"Expected alphas of 0 or more, got {list(self.alphas)}.")
        if self.n_selected < 1:
            raise SettingError(f"Expected n_selected of at least 1, got {self.n_selected}.")
        if self.penalise_bias and not self.fit_intercept:
            raise SettingError("penalise_bias needs an intercept; set fit_intercept=True.")
        n_threads = usable_cores() if self.n_threads is None else self.n_threads
        if n_threads < 1:
            raise SettingError(f"Expected n_threads of at least 1, got {self.n_threads}.")
        return alphas, min(int(self.n_selected), n_features), int(n_threads)


_PARAMETERS = (
    "n_selected",
    "alphas",
    "cv",
    "alpha_per_target",
    "fit_intercept",
    "penalise_bias",
    "keep_held_out",
    "n_threads",
)


def _check_data(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Return X and y, both float32 if X is, and y with two dimensions."""
    features = np.asarray(x)
    dtype = np.float32 if features.dtype == np.float32 else np.float64
    features, targets = np.asarray(features, dtype), np.asarray(y, dtype)
    if features.ndim != 2 or targets.ndim not in (1, 2) or len(features) != len(targets):
        raise SettingError(
            "Expected X of shape (n_samples, n_features) and y of shape (n_samples, n_targets), "
            f"got {features.shape} and {targets.shape}."
        )
    if 0 in features.shape or 0 in targets.shape:
        raise SettingError(
            "Expected at least one sample, feature and target, got X of shape "
            f"{features.shape} and y of shape {targets.shape}."
        )
    if not (is_finite(features) and is_finite(targets)):
        raise SettingError("Expected finite values; leave out samples with NaN or infinity first.")
    return features, targets if targets.ndim == 2 else targets[:, np.newaxis]


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
    x_mean, y_mean = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    turned = np.empty((x.shape[1], len(order)), x.dtype)
    step = max(1, (16 << 20) // max(1, x.shape[1] * x.itemsize))
    for start in range(0, len(order), step):  # by rows, which lie together in x
        rows = order[start : start + step]
        turned[:, start : start + step] = (x[rows] - x_mean.astype(x.dtype)).T
    # What rounding of the mean left, so that later sums start from zero.
    rest = turned.mean(axis=1, dtype=np.float64)
    turned -= rest.astype(x.dtype)[:, np.newaxis]
    y_turned = np.ascontiguousarray((y[order] - y_mean.astype(y.dtype)).T)
    return Columns(turned, y_turned, x_mean.astype(x.dtype) + rest, y_mean.astype(y.dtype) * 1.0)
