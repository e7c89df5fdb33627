"""Ridge regression in closed form, its penalty chosen by cross-validation over groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError

__all__ = ["Ridge", "group_folds", "ridge_path"]

_ALPHAS = tuple(float(alpha) for alpha in np.logspace(-2, 6, 17))


def ridge_path(
    x: NDArray[np.float64], y: NDArray[np.float64], alphas: Sequence[float]
) -> Iterator[NDArray[np.float64]]:
    """Yield the weights argmin |x w - y|^2 + alpha |w|^2 for each alpha, from one decomposition.

    Parameters
    ----------
    x : array of shape (n_samples, n_features)
    y : array of shape (n_samples, n_targets)
    alphas : sequence of float
        Penalties; where 0, directions without variance get no weight.

    Yields
    ------
    weights : array of shape (n_features, n_targets)
    """
    back, values, rotated = _decompose(x, y)
    for alpha in alphas:
        yield back @ (_inverse(values, alpha) * rotated)


def _decompose(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return B (n_features, rank), l (rank,) and R (rank, n_targets): w = B (R / (l + alpha)).

    From the smaller of the two Gram matrices, Q L Q': w = Q (L + alpha)^-1 Q' x'y from x'x, or
    w = x' Q (L + alpha)^-1 Q' y from x x'.
    """
    n_samples, n_features = x.shape
    wide = n_features > n_samples
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    rotated = vectors.T @ (y if wide else x.T @ y)
    back = x.T @ vectors if wide else vectors
    # Rounding leaves null directions at about eps times the largest, of either sign.
    null = values <= max(x.shape) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    return back, np.where(null, 0.0, values), rotated


def _inverse(values: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """1 / (values + alpha) as a column, 0 where that is 0."""
    total = values + alpha
    return np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)[:, np.newaxis]


