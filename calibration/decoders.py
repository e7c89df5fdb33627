"""The decoders that a calibration can fit, all with one contract, and what their folds tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.config import DecoderSettings
from calibration.report.result import Curve
from models.errors import SettingError
from models.ridge.estimator import Ridge
from models.ridge.selected import SelectedRidge
from models.ridge.shared import column_correlations

__all__ = [
    "Decoder",
    "LinearDecoder",
    "alpha_curve",
    "held_out_correlation",
    "make_decoder",
    "weight_energy",
]


class Decoder(Protocol):
    """Fits features to targets; everything that it chooses, it chooses inside the folds."""

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit; rows of one group are never on both sides of a fold."""

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return predictions (n, n_targets)."""

    def weights(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return weights (n_features, n_targets) and bias (n_targets,)."""


@dataclass(slots=True, eq=False)
class LinearDecoder:
    """A fitted decoder, whatever fitted it: y = x W + b, dense or the chosen few of each target."""

    bias: NDArray[np.float64]  # (n_targets,)
    dense: NDArray[np.floating] | None = None  # (n_features, n_targets)
    indices: NDArray[np.intp] | None = None  # (n_targets, k)
    values: NDArray[np.floating] | None = None  # (n_targets, k)
    n_features: int = 0
    alphas_: NDArray[np.float64] | None = None
    cv_scores_: NDArray[np.float64] | None = None  # (n_alphas, 1) mean over targets
    alpha_: NDArray[np.float64] | None = None
    chosen_: tuple[str, ...] | None = None  # regions
    roi_scores_: dict[str, float] | None = None

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Refuse: it is fitted."""
        raise SettingError("This decoder was fitted before and is only applied now.")

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return predictions (n, n_targets)."""
        x = np.asarray(X)
        if self.indices is None or self.values is None:
            return np.asarray(x @ self.dense + self.bias, np.float64)
        out = np.empty((len(x), len(self.indices)))
        for k, (columns, values) in enumerate(zip(self.indices, self.values, strict=True)):
            out[:, k] = x[:, columns] @ values
        return out + self.bias

    def weights(self) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
        """Return weights (n_features, n_targets) and bias (n_targets,)."""
        if self.indices is None or self.values is None:
            assert self.dense is not None
            return self.dense, self.bias
        dense = np.zeros((self.n_features, len(self.indices)), self.values.dtype)
        np.put_along_axis(dense.T, self.indices, self.values, axis=1)
        return dense, self.bias


def make_decoder(
    settings: DecoderSettings, *, rois: Mapping[str, NDArray[np.intp]] | None = None
) -> Decoder:
    """Return an unfitted decoder.

    Parameters
    ----------
    settings : DecoderSettings
        Its kind chosen.
    rois : mapping of str to array, optional
        Columns of each region, for "roi-ensemble".

    Raises
    ------
    SettingError
        If regions are needed and there are none.
    """
    if settings.kind == "selected":
        return SelectedRidge(
            settings.n_selected, settings.alphas, cv=settings.n_folds, keep_held_out=True
        )
    if settings.kind == "encoding-selected":
        from calibration.methods.encoding_selected import EncodingSelected

        return EncodingSelected(settings.thresholds, alphas=settings.alphas, cv=settings.n_folds)
    if settings.kind == "roi-ensemble":
        if not rois:
            raise SettingError(
                "The decoder roi-ensemble needs regions, and the recordings have none. Give a "
                "label file (data.labels), or take another decoder."
            )
        from calibration.roi_ensemble import RoiEnsemble

        return RoiEnsemble(
            rois, n_rois=settings.n_rois, alphas=settings.alphas, cv=settings.n_folds
        )
    return Ridge(settings.alphas, cv=settings.n_folds, keep_held_out=True)


def alpha_curve(decoder: Decoder) -> Curve | None:
    """Return the held-out score of each penalty, mean over targets; None with one penalty."""
    alphas = getattr(decoder, "alphas_", getattr(decoder, "alphas", None))
    scores = getattr(decoder, "cv_scores_", None)
    chosen = getattr(decoder, "alpha_", None)
    if alphas is None or scores is None or chosen is None or len(alphas) < 2:
        return None
    mean = np.mean(np.asarray(scores, np.float64).reshape(len(alphas), -1), axis=1)
    order = np.argsort(alphas)
    return Curve(
        tuple(float(alphas[k]) for k in order),
        tuple(float(mean[k]) for k in order),
        float(np.median(chosen)),
        "held-out R2, training data",
    )


def held_out_correlation(decoder: Decoder, y: NDArray[np.float64]) -> float | None:
    """Return the correlation of held-out training predictions, mean over targets."""
    held_out = getattr(decoder, "held_out_", None)
    if held_out is None:
        return None
    predicted = np.asarray(held_out, np.float64).reshape(len(y), -1)
    there = np.isfinite(predicted).all(axis=1)
    return float(np.mean(column_correlations(predicted[there], y[there])))


def weight_energy(decoder: Decoder) -> NDArray[np.float64]:
    """Return how much of the decoder rests on each feature: sum of squared weights, sum 1."""
    weights, _ = decoder.weights()
    energy = np.sum(np.asarray(weights, np.float64) ** 2, axis=1)
    return np.asarray(energy / max(float(energy.sum()), 1e-300))
