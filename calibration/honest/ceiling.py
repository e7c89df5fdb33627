"""What could be reached at best: the noise ceiling of responses that were measured repeatedly.

With R repetitions, the noise variance is the mean over time of the variance across repetitions,
and what the mean over repetitions varies beyond its share of noise is signal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from models.errors import SettingError

__all__ = [
    "NoiseCeiling",
    "corrected_explainable_variance",
    "explainable_variance",
    "noise_ceiling",
    "split_halves",
]

Rows: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class NoiseCeiling:
    """Signal and noise of each column, and the best correlation a perfect model could reach."""

    signal_var: Rows  # (n_columns,) before it is floored at 0, so that its mean is unbiased
    noise_var: Rows  # (n_columns,) of a single repetition
    n_repetitions: float  # harmonic mean over time

    @property
    def correlation(self) -> Rows:
        """Ceiling of r with the mean over repetitions; 0 where there is no signal, never NaN."""
        return _ceiling(self.signal_var, self.noise_var / self.n_repetitions)

    @property
    def single(self) -> Rows:
        """Ceiling of r with a single repetition: what a live session has."""
        return _ceiling(self.signal_var, self.noise_var)

    def pooled(self, columns: NDArray[np.bool_] | NDArray[np.int64] | None = None) -> float:
        """Return the ceiling of r for columns taken together.

        Flooring the signal of each column at 0 makes weak columns look better than they are; here
        variances are added up first. Choose `columns` by other data than the ceiling is used on.
        """
        chosen = slice(None) if columns is None else columns
        signal = float(np.sum(self.signal_var[chosen]))
        noise = float(np.sum(self.noise_var[chosen])) / self.n_repetitions
        return float(_ceiling(np.array([signal]), np.array([noise]))[0])


def noise_ceiling(responses: NDArray[np.floating]) -> NoiseCeiling:
    """Estimate the ceiling of each column from repetitions.

    sigma_n^2 = mean over time of the variance across repetitions (ddof 1);
    sigma_s^2 = variance over time of the mean - sigma_n^2 / R;
    ceiling = sqrt(sigma_s^2 / (sigma_s^2 + sigma_n^2 / R)).

    Parameters
    ----------
    responses : array of shape (n_times, R, n_columns)
        NaN where a repetition is missing (a whole row of columns at a time).

    Raises
    ------
    SettingError
        If fewer than 2 times have 2 repetitions.
    """
    values = np.asarray(responses, np.float64)
    if values.ndim != 3:
        raise SettingError(
            f"A noise ceiling needs (times, repetitions, columns), got {values.shape}."
        )
    count = np.sum(~np.isnan(values[:, :, :1]), axis=1)[:, 0]
    enough = count >= 2
    if np.sum(enough) < 2:
        raise SettingError(
            "A noise ceiling needs at least 2 windows with 2 repetitions each, got "
            f"{int(np.sum(enough))} of {len(values)}. Without repetitions there is no ceiling."
        )
    values, count = values[enough], count[enough]
    mean = np.nanmean(values, axis=1)
    # Windows that were heard more often know more about the noise.
    square = np.nansum((values - mean[:, None, :]) ** 2, axis=1)
    noise = np.sum(square, axis=0) / np.sum(count - 1)
    n_repetitions = 1.0 / float(np.mean(1.0 / count))
    signal = np.var(mean, axis=0, ddof=1) - noise / n_repetitions
    return NoiseCeiling(np.asarray(signal), np.asarray(noise), n_repetitions)


def explainable_variance(responses: NDArray[np.floating]) -> Rows:
    """Return 1 - (variance within repetitions left by their mean) / (total variance) per column.

    As voxelwise_tutorials has it, before the correction: biased upward by 1 / R. Columns that do
    not vary get 0.

    Parameters
    ----------
    responses : array of shape (n_times, R, n_columns), without NaN
    """
    values = np.asarray(responses, np.float64)
    total = np.mean(np.var(values, axis=0), axis=0)
    residual = np.mean(np.var(values - values.mean(axis=1, keepdims=True), axis=0), axis=0)
    return np.asarray(
        np.where(total > 0.0, 1.0 - residual / np.where(total > 0.0, total, 1.0), 0.0)
    )


def corrected_explainable_variance(responses: NDArray[np.floating]) -> Rows:
    """Return EV - (1 - EV) / (R - 1): unbiased, and 0 on the average where there is no signal.

    Parameters
    ----------
    responses : array of shape (n_times, R, n_columns), without NaN

    Raises
    ------
    SettingError
        If there are fewer than 2 repetitions.
    """
    n_repetitions = np.shape(responses)[1]
    if n_repetitions < 2:
        raise SettingError("Explainable variance needs at least 2 repetitions, got 1.")
    variance = explainable_variance(responses)
    return np.asarray(variance - (1.0 - variance) / (n_repetitions - 1))


def split_halves(samples: Samples) -> tuple[Samples, Samples] | None:
    """Return the same windows with even and with odd repetitions; None without repetitions.

    Decode both: how well one half's predictions identify the other's is a ceiling of what the
    recordings give this decoder. Windows that were heard only once are left out of both.
    """
    from dataclasses import replace

    enough = samples.n_repetitions >= 2
    if np.sum(enough) < 2:
        return None
    some = samples.take(np.flatnonzero(enough))
    there = ~np.isnan(some.x[:, :, 0])
    number = np.cumsum(there, axis=1) - 1  # missing repetitions do not unbalance the halves
    halves = []
    for parity in (0, 1):
        x = some.x.copy()
        x[~there | (number % 2 != parity)] = np.nan
        halves.append(replace(some, x=x))
    return halves[0], halves[1]


def _ceiling(signal: Rows, noise: Rows) -> Rows:
    signal = np.maximum(signal, 0.0)
    total = signal + noise
    return np.asarray(
        np.sqrt(np.where(total > 0.0, signal / np.where(total > 0.0, total, 1.0), 0.0))
    )
