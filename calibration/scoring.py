"""Open the test set once, and score what was decoded: clips, or single presentations of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.class_scores import score_classes
from calibration.data.dataset import Dataset
from calibration.data.samples import Samples
from calibration.honest.identify import ClipTable, clip_table, score_if_own, similarities
from calibration.honest.score import ScoreSettings, score_everything
from calibration.honest.scores_record import Scores, verdict
from calibration.honest.splits import Split
from calibration.honest.testset import TestSet
from calibration.outer import Decoded, trials, unit
from calibration.plan import Plan
from calibration.report.result import Similarity
from calibration.scores import identification
from calibration.targets import ClassTargets, TargetSource

__all__ = ["Scored", "closed_classes", "score_decoded"]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores with all that stands beside them."""

    values: dict[str, Any]  # JSON
    decodable: bool
    verdict: str
    warnings: tuple[str, ...]
    by_label: dict[str, float]
    similarity: Similarity
    test_openings: int


def score_decoded(
    decoded: Decoded,
    plan: Plan,
    *,
    dataset: Dataset,
    train: Samples | None,
    targets: TargetSource,
    shuffled: Sequence[NDArray[np.float64]] = (),
    decoder_digest: str,
    record: Path | None,
) -> Scored:
    """Score held-out windows; this opens the test set, and counts it.

    Parameters
    ----------
    decoded : Decoded
    plan : Plan
    dataset : Dataset
    train : Samples, optional
        What the decoder was fitted on; None where each fold had its own.
    targets : TargetSource
    shuffled : sequence of arrays (n, d)
        What decoders of shuffled brains say.
    decoder_digest : str
        Of everything that the decoder depends on.
    record : Path, optional
        Where openings are counted.
    """
    door = TestSet(
        decoded.samples, dataset=dataset.path.name, participant=plan.participant, record=record
    )
    door.freeze(decoder_digest)
    samples = door.open()
    openings = door.openings.openings
    leaky = plan.evaluation.family in ("segment", "random-chunk")
    if plan.closed:
        return _classes(decoded, samples, plan, targets, openings, leaky, shuffled)
    evaluation = plan.evaluation
    split = Split(
        "given" if evaluation.test == "dataset" else _family(evaluation.family),
        np.arange(0),
        np.arange(len(samples)),
        (),
        leaky,
        plan.split,
    )
    settings = ScoreSettings(
        n_permutations=evaluation.n_permutations,
        n_resamples=evaluation.n_bootstrap,
        seed=evaluation.seed,
    )
    # An embedding is exported at unit length; mel frames are what they are.
    as_exported = (lambda rows: rows) if plan.target == "mel" else unit
    halves = decoded.halves
    scores = score_everything(
        as_exported(decoded.raw),
        samples,
        train=train,
        split=split,
        test_openings=openings,
        shuffled=[as_exported(other) for other in shuffled],
        halves=None if halves is None else (as_exported(halves[0]), as_exported(halves[1])),
        settings=settings,
    )
    table = clip_table(as_exported(decoded.raw), samples, units=samples.clip)
    similarity = similarities(table.predictions, table.targets, metric=settings.metric)
    if train is None and decoded.floors:
        scores = _with_floors(scores, decoded.floors, table, settings)
    own = score_if_own(similarity)[np.arange(len(table.own)), table.own]
    labels = table.label[table.own]
    values = scores.to_json()
    values |= {
        "confidence_interval": [scores.ci_low, scores.ci_high],
        "floor_mean": scores.floor_mean_predictor,
        "ceiling_told": scores.ceiling_kind,
        "identification_windows": scores.window_identification_ties_half,
        "correlation": scores.pearson,
    }
    return Scored(
        values=values,
        decodable=scores.decodable,
        verdict=scores.sentence,
        warnings=scores.warnings,
        by_label={
            str(name): float(np.mean(own[labels == name])) for name in np.unique(labels) if name
        },
        similarity=Similarity(
            similarity, tuple(map(str, table.clip)), tuple(map(str, table.label))
        ),
        test_openings=openings,
    )


