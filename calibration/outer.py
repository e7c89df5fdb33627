"""Fit on one part of the recordings, decode the other: what every score of a calibration rests on.

Everything that is learnt - the statistics, the lag, voxels, regions, penalties, weights - is learnt
on the training part alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples, join_samples
from calibration.decoders import Decoder, held_out_correlation, make_decoder
from calibration.honest.splits import Family, make_splits
from calibration.lag import sweep_lags
from calibration.methods.others import OtherPeople
from calibration.plan import Plan
from calibration.report.result import Curve
from calibration.run_features import RunFeatures, standardise_runs, training_statistics
from calibration.targets import TargetSource
from calibration.windows import make_samples
from models.errors import SettingError

__all__ = [
    "Decoded",
    "Fit",
    "Fold",
    "decode",
    "decode_leaky",
    "decode_samples",
    "fit_part",
    "join",
    "make_parts",
    "trials",
    "unit",
]

Rois = Mapping[str, NDArray[np.intp]]


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A fitted decoder with all that was learnt for it."""

    decoder: Decoder
    mean: NDArray[np.float64]  # (n_features,)
    std: NDArray[np.float64]
    lag_s: float
    lag: Curve | None
    centre: NDArray[np.float64]  # (d,) mean of the training targets, taken off
    held_out_r: float | None
    train: Samples


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Windows that were held out, and what was decoded for them."""

    samples: Samples  # targets centred as the decoder's are
    raw: NDArray[np.float64]  # (n, d) as the decoder says, its certainty in their length
    centre: NDArray[np.float64]  # (n, d) what was taken off the targets
    halves: tuple[NDArray[np.float64], NDArray[np.float64]] | None  # of the repetitions

    @property
    def predictions(self) -> NDArray[np.float64]:
        """At unit length, as the exported decoder gives them: (n, d)."""
        return unit(self.raw)


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Runs to learn from and runs to decode; events that do not belong are left out of each."""

    name: str
    train: tuple[RunFeatures, ...]
    test: tuple[RunFeatures, ...]


