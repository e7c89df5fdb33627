"""How long after a sound the brain answers: the score on held-out clips, at every lag.

Only training runs go in. The curve is reported whole, with negative lags: what a brain tells of a
stretch before it sounds comes from the order of the clips, or from the clip's own earlier part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.run_features import RunFeatures
from calibration.scores import correlations, identification
from calibration.targets import TargetSource
from calibration.window_kernel import WindowKernel
from calibration.windows import WindowChoice, WindowRows, choose_windows
from models.errors import SettingError
from models.ridge.folds import group_folds

__all__ = ["LagSweep", "default_lags_s", "sweep_lags"]

# Relative to the mean squared length of a centred feature vector, so that one grid fits any number
# of voxels: 1e-3 hardly shrinks, 10 leaves little but the mean.
_ALPHAS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True, slots=True, eq=False)
class LagSweep:
    """Held-out scores at each lag, and the lag that was chosen."""

    lags_s: NDArray[np.float64]  # (n_lags,) ascending
    scores: NDArray[np.float64]  # (n_lags,) mean over folds, at the best penalty of that lag
    fold_scores: NDArray[np.float64]  # (n_lags, n_folds)
    n_windows: NDArray[np.int64]  # (n_lags,) used for the sweep
    lag_s: float  # chosen: the best of 0 s or more
    metric: Literal["correlation", "identification"]
    chance: float
    n_clips: int

    @property
    def standard_errors(self) -> NDArray[np.float64]:
        """Standard error over folds at each lag, (n_lags,); folds share data, so it is rough."""
        n = self.fold_scores.shape[1]
        return np.asarray(self.fold_scores.std(axis=1, ddof=1) / np.sqrt(n))

    @property
    def at_negative_lags(self) -> float:
        """The best score at a negative lag, before the sound; NaN: none was tried.

        Windows shorter than a clip may have heard an earlier part of the same clip by then.
        """
        before = self.scores[self.lags_s < -1e-9]
        return float(before.max()) if len(before) else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return the curve as JSON values."""
        before = self.at_negative_lags
        return {
            "lag_s": self.lag_s,
            "metric": self.metric,
            "chance": self.chance,
            "n_clips": self.n_clips,
            "at_negative_lags": None if np.isnan(before) else before,
            "curve": [
                {"lag_s": float(lag), "score": float(score), "standard_error": float(error)}
                for lag, score, error in zip(
                    self.lags_s, self.scores, self.standard_errors, strict=True
                )
            ],
        }


def default_lags_s(tr_s: float) -> tuple[float, ...]:
    """Return the lags that are tried for BOLD: -3 to +8 TR, and on to 8 s where TRs are short."""
    last = max(8, int(np.ceil(8.0 / tr_s - 1e-6)))
    return tuple(float(k * tr_s) for k in range(-3, last + 1))


