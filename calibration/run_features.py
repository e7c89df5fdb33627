"""The feature windows of runs, computed once as they run live, and standardised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Run
from calibration.preprocess import PreprocessReport, PreprocessSpec, preprocess_run
from models.errors import SettingError
from models.features import batch_features, make_extractor
from models.spec import FeatureSpec, StandardiseSpec, TrMeanSpec
from models.standardise import standardise_batch, standardise_offline, statistics
from models.tr_mean import n_volumes

__all__ = ["RunFeatures", "run_features", "standardise_runs", "training_statistics"]


@dataclass(frozen=True, slots=True, eq=False)
class RunFeatures:
    """The feature windows of one run, computed once and used for every lag."""

    run: Run
    starts: NDArray[np.int64]  # (n_windows,) first sample or volume
    stops: NDArray[np.int64]  # (n_windows,) one past the last; beyond the run where it was cut
    t_start_s: NDArray[np.float64]  # (n_windows,) s, from the start of the run
    t_stop_s: NDArray[np.float64]  # (n_windows,) s
    answer_s: float  # length of the stretch of stimulus that a window answers to, s
    hop_s: float  # from one window to the next, s
    values: NDArray[np.float32]  # (n_windows, n_features)
    zscored: bool = False  # per run, with hindsight, before the features were made
    report: PreprocessReport | None = None

    @property
    def n_features(self) -> int:
        """Length of a feature vector."""
        return int(self.values.shape[1])


def run_features(
    runs: Sequence[Run],
    *,
    features: FeatureSpec,
    preprocess: PreprocessSpec | None = None,
    shortest: float = 1.0,
) -> tuple[RunFeatures, ...]:
    """Compute the features of runs, each by itself, exactly as a live session does.

    Parameters
    ----------
    runs : sequence of Run
    features : FeatureSpec
    preprocess : PreprocessSpec, optional
        What is done to a run with hindsight before (mode `offline`); nothing if not given, as live.
    shortest : float
        Share of a window's volumes that must be there at the end of a run of BOLD; 1: all, as live.
        A scanner that stops with the sound cuts the last window short: at 0.5 the last clip of a
        run of ds003720, 7 of its 10 volumes after a lag of 3, counts as well.

    Returns
    -------
    features : tuple of RunFeatures
        Not yet standardised.

    Raises
    ------
    SettingError
        If the specification cannot be met at the rate of a run, or runs differ in their columns.
    """
    if len({run.signal.shape[1] for run in runs}) > 1:
        raise SettingError(
            "Expected runs with the same columns, got "
            f"{sorted({run.signal.shape[1] for run in runs})}. Use one mask for all runs."
        )
    if not 0 < shortest <= 1:
        raise SettingError(f"Expected shortest above 0 and at most 1, got {shortest}.")
    return tuple(_one_run(run, features, preprocess, shortest) for run in runs)


def _one_run(
    run: Run, features: FeatureSpec, preprocess: PreprocessSpec | None, shortest: float
) -> RunFeatures:
    signal, report = run.signal, None
    if preprocess is not None:
        signal, report = preprocess_run(run, preprocess)
    starts, stops, values = batch_features(features, signal, sfreq_hz=run.sfreq_hz)
    plan = make_extractor(features, sfreq_hz=run.sfreq_hz, n_channels=signal.shape[1])
    if isinstance(features, TrMeanSpec):
        answer_s = n_volumes(features.window_s, tr_s=run.tr_s) * run.tr_s
        if shortest < 1 and features.n_delays == 1:
            starts, stops, values = _with_short_end(
                features, signal, (starts, stops, values), plan.window_samples, shortest
            )
    else:
        answer_s = plan.window_samples * run.tr_s
    return RunFeatures(
        run=run,
        starts=starts,
        stops=stops,
        t_start_s=_time_of(run, starts),
        t_stop_s=_time_of(run, stops - 1) + run.tr_s,
        answer_s=answer_s,
        hop_s=plan.hop_samples * run.tr_s,
        values=values,
        zscored=preprocess is not None and preprocess.zscore,
        report=report,
    )


def _with_short_end(
    features: TrMeanSpec,
    signal: NDArray[np.float32],
    windows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]],
    n: int,
    shortest: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Add the windows that the end of the run cuts short; they stop where they would have."""
    starts, stops, values = windows
    first = int(starts[-1]) + features.hop_volumes if len(starts) else features.start_volume
    last = len(signal) - max(1, int(np.ceil(shortest * n - 1e-9)))
    more = np.arange(first, last + 1, features.hop_volumes, dtype=np.int64)
    rows = [signal[start:].mean(axis=0, dtype=np.float64) for start in more]
    extra = np.array(rows, np.float32).reshape(len(more), signal.shape[1])
    return (
        np.concatenate([starts, more]),
        np.concatenate([stops, more + n]),
        np.concatenate([values, extra]),
    )


