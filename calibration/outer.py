"""Fit on one part of the recordings, decode the other: what every score of a calibration rests on.

Everything that is learnt - the statistics, the lag, voxels, regions, penalties, weights - is learnt
on the training part alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Event
from calibration.data.samples import Samples, join_samples
from calibration.decoders import Decoder, held_out_correlation, make_decoder
from calibration.honest.floors import label_mean_predictor, mean_predictor, order_predictor
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
    "inner_groups",
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
    train: Samples  # without their features, unless they were to be kept


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Windows that were held out, and what was decoded for them."""

    samples: Samples  # targets centred as the decoder's are; without their features
    raw: NDArray[np.float64]  # (n, d) as the decoder says, its certainty in their length
    centre: NDArray[np.float64]  # (n, d) what was taken off the targets
    halves: tuple[NDArray[np.float64], NDArray[np.float64]] | None  # of the repetitions
    # What is said without a brain, by what each window's training part alone gives away: (n, d).
    floors: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

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

    Clips that are held out are left out of training wherever they were heard, unless the same few
    sounds are classes.

    Raises
    ------
    SettingError
        If there are too few groups, or nothing is left to train on.
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
    if evaluation.family == "label" and plan.target == "class":
        raise SettingError(
            "A class that is held out cannot be decoded as a class. Hold out runs, sessions or "
            "clips (evaluation.family), or decode an embedding of the sounds."
        )
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
        test = _with_events(tuple(_only(run, plan, held) for run in runs))
        train = tuple(_only(run, plan, set(groups) - held) for run in runs)
        if not plan.closed:
            clips = {event.stimulus for run in test for event in run.run.events}
            train = tuple(_without(run, clips) for run in train)
        if not any(run.run.events for run in train):
            raise SettingError(
                f"Nothing is left to learn from when {title} is held out: what is heard there is "
                "heard everywhere else too. Hold out clips (evaluation.family = 'clip')."
            )
        folds.append(Fold(title, _with_events(train), test))
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