def group_folds(
    n_samples: int, n_folds: int, *, groups: ArrayLike | None = None
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return (training, held-out) indices of each fold; a group is never in both.

    Groups are dealt out from the largest to the smallest, each to the fold with fewest samples.
    Without groups the folds are successive blocks, since neighbours in time are alike.

    Parameters
    ----------
    n_samples, n_folds : int
    groups : array of shape (n_samples,), optional
        A label for each sample: its run, clip or session.

    Returns
    -------
    folds : list of (training, held-out)

    Raises
    ------
    SettingError
        If there are fewer groups (or samples) than folds, or labels and samples differ in number.
    """
    if groups is None:
        fold_of_sample = np.arange(n_samples) * n_folds // max(n_samples, 1)
        n_groups = n_samples
    else:
        labels = np.asarray(groups)
        if labels.shape != (n_samples,):
            raise SettingError(f"Expected a group label for each of {n_samples} samples.")
        _, group_of_sample, counts = np.unique(labels, return_inverse=True, return_counts=True)
        n_groups = len(counts)
        fold_of_group, load = np.zeros(n_groups, dtype=np.intp), np.zeros(n_folds)
        for group in np.argsort(-counts, kind="stable"):
            fold_of_group[group] = np.argmin(load)
            load[fold_of_group[group]] += counts[group]
        fold_of_sample = fold_of_group[group_of_sample]
    if not 2 <= n_folds <= n_groups:
        raise SettingError(
            f"Expected 2 to {n_groups} folds for {n_groups} groups, got {n_folds}. Lower cv, give "
            "finer groups, or give one alpha, which needs no cross-validation."
        )
    return [
        (np.flatnonzero(fold_of_sample != fold), np.flatnonzero(fold_of_sample == fold))
        for fold in range(n_folds)
    ]


class Ridge:
    """Ridge regression with an unpenalised intercept, by scikit-learn's contract.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, by the squared error on held-out groups; the largest wins a tie.
        With one there is nothing to choose and no cross-validation.
    cv : int
        Folds.
    alpha_per_target : bool
        One penalty for each target, or one for all: the best for the squared error relative to
        each target's variance, so that the units of the targets do not matter.
    fit_intercept : bool
        If not, data are taken as centred.

    Attributes
    ----------
    coef_ : array of shape (n_targets, n_features), or (n_features,) for a single target
    intercept_ : array of shape (n_targets,), or float
    alpha_ : array of shape (n_targets,), or float
        The penalty of each target, or the shared one.
    cv_error_ : array of shape (n_alphas, n_targets)
        Mean squared error on held-out groups; absent with one alpha.
    n_features_in_ : int
    """

    def __init__(
        self,
        alphas: Sequence[float] = _ALPHAS,
        cv: int = 5,
        *,
        alpha_per_target: bool = True,
        fit_intercept: bool = True,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.alpha_per_target = alpha_per_target
        self.fit_intercept = fit_intercept

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the constructor (scikit-learn's contract)."""
        names = ("alphas", "cv", "alpha_per_target", "fit_intercept")
        return {name: getattr(self, name) for name in names}

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the constructor.

        Raises
        ------
        SettingError
            If there is none of that name.
        """
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise SettingError(f"Ridge has no parameter {name!r}; it knows {sorted(known)}.")
            setattr(self, name, value)
        return self

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit the weights, and before that choose the penalties if there are several.

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
        x, targets = _check_data(X, y)
        alphas = np.array(sorted({float(alpha) for alpha in self.alphas}, reverse=True))
        if alphas.size == 0 or not np.isfinite(alphas).all() or alphas[-1] < 0:
            raise SettingError(f"Expected alphas of 0 or more, got {list(self.alphas)}.")
        n_targets = targets.shape[1]
        best = np.zeros(n_targets, dtype=np.intp)
        if len(alphas) > 1:
            error = self._held_out_error(x, targets, alphas, groups)
            self.cv_error_ = error
            if self.alpha_per_target:
                best = np.argmin(error, axis=0)
            else:
                variance = targets.var(axis=0)
                weight = np.divide(1.0, variance, out=np.zeros_like(variance), where=variance > 0)
                best[:] = np.argmin(error @ weight)
        centre, offset = self._centres(x, targets)
        weights = np.empty((x.shape[1], n_targets))
        used = np.unique(best)
        path = ridge_path(x - centre, targets - offset, [float(alphas[i]) for i in used])
        for index, solution in zip(used, path, strict=True):
            weights[:, best == index] = solution[:, best == index]
        intercept = offset - centre @ weights
        chosen = alphas[best]
        self.n_features_in_ = x.shape[1]
        single = np.ndim(y) == 1
        self.coef_ = weights[:, 0] if single else np.ascontiguousarray(weights.T)
        self.intercept_ = float(intercept[0]) if single else intercept
        self.alpha_ = float(chosen[0]) if single or not self.alpha_per_target else chosen
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return predictions (n_samples, n_targets), or (n_samples,) for a single target.

        Raises
        ------
        SettingError
            If the model is not fitted, or the number of features is wrong.
        """
        if not hasattr(self, "coef_"):
            raise SettingError("This Ridge is not fitted. Call fit first.")
        x = np.asarray(X, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != self.n_features_in_:
            raise SettingError(f"Expected {self.n_features_in_} features, got shape {x.shape}.")
        predictions: NDArray[np.float64] = x @ self.coef_.T + self.intercept_
        return predictions

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return R^2, averaged over targets; a target without variance counts as 0."""
        truth = np.asarray(y, dtype=np.float64)
        residual = ((truth - self.predict(X)) ** 2).sum(axis=0)
        total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
        explained = np.divide(residual, total, out=np.ones_like(residual), where=total > 0)
        return float(np.mean(1.0 - explained))

    def _centres(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self.fit_intercept:
            return x.mean(axis=0), y.mean(axis=0)
        return np.zeros(x.shape[1]), np.zeros(y.shape[1])

    def _held_out_error(
        self,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        alphas: NDArray[np.float64],
        groups: ArrayLike | None,
    ) -> NDArray[np.float64]:
        """Mean squared error (n_alphas, n_targets) of samples held out with their group."""
        error = np.zeros((len(alphas), y.shape[1]))
        for train, test in group_folds(len(x), self.cv, groups=groups):
            centre, offset = self._centres(x[train], y[train])
            x_test, y_test = x[test] - centre, y[test] - offset
            back, values, rotated = _decompose(x[train] - centre, y[train] - offset)
            seen = x_test @ back  # (n_test, rank): each alpha then costs a small product only
            for row, alpha in zip(error, alphas, strict=True):
                row += ((y_test - seen @ (_inverse(values, alpha) * rotated)) ** 2).sum(axis=0)
        error /= len(x)
        return error


def _check_data(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    features, targets = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if features.ndim != 2 or targets.ndim not in (1, 2) or len(features) != len(targets):
        raise SettingError(
            "Expected X of shape (n_samples, n_features) and y of shape (n_samples, n_targets), "
            f"got {features.shape} and {targets.shape}."
        )
    if 0 in features.shape:
        raise SettingError(f"Expected at least one sample and one feature, got {features.shape}.")
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise SettingError("Expected finite values; leave out samples with NaN or infinity first.")
    return features, targets if targets.ndim == 2 else targets[:, np.newaxis]
