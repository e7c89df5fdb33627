"""Banded ridge: each group of columns has a penalty of its own, found by a seeded random search.

Feature spaces that predict unequally well should not be shrunk alike (Nunez-Elizalde, Huth and
Gallant 2019, "Voxelwise encoding models with non-spherical multivariate normal priors", NeuroImage
197:482; Dupre la Tour et al. 2022, "Feature-space selection with banded ridge regression",
NeuroImage 264:119728).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from models.errors import SettingError
from models.ridge.banded_solver import BandedEngine
from models.ridge.estimator import DEFAULT_ALPHAS, check_alphas, check_data
from models.ridge.folds import make_folds
from models.ridge.gram import Array
from models.ridge.parameters import Parameters
from models.ridge.path import AlphaPath
from models.ridge.scoring import HeldOutScores, Metric, best_alphas, check_metric

__all__ = ["BandedRidge", "check_bands", "simplex_candidates"]

logger = logging.getLogger(__name__)


def simplex_candidates(
    n_bands: int,
    n_candidates: int,
    *,
    rng: np.random.Generator,
    concentrations: Sequence[float] = (0.1, 1.0),
) -> NDArray[np.float64]:
    """Return weights of bands to try: equal ones, each band alone, then random ones.

    Parameters
    ----------
    n_bands, n_candidates : int
    rng : numpy Generator
    concentrations : sequence of float
        Of the Dirichlet distributions that take turns: below 1 prefers few bands, 1 is uniform on
        the simplex.

    Returns
    -------
    weights : array of shape (n_candidates, n_bands), float64
        Rows sum to 1.
    """
    if n_bands == 1:
        return np.ones((1, 1))
    rows = [np.full(n_bands, 1.0 / n_bands), *np.eye(n_bands)]
    while len(rows) < n_candidates:
        concentration = concentrations[len(rows) % len(concentrations)]
        rows.append(rng.dirichlet(np.full(n_bands, concentration)))
    return np.array(rows[: max(1, n_candidates)])


class BandedRidge(Parameters):
    """Ridge whose penalty differs between bands: sum of squares + sum_b (alpha / g_b) |w_b|^2.

    With n_candidates weights g on the simplex, and all alphas for each, every target takes the pair
    that predicts held-out groups best.

    Parameters
    ----------
    bands : sequence of index arrays or slices, or mapping of name to them
        Columns of each band; together every column once.
    alphas : sequence of float
    weights : array of shape (n_bands,) or (n_candidates, n_bands), optional
        Weights g to try instead of random ones, 0 or more. One row: nothing but alpha is chosen.
    n_candidates : int
        Weights to try if none are given: equal ones, each band alone, and random ones.
    concentrations : sequence of float
        Dirichlet concentrations of the random ones.
    cv, alpha_per_target, fit_intercept, metric, dtype, keep_held_out
        As `models.ridge.estimator.Ridge`. If penalties are shared by all targets, so is g.
    random_state : int
        Seed of the random weights.

    Attributes
    ----------
    coef_ : array of shape (n_targets, n_features), or (n_features,) for a 1-D y
    intercept_ : array of shape (n_targets,), or float
    alpha_ : array of shape (n_targets,), float64, or float
    band_weights_ : array of shape (n_targets, n_bands), float64
        g of each target. Its penalties are ``alpha_[:, None] / band_weights_``; in himalaya's
        terms, deltas = log(band_weights_ / alpha_).
    cv_scores_ : array of shape (n_candidates, n_targets), float64
        Best score over alphas for each of `candidates_`.
    candidates_ : array of shape (n_candidates, n_bands), float64
    held_out_ : array of shape (n_samples, n_targets) or (n_samples,)
        If kept, as `Ridge`.
    n_features_in_ : int
    """

    def __init__(
        self,
        bands: Sequence[Any] | Mapping[str, Any],
        alphas: Sequence[float] | NDArray[np.floating] = DEFAULT_ALPHAS,
        *,
        weights: ArrayLike | None = None,
        n_candidates: int = 100,
        concentrations: Sequence[float] = (0.1, 1.0),
        cv: int | Iterable[Sequence[Any]] | Any = 5,
        alpha_per_target: bool = True,
        fit_intercept: bool = True,
        metric: Metric = "r2",
        dtype: DTypeLike | None = None,
        keep_held_out: bool = False,
        random_state: int = 0,
    ) -> None:
        self.bands = bands
        self.alphas = alphas
        self.weights = weights
        self.n_candidates = n_candidates
        self.concentrations = concentrations
        self.cv = cv
        self.alpha_per_target = alpha_per_target
        self.fit_intercept = fit_intercept
        self.metric = metric
        self.dtype = dtype
        self.keep_held_out = keep_held_out
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Search weights and penalties, then fit all samples with the chosen ones.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples, n_targets) or (n_samples,)
        groups : array of shape (n_samples,), optional
            What must not be split between training and held-out data.

        Raises
        ------
        SettingError
            If shapes do not fit, values are not finite, or settings are not usable.
        """
        x, targets = check_data(X, y, dtype=self.dtype)
        bands = check_bands(self.bands, x.shape[1])
        alphas = check_alphas(self.alphas)
        check_metric(self.metric)
        candidates = self._candidates(len(bands))
        for name in ("cv_scores_", "held_out_"):
            if hasattr(self, name):
                delattr(self, name)
        self._single = np.ndim(y) == 1
        engine = BandedEngine(x, targets, bands, fit_intercept=self.fit_intercept)
        n_targets = targets.shape[1]
        which, chosen = np.zeros(n_targets, np.intp), np.full(n_targets, alphas[0])
        if len(candidates) * len(alphas) > 1 or self.keep_held_out:
            which, chosen = self._search(engine, targets, candidates, alphas, groups)
        self.coef_ = np.empty((n_targets, x.shape[1]), x.dtype)
        intercept = np.empty(n_targets, x.dtype)
        for number in np.unique(which):
            mine = np.flatnonzero(which == number)
            self.coef_[mine], intercept[mine] = engine.weights(
                mine, chosen[mine], candidates[number]
            )
        self.candidates_, self.band_weights_ = candidates, candidates[which]
        self.n_features_in_ = x.shape[1]
        self.intercept_ = float(intercept[0]) if self._single else intercept
        self.alpha_ = float(chosen[0]) if self._single else chosen
        if self._single:
            self.coef_ = self.coef_[0]
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Return predictions (n_samples, n_targets), or (n_samples,) after fitting a 1-D y.

        Raises
        ------
        SettingError
            If the model is not fitted, or the number of features is wrong.
        """
        x = self._check_features(X)
        predictions: Array = x @ self.coef_.T + self.intercept_
        return predictions

    def predict_bands(self, X: ArrayLike) -> Array:
        """Return what each band adds to the predictions: (n_bands, n_samples, n_targets).

        With the intercept they sum to `predict`.
        """
        x = self._check_features(X)
        coef = np.atleast_2d(self.coef_)
        bands = check_bands(self.bands, self.n_features_in_)
        return np.stack([x[:, band] @ coef[:, band].T for band in bands])

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return R^2, averaged over targets; a target without variance counts as 0."""
        truth = np.asarray(y, np.float64)
        residual = ((truth - self.predict(X)) ** 2).sum(axis=0)
        total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
        explained = np.divide(residual, total, out=np.ones_like(residual), where=total > 0)
        return float(np.mean(1.0 - explained))

    def _check_features(self, x: ArrayLike) -> Array:
        if not hasattr(self, "coef_"):
            raise SettingError("This BandedRidge is not fitted. Call fit first.")
        features = np.asarray(x)
        if features.ndim != 2 or features.shape[1] != self.n_features_in_:
            raise SettingError(
                f"Expected {self.n_features_in_} features, got shape {features.shape}."
            )
        return features

    def _candidates(self, n_bands: int) -> NDArray[np.float64]:
        if self.weights is None:
            if self.n_candidates < 1 or not all(value > 0 for value in self.concentrations):
                raise SettingError(
                    "Expected n_candidates of at least 1 and concentrations above 0, got "
                    f"{self.n_candidates} and {list(self.concentrations)}."
                )
            return simplex_candidates(
                n_bands,
                self.n_candidates,
                rng=np.random.default_rng(self.random_state),
                concentrations=self.concentrations,
            )
        weights = np.atleast_2d(np.asarray(self.weights, np.float64))
        usable = weights.ndim == 2 and weights.shape[1] == n_bands and np.isfinite(weights).all()
        if not usable or weights.min() < 0 or not weights.any(axis=1).all():
            raise SettingError(
                f"Expected weights (n_candidates, {n_bands}) of 0 or more, some above 0 in each "
                f"row, got {self.weights!r}."
            )
        return weights

    def _search(
        self,
        engine: BandedEngine,
        y: Array,
        candidates: NDArray[np.float64],
        alphas: NDArray[np.float64],
        groups: ArrayLike | None,
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the candidate and the penalty of each target."""
        folds = make_folds(self.cv, len(y), groups=groups)
        distinct = np.unique(alphas)
        path = AlphaPath.of(distinct, y.dtype)
        every = np.arange(y.shape[1])
        table = np.empty((len(candidates), y.shape[1]))
        best = np.empty((len(candidates), y.shape[1]), np.intp)
        kept = np.full(y.shape, np.nan, y.dtype) if self.keep_held_out else None
        top = np.full(y.shape[1], -np.inf)
        for number, weights in enumerate(candidates):
            scores = HeldOutScores(self.metric, len(distinct), y)
            mine = np.full((len(distinct), *y.shape), np.nan, y.dtype) if kept is not None else None
            for rows, columns, predictions in engine.held_out(folds, path, weights):
                scores.add(rows, columns, predictions)
                if mine is not None:
                    mine[:, rows, columns] = predictions
            result = scores.result()
            best[number] = best_alphas(result, distinct, per_target=self.alpha_per_target)
            table[number] = result[best[number], every]
            score = (
                table[number]
                if self.alpha_per_target
                else np.full(len(every), table[number].mean())
            )
            better = score > top
            top[better] = score[better]
            if kept is not None and mine is not None:
                kept[:, better] = mine[best[number, better], :, every[better]].T
            logger.debug(
                "candidate %d of %d: mean score %g", number + 1, len(candidates), score.mean()
            )
        self.cv_scores_ = table
        merit = table if self.alpha_per_target else table.mean(axis=1, keepdims=True) + 0 * table
        which = np.asarray(np.argmax(merit, axis=0), np.intp)  # of equal ones the first
        if kept is not None:
            self.held_out_ = kept[:, 0] if self._single else kept
        return which, distinct[best[which, every]]


def check_bands(
    bands: Sequence[Any] | Mapping[str, Any], n_features: int
) -> list[NDArray[np.intp]]:
    """Return the columns of each band.

    Raises
    ------
    SettingError
        If a band is empty, or a column is in no band or in two.
    """
    each = list(bands.values()) if isinstance(bands, Mapping) else list(bands)
    columns = np.arange(n_features)
    try:
        chosen = [np.asarray(np.atleast_1d(columns[band]), np.intp) for band in each]
    except IndexError as error:
        raise SettingError(f"A band names columns that X, with {n_features}, lacks.") from error
    if not chosen or not all(band.size for band in chosen):
        raise SettingError("Expected bands, each with at least one column of X.")
    times = np.bincount(np.concatenate(chosen), minlength=n_features)
    if (times != 1).any():
        raise SettingError(
            f"Expected every column of X in one band; {int((times == 0).sum())} are in none and "
            f"{int((times > 1).sum())} in more than one."
        )
    return chosen
