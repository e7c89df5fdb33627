"""The best that a linear decoder can do, when responses and noise are known.

Two bounds: `best_linear_decoder` knows responses and noise, what a fit comes to with endless data;
`trained_score` is ridge regression on as much data as there is, its penalty chosen knowing the
truth. A fit that chooses its own penalty should come close to the second, and with more and more
data to the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.scores import correlations, identification
from models.errors import SettingError

__all__ = [
    "LinearDecoder",
    "OracleScore",
    "ar1_mean_variance",
    "best_linear_decoder",
    "expected_score",
    "trained_score",
]

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class LinearDecoder:
    """y = x @ weights + bias."""

    weights: NDArray[np.float64]  # (n_voxels, n_targets)
    bias: NDArray[np.float64]  # (n_targets,)

    def predict(self, x: Array) -> NDArray[np.float64]:
        """Return the decoded targets: (n, n_targets)."""
        return np.asarray(np.asarray(x, np.float64) @ self.weights + self.bias)


@dataclass(frozen=True, slots=True)
class OracleScore:
    """What the best linear decoder scores on average over noise, and how sure that is."""

    identification: float  # ties at one half
    standard_error: float  # of the average over draws of the noise
    correlation: float  # of a decoded target with its own, mean over test clips
    n: int  # test clips
    n_repetitions: int


def ar1_mean_variance(n_volumes: int, ar1: float) -> float:
    """Return the variance of the mean of n volumes of AR(1) noise of unit variance.

    1 / n^2 * sum_ij phi^|i - j|.
    """
    lag = np.arange(1, n_volumes)
    return float((n_volumes + 2.0 * np.sum((n_volumes - lag) * ar1**lag)) / n_volumes**2)


def best_linear_decoder(response: Array, targets: Array, noise: Array) -> LinearDecoder:
    """Return the linear decoder of the smallest expected squared error.

    W = (S_xx + N)^-1 S_xy with the covariances S of the responses without noise and N of the noise:
    what ridge regression comes to with endless repetitions of these stimuli.

    Parameters
    ----------
    response : array of shape (n, n_voxels)
        Features without noise.
    targets : array of shape (n, n_targets)
    noise : array of shape (n_voxels, n_voxels)
        Covariance of the noise of these features; positive definite.

    Returns
    -------
    decoder : LinearDecoder

    Raises
    ------
    SettingError
        If the shapes do not fit.
    """
    x, y = np.asarray(response, np.float64), np.asarray(targets, np.float64)
    n, n_voxels = x.shape
    if y.ndim != 2 or len(y) != n or noise.shape != (n_voxels, n_voxels) or n < 2:
        raise SettingError(
            "A linear decoder needs 2 rows or more, as many targets, and a covariance of its "
            f"voxels, got {x.shape}, {y.shape} and {noise.shape}."
        )
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    u, s, vt = np.linalg.svd((x - x_mean) / np.sqrt(n), full_matrices=False)
    kept = s > 1e-9 * max(float(s[0]), 1e-300)
    if not kept.any() or s[0] < 1e-12:
        return LinearDecoder(np.zeros((n_voxels, y.shape[1])), y_mean)
    # S_xx = A'A, S_xy = A'L; (A'A + N)^-1 A' = N^-1 A' (1 + A N^-1 A')^-1: small systems.
    a = s[kept, None] * vt[kept]
    right = u[:, kept].T @ ((y - y_mean) / np.sqrt(n))
    from scipy.linalg import cho_factor, cho_solve

    whitened = cho_solve(cho_factor(noise, lower=True), a.T)  # N^-1 A': (n_voxels, r)
    weights = whitened @ np.linalg.solve(np.eye(len(a)) + a @ whitened, right)
    return LinearDecoder(weights, y_mean - x_mean @ weights)


def expected_score(
    decoder: LinearDecoder,
    response: Array,
    targets: Array,
    noise: Array,
    *,
    n_repetitions: int = 1,
    n_draws: int = 200,
    seed: int = 0,
) -> OracleScore:
    """Return what a decoder scores on average over the noise of new measurements (Monte Carlo).

    Parameters
    ----------
    decoder : LinearDecoder
    response : array of shape (n, n_voxels)
        Features of the test clips without noise.
    targets : array of shape (n, n_targets)
    noise : array of shape (n_voxels, n_voxels)
        Covariance of the noise of one measurement.
    n_repetitions : int
        Measurements that are averaged.
    n_draws : int
        Times that all test clips are measured.
    seed : int

    Returns
    -------
    score : OracleScore
    """
    rng = np.random.default_rng(seed)
    clean = decoder.predict(response)
    # Decoding is linear: the noise of the decoded targets is drawn, not that of all voxels.
    spread = decoder.weights.T @ noise @ decoder.weights / n_repetitions
    value, vector = np.linalg.eigh((spread + spread.T) / 2.0)
    root = vector * np.sqrt(np.maximum(value, 0.0))
    scores, r = np.empty(n_draws), np.empty(n_draws)
    for k in range(n_draws):
        decoded = clean + rng.standard_normal(clean.shape) @ root.T
        alike = correlations(decoded, targets)
        scores[k] = identification(alike).ties_half
        r[k] = np.mean(np.diagonal(alike))
    error = float(np.std(scores, ddof=1) / np.sqrt(n_draws)) if n_draws > 1 else float("nan")
    return OracleScore(float(scores.mean()), error, float(r.mean()), len(clean), n_repetitions)


def trained_score(
    train: tuple[Array, Array],
    test: tuple[Array, Array],
    noise: Array,
    *,
    n_repetitions: int = 1,
    n_draws: int = 20,
    seed: int = 0,
) -> OracleScore:
    """Return what ridge regression scores, on average over noise, with the best of all penalties.

    Each draw measures all training clips once and all test clips `n_repetitions` times; voxels are
    standardised by the training clips. One penalty for all targets, from 1e-5 to 1e3 times the
    number of voxels times that of clips, is chosen by its mean score in the test itself.

    Parameters
    ----------
    train, test : pairs of arrays of shapes (n, n_voxels) and (n, n_targets)
        Features without noise, and targets.
    noise : array of shape (n_voxels, n_voxels)
        Covariance of the noise of one measurement; positive definite.
    n_repetitions, n_draws, seed : int
        See `expected_score`.
    """
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(noise)
    (x_train, y_train), (x_test, y_test) = train, test
    y_mean = y_train.mean(axis=0)
    ratios = np.logspace(-5.0, 3.0, 33)
    scores, r = np.empty((n_draws, len(ratios))), np.empty((n_draws, len(ratios)))
    for k in range(n_draws):
        x = x_train + rng.standard_normal(x_train.shape) @ root.T
        new = x_test + rng.standard_normal(x_test.shape) @ root.T / np.sqrt(n_repetitions)
        mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
        x, new = (x - mean) / scale, (new - mean) / scale
        value, vector = np.linalg.eigh(x @ x.T)
        left, right = (new @ x.T) @ vector, vector.T @ (y_train - y_mean)
        for j, ratio in enumerate(ratios):
            penalty = ratio * x.size
            alike = correlations((left / (np.maximum(value, 0.0) + penalty)) @ right, y_test)
            scores[k, j] = identification(alike).ties_half
            r[k, j] = np.mean(np.diagonal(alike))
    best = int(np.argmax(scores.mean(axis=0)))
    error = float(np.std(scores[:, best], ddof=1) / np.sqrt(n_draws)) if n_draws > 1 else np.nan
    return OracleScore(
        float(scores[:, best].mean()), error, float(r[:, best].mean()), len(x_test), n_repetitions
    )
