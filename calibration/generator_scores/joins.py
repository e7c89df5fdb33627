"""What is heard where one stretch ends and the next begins: steps, clicks, jumps of level, pitch.

Each statistic is taken at the joins and, the same way, elsewhere in the same streams, because a
drum stroke is a step too: only what joins have and other places have not is a fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = [
    "Against",
    "ClickScore",
    "clicks",
    "join_steps",
    "level_steps_db",
    "pitch_steps_cents",
]

Rows = NDArray[np.floating]
Values = NDArray[np.float64]
Places = Sequence[int] | NDArray[np.int64]

_CLICK_S = 0.005
_CLICK_HZ = 4_000.0
_LEVEL_S = 0.02
_FLOOR = 1e-7  # power, -70 dBFS: below it nothing is heard, and ratios mean nothing


@dataclass(frozen=True, slots=True)
class Against:
    """A statistic at the joins, and the same one elsewhere."""

    median: float
    p95: float
    inside_median: float
    inside_p95: float
    n: int
    n_inside: int

    @property
    def median_ratio(self) -> float:
        """Median at the joins over that elsewhere."""
        return self.median / self.inside_median if self.inside_median else float("nan")

    @property
    def p95_ratio(self) -> float:
        """95th percentile at the joins over that elsewhere."""
        return self.p95 / self.inside_p95 if self.inside_p95 else float("nan")

    def to_json(self) -> dict[str, float]:
        """Return all of it, ratios included."""
        return {
            "median": self.median,
            "p95": self.p95,
            "inside_median": self.inside_median,
            "inside_p95": self.inside_p95,
            "median_ratio": self.median_ratio,
            "p95_ratio": self.p95_ratio,
            "n": self.n,
            "n_inside": self.n_inside,
        }


@dataclass(frozen=True, slots=True)
class ClickScore:
    """Energy between 4 and 8 kHz in 5 ms at the joins, as percentiles of that elsewhere."""

    median_percentile: float  # 50 where joins are like any other place
    p95_percentile: float  # 95 there
    n: int

    def to_json(self) -> dict[str, float]:
        """Return all of it."""
        return {
            "median_percentile": self.median_percentile,
            "p95_percentile": self.p95_percentile,
            "n": self.n,
        }


def join_steps(
    streams: Sequence[Rows],
    joins: Sequence[Places],
    *,
    reach: int = 2,
    without_joins: Sequence[Rows] = (),
) -> Against:
    """Compare the largest step around a join with the largest step around other places.

    A step is the distance of a frame from the one before, over the mean step of its stream. At a
    join it is the largest of the steps up to `reach` frames away; elsewhere the largest of as many
    steps, none of which crosses a join.

    Parameters
    ----------
    streams : sequence of arrays of shape (n, d)
        Latents or log mel frames, a stream each. Streams that never move (silence) are left out.
    joins : sequence of sequences of int
        For each stream the first frame of each stretch but the first.
    reach : int
        Frames before and after.
    without_joins : sequence of arrays of shape (n, d)
        Streams made in one piece, which stand for the inside of stretches too; stretches of up to
        `2 * reach` frames have no inside.

    Raises
    ------
    SettingError
        If there is no join, or nothing to compare with.
    """
    at: list[float] = []
    inside: list[float] = []
    pairs = [*zip(streams, joins, strict=True), *((frames, ()) for frames in without_joins)]
    for frames, places in pairs:
        steps = np.linalg.norm(np.diff(np.asarray(frames, np.float64), axis=0), axis=1)
        width = 2 * reach + 1
        if len(steps) < width or steps.mean() < 1e-9:
            continue
        largest = np.lib.stride_tricks.sliding_window_view(steps / steps.mean(), width).max(axis=1)
        # Step i leads from frame i to i + 1, the window that is centred on it begins at i - reach.
        crossing = np.asarray(places, np.int64) - 1
        centres = np.arange(reach, reach + len(largest))
        known = crossing[(crossing >= centres[0]) & (crossing <= centres[-1])]
        at += largest[known - reach].tolist()
        far = np.ones(len(centres), bool)
        for step in crossing.tolist():
            far &= np.abs(centres - step) > reach
        inside += largest[far].tolist()
    return _against(at, inside, "steps")


def clicks(
    streams: Sequence[Rows], joins: Sequence[Places], *, sample_rate_hz: int = 16_000
) -> ClickScore:
    """Rank the high-frequency energy at each join among that of the other places of its stream.

    Parameters
    ----------
    streams : sequence of arrays of shape (n,)
        Sound.
    joins : sequence of sequences of int
        For each stream the first sample of each stretch but the first.
    sample_rate_hz : int
        At least 16 kHz.

    Raises
    ------
    SettingError
        If there is no join.
    """
    from scipy.signal import butter, sosfiltfilt

    top = min(2.0 * _CLICK_HZ, 0.499 * sample_rate_hz)
    band = butter(4, (_CLICK_HZ, top), "bandpass", fs=sample_rate_hz, output="sos")
    width = round(_CLICK_S * sample_rate_hz)
    ranks: list[float] = []
    for sound, places in zip(streams, joins, strict=True):
        high = sosfiltfilt(band, np.asarray(sound, np.float64))
        total = np.concatenate([[0.0], np.cumsum(high**2)])
        centres = np.arange(width, len(high) - width, width)
        own = _within(places, width, len(high) - width)
        if not len(own) or not len(centres):
            continue
        other = centres[_away(centres, own, 2 * width)]
        energy = _energies(total, other, width)
        if not len(energy):
            continue
        for value in _energies(total, own, width).tolist():
            # What is told apart by rounding only (silence) counts as equal.
            same = np.isclose(energy, value, rtol=1e-9, atol=1e-15)
            below = np.sum((energy < value) & ~same) + 0.5 * np.sum(same)
            ranks.append(100.0 * float(below) / len(energy))
    if not ranks:
        raise SettingError(
            "Clicks are sought at joins, and the streams have none. Make longer ones."
        )
    return ClickScore(float(np.median(ranks)), float(np.percentile(ranks, 95.0)), len(ranks))


def level_steps_db(
    streams: Sequence[Rows], joins: Sequence[Places], *, sample_rate_hz: int = 16_000
) -> Against:
    """Compare the change of level across a join, 20 ms before to 20 ms after, with that elsewhere.

    Parameters
    ----------
    streams, joins, sample_rate_hz
        As for `clicks`.

    Raises
    ------
    SettingError
        If there is no join, or no other place.
    """
    width = round(_LEVEL_S * sample_rate_hz)
    at: list[float] = []
    inside: list[float] = []
    for sound, places in zip(streams, joins, strict=True):
        power = np.asarray(sound, np.float64) ** 2
        total = np.concatenate([[0.0], np.cumsum(power)])
        own = _within(places, width, len(power) - width)
        grid = np.arange(width, len(power) - width + 1, max(width // 2, 1))
        for found, where in ((at, own), (inside, grid[_away(grid, own, width)])):
            before = (total[where] - total[where - width]) / width
            after = (total[where + width] - total[where]) / width
            found += np.abs(10.0 * np.log10((after + _FLOOR) / (before + _FLOOR))).tolist()
    return _against(at, inside, "levels")


def pitch_steps_cents(
    streams: Sequence[Rows],
    joins: Sequence[Places],
    *,
    sample_rate_hz: int = 16_000,
    side_s: float = 0.03,
) -> Against:
    """Compare the step of the strongest partial's frequency across a join with that elsewhere.

    The sound on each side is brought down to 0 Hz by the frequency of the strongest partial of
    both; what is left turns at the difference, the slope of its phase. Places where one side is
    silent, or no single partial has most of the power, are left out: there is no pitch.

    Parameters
    ----------
    streams, joins, sample_rate_hz
        As for `clicks`; sounds of steady tones.
    side_s : float
        Length of each side, s.

    Raises
    ------
    SettingError
        If no join, or no other place, has a pitch on both sides.
    """
    width = round(side_s * sample_rate_hz)
    at: list[float] = []
    inside: list[float] = []
    for sound, places in zip(streams, joins, strict=True):
        wave = np.asarray(sound, np.float64)
        loud = float(np.max(np.abs(wave), initial=0.0))
        own = _within(places, width, len(wave) - width)
        grid = np.arange(width, len(wave) - width + 1, width)
        for found, where in ((at, own), (inside, grid[_away(grid, own, width)])):
            for place in where.tolist():
                cents = _pitch_step(wave[place - width : place + width], loud, sample_rate_hz)
                if np.isfinite(cents):
                    found.append(abs(cents))
    return _against(at, inside, "pitches")


def _pitch_step(both: Values, loud: float, rate: int) -> float:
    """Return the step in cents from the first to the second half of a sound, or NaN."""
    half = len(both) // 2
    level = [float(np.sqrt(np.mean(part**2))) for part in (both[:half], both[half:])]
    if min(level) < max(0.1 * loud, 10.0**-3):
        return float("nan")
    size = 8 * len(both)
    spectrum = np.abs(np.fft.rfft(both * np.hanning(len(both)), size))
    peak = int(np.argmax(spectrum[1:])) + 1
    centre = peak * rate / size
    turning = np.exp(-2j * np.pi * centre * np.arange(len(both)) / rate)
    bell = np.hanning(max(round(0.006 * rate), round(2.5 * rate / centre)) + 2)[1:-1]
    if len(bell) > half // 2:
        return float("nan")  # too low for so short a side
    frequency = []
    for part, power in ((slice(0, half), level[0] ** 2), (slice(half, 2 * half), level[1] ** 2)):
        slow = np.convolve(both[part] * turning[part], bell / bell.sum(), "valid")
        if 2.0 * np.mean(np.abs(slow) ** 2) < 0.5 * power:
            return float("nan")
        weights = np.abs(slow) + 1e-12
        phase = np.unwrap(np.angle(slow))
        slope = np.polyfit(np.arange(len(slow)), phase, 1, w=weights)[0]
        frequency.append(centre + slope * rate / (2.0 * np.pi))
    if min(frequency) <= 0.0:
        return float("nan")
    return float(1_200.0 * np.log2(frequency[1] / frequency[0]))


def _against(at: list[float], inside: list[float], what: str) -> Against:
    if not at or not inside:
        raise SettingError(
            f"Comparing {what} needs joins and other places, got {len(at)} and {len(inside)}. Make "
            "longer streams, or give some without joins."
        )
    return Against(
        float(np.median(at)),
        float(np.percentile(at, 95.0)),
        float(np.median(inside)),
        float(np.percentile(inside, 95.0)),
        len(at),
        len(inside),
    )


def _within(places: Places, low: int, high: int) -> NDArray[np.int64]:
    values = np.asarray(places, np.int64)
    return values[(values >= low) & (values <= high)]


def _away(where: NDArray[np.int64], joins: NDArray[np.int64], least: int) -> NDArray[np.bool_]:
    """Return which places are at least so far from each join."""
    if not len(joins):
        return np.ones(len(where), bool)
    order = np.sort(joins)
    right = np.searchsorted(order, where)
    after = order[np.minimum(right, len(order) - 1)]
    before = order[np.maximum(right - 1, 0)]
    nearest = np.minimum(np.abs(after - where), np.abs(where - before))
    return np.asarray(nearest >= least)


def _energies(total: Values, centres: NDArray[np.int64], width: int) -> Values:
    first = centres - width // 2
    return np.asarray(total[first + width] - total[first])
