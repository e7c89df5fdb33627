"""Ridge regression by scikit-learn's contract: exact, one penalty per target from grouped folds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from models.errors import SettingError
from models.ridge.folds import make_folds
from models.ridge.gram import Array, is_finite
from models.ridge.parameters import Parameters
from models.ridge.path import AlphaPath
from models.ridge.scoring import (
    HeldOutScores,
    Metric,
    best_alphas,
    check_metric,
)
from models.ridge.small_systems import blas_threads
from models.ridge.solver import Engine, NumpyEngine, choose_method

__all__ = ["DEFAULT_ALPHAS", "Ridge", "check_alphas", "check_data"]

DEFAULT_ALPHAS = tuple(float(alpha) for alpha in np.logspace(-2, 6, 17))
_SMALL = 2_500  # samples or features, whichever are fewer


class Ridge(Parameters):
    """Ridge regression with an unpenalised intercept: argmin |X w + b - y|^2 + alpha |w|^2.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from, 0 or more. With one there is nothing to choose, and no
        cross-validation.
    cv : int, iterable of (training, held-out) index pairs, or splitter
        Folds; a number means `models.ridge.folds.group_folds`.
    alpha_per_target : bool
        One penalty for each target, or one for all: the best mean score over targets.
    fit_intercept : bool
        If not, data are taken as centred. The means are those of the training part of each fold.
    metric : {"r2", "neg_mse", "correlation"}
        What the held-out predictions of a target, of all folds together, are scored by; of equal
        scores the larger alpha wins. "r2": 1 - sum (y - p)^2 / sum (y - mean y)^2; it chooses as
        "neg_mse" does for one target, but weighs targets alike when they share a penalty.
        "correlation": Pearson's; it does not mind a wrong scale and thus allows more penalty.
        A target without variance scores 0 (r2, correlation).
    solver : {"auto", "folds", "blocks"}
        See `models.ridge.solver`; both are exact. "auto" takes what needs fewer operations.
    dtype : float32 or float64, optional
        Of the computation; if not given, that of X (float64 where X holds integers).
    backend : {"numpy", "torch", "cuda"}
        "torch" and "cuda" compute with torch, on the processor or on an NVIDIA GPU.
    keep_held_out : bool
        Keep the held-out predictions at the chosen penalties. Takes memory for those of all
        penalties while fitting.

    Attributes
    ----------
    coef_ : array of shape (n_targets, n_features), or (n_features,) for a 1-D y
    intercept_ : array of shape (n_targets,), or float
    alpha_ : array of shape (n_targets,), float64, or float
    cv_scores_ : array of shape (n_alphas, n_targets), float64
        Score for each of `alphas`, in their order; absent with one alpha.
    held_out_ : array of shape (n_samples, n_targets), or (n_samples,)
        If kept: predictions for each sample by a model that never saw it, NaN where no fold holds
        it out.
    n_features_in_ : int
    """

    def __init__(
        self,
        alphas: Sequence[float] | NDArray[np.floating] = DEFAULT_ALPHAS,
        *,
        cv: int | Iterable[Sequence[Any]] | Any = 5,
        alpha_per_target: bool = True,
        fit_intercept: bool = True,
        metric: Metric = "r2",
        solver: Literal["auto", "folds", "blocks"] = "auto",
        dtype: DTypeLike | None = None,
        backend: Literal["numpy", "torch", "cuda"] = "numpy",
        keep_held_out: bool = False,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.alpha_per_target = alpha_per_target
        self.fit_intercept = fit_intercept
        self.metric = metric
        self.solver = solver
        self.dtype = dtype
        self.backend = backend
        self.keep_held_out = keep_held_out

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn's tools, which alone ask, what kind of estimator this is."""
        # Imported by name: nothing here needs scikit-learn.
        tags = import_module("sklearn.utils")
        return tags.Tags(
            estimator_type="regressor",
            target_tags=tags.TargetTags(required=True, multi_output=True),
            regressor_tags=tags.RegressorTags(),
        )

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit the weights, and before that choose the penalties if there are several.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples, n_targets) or (n_samples,)
        groups : array of shape (n_samples,), optional
            What must not be split between training and held-out data: run, clip or session.

        Raises
        ------
        SettingError
            If shapes do not fit, values are not finite, or settings are not usable.
        DeviceError
            If the backend cannot be had.
        """
        x, targets = check_data(X, y, dtype=self.dtype)
        alphas = check_alphas(self.alphas)
        check_metric(self.metric)
        if self.solver not in ("auto", "folds", "blocks"):
            raise SettingError(f"Expected solver 'auto', 'folds' or 'blocks', got {self.solver!r}.")
        for name in ("cv_scores_", "held_out_"):
            if hasattr(self, name):
                delattr(self, name)
        self._single = np.ndim(y) == 1
        chosen = np.full(targets.shape[1], alphas[0])
        # Small products take longer on several threads than on one: 3 times at 1,200 samples, and
        # 20 times where another program has the core that they wait for.
        with blas_threads(1) if min(x.shape) <= _SMALL else nullcontext():
            engine = self._engine(x, targets)
            if len(alphas) > 1 or self.keep_held_out:
                chosen = self._choose(engine, x, targets, alphas, groups)
            coef, intercept = engine.weights(chosen)
        self.n_features_in_ = x.shape[1]
        self.coef_ = coef[0] if self._single else coef
        self.intercept_ = float(intercept[0]) if self._single else intercept
        self.alpha_ = float(chosen[0]) if self._single else chosen
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Return predictions (n_samples, n_targets), or (n_samples,) after fitting a 1-D y.

        Raises
        ------
        SettingError
            If the model is not fitted, or the number of features is wrong.
        """
        self._check_fitted()
        x = np.asarray(X)
        if x.ndim != 2 or x.shape[1] != self.n_features_in_:
            raise SettingError(f"Expected {self.n_features_in_} features, got shape {x.shape}.")
        predictions: Array = x @ self.coef_.T + self.intercept_
        return predictions

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return R^2, averaged over targets; a target without variance counts as 0."""
        truth = np.asarray(y, dtype=np.float64)
        residual = ((truth - self.predict(X)) ** 2).sum(axis=0)
        total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
        explained = np.divide(residual, total, out=np.ones_like(residual), where=total > 0)
        return float(np.mean(1.0 - explained))

    def weights(self) -> tuple[Array, Array]:
        """Return weights (n_features, n_targets) and bias (n_targets,): x @ weights + bias.

        Raises
        ------
        SettingError
            If the model is not fitted.
        """
        self._check_fitted()
        return np.atleast_2d(self.coef_).T, np.atleast_1d(np.asarray(self.intercept_))

    def _check_fitted(self) -> None:
        if not hasattr(self, "coef_"):
            raise SettingError("This Ridge is not fitted. Call fit first.")

    def _engine(self, x: Array, y: Array) -> Engine:
        if self.backend == "numpy":
            return NumpyEngine(x, y, fit_intercept=self.fit_intercept)
        if self.backend in ("torch", "cuda"):
            from models.ridge.torch_backend import TorchEngine

            device: Literal["cpu", "cuda"] = "cuda" if self.backend == "cuda" else "cpu"
            return TorchEngine(x, y, fit_intercept=self.fit_intercept, device=device)
        raise SettingError(f"Expected backend 'numpy', 'torch' or 'cuda', got {self.backend!r}.")

    def _choose(
        self,
        engine: Engine,
        x: Array,
        y: Array,
        alphas: NDArray[np.float64],
        groups: ArrayLike | None,
    ) -> NDArray[np.float64]:
        """Return the penalty of each target; set the scores and what was asked to be kept."""
        folds = make_folds(self.cv, len(x), groups=groups)
        distinct, row_of = np.unique(alphas, return_inverse=True)
        path = AlphaPath.of(distinct, x.dtype)
        method = self.solver
        if method == "auto":
            method = choose_method(x.shape, y.shape[1], folds=folds, n_alphas=len(path.nodes))
        elif method == "blocks" and any(len(a) + len(b) != len(x) for a, b in folds):
            raise SettingError(
                "solver='blocks' expects each fold of cv to train on all samples that it does not "
                "hold out. Use solver='folds'."
            )
        scores = HeldOutScores(self.metric, len(distinct), y)
        kept = np.full((len(distinct), *y.shape), np.nan, x.dtype) if self.keep_held_out else None
        for rows, columns, predictions in engine.held_out(folds, path, method):
            if kept is not None:
                kept[:, rows, columns] = predictions
            scores.add(rows, columns, predictions)
        by_alpha = scores.result()
        best = best_alphas(by_alpha, distinct, per_target=self.alpha_per_target)
        if len(alphas) > 1:
            self.cv_scores_ = by_alpha[row_of]
        if kept is not None:
            held_out = kept[best, :, np.arange(y.shape[1])].T
            self.held_out_ = held_out[:, 0] if self._single else held_out
        return distinct[best]


def check_data(
    x: ArrayLike, y: ArrayLike, *, dtype: DTypeLike | None = None
) -> tuple[Array, Array]:
    """Return X (n_samples, n_features) and Y (n_samples, n_targets) in one floating dtype.

    Arrays that fit already are not copied. Y takes the dtype of X.

    Raises
    ------
    SettingError
        If shapes do not fit, or values are not finite.
    """
    features, targets = np.asarray(x), np.asarray(y)
    if features.ndim != 2 or targets.ndim not in (1, 2) or len(features) != len(targets):
        raise SettingError(
            "Expected X of shape (n_samples, n_features) and y of shape (n_samples, n_targets), "
            f"got {features.shape} and {targets.shape}."
        )
    if 0 in features.shape or 0 in targets.shape:
        raise SettingError(
            "Expected at least one sample, one feature and one target, got "
            f"{features.shape} and {targets.shape}."
        )
    wanted = np.dtype(dtype) if dtype is not None else features.dtype
    if dtype is None and wanted not in (np.float32, np.float64):
        wanted = np.dtype(np.float64)
    if wanted not in (np.float32, np.float64):
        raise SettingError(f"Expected dtype float32 or float64, got {wanted}.")
    features = features.astype(wanted, copy=False)
    targets = targets.reshape(len(targets), -1).astype(wanted, copy=False)
    for name, values in (("X", features), ("y", targets)):
        if not is_finite(values):
            raise SettingError(
                f"Expected finite values, but {name} holds NaN or infinity. Leave those samples or "
                "columns out, or fill them first."
            )
    return features, targets


def check_alphas(alphas: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Return penalties as an array.

    Raises
    ------
    SettingError
        If there is none, or one is negative or not finite.
    """
    values = np.asarray(alphas, np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all() or values.min() < 0:
        raise SettingError(f"Expected alphas, a list of numbers of 0 or more, got {alphas!r}.")
    return values
