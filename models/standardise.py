"""Features to zero mean and unit variance: causally, as a live session must, or with hindsight."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.spec import StandardiseSpec

__all__ = ["Standardiser", "standardise_batch", "standardise_offline", "statistics"]

# A spread below this share of the mean is rounding noise of float32 features (epsilon 1.2e-7).
_FLAT = 2e-7
_AT_ONCE = 1 << 20  # values


def statistics(values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each feature, leaving values that are not finite out.

    Parameters
    ----------
    values : array of shape (n_windows, n_features)

    Returns
    -------
    mean, std : arrays of shape (n_features,), float64
        The deviation divides by n (ddof 0). A feature without finite values gets 0 and 0.

    Raises
    ------
    SettingError
        If there is no window.
    """
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0:
        raise SettingError(f"Expected values of shape (n_windows, n_features), got {rows.shape}.")
    good = np.isfinite(rows)
    n = np.maximum(good.sum(axis=0), 1)
    mean = np.where(good, rows, 0.0).sum(axis=0) / n
    deviation = np.where(good, rows - np.where(good, mean, 0.0), 0.0)
    return mean, np.sqrt((deviation**2).sum(axis=0) / n)


class Standardiser:
    """Standardise feature vectors as they come, from the past alone.

    In the mode `causal` the calibration statistics count as `prior_n` windows; the windows of the
    session are added one by one. A window is judged by those before it, so that an unusual one
    does not hide itself. With an infinite prior the calibration statistics stay for ever, and each
    vector is treated alike: what a bundle was scored with. The mode `none` passes values through.

    With a finite `forget_n` what is behind the statistics never count for more than so many,
    which makes them exponential averages with that time constant; a prior larger than that counts
    as `forget_n` windows. With `learn` "mean" the spread of the calibration set stays.

    A feature that never varied in calibration comes out as 0 until it varies. A value that is not
    finite comes out as 0 (the mean), is not learned from, and counts in `n_invalid`.

    Parameters
    ----------
    spec : StandardiseSpec
    mean, std : arrays of shape (n_features,)
        Statistics of the calibration set, see `statistics`.

    Attributes
    ----------
    n_invalid : int
        Values that were not finite since the last reset.

    Raises
    ------
    SettingError
        If the mode is `offline`, which needs the future, or statistics or settings are not usable.
    """

    def __init__(self, spec: StandardiseSpec, mean: ArrayLike, std: ArrayLike) -> None:
        _check_spec(spec)
        if spec.mode == "offline":
            raise SettingError(
                "Standardisation 'offline' uses the mean of the whole run, which a live session "
                "does not have yet. Fit the bundle with standardise.mode = 'causal'."
            )
        self._spec = spec
        self._prior_mean, self._prior_std = _check_statistics(mean, std)
        self.reset()

    @property
    def n_features(self) -> int:
        """Length of a feature vector."""
        return len(self._prior_mean)

    def reset(self) -> None:
        """Go back to the calibration statistics."""
        self.n_invalid = 0
        spec = self._spec
        self._forgets = bool(np.isfinite(spec.forget_n))
        self._n = np.full(self.n_features, min(spec.prior_n, spec.forget_n))
        self._mean = self._prior_mean.copy()
        self._learns = spec.mode == "causal" and bool(np.isfinite(self._n[:1]).all())
        self._learns_std = self._learns and spec.learn == "mean_std"
        # Sum of squared deviations (Welford); without learning only the deviation is needed.
        self._m2 = self._prior_std**2 * self._n if self._learns_std else self._prior_std
        self._scale = _scale(self._mean, self._prior_std)

    def push(self, values: ArrayLike) -> NDArray[np.float32]:
        """Standardise one vector (n_features,), or several in order of time (n, n_features).

        Returns
        -------
        standardised : array of the same shape, float32

        Raises
        ------
        SettingError
            If the number of features is wrong.
        """
        rows = np.asarray(values, dtype=np.float64)
        if rows.ndim not in (1, 2) or rows.shape[-1] != self.n_features:
            raise SettingError(
                f"Expected {self.n_features} features, got values of shape {rows.shape}."
            )
        if self._spec.mode == "none":
            return rows.astype(np.float32)
        result = np.empty(rows.shape, dtype=np.float32)
        # Without learning all rows are treated alike, so that many go at once.
        several = 1 if self._learns else max(1, _AT_ONCE // max(self.n_features, 1))
        many, outs = np.atleast_2d(rows), np.atleast_2d(result)
        for at in range(0, len(many), several):
            if self._learns:
                self._step(many[at], outs[at])
            else:
                outs[at : at + several] = self._judge(many[at : at + several])[0]
        return result

    def _judge(
        self, rows: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], bool]:
        """Return what comes out, the deviations, which values are good, and whether all are."""
        deviation = rows - self._mean
        good = np.isfinite(deviation)
        whole = bool(good.all())
        if not whole:
            self.n_invalid += int(good.size - np.count_nonzero(good))
            deviation[~good] = 0.0
        return _clip(deviation / self._scale, self._spec.clip), deviation, good, whole

    def _step(self, row: NDArray[np.float64], out: NDArray[np.float32]) -> None:
        out[:], deviation, good, whole = self._judge(row)
        self._n += good
        self._mean += deviation / self._n
        if self._learns_std:
            # Where the value was left out the deviation is 0, so nothing is added.
            self._m2 += deviation * (
                (row if whole else np.where(good, row, self._mean)) - self._mean
            )
            self._scale = _scale(self._mean, np.sqrt(self._m2 / self._n))
        if self._forgets:
            # All that is known counts as forget_n windows at most, before the next is added.
            self._fade()

    def _fade(self) -> None:
        over = self._n > self._spec.forget_n
        if not over.any():
            return
        if self._learns_std:
            self._m2[over] *= self._spec.forget_n / self._n[over]
        self._n[over] = self._spec.forget_n


