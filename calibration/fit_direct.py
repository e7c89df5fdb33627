"""Fit a direct chain: brain features to mel frames by ridge regression, then phase recovery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.runs import Run, clip_at, run_windows
from calibration.scores import correlations, identification
from models.errors import SettingError
from models.mel import MelSpec, log_mel
from models.ridge.shared import LinearFit, fit_shared
from models.spec import FeatureSpec, StandardiseSpec
from models.standardise import standardise_batch

__all__ = [
    "MEL_FLOOR",
    "DirectFit",
    "fit_direct",
    "mel_identification",
    "predict_mel",
    "score_direct",
]

MEL_FLOOR = -7.0  # ln mel; 37 dB under loud sounds (ln mel -2.7): softer parts count as this soft
_SEGMENT_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class DirectFit:
    """A fitted direct chain."""

    features: FeatureSpec
    standardise: StandardiseSpec
    mean: NDArray[np.float64]  # (n_features,)
    std: NDArray[np.float64]
    linear: LinearFit
    mel: MelSpec
    frames_per_window: int
    lag_s: float
    lag_scores: dict[float, float]  # held-out correlation at each lag that was tried


def fit_direct(
    runs: Sequence[Run],
    *,
    features: FeatureSpec,
    frames_per_window: int,
    lags_s: Sequence[float],
    alphas: Sequence[float] = (1e1, 1e2, 1e3, 1e4, 1e5),
    mel: MelSpec | None = None,
    standardise: StandardiseSpec | None = None,
    restore: float = 1.6,
) -> DirectFit:
    """Fit features to the mel frames of what was heard `lag_s` before.

    The lag and the penalty are chosen by five folds of whole clips of the training runs. Ridge
    predictions vary less than what they predict; each mel band is therefore stretched about its
    mean to the variance of the sound, by at most `restore`, measured on the held-out folds.

    Parameters
    ----------
    runs : sequence of Run
        Training runs.
    features : FeatureSpec
    frames_per_window : int
        Mel frames from hop to hop.
    lags_s : sequence of float
        Lags to choose from, s.
    alphas : sequence of float
        Penalties to choose from, for standardised features.
    mel : MelSpec, optional
        The AudioLDM front-end if not given.
    standardise : StandardiseSpec, optional
        Causal with the statistics of the training runs kept, if not given.
    restore : float
        Largest stretch; 1 leaves predictions alone.

    Raises
    ------
    SettingError
        If there is nothing to fit or a choice is not usable.
    """
    if not runs or not lags_s or not restore >= 1.0:
        raise SettingError(
            f"A fit needs runs, lags and restore >= 1, got {len(runs)} runs, {list(lags_s)} and "
            f"{restore}."
        )
    mel, standardise = mel or MelSpec(), standardise or StandardiseSpec()
    windows = [run_windows(run, features) for run in runs]
    mels = [_floored_mel(run, mel) for run in runs]
    raw = np.concatenate([w.values for w in windows]).astype(np.float64)
    mean, std = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-30)
    fits: dict[float, LinearFit] = {}
    targets: dict[float, NDArray[np.float64]] = {}
    for lag_s in lags_s:
        x_rows, y_rows, g_rows = [], [], []
        for number, (run, w, frames) in enumerate(zip(runs, windows, mels, strict=True)):
            rows, y = _targets(w.t_stop - lag_s, frames, mel, frames_per_window)
            x_rows.append(standardise_batch(standardise, w.values, mean, std)[rows])
            y_rows.append(y.reshape(len(y), -1))
            middle = w.t_stop[rows] - lag_s - frames_per_window / mel.frames_per_s / 2.0
            g_rows.append(clip_at(run.sequence, middle) + 1_000_000 * number)
        targets[lag_s] = np.concatenate(y_rows)
        x, groups = np.concatenate(x_rows), np.concatenate(g_rows)
        fits[lag_s] = fit_shared(x, targets[lag_s], groups, alphas=alphas)
    lag_scores = {lag: fit.scores[fit.alpha] for lag, fit in fits.items()}
    # The shortest lag within .005 of the best: the listener hears that much sooner.
    best_score = max(lag_scores.values())
    lag_s = min(lag for lag, score in lag_scores.items() if score >= best_score - 0.005)
    linear = _restore_variance(fits[lag_s], targets[lag_s], mel.n_mels, restore)
    return DirectFit(
        features, standardise, mean, std, linear, mel, frames_per_window, lag_s, lag_scores
    )


def predict_mel(fit: DirectFit, run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return decoded and true mel frames of a run, both (n, n_mels), where both are known."""
    windows = run_windows(run, fit.features)
    frames = _floored_mel(run, fit.mel)
    rows, truth = _targets(windows.t_stop - fit.lag_s, frames, fit.mel, fit.frames_per_window)
    x = standardise_batch(fit.standardise, windows.values, fit.mean, fit.std)[rows]
    return fit.linear.predict(x).reshape(-1, fit.mel.n_mels), truth.reshape(-1, fit.mel.n_mels)


