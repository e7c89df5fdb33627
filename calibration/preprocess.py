"""Motion-corrected BOLD of one run, cleaned with hindsight: drift, z-score. Bad channels of EEG.

This is the mode `offline`, for comparison with the papers: it uses the run's own future, which a
live session does not have. What runs live is `models.standardise`, mode `causal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Run
from models.errors import SettingError

__all__ = [
    "BadChannel",
    "PreprocessReport",
    "PreprocessSpec",
    "find_bad_channels",
    "preprocess_run",
    "slow_part",
]

_Edge = Literal["reflect", "nearest", "mirror"]

# Columns that are worked on at once: 410 volumes in float32 stay within the processor's cache.
_BLOCK = 1024
# A spread below this share of the mean is rounding noise of float32 (epsilon 1.2e-7).
_FLAT = 1e-6


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """What is taken off a run of BOLD, and whether it is brought to unit variance."""

    # The median filter of Brain2Music (arXiv:2307.11078); its edges are not published: `edge`.
    detrend: Literal["median", "polynomial", "high_pass", "none"] = "median"
    median_window_s: float = 240.0
    edge: _Edge = "reflect"  # as scipy.ndimage names them
    order: int = 2  # of the polynomial
    cutoff_s: float = 128.0  # slowest period that the high-pass keeps (discrete cosines, as SPM)
    zscore: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class PreprocessReport:
    """What was found in a run, for the report."""

    n_columns: int
    constant: NDArray[np.intp]  # columns that do not vary: 0 ever after
    missing: NDArray[np.intp]  # columns without a finite value: 0 ever after
    filled: NDArray[np.intp]  # columns with some values that were not finite, interpolated
    n_filled: int  # values

    @property
    def text(self) -> str:
        """A sentence for people; empty if all is well."""
        parts = [
            f"{len(self.constant)} constant" if len(self.constant) else "",
            f"{len(self.missing)} without data" if len(self.missing) else "",
            f"{len(self.filled)} with {self.n_filled} interpolated values" if self.n_filled else "",
        ]
        found = ", ".join(part for part in parts if part)
        return f"Of {self.n_columns} voxels {found}." if found else ""


def preprocess_run(
    run: Run, spec: PreprocessSpec | None = None
) -> tuple[NDArray[np.float32], PreprocessReport]:
    """Return the signal of a run without its drift, z-scored if asked for.

    Parameters
    ----------
    run : Run
        Its signal is left as it is.
    spec : PreprocessSpec, optional

    Returns
    -------
    signal : array of shape (n, n_channels), float32
        Finite. Without `zscore` the mean of each column is kept.
    report : PreprocessReport

    Raises
    ------
    SettingError
        If a setting is not usable, or the run is too short for it.
    """
    spec = spec or PreprocessSpec()
    _check(spec, run)
    signal = np.asarray(run.signal)
    n, n_columns = signal.shape
    out = np.empty((n, n_columns), np.float32)
    constant, missing, filled = [], [], []
    n_filled = 0
    for start in range(0, n_columns, _BLOCK):
        # float32 keeps 1e-7 of a scanner value of 1e4: far below its noise.
        block = np.array(signal[:, start : start + _BLOCK].T, np.float32, order="C")  # (columns, n)
        good = np.isfinite(block)
        none = ~good.any(axis=1)
        some = np.flatnonzero(~none & ~good.all(axis=1))
        block[none] = 0.0
        for column in some:
            at = np.flatnonzero(good[column])
            block[column] = np.interp(np.arange(n), at, block[column, at])
            n_filled += n - len(at)
        mean = block.mean(axis=1, dtype=np.float64)
        block -= mean.astype(np.float32)[:, None]
        flat = block.std(axis=1, dtype=np.float64) <= _FLAT * np.abs(mean)
        slow = slow_part(block, spec, tr_s=run.tr_s)
        if slow is not None:
            block -= slow
        if spec.zscore:
            block -= block.mean(axis=1, dtype=np.float64).astype(np.float32)[:, None]
            std = block.std(axis=1, dtype=np.float64)
            still = std <= _FLAT * np.abs(mean)
            flat |= still
            block *= np.where(flat, 0.0, 1.0 / np.where(still, 1.0, std)).astype(np.float32)[
                :, None
            ]
        else:
            block += mean.astype(np.float32)[:, None]
        out[:, start : start + _BLOCK] = block.T
        constant.append(start + np.flatnonzero(flat & ~none))
        missing.append(start + np.flatnonzero(none))
        filled.append(start + some)
    found = [np.concatenate([*part, np.empty(0, np.intp)]) for part in (constant, missing, filled)]
    report = PreprocessReport(n_columns, found[0], found[1], found[2], n_filled)
    return out, report


def slow_part(
    rows: NDArray[np.float32], spec: PreprocessSpec, *, tr_s: float
) -> NDArray[np.float32] | None:
    """Return the drift of rows (n_columns, n) without their mean; None if none is taken off."""
    n = rows.shape[1]
    if spec.detrend == "none":
        return None
    if spec.detrend == "median":
        return _running_median(rows, _odd_window(spec.median_window_s, tr_s), spec.edge)
    if spec.detrend == "polynomial":
        # Legendre polynomials: powers of time would be nearly the same column.
        basis = np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, n), spec.order)
    else:
        # cos(pi k (t + 1/2) / n), k = 0 ... floor(2 n TR / cut-off): slower than the cut-off.
        highest = int(np.floor(2.0 * n * tr_s / spec.cutoff_s))
        t = np.arange(n) + 0.5
        basis = np.cos(np.pi / n * t[:, None] * np.arange(highest + 1))
    q = np.linalg.qr(basis)[0].astype(np.float32)  # (n, k)
    return np.asarray((rows @ q) @ q.T, np.float32)


def _odd_window(window_s: float, tr_s: float) -> int:
    """Return the window in volumes, odd so that it has a middle: 240 s at 1.5 s are 161."""
    return 2 * round(window_s / tr_s / 2.0 - 1e-9) + 1


def _running_median(rows: NDArray[np.float32], window: int, edge: _Edge) -> NDArray[np.float32]:
    from scipy.ndimage import median_filter

    # SciPy's filter of one dimension keeps the window sorted while it moves (0.05 ms a voxel of
    # 410 volumes); its general form sorts each window anew, 25 times slower.
    slow = np.empty_like(rows)
    for row, out in zip(rows, slow, strict=True):
        median_filter(row, size=window, mode=edge, output=out)
    return slow


def _check(spec: PreprocessSpec, run: Run) -> None:
    duration_s = len(run.signal) * run.tr_s
    if spec.detrend not in ("median", "polynomial", "high_pass", "none"):
        raise SettingError(
            "Expected preprocess.detrend 'median', 'polynomial', 'high_pass' or 'none', got "
            f"{spec.detrend!r}."
        )
    if spec.edge not in ("reflect", "nearest", "mirror"):
        raise SettingError(
            f"Expected preprocess.edge 'reflect', 'nearest' or 'mirror', got {spec.edge!r}."
        )
    if len(run.signal) < 2:
        raise SettingError(f"Run {run.key} has {len(run.signal)} volumes; expected at least 2.")
    if spec.detrend == "median" and not run.tr_s < spec.median_window_s < np.inf:
        raise SettingError(
            f"Expected preprocess.median_window_s above the TR of {run.tr_s:g} s, got "
            f"{spec.median_window_s}."
        )
    if spec.detrend == "polynomial" and not 0 <= spec.order < min(len(run.signal) - 1, 50):
        raise SettingError(
            f"Expected preprocess.order from 0 to {min(len(run.signal) - 2, 49)} for the "
            f"{len(run.signal)} volumes of run {run.key}, got {spec.order}."
        )
    if spec.detrend == "high_pass" and not 4 * run.tr_s <= spec.cutoff_s < np.inf:
        raise SettingError(
            f"Expected preprocess.cutoff_s of at least 4 TR = {4 * run.tr_s:g} s, got "
            f"{spec.cutoff_s}. Run {run.key} lasts {duration_s:g} s."
        )


@dataclass(frozen=True, slots=True)
class BadChannel:
    """An EEG channel that should not be trusted, and why."""

    name: str
    why: str


def find_bad_channels(
    signal: NDArray[np.float32], channels: Sequence[str] = (), *, limit: float = 5.0
) -> tuple[BadChannel, ...]:
    """Return channels that are flat, hold values that are not finite, or stand far apart.

    Parameters
    ----------
    signal : array of shape (n, n_channels)
    channels : sequence of str
        Names; numbers if not given.
    limit : float
        A channel stands apart when the logarithm of its sample-to-sample deviation (so that slow
        drifts do not count) lies so many robust deviations from the median of all channels.

    Returns
    -------
    bad : tuple of BadChannel
    """
    names = list(channels) or [str(k) for k in range(signal.shape[1])]
    good: NDArray[np.bool_] = np.isfinite(signal)
    steps = np.diff(np.where(good, signal, 0.0).astype(np.float64), axis=0)
    spread = steps.std(axis=0) if len(steps) else np.zeros(signal.shape[1])
    whole = np.atleast_1d(good.all(axis=0))
    lively = np.atleast_1d(whole & (spread > 0))
    bad = []
    log = np.log10(np.where(lively, spread, 1.0))
    centre = float(np.median(log[lively])) if lively.any() else 0.0
    # 1.4826 MAD is the deviation of a normal distribution; 0.05 is 12 %, which no one calls apart.
    scale = 1.4826 * float(np.median(np.abs(log[lively] - centre))) if lively.any() else 0.0
    scale = max(scale, 0.05)
    for k, name in enumerate(names):
        if not whole[k]:
            n_bad = int(len(signal) - np.count_nonzero(good[:, k]))
            bad.append(BadChannel(name, f"{n_bad} of {len(signal)} values are not finite"))
        elif not lively[k]:
            bad.append(BadChannel(name, "flat"))
        elif abs(log[k] - centre) > limit * scale:
            times = 10.0 ** (log[k] - centre)
            bad.append(BadChannel(name, f"{times:.2g} times the median channel's noise"))
    return tuple(bad)