def standardise_batch(
    spec: StandardiseSpec, values: ArrayLike, mean: ArrayLike, std: ArrayLike
) -> NDArray[np.float32]:
    """Standardise a whole run as `Standardiser` does, window by window: equal bit for bit.

    Parameters
    ----------
    spec : StandardiseSpec
    values : array of shape (n_windows, n_features)
    mean, std : arrays of shape (n_features,)

    Returns
    -------
    standardised : array of shape (n_windows, n_features), float32

    Raises
    ------
    SettingError
        If settings, statistics or shapes are not usable; mode `offline` is refused.
    """
    standardiser = Standardiser(spec, mean, std)
    rows = np.asarray(values)
    if rows.ndim != 2 or rows.shape[1] != standardiser.n_features:
        raise SettingError(
            f"Expected values of shape (n, {standardiser.n_features}), got {rows.shape}."
        )
    return standardiser.push(rows)


def standardise_offline(
    values: ArrayLike, *, spec: StandardiseSpec | None = None
) -> NDArray[np.float32]:
    """Standardise a run by its own mean and deviation, which only hindsight can.

    Parameters
    ----------
    values : array of shape (n_windows, n_features)
    spec : StandardiseSpec, optional
        Only its `clip` is used; none by default.

    Returns
    -------
    standardised : array of shape (n_windows, n_features), float32
        Features without variance, and values that are not finite, come out as 0.

    Raises
    ------
    SettingError
        If there is no window.
    """
    rows = np.asarray(values, dtype=np.float64)
    mean, std = statistics(rows)
    deviation = np.where(np.isfinite(rows), rows - mean, 0.0)
    clip = 0.0 if spec is None else spec.clip
    return _clip(deviation / _scale(mean, std), clip).astype(np.float32)


def _scale(mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what to divide by: the deviation, or infinity where the feature does not vary."""
    return np.where(std > _FLAT * np.abs(mean), std, np.inf)


def _clip(values: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    return np.clip(values, -limit, limit) if limit else values


def _check_spec(spec: StandardiseSpec) -> None:
    if spec.mode not in ("causal", "offline", "none"):
        raise SettingError(
            f"Expected standardise.mode 'causal', 'offline' or 'none', got {spec.mode!r}."
        )
    if spec.learn not in ("mean_std", "mean"):
        raise SettingError(f"Expected standardise.learn 'mean_std' or 'mean', got {spec.learn!r}.")
    if not spec.forget_n >= 1:
        raise SettingError(
            f"Expected standardise.forget_n of 1 window or more, got {spec.forget_n}."
        )
    if not spec.prior_n > 0:
        raise SettingError(
            f"Expected standardise.prior_n above 0 windows, got {spec.prior_n}. Without a prior "
            "the first windows could not be standardised."
        )
    if not (np.isfinite(spec.clip) and spec.clip >= 0):
        raise SettingError(
            f"Expected standardise.clip as a number of deviations, got {spec.clip}. 0: no clipping."
        )


def _check_statistics(
    mean: ArrayLike, std: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    centre, spread = np.array(mean, dtype=np.float64), np.array(std, dtype=np.float64)
    if centre.ndim != 1 or centre.shape != spread.shape:
        raise SettingError(
            f"Expected mean and std of the same features, got {centre.shape} and {spread.shape}."
        )
    if not (np.isfinite(centre).all() and np.isfinite(spread).all() and (spread >= 0).all()):
        raise SettingError(
            "Expected finite means and deviations of 0 or more. Fit the bundle again."
        )
    return centre, spread