def _with_floors(
    scores: Scores,
    floors: Mapping[str, NDArray[np.float64]],
    table: ClipTable,
    settings: ScoreSettings,
) -> Scores:
    """Return scores beside what each fold's own training part gives away.

    The training part of one fold holds what the others are tested on: its means would know it.
    """

    def identified(rows: NDArray[np.float64]) -> float:
        found = similarities(table.average(rows), table.targets, metric=settings.metric)
        return identification(found, own=table.own).ties_half

    known = {name: identified(rows) for name, rows in floors.items()}
    with_them = replace(
        scores,
        floor_mean_predictor=known["mean"],
        floor_order=known["order"],
        floor_label_mean=known["label"] if np.any(table.label != "") else None,
    )
    return verdict(with_them, alpha=settings.alpha)


def _family(family: str) -> Any:
    return "song" if family == "label" else family


def closed_classes(
    samples: Samples, targets: TargetSource
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.int64]]:
    """Return the names of the classes, their targets, and the class of each window.

    The sounds themselves are the classes where they are the targets; else their labels.
    """
    clips, code = np.unique(samples.clip, return_inverse=True)
    stimuli = [str(clip) for clip in clips]
    n = np.zeros(len(stimuli))
    vectors = np.asarray(targets.targets(stimuli, n, n), np.float64)
    if not isinstance(targets, ClassTargets):
        return tuple(stimuli), vectors, np.asarray(code, np.int64)
    # Some classes may not be among these windows; each keeps its own vector all the same.
    names = targets.classes
    classes = np.array([targets.vector(name) for name in names])
    of_clip = np.array([int(np.flatnonzero((classes == row).all(axis=1))[0]) for row in vectors])
    return names, classes, np.asarray(of_clip[code], np.int64)


def _classes(
    decoded: Decoded,
    samples: Samples,
    plan: Plan,
    targets: TargetSource,
    openings: int,
    leaky: bool,
    shuffled: Sequence[NDArray[np.float64]],
) -> Scored:
    names, vectors, code = closed_classes(samples, targets)
    within = np.array(
        [f"{s}/{r}" for s, r in zip(samples.session[:, 0], samples.run[:, 0], strict=True)]
    )
    evaluation = plan.evaluation

    def score(predictions: NDArray[np.float64], n: int) -> Any:
        return score_classes(
            predictions,
            classes=vectors,
            names=names,
            code=code,
            trial=trials(samples),
            within=within,
            # Predictions are of targets without their training mean already.
            training_mean=np.zeros(vectors.shape[1]),
            centre=decoded.centre.mean(axis=0),
            n_permutations=n,
            n_bootstrap=evaluation.n_bootstrap,
            seed=evaluation.seed,
        )

    scores = score(decoded.raw, evaluation.n_permutations)
    values = scores.to_json()
    if shuffled:
        again = [score(other, 1).identification_ties_half for other in shuffled]
        values["floor_shuffled"] = float(np.mean(again))
        values["shuffled_kind"] = f"mean of {len(shuffled)} decoders of shuffled brains"
    decodable, verdict = class_verdict(values, plan.participant, leaky=leaky)
    return Scored(
        values=values,
        decodable=decodable,
        verdict=verdict,
        warnings=(),
        by_label=scores.by_class,
        similarity=Similarity(scores.confusion, names, names),
        test_openings=openings,
    )


def class_verdict(values: dict[str, Any], who: str, *, leaky: bool) -> tuple[bool, str]:
    """Return whether classes can be decoded, and one or two sentences that say how well."""
    score, p = values["identification_ties_half"], values["permutation_p"]
    floor = max(0.5, values["floor_shuffled"], values["floor_mean"])
    told = (
        f"single presentations are told apart with {score:.3f} (area under the curve "
        f"{values['auc']:.3f}, right class {values['accuracy']:.0%} of presentations, by chance "
        f"{values['accuracy_chance']:.0%})"
    )
    if leaky:
        return False, (
            f"{who} cannot be judged by these scores: {told} under a leaky split, in which parts "
            "of one recording stand in training and in test."
        )
    if p >= 0.05 or score <= floor:
        return False, (
            f"{who} cannot be decoded from these recordings: {told}, not above chance 0.5 and the "
            f"floors (highest {floor:.3f}), p = {p:.4f}."
        )
    if score < 0.65:
        return True, (
            f"{who} can only be decoded weakly: {told}, p = {p:.4f}. Too little for feedback on "
            "single presentations; average several, or record more."
        )
    strong = "well" if score >= 0.8 else "moderately"
    return True, f"{who} can be decoded {strong}: {told}, p = {p:.4f}."