def mel_identification(
    decoded: NDArray[np.floating], truth: NDArray[np.floating], *, frames_per_segment: int
) -> NDArray[np.float64]:
    """Return how much each decoded segment resembles each true one: (n, n) correlations.

    From both, the mean of each band over all segments is taken off first, so that the common tilt
    of all sounds does not count as likeness.
    """
    n = min(len(decoded), len(truth)) // frames_per_segment
    rows = [
        (np.asarray(m, np.float64) - np.mean(m[: n * frames_per_segment], axis=0))[
            : n * frames_per_segment
        ].reshape(n, -1)
        for m in (decoded, truth)
    ]
    return correlations(rows[0], rows[1])


def score_direct(fit: DirectFit, run: Run, other: Run) -> dict[str, float]:
    """Return scores of a run that was held out: correlation, identification, and its floor.

    Parameters
    ----------
    fit : DirectFit
    run : Run
    other : Run
        Of the same brain while it heard other sounds: decoded, and held against the sounds of
        `run`, it gives what is scored without any brain signal of theirs.
    """
    decoded, truth = predict_mel(fit, run)
    per_segment = round(_SEGMENT_S * fit.mel.frames_per_s)
    similarity = mel_identification(decoded, truth, frames_per_segment=per_segment)
    result = identification(similarity)
    bands = [np.corrcoef(decoded[:, k], truth[:, k])[0, 1] for k in range(fit.mel.n_mels)]
    away = mel_identification(predict_mel(fit, other)[0], truth, frames_per_segment=per_segment)
    return {
        "mel_r": float(np.mean(bands)),
        "identification": result.ties_half,
        "identification_strict": result.strict,
        "identification_other_sound": identification(away).ties_half,
        "chance": 0.5,
        "n_segments": float(result.n),
        "segment_s": _SEGMENT_S,
    }


def _floored_mel(run: Run, mel: MelSpec) -> NDArray[np.float32]:
    return np.maximum(log_mel(run.sequence.pcm, mel), np.float32(MEL_FLOOR))


def _targets(
    stop_s: NDArray[np.float64], frames: NDArray[np.float32], mel: MelSpec, per_window: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return which windows have a target, and their frames (n, per_window, n_mels)."""
    stop = np.round(stop_s * mel.frames_per_s).astype(np.int64)
    rows = np.flatnonzero((stop >= per_window) & (stop <= len(frames)))
    index = stop[rows][:, None] - per_window + np.arange(per_window)
    return rows, np.asarray(frames[index], np.float64)


def _restore_variance(
    fit: LinearFit, target: NDArray[np.float64], n_mels: int, limit: float
) -> LinearFit:
    """Return the fit with each mel band stretched about its mean, and at the level of the sound.

    Stretched logarithms would be too loud where they are large: each band is then moved so that
    its mean power, over the folds held out, is that of the sound.
    """

    def bands(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values.reshape(-1, n_mels)

    n_frames = target.shape[1] // n_mels
    spread = bands(target).std(axis=0) / np.maximum(bands(fit.held_out).std(axis=0), 1e-12)
    gain = np.tile(np.clip(spread, 1.0, limit), n_frames)
    centre = target.mean(axis=0)
    stretched = centre + (fit.held_out - centre) * gain
    power = [np.mean(np.exp(2.0 * bands(values)), axis=0) for values in (target, stretched)]
    level = np.tile(0.5 * np.log(power[0] / power[1]), n_frames)
    return replace(
        fit,
        weights=fit.weights * gain,
        bias=centre + (fit.bias - centre) * gain + level,
        held_out=stretched + level,
    )
