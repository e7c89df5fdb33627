"""Stamps of a regular signal: where samples are missing, and when each was really taken.

Recorded stamps jitter, often by several samples and often a block at a time, while the device
samples evenly. A gap is where the stamps jump forward for good, not for a block. Between gaps the
stamps are replaced by their straight-line fit, as pyxdf does; pyxdf itself only breaks at gaps of
one second, and smears shorter ones over the whole recording.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError
from stream.recordings import Segment

__all__ = ["Regular", "regular_clock"]

_WINDOW_S = 1.0  # each side of a jump, to tell a lasting one from jitter
_SHORT_S = 2.0  # a stretch shorter than this takes its rate from the whole recording
_BACK_S = 1.0  # stamps that step back further are not jitter
_PAUSE_S = 0.5
_LONGEST_S = 30 * 86_400.0


@dataclass(frozen=True, slots=True, eq=False)
class Regular:
    """Even stamps, and the stretches between gaps."""

    stamps: NDArray[np.float64]  # (n,) s, increasing
    segments: tuple[Segment, ...]
    period_s: float  # measured
    warnings: tuple[str, ...]


def regular_clock(stamps: NDArray[np.float64], nominal_hz: float, *, what: str) -> Regular:
    """Return even stamps and segments for the jittered stamps of a regular signal.

    Parameters
    ----------
    stamps : array of shape (n,)
        Seconds, as recorded.
    nominal_hz : float
        Rate that the recording claims; 0 if it claims none.
    what : str
        Name of the signal for messages.

    Raises
    ------
    FileError
        If the stamps are not finite, go back for good, or cannot be those of a recording.
    """
    n = len(stamps)
    if not np.isfinite(stamps).all():
        bad = int(np.count_nonzero(~np.isfinite(stamps)))
        raise FileError(
            f"{what}: {bad} of {n} time stamps are not numbers. The file is damaged; "
            f"compare it with the original."
        )
    if n == 1:
        period = 1.0 / nominal_hz if nominal_hz > 0 else 1.0
        return Regular(stamps.copy(), (Segment(0, 1, 0),), period, ())
    period = _period(stamps, nominal_hz, what)
    residual = stamps - period * np.arange(n)
    residual -= residual[0]
    stray = _strays(residual, period)
    warnings: list[str] = []
    if stray.any():
        warnings.append(
            f"{what}: {int(stray.sum())} time stamps stray by more than a second from their "
            f"neighbours and were not used."
        )
    steps = np.diff(residual[~stray])
    if len(steps) and (back := -float(steps.min())) > _BACK_S:
        raise FileError(
            f"{what}: time goes back by {back:.3f} s before sample {int(steps.argmin()) + 1}. Two "
            f"recordings in one file, or a damaged one; split it there."
        )
    # A second time with the rate between the gaps that were found: the first one is rougher.
    for _ in range(2):
        off_rate = nominal_hz > 0 and abs(1.0 / period / nominal_hz - 1.0) > 0.01
        # Far from its nominal rate, a source is timed by a program, whose pauses lose nothing.
        least_s = _PAUSE_S if off_rate else 0.0
        breaks = _breaks(residual, period, stray, least_s=least_s)
        period = _common_period(stamps, period, breaks, stray)
        residual = stamps - period * np.arange(n)
    even, segments, n_lost = _fit_and_count(stamps, period, breaks, stray)
    if even[-1] - even[0] > _LONGEST_S or not (np.diff(even) > 0).all():
        raise FileError(
            f"{what}: the time stamps go from {stamps[0]:.3f} to {stamps[-1]:.3f} s and are not "
            f"those of a recording. The file is damaged; compare it with the original."
        )
    if len(segments) > 1:
        warnings.append(f"{what}: {len(segments) - 1} gaps, {n_lost} samples are missing.")
    if off_rate:
        warnings.append(
            f"{what}: the time stamps run at {1.0 / period:.3f} Hz, the recording claims "
            f"{nominal_hz:g} Hz; frequencies will be off by that ratio."
        )
    off = float(np.max(np.abs(stamps - even)[~stray]))
    if off > max(0.02, 3 * period):
        warnings.append(
            f"{what}: time stamps jitter by up to {1e3 * off:.0f} ms; they were evened."
        )
    return Regular(even, tuple(segments), period, tuple(warnings))


def _period(stamps: NDArray[np.float64], nominal_hz: float, what: str) -> float:
    """Return the sample period; the median over long lags ignores gaps, blocks and resets."""
    n = len(stamps)
    rate = nominal_hz if nominal_hz > 0 else 1.0 / max(float(np.median(np.diff(stamps))), 1e-9)
    lag = max(1, min(n // 2, max(n // 20, round(0.5 * rate)), round(5.0 * rate)))
    period = float(np.median(stamps[lag:] - stamps[:-lag])) / lag
    if not 0 < period < _LONGEST_S:
        raise FileError(
            f"{what}: the time stamps do not go forward (median step {period:.3g} s). "
            f"The file is damaged; compare it with the original."
        )
    return period


def _common_period(
    stamps: NDArray[np.float64], period: float, breaks: list[int], stray: NDArray[np.bool_]
) -> float:
    """Return the one period that fits all stretches best (least squares, an offset each)."""
    power = moment = 0.0
    for start, stop in zip([0, *breaks], [*breaks, len(stamps)], strict=True):
        index = np.flatnonzero(~stray[start:stop]).astype(np.float64)
        if len(index) > 1:
            index -= index.mean()
            t = stamps[start:stop][~stray[start:stop]]
            power += float(index @ index)
            moment += float(index @ (t - t.mean()))
    return moment / power if moment > 0 else period


def _strays(residual: NDArray[np.float64], period: float) -> NDArray[np.bool_]:
    """Mark single stamps, or few, that no clock can have written."""
    n = len(residual)
    limit = max(1.0, 20 * period)
    if np.abs(np.diff(residual)).max(initial=0.0) <= limit:
        return np.zeros(n, dtype=np.bool_)
    reach = 4
    padded = np.pad(residual, reach, mode="edge")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)
    return np.abs(residual - around) > limit


def _breaks(
    residual: NDArray[np.float64], period: float, stray: NDArray[np.bool_], *, least_s: float
) -> list[int]:
    """Return the rows before which samples are missing."""
    n = len(residual)
    width = max(8, round(_WINDOW_S / period))
    kept = np.flatnonzero(~stray)
    values = residual[kept]
    steps = np.diff(values)
    spread = _spread(values, width)
    least = max(0.75 * period, least_s)
    candidates = np.flatnonzero(steps > 0.6 * max(least, 4.0 * spread)) + 1
    found: list[int] = []
    # The largest first, so that the windows of smaller ones end at them.
    for row in candidates[np.argsort(-steps[candidates - 1], kind="stable")]:
        lower = max([b for b in found if b < row], default=0)
        upper = min([b for b in found if b > row], default=len(values))
        before = values[max(lower, row - width) : row]
        after = values[row : min(upper, row + width)]
        # Of one stamp, the first of all for example, jitter says more than the median of several.
        doubt = 4.0 * spread * max(1.0, 2.0 / min(len(before), len(after)) ** 0.5)
        if float(np.median(after) - np.median(before)) > max(least, doubt):
            found.append(int(row))
    return [int(kept[row]) for row in sorted(found) if kept[row] < n]


def _spread(values: NDArray[np.float64], width: int) -> float:
    """Return the robust standard deviation of the stamps around their own local clock."""
    blocks = [values[i : i + width] for i in range(0, len(values), width)]
    offs = [np.abs(block - np.median(block)) for block in blocks]
    return 1.4826 * float(np.median(np.concatenate(offs)))


def _fit(
    stamps: NDArray[np.float64], period: float, breaks: list[int], stray: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], list[tuple[int, int]]]:
    """Return the straight-line fit of each stretch, and the stretches."""
    n = len(stamps)
    bounds = list(zip([0, *breaks], [*breaks, n], strict=True))
    even = np.empty(n)
    for start, stop in bounds:
        index = np.arange(start, stop, dtype=np.float64)
        good = ~stray[start:stop]
        t, i = stamps[start:stop][good], index[good]
        # Centred, or the products of large stamps and large indices lose microseconds.
        t_mean, i_mean = float(t.mean()), float(i.mean())
        slope = period
        if (stop - start) * period >= _SHORT_S or len(bounds) == 1:
            centred = i - i_mean
            power = float(centred @ centred)
            if power > 0:
                slope = float(centred @ (t - t_mean)) / power
        even[start:stop] = t_mean + slope * (index - i_mean)
    return even, bounds


def _fit_and_count(
    stamps: NDArray[np.float64], period: float, breaks: list[int], stray: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], list[Segment], int]:
    """Return even stamps, segments with the index of each (lost samples counted), and the loss."""
    while True:
        even, bounds = _fit(stamps, period, breaks, stray)
        missing = [round(float(even[row] - even[row - 1]) / period) - 1 for row in breaks]
        real = [row for row, n_lost in zip(breaks, missing, strict=True) if n_lost > 0]
        if len(real) == len(breaks):
            break
        breaks = real  # what turned out to hold no sample is no gap
    firsts = np.cumsum([0, *missing])
    segments = [
        Segment(start, stop, start + int(lost))
        for (start, stop), lost in zip(bounds, firsts, strict=True)
    ]
    return even, segments, int(firsts[-1])
