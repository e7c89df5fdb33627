"""Trials of a recorded session: which of a few known sounds was heard from when to when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.scores import area_under_curve
from models.errors import FileError, SettingError
from models.features import batch_features
from models.ridge.folds import fold_numbers
from models.ridge.shared import (
    LinearFit,
    column_correlations,
    fit_shared,
    ridge_predictions,
)
from models.spec import PsdSpec

__all__ = [
    "SessionOut",
    "TrialWindows",
    "Trials",
    "choose_and_fit",
    "leave_one_session_out",
    "read_trials",
    "trial_windows",
]

_ALPHAS = tuple(float(10.0**k) for k in np.arange(0.0, 5.1, 0.5))


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """One session: the samples, and the onsets of its sounds."""

    name: str
    samples: NDArray[np.float32]  # (n, n_channels), V
    labels: tuple[str, ...]  # of the channels
    sfreq_hz: float
    onsets_s: NDArray[np.float64]  # (n_trials,) from the first sample
    codes: NDArray[np.int64]  # (n_trials,) which sound
    sound_s: float  # how long each sound lasts


@dataclass(frozen=True, slots=True, eq=False)
class TrialWindows:
    """Feature windows that lie within a sound."""

    values: NDArray[np.float64]  # (n, n_features)
    codes: NDArray[np.int64]  # (n,)
    trial: NDArray[np.int64]  # (n,) number of the trial, over all sessions
    session: NDArray[np.int64]  # (n,)


@dataclass(frozen=True, slots=True, eq=False)
class SessionOut:
    """Result of leaving one session out after another."""

    auc: tuple[float, ...]  # of each session, its decoder fitted on the others
    chosen: tuple[tuple[str, float], ...]  # taper and penalty, chosen within the others
    null: NDArray[np.float64]  # (n_permutations,) mean AUC, training labels dealt out anew
    n_windows: int
    n_trials: int

    @property
    def mean_auc(self) -> float:
        """Mean over the sessions left out."""
        return float(np.mean(self.auc))


def read_trials(path: Path, *, sound_s: float, codes: Sequence[int] = (1, 2)) -> Trials:
    """Read a session with one EEG signal and markers that are numbers.

    Parameters
    ----------
    path : Path
        A recording of any kind that `stream.recordings` reads.
    sound_s : float
        How long a sound lasts, s.
    codes : sequence of int
        Markers that start a sound; others are left out, as are sounds that the end cuts off.

    Raises
    ------
    FileError
        If the file cannot be read or has no such marker.
    """
    from stream.recordings import read_recording

    recording = read_recording(path)
    signal = recording.choose()
    onsets: list[float] = []
    found: list[int] = []
    last_s = (len(signal.samples) - 1) / signal.sfreq_hz
    for markers in recording.markers:
        # Positions in samples, not differences of stamps: a headband's clock drifts.
        at = np.interp(markers.stamps, signal.stamps, np.arange(len(signal.stamps)))
        for position, text in zip(at / signal.sfreq_hz, markers.texts, strict=True):
            if text.strip() in {str(code) for code in codes} and position + sound_s <= last_s:
                onsets.append(float(position))
                found.append(int(text))
    if not onsets:
        raise FileError(
            f"{path.name} has none of the markers {list(codes)} that start a sound. Give a "
            "recording with markers, or name their codes."
        )
    order = np.argsort(onsets)
    return Trials(
        path.stem,
        signal.samples,
        signal.labels,
        signal.sfreq_hz,
        np.asarray(onsets)[order],
        np.asarray(found, np.int64)[order],
        sound_s,
    )


def trial_windows(
    sessions: Sequence[Trials], spec: PsdSpec, *, skip_s: float = 0.3, stop_s: float | None = None
) -> TrialWindows:
    """Return the features of windows side by side within each sound.

    Parameters
    ----------
    sessions : sequence of Trials
    spec : PsdSpec
        Windows are `spec.window_s` long and `spec.hop_s` apart, the first `skip_s` after the onset
        (the response takes that long to build up).
    stop_s : float, optional
        Windows end by then after the onset; the end of the sound if not given.

    Raises
    ------
    SettingError
        If no window fits into a sound.
    """
    rows, codes, trial, session = [], [], [], []
    number = 0
    for which, item in enumerate(sessions):
        length = round(((stop_s or item.sound_s) - skip_s) * item.sfreq_hz)
        for onset, code in zip(item.onsets_s, item.codes, strict=True):
            first = round((onset + skip_s) * item.sfreq_hz)
            piece = item.samples[first : first + length]
            _, _, values = batch_features(spec, piece, sfreq_hz=item.sfreq_hz)
            rows.append(np.asarray(values, np.float64))
            codes += [int(code)] * len(values)
            trial += [number] * len(values)
            session += [which] * len(values)
            number += 1
    if not codes:
        raise SettingError(
            f"No window of {spec.window_s} s fits into the sounds; choose a shorter one."
        )
    return TrialWindows(
        np.concatenate(rows), np.asarray(codes), np.asarray(trial), np.asarray(session)
    )


def choose_and_fit(
    candidates: dict[str, TrialWindows], rows: NDArray[np.bool_], target: NDArray[np.float64]
) -> tuple[str, LinearFit, NDArray[np.float64], NDArray[np.float64]]:
    """Choose among feature settings and penalties by folds of whole sessions, then fit.

    Parameters
    ----------
    candidates : dict of str to TrialWindows
        The same windows under several feature settings.
    rows : array of shape (n,), bool
        Training windows; nothing else is looked at.
    target : array of shape (n, n_out)
        What to predict.

    Returns
    -------
    name : str
        Setting that was chosen.
    fit : LinearFit
        On standardised features.
    mean, std : arrays of shape (n_features,)
        Of the training windows.
    """
    best: tuple[float, str, LinearFit, NDArray[np.float64], NDArray[np.float64]] | None = None
    for name, windows in candidates.items():
        x = windows.values[rows]
        mean, std = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
        groups, n_folds = _folds(windows, rows)
        fit = fit_shared((x - mean) / std, target[rows], groups, alphas=_ALPHAS, n_folds=n_folds)
        score = fit.scores[fit.alpha]
        if best is None or score > best[0]:
            best = (score, name, fit, mean, std)
    if best is None:
        raise SettingError("There is no feature setting to choose from.")
    return best[1:]


def leave_one_session_out(
    sessions: Sequence[Trials],
    specs: dict[str, PsdSpec],
    *,
    n_permutations: int = 0,
    seed: int = 0,
    stop_s: float | None = None,
) -> SessionOut:
    """Tell two sounds apart in each session with a decoder that never saw it.

    The feature setting and the penalty are chosen within the training sessions. For the null, the
    labels of the training trials are dealt out anew within each session, and everything, the
    choice too, is done again.

    Raises
    ------
    SettingError
        If there are fewer than 2 sessions or not exactly two sounds.
    """
    candidates = {
        name: trial_windows(sessions, spec, stop_s=stop_s) for name, spec in specs.items()
    }
    some = next(iter(candidates.values()))
    kinds = np.unique(some.codes)
    if len(sessions) < 2 or len(kinds) != 2:
        raise SettingError(
            f"Two sounds in 2 or more sessions are expected, got {len(kinds)} in {len(sessions)}."
        )
    truth = some.codes == kinds[0]
    rng = np.random.default_rng(seed)
    # Column 0: the labels as they were; each further column: dealt out anew. All in one go, since
    # the costly part, a reduction for each fold, is the same for all columns.
    columns = [truth, *(_deal_anew(some, truth, rng) for _ in range(n_permutations))]
    target = np.where(np.stack(columns, axis=1), 1.0, -1.0)
    sessions_left_out = np.unique(some.session)
    auc = np.empty((len(sessions_left_out), target.shape[1]))
    chosen: list[tuple[str, float]] = []
    for k, left_out in enumerate(sessions_left_out):
        test = some.session == left_out
        decided, names = _decide(candidates, ~test, target)
        auc[k] = [area_under_curve(column, truth[test]) for column in decided.T]
        chosen.append(names)
    return SessionOut(
        tuple(auc[:, 0].tolist()),
        tuple(chosen),
        auc[:, 1:].mean(axis=0),
        len(some.codes),
        len(np.unique(some.trial)),
    )


def _decide(
    candidates: dict[str, TrialWindows], train: NDArray[np.bool_], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[str, float]]:
    """Choose setting and penalty for each column by folds of training sessions, then predict.

    Returns
    -------
    decided : array of shape (n_test, n_columns)
        Predictions for the windows that are not in `train`.
    chosen : tuple of str, float
        Setting and penalty of column 0.
    """
    n_columns = target.shape[1]
    best = np.full(n_columns, -np.inf)
    decided = np.zeros((int(np.sum(~train)), n_columns))
    chosen = ("", 0.0)
    for name, windows in candidates.items():
        x, y = windows.values[train], target[train]
        mean, std = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
        x = (x - mean) / std
        groups, n_folds = _folds(windows, train)
        fold = fold_numbers(len(groups), n_folds, groups=groups, neighbours_together=True)
        held_out = np.empty((len(_ALPHAS), *y.shape))
        for k in np.unique(fold):
            held_out[:, fold == k] = ridge_predictions(
                x[fold != k], y[fold != k], x[fold == k], alphas=_ALPHAS
            )
        scores = np.array([column_correlations(values, y) for values in held_out])
        at = scores.argmax(axis=0)  # (n_columns,) which penalty
        final = ridge_predictions(x, y, (windows.values[~train] - mean) / std, alphas=_ALPHAS)
        better = scores[at, np.arange(n_columns)] > best
        best = np.where(better, scores[at, np.arange(n_columns)], best)
        decided[:, better] = final[at[better], :, np.flatnonzero(better)].T
        if better[0]:
            chosen = (name, _ALPHAS[at[0]])
    return decided, chosen


def _folds(windows: TrialWindows, rows: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
    """Return groups and the number of folds: sessions, or trials of an only session."""
    sessions = windows.session[rows]
    groups = sessions if len(np.unique(sessions)) > 1 else windows.trial[rows]
    return groups, min(5, len(np.unique(groups)))


def _deal_anew(
    windows: TrialWindows, positive: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return labels dealt out anew among the trials of each session."""
    _, firsts, inverse = np.unique(windows.trial, return_index=True, return_inverse=True)
    per_trial, session = positive[firsts], windows.session[firsts]
    dealt = per_trial.copy()
    for which in np.unique(session):
        at = np.flatnonzero(session == which)
        dealt[at] = per_trial[rng.permutation(at)]
    return np.asarray(dealt[inverse])
