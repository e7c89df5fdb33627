"""Fit on training windows, decode test windows, score with every control: one row of a table.

Targets are not centred and predictions keep their length: identification is Pearson over
dimensions of the embedding as it is, as Brain2Music prints it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.honest.identify import clip_table, similarities
from calibration.honest.score import ScoreSettings, score_everything
from calibration.honest.scores_record import Scores
from calibration.honest.splits import Split
from calibration.honest.testset import TestSet
from calibration.reproduce.options import ReproduceOptions
from calibration.scores import identification
from models.ridge.estimator import Ridge
from models.ridge.shared import column_correlations

__all__ = ["Fitted", "column_correlation", "controls", "deal", "fit_and_score", "make_decoder"]

Rows = NDArray[np.float64]
Make = Callable[[], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """One decoder and all that is known of how well it does."""

    decoder: Any
    scores: Scores
    predictions: Rows  # (n_test_windows, d)
    test_correlation: float  # per dimension over test windows, mean over dimensions
    train_identification: float  # of clips that the decoder was fitted on
    train_correlation: float
    held_out_identification: float | None  # of training clips, by folds that held them out


def make_decoder(
    options: ReproduceOptions,
    *,
    rois: Mapping[str, NDArray[np.intp]],
    n_rois: int = 6,
    keep_held_out: bool = True,
) -> Make:
    """Return what makes a decoder: six regions that vote, or all voxels if there are none."""
    if rois:
        from calibration.roi_ensemble import RoiEnsemble

        return lambda: RoiEnsemble(
            rois,
            n_rois=n_rois,
            alphas=options.alphas,
            cv=options.n_folds,
            keep_held_out=keep_held_out,
        )
    return lambda: Ridge(options.alphas, cv=options.n_folds, keep_held_out=keep_held_out)


def fit_and_score(
    train: Samples,
    test: Samples,
    make: Make,
    *,
    options: ReproduceOptions,
    name: str,
    dataset: str,
    make_shuffled: Make | None = None,
) -> Fitted:
    """Fit, decode, open the test set, score.

    Parameters
    ----------
    train, test : Samples
        Repetitions of training windows are rows of their own already; those of the test are
        averaged here.
    make : callable
        Makes an unfitted decoder.
    options : ReproduceOptions
    name : str
        Of the row; what the count of test openings knows decoders by.
    dataset : str
    make_shuffled : callable, optional
        Makes the decoders of shuffled brains, where they need not keep as much.
    """
    x, y = train.x[:, 0], train.y
    decoder = make().fit(x, y, groups=train.clip)
    raw = _predict(decoder, test.mean_x())
    shuffled = []
    for k in range(options.n_shuffled):
        rng = np.random.default_rng([options.seed, k])
        other = (make_shuffled or make)().fit(x, y[deal(train.clip, rng)], groups=train.clip)
        shuffled.append(_predict(other, test.mean_x()))
    record = None if options.out is None else options.out / "reproduce.openings.json"
    if record is not None:
        record.parent.mkdir(parents=True, exist_ok=True)
    door = TestSet(test, dataset=dataset, participant=str(test.person[0]), record=record)
    digest = hashlib.sha256(name.encode() + np.ascontiguousarray(raw).tobytes()).hexdigest()
    door.freeze(digest)
    opened = door.open()
    halves = None
    if opened.x.shape[1] > 1:
        halves = _half(decoder, opened, 0), _half(decoder, opened, 1)
    scores = score_everything(
        raw,
        opened,
        train=train,
        split=Split("given", np.arange(0), np.arange(0), (), False, "The data set's test runs."),
        test_openings=door.openings.openings,
        shuffled=shuffled,
        halves=halves,
        settings=ScoreSettings(
            n_permutations=options.n_permutations, n_resamples=1000, seed=options.seed
        ),
    )
    fitted = _predict(decoder, x)
    held_out = getattr(decoder, "held_out_", None)
    honest = None
    if held_out is not None and np.isfinite(held_out).all():
        honest = _identify(np.asarray(held_out, np.float64), train)
    return Fitted(
        decoder=decoder,
        scores=scores,
        predictions=raw,
        test_correlation=column_correlation(raw, opened.y),
        train_identification=_identify(fitted, train),
        train_correlation=column_correlation(fitted, y),
        held_out_identification=honest,
    )


def controls(scores: Scores) -> dict[str, float]:
    """Return what a score stands beside, by short names."""
    named = {
        "chance": scores.chance,
        "mean": scores.floor_mean_predictor,
        "clip before": scores.floor_previous_clip,
        "shuffled brain": scores.floor_shuffled,
        "order": scores.floor_order,
        "ceiling": scores.ceiling,
        "p": scores.permutation_p,
    }
    return {name: value for name, value in named.items() if value is not None}


def deal(clip: NDArray[np.str_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return rows whose targets stand for each row's: those of another clip, all of it."""
    names, number = np.unique(clip, return_inverse=True)
    other = rng.permutation(len(names))
    members = [np.flatnonzero(number == k) for k in range(len(names))]
    out = np.empty(len(clip), np.int64)
    for k, rows in enumerate(members):
        theirs = members[other[k]]
        out[rows] = theirs[np.arange(len(rows)) % len(theirs)]
    return out


def column_correlation(predictions: Rows, targets: Rows) -> float:
    """Return Pearson's r over rows, mean over columns; columns that do not vary count as 0."""
    return float(np.mean(column_correlations(predictions, targets)))


def _identify(predictions: Rows, samples: Samples) -> float:
    table = clip_table(predictions, samples, units=samples.clip)
    return identification(
        similarities(table.predictions, table.targets, metric="correlation"), own=table.own
    ).strict


def _predict(decoder: Any, x: NDArray[np.floating]) -> Rows:
    return np.asarray(decoder.predict(x), np.float64)


def _half(decoder: Any, samples: Samples, which: int) -> Rows:
    """Return predictions from every other repetition; NaN rows where there is none."""
    x = samples.x[:, which::2].astype(np.float64)
    n = np.sum(~np.isnan(x[:, :, :1]), axis=1)
    mean = np.nansum(x, axis=1) / np.maximum(n, 1)
    return np.where(n > 0, _predict(decoder, mean.astype(np.float32)), np.nan)