def _time_of(run: Run, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the stamps of samples; a window may begin before the first, or end after the last."""
    inside = np.clip(index, 0, len(run.stamps_s) - 1)
    return np.asarray(run.stamps_s[inside] + (index - inside) * run.tr_s, np.float64)


def training_statistics(
    runs: Sequence[RunFeatures], spec: StandardiseSpec | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of the features of training runs.

    Where `spec` goes on learning, the deviation is that from the running mean, within runs: what
    the standardiser will divide by in a session, whose baseline is another.

    Parameters
    ----------
    runs : sequence of RunFeatures
        Training runs only, not standardised.
    spec : StandardiseSpec, optional

    Returns
    -------
    mean, std : arrays of shape (n_features,), float64

    Raises
    ------
    SettingError
        If there is no window.
    """
    if not runs or not sum(len(run.values) for run in runs):
        raise SettingError(
            "Standardisation needs windows of training runs, and there are none. Are the runs "
            "longer than a feature window?"
        )
    # Run by run: all runs in float64 at once would take gigabytes.
    parts = [(len(run.values), *statistics(run.values)) for run in runs if len(run.values)]
    n = np.array([part[0] for part in parts], np.float64)[:, None]
    means, stds = np.array([part[1] for part in parts]), np.array([part[2] for part in parts])
    mean = (n * means).sum(axis=0) / n.sum()
    if spec is None or spec.mode != "causal" or np.isinf(spec.prior_n):
        return mean, np.sqrt((n * (stds**2 + (means - mean) ** 2)).sum(axis=0) / n.sum())
    within = np.sqrt((n * stds**2).sum(axis=0) / n.sum())
    if spec.forget_n == np.inf:
        return mean, within
    # Each run from its own mean: how far a baseline jumps between runs is not what is divided by.
    plain = replace(spec, clip=0.0, learn="mean", prior_n=spec.forget_n)
    square, unit = np.zeros_like(mean), np.maximum(1.0, np.abs(mean))
    for run, own in zip([run for run in runs if len(run.values)], means, strict=True):
        square += (standardise_batch(plain, run.values, own, unit).astype(np.float64) ** 2).sum(
            axis=0
        )
    return mean, np.where(within > 0, np.sqrt(square / n.sum()) * unit, 0.0)


def standardise_runs(
    runs: Sequence[RunFeatures],
    spec: StandardiseSpec,
    *,
    mean: NDArray[np.float64] | None = None,
    std: NDArray[np.float64] | None = None,
) -> tuple[RunFeatures, ...]:
    """Standardise the features of runs; every run starts afresh, as a session does.

    Parameters
    ----------
    runs : sequence of RunFeatures
    spec : StandardiseSpec
        `causal` and `none` are what runs live. `offline` standardises each run by itself, unless
        its volumes were z-scored before the features were made.
    mean, std : arrays of shape (n_features,), optional
        Of the training runs (`training_statistics`); needed for `causal`.

    Raises
    ------
    SettingError
        If statistics are missing or do not fit.
    """
    if spec.mode == "none":
        return tuple(runs)
    if spec.mode == "offline":
        return tuple(run if run.zscored else _offline(run, spec) for run in runs)
    if mean is None or std is None:
        raise SettingError(
            "Standardisation 'causal' starts from the mean and deviation of the training runs. "
            "Give those of training_statistics."
        )
    return tuple(
        replace(run, values=standardise_batch(spec, run.values, mean, std)) for run in runs
    )


def _offline(run: RunFeatures, spec: StandardiseSpec) -> RunFeatures:
    if not len(run.values):
        return run
    return replace(run, values=standardise_offline(run.values, spec=spec), zscored=True)
