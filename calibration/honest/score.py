"""All scores of a decoder on held-out windows at once, each beside its floors and its ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.honest.bootstrap import bootstrap_identification, bootstrap_mean
from calibration.honest.floors import (
    label_mean_predictor,
    mean_predictor,
    order_predictor,
    previous_clip,
    shuffle_within_clip,
)
from calibration.honest.identify import (
    ClipTable,
    Metric,
    clip_table,
    n_way_top_k,
    ranks,
    score_if_own,
    similarities,
    window_identification,
)
from calibration.honest.permutation import Permutation, permute_units, phase_randomise
from calibration.honest.scores_record import Scores, verdict
from calibration.honest.splits import Split, recording_of
from calibration.scores import Identification, identification, permutation_p
from models.errors import SettingError
from models.ridge.shared import column_correlations

__all__ = ["ScoreSettings", "score_everything"]

Rows: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Windows:
    """The window level."""

    n_scored: int = 0
    strict: float | None = None
    ties_half: float | None = None
    standard_error: float | None = None
    within_clip: float | None = None


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """How scores are made; written into the report with them."""

    metric: Metric = "correlation"  # over dimensions, as printed; or the cosine
    exclude_same_clip: bool = True  # windows are held against windows of other clips only
    null: Literal["clips", "phase"] = "clips"  # what a permutation deals out anew
    n_permutations: int = 2_000  # N of p = (1 + #) / (N + 1)
    n_resamples: int = 2_000  # of the bootstrap over clips
    n_way: int = 10  # candidates of the n-way question; fewer where there are fewer clips
    top_k: tuple[int, ...] = (1, 5)
    max_windows: int = 5_000  # beyond, the window level is scored on a random choice of windows
    alpha: float = 0.05  # p below which a participant counts as decodable
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            self.n_permutations < 1
            or self.n_resamples < 2
            or self.max_windows < 2
            or self.n_way < 2
            or any(k < 1 for k in self.top_k)
            or not 0.0 < self.alpha < 1.0
        ):
            raise SettingError(
                "Scores need n_permutations >= 1, n_resamples >= 2, max_windows >= 2, n_way >= 2, "
                f"top_k >= 1 and 0 < alpha < 1, got {self}."
            )


def score_everything(
    predictions: NDArray[np.floating],
    samples: Samples,
    *,
    train: Samples | None = None,
    split: Split | None = None,
    test_openings: int = 0,
    units: NDArray[np.str_] | None = None,
    shuffled: Sequence[NDArray[np.floating]] = (),
    oracle: NDArray[np.floating] | None = None,
    halves: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
    settings: ScoreSettings | None = None,
) -> Scores:
    """Score predictions of held-out windows: clip level, window level, floors, ceiling, p.

    Parameters
    ----------
    predictions : array of shape (n, d)
        Decoded targets.
    samples : Samples
        The windows that were decoded; `samples.y` is (n, d).
    train : Samples, optional
        What the decoder was fitted on, for the floors that need it (mean, class, order).
    split : Split, optional
        How training and test were divided; a leaky one marks every result.
    test_openings : int
        How often the test windows have been scored, this time included (`testset.TestSet`).
    units : array of shape (n,), optional
        What is told apart and permuted, if not the clips: `permutation.block_units` of few long
        ones.
    shuffled : sequence of arrays of shape (n, d)
        What the same decoder says of brains that heard something else (training targets dealt out
        anew by clip, or other recordings on the same timetable). Without it the predictions
        themselves are dealt out anew.
    oracle : array of shape (n, d), optional
        Predictions of the best decoder there can be, where the truth is known (simulation).
    halves : two arrays of shape (n, d), optional
        Predictions from even and from odd repetitions; NaN rows where there is only one.
    settings : ScoreSettings, optional

    Returns
    -------
    scores : Scores

    Raises
    ------
    SettingError
        If shapes do not fit, a prediction is not finite, or there are fewer than 2 clips.
    """
    settings = settings or ScoreSettings()
    # Which repetitions there are is all that counts of the features; a brain is not copied.
    samples = replace(samples, x=samples.x[:, :, :1])
    values = _checked(predictions, samples, "Predictions")
    names = samples.clip if units is None else np.asarray(units)
    if names.shape != (len(samples),) or len(np.unique(names)) < 2:
        raise SettingError(
            f"Scores need at least 2 clips to tell apart, got {len(np.unique(names))} for "
            f"{len(samples)} windows. Hold out more clips, or cut long ones into blocks."
        )
    rng = np.random.default_rng(settings.seed)
    table = clip_table(values, samples, units=names)
    similarity = similarities(table.predictions, table.targets, metric=settings.metric)
    result = identification(similarity, own=table.own)
    spread = bootstrap_identification(
        similarity, table.own, n_resamples=settings.n_resamples, rng=rng
    )
    test = _permutation(values, samples, table, similarity, settings, rng)
    rank = ranks(similarity, table.own)
    n_clips = len(table.clip)

    def again(other: NDArray[np.floating] | None, what: str) -> float | None:
        """Identification of other predictions of the same windows."""
        if other is None:
            return None
        rows = table.average(_checked(other, samples, what))
        return identification(
            similarities(rows, table.targets, metric=settings.metric), own=table.own
        ).ties_half

    before = previous_clip(table, similarity)
    mean = None if train is None else mean_predictor(train, len(samples))
    floors = {
        "shuffled": (
            float(np.mean([again(brain, "Shuffled predictions") for brain in shuffled]))
            if len(shuffled)
            else float(np.mean(test.null))
        ),
        "mean_predictor": again(mean, "Means"),
        "previous_clip": None if before is None else before.ties_half,
        "order": None if train is None else again(order_predictor(train, samples), "Orders"),
        "label_mean": (
            None if train is None else again(label_mean_predictor(train, samples), "Class means")
        ),
    }
    ceiling, ceiling_kind = _ceiling(table, samples, oracle, halves, settings.metric)
    same, other = _by_label(similarity, table)
    window = _window_level(values, samples, names, settings, rng)
    targets, raw = table.targets[table.own], table.predictions
    centre = np.zeros(values.shape[1]) if train is None else train.y.mean(axis=0)
    per_dimension = column_correlations(raw, targets)
    n_way = min(settings.n_way, n_clips)
    top = {f"top{k}_of_{n_way}": (k, n_way) for k in settings.top_k if k < n_way}
    top |= {f"top{k}_of_{n_clips}": (k, n_clips) for k in settings.top_k if k < n_clips}
    scores = Scores(
        identification=result.strict,
        identification_ties_half=result.ties_half,
        standard_error=spread.standard_error,
        ci_low=spread.low,
        ci_high=spread.high,
        permutation_p=test.p,
        n_permutations=test.n,
        null_kind=test.kind,
        null_mean=float(np.mean(test.null)),
        null_sd=float(np.std(test.null)),
        n_clips=n_clips,
        n_people=len(np.unique(table.person)),
        floor_shuffled=float(floors["shuffled"] or 0.0),
        shuffled_kind=(
            f"mean of {len(shuffled)} decoders of shuffled brains"
            if len(shuffled)
            else "predictions dealt out anew"
        ),
        floor_mean_predictor=floors["mean_predictor"],
        floor_previous_clip=floors["previous_clip"],
        previous_clip_se=None if before is None else before.standard_error,
        floor_order=floors["order"],
        floor_label_mean=floors["label_mean"],
        ceiling=ceiling,
        ceiling_kind=ceiling_kind,
        identification_same_label=same,
        identification_other_label=other,
        top_k={
            name: n_way_top_k(rank, n_clips=n_clips, n_way=ways, k=k)
            for name, (k, ways) in top.items()
        },
        top_k_chance={name: k / ways for name, (k, ways) in top.items()},
        median_rank=float(np.median(rank)),
        mean_percentile=float(np.mean(1.0 - (rank - 1) / max(n_clips - 1, 1))),
        mean_reciprocal_rank=float(np.mean(1.0 / rank)),
        pearson=float(np.mean(per_dimension)),
        pearson_each=tuple(float(value) for value in per_dimension),
        similarity=_own_similarity(raw, targets, settings.metric),
        similarity_mean_predictor=(
            None
            if train is None
            else _own_similarity(np.tile(centre, (len(raw), 1)), targets, settings.metric)
        ),
        similarity_centred=(
            None
            if train is None
            else _own_similarity(raw - centre, targets - centre, settings.metric)
        ),
        n_windows=len(samples),
        n_windows_scored=window.n_scored,
        window_identification=window.strict,
        window_identification_ties_half=window.ties_half,
        window_standard_error=window.standard_error,
        floor_within_clip=window.within_clip,
        metric=settings.metric,
        exclude_same_clip=settings.exclude_same_clip,
        split="" if split is None else split.family,
        leaky=split is not None and split.leaky,
        why="" if split is None else split.why,
        held_out=() if split is None else split.held_out,
        test_openings=test_openings,
        seed=settings.seed,
    )
    return verdict(scores, alpha=settings.alpha)


def _checked(values: NDArray[np.floating], samples: Samples, what: str) -> Rows:
    rows = np.asarray(values, np.float64)
    if rows.shape != samples.y.shape:
        raise SettingError(
            f"{what} must be as the targets, (windows, dimensions) = {samples.y.shape}, got "
            f"{rows.shape}. Decode exactly the windows that are scored."
        )
    bad = int(np.sum(~np.isfinite(rows)))
    if bad:
        raise SettingError(
            f"{what} hold {bad} values that are not finite, of {rows.size}. Look for windows "
            "without a signal, or voxels that do not vary."
        )
    return rows


def _permutation(
    values: Rows,
    samples: Samples,
    table: ClipTable,
    similarity: Rows,
    settings: ScoreSettings,
    rng: np.random.Generator,
) -> Permutation:
    if settings.null == "clips":
        return permute_units(
            score_if_own(similarity), table.own, n_permutations=settings.n_permutations, rng=rng
        )
    observed = identification(similarity, own=table.own).ties_half
    recording = recording_of(samples)
    in_time = [np.flatnonzero(recording == name) for name in np.unique(recording)]
    in_time = [rows[np.argsort(samples.order[rows], kind="stable")] for rows in in_time]
    null = np.empty(settings.n_permutations)
    for k in range(settings.n_permutations):
        surrogate = np.empty_like(values)
        for rows in in_time:
            surrogate[rows] = phase_randomise(values[rows], rng=rng)
        other = similarities(table.average(surrogate), table.targets, metric=settings.metric)
        null[k] = identification(other, own=table.own).ties_half
    return Permutation(permutation_p(observed - 1e-12, null), len(null), null, "phases")


def _ceiling(
    table: ClipTable,
    samples: Samples,
    oracle: NDArray[np.floating] | None,
    halves: tuple[NDArray[np.floating], NDArray[np.floating]] | None,
    metric: Metric,
) -> tuple[float | None, str]:
    if oracle is not None:
        rows = table.average(_checked(oracle, samples, "Oracle predictions"))
        best = identification(similarities(rows, table.targets, metric=metric), own=table.own)
        return best.ties_half, "oracle"
    if halves is None:
        return None, "none: nothing was heard twice"
    whole = np.isfinite(halves[0]).all(axis=1) & np.isfinite(halves[1]).all(axis=1)
    if len(np.unique(samples.clip[whole])) < 2:
        return None, "none: fewer than 2 clips were heard twice"
    some = samples.take(np.flatnonzero(whole))
    found = []
    for mine, theirs in (halves, halves[::-1]):
        # The other half's predictions stand where the targets are; people stay apart.
        half = clip_table(np.asarray(mine, np.float64)[whole], some, units=some.clip)
        other = half.average(np.asarray(theirs, np.float64)[whole])
        for person in np.unique(half.person):
            mine_too = np.flatnonzero(half.person == person)
            if len(mine_too) > 1:
                pairs = similarities(half.predictions[mine_too], other[mine_too], metric=metric)
                found.append(identification(pairs).ties_half)
    return float(np.mean(found)) if found else None, "split-half"


def _by_label(similarity: Rows, table: ClipTable) -> tuple[float | None, float | None]:
    """Identification against clips of the same label only, and of other labels only."""
    same = table.label[table.own][:, None] == table.label[None, :]
    result: list[float | None] = []
    for candidates in (same, ~same):
        wrong = candidates.copy()
        wrong[np.arange(len(table.own)), table.own] = False
        rows = np.flatnonzero(wrong.any(axis=1))
        if not len(rows) or not np.any(table.label != ""):
            result.append(None)
            continue
        part: Identification = identification(
            similarity[rows], own=table.own[rows], candidates=wrong[rows]
        )
        result.append(part.ties_half)
    return result[0], result[1]


def _window_level(
    values: Rows,
    samples: Samples,
    names: NDArray[np.str_],
    settings: ScoreSettings,
    rng: np.random.Generator,
) -> _Windows:
    """Scores of single windows; errors by clip, since windows of one clip are not independent."""
    chosen: NDArray[np.int64] = np.arange(len(samples))
    if len(chosen) > settings.max_windows:
        chosen = np.sort(rng.choice(len(samples), settings.max_windows, replace=False))
    some = replace(samples.take(chosen), clip=np.asarray(names[chosen], np.str_))

    def score(rows: Rows) -> Identification:
        return window_identification(
            rows, some, metric=settings.metric, exclude_same_clip=settings.exclude_same_clip
        )

    alone = any(
        len(np.unique(some.clip[some.person == person])) < 2 for person in np.unique(some.person)
    )
    if alone and settings.exclude_same_clip:
        return _Windows()  # a person with one clip: nothing to hold its windows against
    result = score(values[chosen])
    spread = bootstrap_mean(result.each, some.clip, n_resamples=settings.n_resamples, rng=rng)
    dealt = shuffle_within_clip(values[chosen], some, rng=rng)
    return _Windows(
        n_scored=len(chosen),
        strict=result.strict,
        ties_half=result.ties_half,
        standard_error=spread.standard_error,
        within_clip=None if dealt is None else score(dealt).ties_half,
    )


def _own_similarity(predictions: Rows, targets: Rows, metric: Metric) -> float:
    return float(
        np.mean([similarities(p[None], t[None], metric=metric)[0, 0]
                 for p, t in zip(predictions, targets, strict=True)])
    )  # fmt: skip