def sweep_lags(
    runs: Sequence[RunFeatures],
    *,
    targets: TargetSource,
    lags_s: Sequence[float],
    choice: WindowChoice | None = None,
    n_folds: int = 5,
    by: Literal["clip", "run"] = "clip",
    metric: Literal["correlation", "identification"] = "correlation",
    alphas: Sequence[float] = _ALPHAS,
    max_rows: int = 1000,
    max_targets: int = 64,
    within: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> LagSweep:
    """Score a ridge decoder on held-out clips at each lag, on training runs.

    The inner products of all windows are computed once; a lag only chooses other rows of them.
    Every lag is scored on the same clips.

    Parameters
    ----------
    runs : sequence of RunFeatures
        Training runs of one person, standardised.
    targets : TargetSource
    lags_s : sequence of float
        Lags to try, s; `default_lags_s` for BOLD. Negative ones are scored, never chosen.
    choice : WindowChoice, optional
    n_folds : int
        Fewer where there are fewer groups.
    by : {"clip", "run"}
        What a fold holds out whole.
    metric : {"correlation", "identification"}
        Mean Pearson correlation over targets, or identification of clips (chance 0.5).
    alphas : sequence of float
        Penalties relative to the mean squared length of a feature vector; at each lag the best.
    max_rows : int
        Windows that are used at a lag; more are thinned evenly. The choice of a lag needs no more.
    max_targets : int
        Target dimensions that are decoded; of more, evenly spaced ones.
    within : float
        The shortest lag is taken whose score is at most this below the best: the listener hears
        that much sooner. 0: the best.
    progress : callable, optional
        Called with lags done and lags in all.

    Raises
    ------
    SettingError
        If settings are not usable, no lag is 0 s or more, or too few clips answer to a lag.
    """
    lags = _check(lags_s, alphas, metric, by, max_rows, max_targets)
    if not all(np.isfinite(run.values.sum(dtype=np.float64)) for run in runs):
        raise SettingError("Expected finite features; standardise them before the lag sweep.")
    chosen = [choose_windows(runs, lag_s=float(lag), choice=choice) for lag in lags]
    chosen = _on_common_clips(runs, chosen, max_rows, lags)
    kernel = WindowKernel(runs, chosen)
    scores, n_clips = [], 0
    for done, rows in enumerate(chosen):
        clips = _clips(runs, rows)
        y = targets.targets(clips.tolist(), rows.start_s, rows.stop_s)
        if y.shape[1] > max_targets:
            y = y[:, np.linspace(0, y.shape[1] - 1, max_targets).round().astype(np.int64)]
        groups = clips if by == "clip" else _runs(runs, rows)
        n_groups = len(np.unique(groups))
        if n_groups < 2:
            raise SettingError(
                f"A lag is chosen on {by}s held out, and there is only one {by}. Give lag_s, or "
                "more training data."
            )
        folds = group_folds(len(rows), min(n_folds, n_groups), groups=groups)
        gram = kernel.between(rows)
        scores.append(
            np.array([_fold_scores(gram, y, clips, fold, alphas, metric) for fold in folds])
        )  # (n_folds, n_alphas)
        n_clips = len(np.unique(clips))
        if progress is not None:
            progress(done + 1, len(chosen))
    best = np.array([fold.mean(axis=0).argmax() for fold in scores])
    fold_scores = np.array([fold[:, at] for fold, at in zip(scores, best, strict=True)])
    means = fold_scores.mean(axis=1)
    allowed = np.flatnonzero(lags > -1e-9)
    good = allowed[means[allowed] >= means[allowed].max() - within]
    return LagSweep(
        lags_s=lags,
        scores=means,
        fold_scores=fold_scores,
        n_windows=np.array([len(rows) for rows in chosen]),
        lag_s=float(lags[good[0] if within > 0 else allowed[means[allowed].argmax()]]),
        metric=metric,
        chance=0.0 if metric == "correlation" else 0.5,
        n_clips=n_clips,
    )


def _check(
    lags_s: Sequence[float],
    alphas: Sequence[float],
    metric: str,
    by: str,
    max_rows: int,
    max_targets: int,
) -> NDArray[np.float64]:
    lags = np.unique(np.asarray(lags_s, np.float64))
    if not len(lags) or not np.isfinite(lags).all() or lags[-1] < -1e-9:
        raise SettingError(f"Expected lags in s, some of 0 or more, got {list(lags_s)}.")
    if not len(alphas) or min(alphas) <= 0 or max_rows < 20 or max_targets < 2:
        raise SettingError(
            "Expected penalties above 0, max_rows of 20 or more and max_targets of 2 or more, got "
            f"{list(alphas)}, {max_rows} and {max_targets}."
        )
    if metric not in ("correlation", "identification") or by not in ("clip", "run"):
        raise SettingError(
            "Expected metric 'correlation' or 'identification' and by 'clip' or 'run', got "
            f"{metric!r} and {by!r}."
        )
    return lags


def _clips(runs: Sequence[RunFeatures], rows: WindowRows) -> NDArray[np.str_]:
    first = zip(rows.run[:, 0], rows.event[:, 0], strict=True)
    return np.array([runs[run].run.events[event].stimulus for run, event in first], np.str_)


def _runs(runs: Sequence[RunFeatures], rows: WindowRows) -> NDArray[np.str_]:
    if rows.run.shape[1] > 1 and np.any((rows.run != rows.run[:, :1]) & (rows.run >= 0)):
        raise SettingError(
            "Clips are repeated in several runs, so no run can be held out alone. Choose by "
            "'clip', or repeat 'run'."
        )
    return np.array([runs[run].run.key for run in rows.run[:, 0]], np.str_)


def _on_common_clips(
    runs: Sequence[RunFeatures],
    chosen: Sequence[WindowRows],
    max_rows: int,
    lags: NDArray[np.float64],
) -> list[WindowRows]:
    """Keep the clips that have windows at every lag, and thin the windows evenly."""
    names = [_clips(runs, rows) for rows in chosen]
    common = set(names[0].tolist()).intersection(*(name.tolist() for name in names[1:]))
    if len(common) < 2:
        fewest = int(np.argmin([len(rows) for rows in chosen]))
        raise SettingError(
            f"A lag sweep needs at least 2 clips with windows at every lag, and has {len(common)}; "
            f"a lag of {lags[fewest]:g} s has {len(chosen[fewest])} windows. Shorten the feature "
            "window, try fewer lags, or give lag_s."
        )
    result = []
    for rows, name in zip(chosen, names, strict=True):
        keep = np.flatnonzero(np.isin(name, list(common)))
        if len(keep) > max_rows:
            keep = keep[np.linspace(0, len(keep) - 1, max_rows).round().astype(np.int64)]
        result.append(rows.take(keep))
    return result


def _fold_scores(
    gram: NDArray[np.float64],
    y: NDArray[np.float64],
    clips: NDArray[np.str_],
    fold: tuple[NDArray[np.intp], NDArray[np.intp]],
    alphas: Sequence[float],
    metric: str,
) -> NDArray[np.float64]:
    """Return the score of the held-out windows for each alpha, (n_alphas,)."""
    from scipy.linalg import cho_factor, cho_solve

    train, test = fold
    # Kernel ridge with an unpenalised intercept: distances from the mean of the training windows.
    inner = gram[np.ix_(train, train)]
    mean = inner.mean(axis=0)
    cross = gram[np.ix_(test, train)]
    cross = cross - cross.mean(axis=1, keepdims=True) - mean + mean.mean()
    inner = inner - mean - mean[:, None] + mean.mean()
    offset = y[train].mean(axis=0)
    size = max(float(np.trace(inner)) / len(train), 1e-12)
    diagonal = np.diag_indices(len(train))
    scores = []
    for alpha in alphas:
        system = inner.copy()
        # Next to alpha, a little of the identity for rounding in float32 products.
        system[diagonal] += (alpha + 1e-6) * size
        factor = cho_factor(system, lower=True, overwrite_a=True, check_finite=False)
        predicted = cross @ cho_solve(factor, y[train] - offset, check_finite=False) + offset
        scores.append(_score(predicted, y[test], clips[test], metric))
    return np.array(scores)


def _score(
    predicted: NDArray[np.float64], y: NDArray[np.float64], clips: NDArray[np.str_], metric: str
) -> float:
    if metric == "identification":
        names, number = np.unique(clips, return_inverse=True)
        if len(names) < 2:
            return 0.5
        sums = np.zeros((2, len(names), y.shape[1]))
        np.add.at(sums[0], number, predicted)
        np.add.at(sums[1], number, y)
        means = sums / np.bincount(number)[:, None]
        # About the mean of the candidates: what all have in common must not decide.
        means -= means.mean(axis=1, keepdims=True)
        return identification(correlations(means[0], means[1])).ties_half
    a, b = predicted - predicted.mean(axis=0), y - y.mean(axis=0)
    power = (a**2).sum(axis=0) * (b**2).sum(axis=0)
    varies = (b**2).sum(axis=0) > 1e-20
    if not varies.any():
        return 0.0
    r = (a * b).sum(axis=0) / np.sqrt(np.maximum(power, 1e-30))
    return float(r[varies].mean())