def make_parts(runs: Sequence[RunFeatures], plan: Plan) -> tuple[Fold, ...]:
    """Return the folds of a plan: the data set's own test runs, or groups held out in turn.

    Raises
    ------
    SettingError
        If there are too few groups.
    """
    evaluation = plan.evaluation
    if evaluation.test == "dataset":
        train = tuple(run for run in runs if run.run.part == "train")
        test = tuple(run for run in runs if run.run.part == "test")
        return (Fold("test", train, test),)
    names: dict[str, None] = {}
    for run in runs:
        names |= dict.fromkeys(_group(run, k, plan) for k in range(len(run.run.events)))
    groups = list(names)
    n_folds = evaluation.n_folds or (5 if evaluation.family == "clip" else len(groups))
    n_folds = min(n_folds, len(groups))
    if n_folds < 2:
        raise SettingError(
            f"Holding out by {evaluation.family} needs 2 or more, got {groups}. Record more, or "
            "choose another evaluation.family."
        )
    fold_of = {name: k * n_folds // len(groups) for k, name in enumerate(groups)}
    folds = []
    for k in range(n_folds):
        held = {name for name in groups if fold_of[name] == k}
        title = ", ".join(sorted(held)) if len(held) < 4 else f"fold {k + 1}"
        train = tuple(_only(run, plan, set(groups) - held) for run in runs)
        test = tuple(_only(run, plan, held) for run in runs)
        folds.append(Fold(title, _with_events(train), _with_events(test)))
    return tuple(folds)


def _group(run: RunFeatures, event: int, plan: Plan) -> str:
    family = plan.evaluation.family
    if family == "session":
        return run.run.session
    if family == "run":
        return run.run.key
    one = run.run.events[event]
    if family == "label":
        return one.label or one.stimulus
    return f"{run.run.key}@{event}" if plan.closed else one.stimulus


def _only(run: RunFeatures, plan: Plan, groups: set[str]) -> RunFeatures:
    keep = [e for k, e in enumerate(run.run.events) if _group(run, k, plan) in groups]
    return replace(run, run=replace(run.run, events=tuple(keep)))


def _with_events(runs: tuple[RunFeatures, ...]) -> tuple[RunFeatures, ...]:
    return tuple(run for run in runs if run.run.events)


def fit_part(
    train: Sequence[RunFeatures],
    targets: TargetSource,
    plan: Plan,
    *,
    rois: Rois | None = None,
    shuffle: np.random.Generator | None = None,
    lag_s: float | None = None,
    others: OtherPeople | None = None,
) -> Fit:
    """Learn everything from training runs.

    Parameters
    ----------
    train : sequence of RunFeatures
        Not standardised.
    targets : TargetSource
    plan : Plan
    rois : mapping, optional
    shuffle : numpy.random.Generator, optional
        Deal the targets out anew by clip: the decoder of a brain that heard something else.
    lag_s : float, optional
        Taken as given; else chosen by a sweep over the training runs.
    others : OtherPeople, optional
        Aligned by these training runs, and decoded from too.
    """
    mean, std = training_statistics(_heard(train, plan), plan.standardise)
    ready = standardise_runs(train, plan.standardise, mean=mean, std=std)
    curve = None
    if lag_s is None and len(plan.lags_s) > 1:
        curve = _sweep(ready, targets, plan)
        lag_s = curve.chosen
    elif lag_s is None:
        lag_s = plan.lags_s[0]
    samples = make_samples(ready, lag_s=lag_s, targets=targets, choice=plan.choice).separate()
    pooled = samples
    if others is not None:
        pooled = others.pool(samples, lag_s=lag_s, targets=targets, plan=plan)
    y = pooled.y if shuffle is None else pooled.y[_dealt(pooled, plan, shuffle)]
    centre = y.mean(axis=0)
    decoder = make_decoder(plan.decoder, rois=rois)
    groups = _inner_groups(pooled, plan)
    decoder.fit(pooled.x[:, 0], y - centre, groups=groups)
    return Fit(
        decoder=decoder,
        mean=mean,
        std=std,
        lag_s=lag_s,
        lag=curve,
        centre=centre,
        held_out_r=held_out_correlation(decoder, y - centre),
        train=replace(samples, y=samples.y - centre),
    )


def _sweep(ready: Sequence[RunFeatures], targets: TargetSource, plan: Plan) -> Curve:
    sweep = sweep_lags(
        ready,
        lags_s=plan.lags_s,
        targets=targets,
        choice=plan.choice,
        by="run" if plan.closed and len({run.run.key for run in ready}) > 1 else "clip",
    )
    return Curve(
        tuple(float(lag) for lag in sweep.lags_s),
        tuple(float(score) for score in sweep.scores),
        sweep.lag_s,
        f"held-out {sweep.metric}, training data",
    )


def _heard(train: Sequence[RunFeatures], plan: Plan) -> tuple[RunFeatures, ...]:
    """Return the windows that statistics may be taken from: not those of clips held out."""
    if plan.evaluation.family in ("run", "session") or plan.evaluation.test == "dataset":
        return tuple(train)
    slack = max(0.0, *plan.lags_s)
    kept = []
    for run in train:
        inside = np.zeros(len(run.values), bool)
        for event in run.run.events:
            stop = event.onset_s + event.duration_s + slack
            inside |= (run.t_start_s >= event.onset_s) & (run.t_stop_s <= stop + run.answer_s)
        kept.append(replace(run, values=run.values[inside]))
    return tuple(kept)


def _inner_groups(samples: Samples, plan: Plan) -> NDArray[np.str_]:
    """Return what folds inside the training part never divide: runs where there are enough."""
    if not plan.closed:
        return samples.clip
    runs = np.array(
        [f"{s}/{r}" for s, r in zip(samples.session[:, 0], samples.run[:, 0], strict=True)]
    )
    return runs if len(np.unique(runs)) >= plan.decoder.n_folds else trials(samples)


def trials(samples: Samples) -> NDArray[np.str_]:
    """Return the presentation of each window, where nothing was averaged: (n,).

    Windows of one presentation agree on when it began, up to the half sample or volume that their
    stretch was moved by to lie in it; presentations lie further apart than a window is long.
    """
    key = [
        f"{p}/{s}/{r}"
        for p, s, r in zip(samples.person, samples.session[:, 0], samples.run[:, 0], strict=True)
    ]
    onset = samples.order - samples.start_s
    names = np.empty(len(samples), dtype=object)
    number, before = -1, -1
    for row in np.argsort(samples.order, kind="stable"):
        new = (
            before < 0
            or key[row] != key[before]
            or samples.clip[row] != samples.clip[before]
            or onset[row] - onset[before] > (samples.stop_s[row] - samples.start_s[row]) / 2
        )
        number += new
        names[row] = f"{number:07d}"
        before = row
    return names.astype(np.str_)


def _dealt(samples: Samples, plan: Plan, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return rows whose targets stand for each row's: those of another clip, all of it."""
    unit = trials(samples) if plan.closed else samples.clip
    names, number = np.unique(unit, return_inverse=True)
    other = rng.permutation(len(names))
    members = [np.flatnonzero(number == k) for k in range(len(names))]
    out = np.empty(len(samples), np.int64)
    for k, rows in enumerate(members):
        theirs = members[other[k]]
        out[rows] = theirs[np.arange(len(rows)) % len(theirs)]
    return out


def decode(fit: Fit, test: Sequence[RunFeatures], targets: TargetSource, plan: Plan) -> Decoded:
    """Decode held-out runs with what was learnt; repetitions are averaged before."""
    ready = standardise_runs(test, plan.standardise, mean=fit.mean, std=fit.std)
    samples = make_samples(ready, lag_s=fit.lag_s, targets=targets, choice=plan.choice)
    return decode_samples(fit, samples)


def decode_samples(fit: Fit, samples: Samples) -> Decoded:
    """Decode samples whose features are standardised as the training part's were."""
    halves = None
    if samples.x.shape[1] > 1:
        halves = (_half(fit, samples, 0), _half(fit, samples, 1))
    return Decoded(
        samples=replace(samples, y=samples.y - fit.centre),
        raw=np.asarray(fit.decoder.predict(samples.mean_x()), np.float64),
        centre=np.tile(fit.centre, (len(samples), 1)),
        halves=halves,
    )


def _half(fit: Fit, samples: Samples, which: int) -> NDArray[np.float64]:
    """Return predictions from every other repetition; NaN rows where there is none."""
    x = samples.x[:, which::2].astype(np.float64)
    n = np.sum(~np.isnan(x[:, :, :1]), axis=1)
    mean = np.nansum(x, axis=1) / np.maximum(n, 1)
    predicted = np.asarray(fit.decoder.predict(mean.astype(np.float32)), np.float64)
    return np.where(n > 0, predicted, np.nan)


def unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return rows of unit length, as the exported decoder gives them."""
    values = np.asarray(rows, np.float64)
    norm = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return np.asarray(values / norm)


def decode_leaky(
    runs: Sequence[RunFeatures], targets: TargetSource, plan: Plan, *, rois: Rois | None = None
) -> tuple[Decoded, Fit]:
    """Decode by a split that leaks, asked for by its name; returns the last fold's fit too."""
    whole = fit_part(runs, targets, plan, rois=rois)
    ready = standardise_runs(runs, plan.standardise, mean=whole.mean, std=whole.std)
    samples = make_samples(ready, lag_s=whole.lag_s, targets=targets, choice=plan.choice)
    evaluation = plan.evaluation
    n_folds = evaluation.n_folds or 5
    family: Family = "random-chunk" if evaluation.family == "random-chunk" else "segment"
    parts = []
    for split in make_splits(samples, family, n_folds=n_folds, seed=evaluation.seed):
        train = samples.take(split.train).separate()
        centre = train.y.mean(axis=0)
        decoder = make_decoder(plan.decoder, rois=rois)
        decoder.fit(train.x[:, 0], train.y - centre, groups=trials(train))
        fit = replace(whole, decoder=decoder, centre=centre)
        parts.append(decode_samples(fit, samples.take(split.test)))
    return join(parts), whole


def join(parts: Sequence[Decoded]) -> Decoded:
    """Return folds one after the other, as one."""
    if len(parts) == 1:
        return parts[0]
    halves = None
    if all(part.halves is not None for part in parts):
        halves = (
            np.concatenate([part.halves[0] for part in parts if part.halves is not None]),
            np.concatenate([part.halves[1] for part in parts if part.halves is not None]),
        )
    return Decoded(
        samples=join_samples([part.samples for part in parts]),
        raw=np.concatenate([part.raw for part in parts]),
        centre=np.concatenate([part.centre for part in parts]),
        halves=halves,
    )
