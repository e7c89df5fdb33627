"""The level ceiling: the last thing that sound passes on its way to ears.

A peak limiter that looks ahead into samples that are queued anyway, so that it adds no delay, then
a hard clip that only ever catches what the limiter could not foresee.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["DIGITAL_SILENCE_DBFS", "Limiter", "ceiling_amplitude", "dbfs"]

# What stands for the level of all-zero sound, which JSON has no number for.
DIGITAL_SILENCE_DBFS = -200.0

# Below this reduction (-100 dB) the gain counts as 1 and samples pass bit for bit.
_NO_REDUCTION = 1e-5


def dbfs(amplitude: float) -> float:
    """Return a level in dB relative to full scale; `DIGITAL_SILENCE_DBFS` at the least."""
    if not amplitude > 0.0:
        return DIGITAL_SILENCE_DBFS
    return max(DIGITAL_SILENCE_DBFS, 20.0 * math.log10(amplitude))


def ceiling_amplitude(ceiling_dbfs: float) -> np.float32:
    """Return the largest float32 that does not exceed a level.

    Raises
    ------
    SettingError
        If the level is not between -120 and 0 dBFS.
    """
    if not -120.0 <= ceiling_dbfs <= 0.0:
        raise SettingError(
            f"The level ceiling must lie between -120 and 0 dBFS, got {ceiling_dbfs}. "
            "Participants in a scanner are usually given -12 or less."
        )
    exact = 10.0 ** (ceiling_dbfs / 20.0)
    rounded = np.float32(exact)
    return rounded if float(rounded) <= exact else np.nextafter(rounded, np.float32(0.0))


class Limiter:
    """Keep the peak at or below a ceiling, without clicks and without delay.

    With h = 1 - gain, each sample asks for h = max(0, 1 - ceiling / |x|). The reduction applied is
    the largest one asked for in the `lookahead` samples to come, let go with `release_s`, averaged
    over the `lookahead` samples before: the gain slides down to the needed value exactly when the
    peak comes, and slides back. All channels share one gain, so that the image does not move.

    Parameters
    ----------
    sample_rate_hz : float
    ceiling_dbfs : float
        Between -120 and 0.
    lookahead_s : float
        How long before a peak the gain starts to fall. 0: an instantaneous limiter.
    release_s : float
        Time constant of the way back to gain 1.

    Raises
    ------
    SettingError
        If the ceiling is out of range.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: float,
        ceiling_dbfs: float = -12.0,
        lookahead_s: float = 0.0015,
        release_s: float = 0.1,
    ) -> None:
        self.ceiling = ceiling_amplitude(ceiling_dbfs)
        self.lookahead = max(0, round(lookahead_s * sample_rate_hz))  # samples
        self._width = self.lookahead + 1
        self._release_samples = max(1.0, release_s * sample_rate_hz)
        self._past = np.zeros(self.lookahead)  # reductions of the samples before
        self._last = 0.0  # the newest of them
        self._at_rest = True

    def reset(self) -> None:
        """Forget the past: gain 1."""
        self._past[:] = 0.0
        self._last = 0.0
        self._at_rest = True

    def process(self, x: NDArray[np.float32], n: int) -> NDArray[np.float32]:
        """Limit the next `n` samples.

        Parameters
        ----------
        x : array of shape (n + k, n_channels), float32
            The samples, then 0 <= k <= `lookahead` of those that will follow.
        n : int

        Returns
        -------
        y : array of shape (n, n_channels), float32
            Never above the ceiling; `x[:n]` bit for bit while nothing comes near it.
        """
        if n == 0:
            return np.zeros((0, x.shape[1]), np.float32)
        peaks = np.abs(x).max(axis=1)  # (n + k,)
        if self._at_rest and peaks.max() <= self.ceiling:  # False for NaN as well
            return x[:n].copy()
        if not np.isfinite(peaks).all():
            # Cannot come from the player, whose queue replaced it; here for whoever else calls.
            x = np.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
            peaks = np.abs(x).max(axis=1)

        asked = np.zeros(n + self.lookahead)
        seen = min(len(peaks), len(asked))
        ceiling = float(self.ceiling)
        asked[:seen] = 1.0 - ceiling / np.maximum(peaks[:seen], ceiling).astype(np.float64)
        held = self._let_go(_sliding_max(asked, self._width))  # (n,)

        joined = np.concatenate([self._past, held])
        total = np.concatenate([[0.0], np.cumsum(joined)])
        reduction = (total[self._width :] - total[: -self._width]) / self._width  # (n,)
        self._past = joined[len(joined) - self.lookahead :]
        if max(self._last, self._past.max(initial=0.0)) < _NO_REDUCTION:
            self.reset()
        else:
            self._at_rest = False

        y: NDArray[np.float32] = (x[:n] * (1.0 - reduction)[:, None]).astype(np.float32)
        np.clip(y, -self.ceiling, self.ceiling, out=y)
        return y

    def _let_go(self, held: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return y[i] = max(held[i], r y[i-1]), the exponential release, as a running maximum.

        y[i] = r^i max over j <= i of held[j] r^-j; in stretches short enough for r^-j.
        """
        out = np.empty_like(held)
        stretch = max(1, int(10 * self._release_samples))
        for start in range(0, len(held), stretch):
            part = held[start : start + stretch]
            decay = np.exp(-np.arange(1, len(part) + 1) / self._release_samples)
            run = np.maximum.accumulate(np.maximum(part / decay, self._last))
            out[start : start + len(part)] = run * decay
            self._last = float(out[start + len(part) - 1])
        return out


def _sliding_max(a: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return max(a[i], ..., a[i + width - 1]) for each i, by doubling the reach."""
    reach = 1
    while 2 * reach <= width:
        a = np.maximum(a[:-reach], a[reach:])
        reach *= 2
    rest = width - reach
    return np.maximum(a[:-rest], a[rest:]) if rest else a
