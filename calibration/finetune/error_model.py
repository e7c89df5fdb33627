"""How a decoder errs: conditions as it would decode them, drawn around true ones.

A generator that has seen only true conditions does not know what to do with decoded ones. This
model is fitted to out-of-fold predictions and draws from true conditions what the decoder would
have said: a mean, and a Gaussian around it whose covariance is of low rank plus a diagonal.

Two means. "true": the condition itself, so that the draws vary more than true conditions do.
"regressed": what the predictions are on average, given the true condition. Predictions of a
regression shrink towards the mean and know some directions only, and vary less than true ones; the
draws then have the spread of real predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["ErrorModel", "fit_error_model"]

Array = NDArray[np.float32]
_SHRINK = 1e-2  # of the regression on true conditions, share of their largest variance


@dataclass(frozen=True, slots=True, eq=False)
class ErrorModel:
    """Predictions given the truth: mean + (truth - centre) map + Gaussian."""

    shape: tuple[int, ...]  # of a condition
    centre: Array  # (d,) of the truth
    mean: Array  # (d,) of the predictions; with the map None the mean error
    reads: Array | None  # (d, r) directions of the truth that predictions follow; None: all of it
    says: Array | None  # (r, d)
    factors: Array  # (k, d): their squares are the covariance, with
    spread: Array  # (d,) on the diagonal

    def draw(self, true: NDArray[Any], rng: np.random.Generator) -> Array:
        """Return conditions as the decoder would say them, of true ones (n, *shape)."""
        rows = np.asarray(true, np.float32).reshape(len(true), -1)
        if self.reads is None or self.says is None:
            expected = rows + self.mean
        else:
            expected = (rows - self.centre) @ self.reads @ self.says + self.mean
        common = rng.standard_normal((len(rows), len(self.factors)), np.float32) @ self.factors
        own = rng.standard_normal(rows.shape, np.float32) * self.spread
        return np.asarray((expected + common + own).reshape(len(rows), *self.shape), np.float32)


def fit_error_model(
    predicted: NDArray[Any],
    true: NDArray[Any],
    *,
    rank: int = 32,
    centre: Literal["true", "regressed"] = "regressed",
) -> ErrorModel:
    """Fit an error model to predictions of windows that the decoder did not see.

    Parameters
    ----------
    predicted, true : arrays of shape (n, ...)
        Out of fold; an error model of predictions in sample would be far too small.
    rank : int
        Of the covariance, and of the map from truth to prediction.
    centre : {"true", "regressed"}
        See the module.

    Raises
    ------
    SettingError
        If shapes differ or there are fewer than 8 windows.
    """
    p = np.asarray(predicted, np.float32).reshape(len(predicted), -1)
    t = np.asarray(true, np.float32).reshape(len(true), -1)
    if p.shape != t.shape or len(p) < 8 or rank < 1:
        raise SettingError(
            "An error model needs predictions and truth of the same 8 windows or more and a rank "
            f"of at least 1, got {p.shape}, {t.shape} and {rank}."
        )
    middle, mean = t.mean(axis=0), p.mean(axis=0)
    reads = says = None
    if centre == "true":
        mean = mean - middle
        residual = p - t - mean
        lost = 1
    else:
        _, _, right = _principal(t - middle, rank)
        reads = np.ascontiguousarray(right.T)  # (d, r)
        values = (t - middle) @ reads
        gram = np.asarray(values.T @ values, np.float64)
        gram += (_SHRINK * gram.diagonal().max(initial=0.0) + 1e-9) * np.eye(len(gram))
        says = np.linalg.solve(gram, np.asarray(values.T @ (p - mean), np.float64))
        says = np.asarray(says, np.float32)
        residual = p - mean - values @ says
        lost = 1 + len(gram)
    # What the fit itself has taken up is given back.
    residual = residual * np.float32(np.sqrt(len(p) / max(len(p) - lost, 1)))
    left, powers, right = _principal(residual, rank)
    rest = residual - left * powers @ right
    n = np.float32(len(p))
    return ErrorModel(
        shape=np.asarray(predicted).shape[1:],
        centre=middle,
        mean=mean,
        reads=reads,
        says=says,
        factors=np.asarray(powers[:, None] * right / np.sqrt(n), np.float32),
        spread=np.asarray(np.sqrt(np.mean(rest**2, axis=0)), np.float32),
    )


def _principal(rows: Array, rank: int) -> tuple[Array, Array, Array]:
    """Return the leading singular vectors and values of rows: (n, k), (k,), (k, d)."""
    # By the Gram matrix of the windows, of which there are fewer than values of a condition.
    if rows.shape[1] < len(rows):
        left, powers, right = np.linalg.svd(rows, full_matrices=False)
    else:
        squares, left = np.linalg.eigh(np.asarray(rows @ rows.T, np.float64))
        squares, left = squares[::-1], np.asarray(left[:, ::-1], np.float32)
        powers = np.sqrt(np.maximum(squares, 0.0)).astype(np.float32)
        k = min(rank, int(np.sum(powers > 1e-6 * max(float(powers[0]), 1e-30))))
        left, powers = left[:, :k], powers[:k]
        right = (left / np.maximum(powers, 1e-12)).T @ rows
    k = min(rank, len(powers))
    return left[:, :k], powers[:k], np.asarray(right[:k], np.float32)