def _without(run: RunFeatures, clips: set[str]) -> RunFeatures:
    keep = tuple(event for event in run.run.events if event.stimulus not in clips)
    return replace(run, run=replace(run.run, events=keep))


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
    held_out: Sequence[RunFeatures] = (),
    keep_features: bool = False,
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
    held_out : sequence of RunFeatures
        Runs with the events that are held out: nothing that answers to them is learnt from, where
        they stand in the same runs.
    keep_features : bool
        Leave the features in `train`; they are as large as the recordings.

    Raises
    ------
    SettingError
        If the training part is too small to choose anything in it.
    """
    mean, std = training_statistics(_heard(train, plan, held_out), plan.standardise)
    ready = standardise_runs(train, plan.standardise, mean=mean, std=std)
    curve = None
    if lag_s is None and len(plan.lags_s) > 1:
        curve = _sweep(ready, targets, plan)
        lag_s = curve.chosen
    elif lag_s is None:
        lag_s = plan.lags_s[0]
    samples = make_samples(ready, lag_s=lag_s, targets=targets, choice=plan.choice).separate()
    del ready  # as large as all runs
    pooled = samples
    if others is not None:
        pooled = others.pool(samples, lag_s=lag_s, targets=targets, plan=plan)
    samples = samples if keep_features else samples.without_features()
    y = pooled.y if shuffle is None else pooled.y[_dealt(pooled, plan, shuffle)]
    centre = y.mean(axis=0)
    groups = inner_groups(pooled, plan)
    decoder = _decoder(plan, groups, rois)
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


def _decoder(plan: Plan, groups: NDArray[np.str_], rois: Rois | None) -> Decoder:
    """Return a decoder with as many inner folds as the training part has groups for."""
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise SettingError(
            "The training part has only one clip or presentation, so no penalty can be chosen in "
            "it. Record more, or hold out less."
        )
    n_folds = min(plan.decoder.n_folds, n_groups)
    return make_decoder(replace(plan.decoder, n_folds=n_folds), rois=rois)


def _sweep(ready: Sequence[RunFeatures], targets: TargetSource, plan: Plan) -> Curve:
    if plan.closed and len(ready) == 1:
        ready = _in_blocks(ready[0])
    sweep = sweep_lags(
        ready,
        lags_s=plan.lags_s,
        targets=targets,
        choice=plan.choice,
        # Of a class that is held out nothing could be known.
        by="run" if plan.closed else "clip",
    )
    return Curve(
        tuple(float(lag) for lag in sweep.lags_s),
        tuple(float(score) for score in sweep.scores),
        sweep.lag_s,
        f"held-out {sweep.metric}, training data",
    )


def _in_blocks(run: RunFeatures, n: int = 5) -> tuple[RunFeatures, ...]:
    """Return a run as several, each with a stretch of its presentations."""
    events = run.run.events
    n = min(n, len(events))
    return tuple(
        replace(
            run,
            run=replace(
                run.run,
                run=f"{run.run.run} part {k + 1}",
                events=events[k * len(events) // n : (k + 1) * len(events) // n],
            ),
        )
        for k in range(n)
    )


def _heard(
    train: Sequence[RunFeatures], plan: Plan, held_out: Sequence[RunFeatures]
) -> tuple[RunFeatures, ...]:
    """Return the windows that statistics may be taken from: none that answers to a held-out clip.

    Where clips are so short that the answer to one always reaches into the next, windows that
    begin and end within training clips are taken.
    """
    if plan.evaluation.family in ("run", "session") or plan.evaluation.test == "dataset":
        return tuple(train)
    closed = {run.run.key: run.run.events for run in held_out}
    for slack in (max(0.0, *plan.lags_s), 0.0):
        kept = []
        for run in train:
            rows = _within(run, run.run.events, slack)
            for event in closed.get(run.run.key, ()):
                stop = event.onset_s + event.duration_s + slack
                rows &= (run.t_stop_s <= event.onset_s) | (run.t_start_s >= stop)
            kept.append(replace(run, values=run.values[rows]))
        if sum(len(run.values) for run in kept) >= _FEWEST:
            return tuple(kept)
    return tuple(
        replace(run, values=run.values[_within(run, run.run.events, max(0.0, *plan.lags_s))])
        for run in train
    )


_FEWEST = 20  # windows that a mean and a deviation can be taken from


def _within(run: RunFeatures, events: Sequence[Event], slack: float) -> NDArray[np.bool_]:
    inside = np.zeros(len(run.values), bool)
    for event in events:
        stop = event.onset_s + event.duration_s + slack
        inside |= (run.t_start_s >= event.onset_s) & (run.t_stop_s <= stop)
    return inside


def inner_groups(samples: Samples, plan: Plan) -> NDArray[np.str_]:
    """Return what folds inside the training part never divide: runs where there are enough."""
    if not plan.closed:
        return samples.clip
    runs = np.array(
        [f"{s}/{r}" for s, r in zip(samples.session[:, 0], samples.run[:, 0], strict=True)]
    )
    return runs if len(np.unique(runs)) >= min(3, plan.decoder.n_folds) else trials(samples)


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
    raw = np.asarray(fit.decoder.predict(samples.mean_x()), np.float64)
    samples = replace(samples.without_features(), y=samples.y - fit.centre)
    return Decoded(
        samples=samples,
        raw=raw,
        centre=np.tile(fit.centre, (len(samples), 1)),
        halves=halves,
        floors=_floors(fit.train, samples),
    )


def _floors(train: Samples, test: Samples) -> dict[str, NDArray[np.float64]]:
    """Return what the training part says of held-out windows without any brain."""
    mean = mean_predictor(train, len(test))
    label = label_mean_predictor(train, test)
    return {
        "mean": mean,
        "order": order_predictor(train, test),
        "label": mean if label is None else label,
    }


def _half(fit: Fit, samples: Samples, which: int) -> NDArray[np.float64]:
    """Return predictions from every other repetition; NaN rows where there is none."""
    x = samples.x[:, which::2]
    n = np.sum(~np.isnan(x[:, :, :1]), axis=1)
    total = np.zeros((len(x), x.shape[2]))
    for k in range(x.shape[1]):  # one by one: all at once would be copied in float64
        np.add(total, x[:, k], out=total, where=~np.isnan(x[:, k, :1]))
    mean = (total / np.maximum(n, 1)).astype(np.float32)
    predicted = np.asarray(fit.decoder.predict(mean), np.float64)
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
        groups = trials(train)
        decoder = _decoder(plan, groups, rois)
        decoder.fit(train.x[:, 0], train.y - centre, groups=groups)
        kept = replace(train.without_features(), y=train.y - centre)
        fit = replace(whole, decoder=decoder, centre=centre, train=kept)
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
        floors={
            name: np.concatenate([part.floors[name] for part in parts]) for name in parts[0].floors
        },
    )
