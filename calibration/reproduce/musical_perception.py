"""Decoding Musical Perception: one window for each clip, voxels chosen by an encoding model.

The honest row chooses voxels, threshold and penalties inside the folds of the training clips. The
leaky rows repeat, one after another, shortcuts of the public notebook, to show what each adds.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Dataset, Run
from calibration.data.samples import Samples
from calibration.preprocess import PreprocessSpec
from calibration.reproduce.fitting import controls, fit_and_score
from calibration.reproduce.music import (
    check_counts,
    check_voxels,
    people,
    read_person,
    with_dummies,
)
from calibration.reproduce.options import Progress, ReproduceOptions, make_stand_in, stand_ins
from calibration.reproduce.record import Check, Reproduction, Row, over_people, waiting
from calibration.reproduce.tables import PAPERS, find, published
from calibration.run_features import run_features
from calibration.scores import Identification, correlations, identification
from calibration.targets import EmbeddingTargets
from calibration.windows import WindowChoice, make_samples
from models.ridge.estimator import Ridge
from models.spec import TrMeanSpec

__all__ = ["TABLES", "in_sample_r2", "reproduce"]

logger = logging.getLogger(__name__)

PAPER = "musical-perception"
FORMATS = ("ds003720", "bids-func")
WHAT = "the music genre fMRI data set ds003720 (BIDS, with its training and test runs)"
TABLES = ("decoding", "shortcuts")

CLIP_S = 15.0
SHIFT_TR = 3
DECODER_ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # as printed
ENCODING_ALPHAS = tuple(float(10.0**k) for k in range(-2, 4))  # as printed
THRESHOLDS = (0.01, 0.02, 0.05, 0.08, 0.1, 0.15, 0.2)  # as printed
_NOTEBOOK_R2 = 0.1
_VOXELS = 8192  # of an encoding model fitted at once


@dataclass(frozen=True, slots=True, eq=False)
class _Shortcut:
    """One test with shortcuts: how well, and on how many rows and voxels."""

    name: str
    result: Identification
    n_voxels: int
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class _Chosen:
    """One person's clips in the voxels that were selected on the training part."""

    train: Samples
    test: Samples
    dataset: str


def reproduce(options: ReproduceOptions, *, progress: Progress) -> Reproduction:
    """Compute the rows of the paper that can be computed.

    Raises
    ------
    HearbackError
        If the data set is not there, or is not this one, or sounds are missing.
    """
    names = people(options, formats=FORMATS, what=WHAT)
    checks: list[Check] = []
    notes: list[str] = []
    rows_of: dict[str, list[Row]] = {}
    chosen: dict[str, list[_Chosen]] = {}
    for participant in names:
        dataset = read_person(options, participant, progress=progress)
        person = dataset.participants[0]
        checks += [*check_counts(dataset), check_voxels(dataset, person)]
        notes += dataset.warnings
        rows_of[person] = _rows(dataset, person, options, progress, chosen)
    rows = over_people(rows_of) + _aligned_rows(chosen, options)
    return Reproduction(
        paper=PAPER,
        title=PAPERS[PAPER].title,
        claim=PAPERS[PAPER].claim,
        data=options.data.name if options.data is not None else "",
        participants=tuple(rows_of),
        checks=tuple(checks),
        rows=tuple(rows + _waiting(rows)),
        notes=(*dict.fromkeys(notes), *_NOTES),
        settings=options.to_json(),
    )


_NOTES = (
    "Targets are embeddings of the 15 s that were played. The notebook embeds a random 10-s crop "
    "of the whole 30-s file; that is not repeated, since a random target is no target.",
    "The notebook smooths its maps and keeps clusters of 100 voxels; that is not repeated.",
    "On which data the paper's threshold was chosen is not said [?]; ours is chosen inside the "
    "folds of the training clips.",
)


def _rows(
    dataset: Dataset,
    person: str,
    options: ReproduceOptions,
    progress: Progress,
    chosen: dict[str, list[_Chosen]],
) -> list[Row]:
    rows: list[Row] = []
    items = stand_ins(options)
    for number, item in enumerate(items):
        progress(f"{person}: {item.name}", number, len(items))
        targets = EmbeddingTargets(dataset.stimuli, make_stand_in(item, options), stretch="clip")
        train, test = clip_samples(dataset, person, targets, dummies=False)
        using = f"{item.name} of the 15 s played"
        honest = None
        if options.wants("decoding"):
            found, honest, kept = _honest(train, test, dataset, using, options)
            rows += found
            chosen.setdefault(using, []).append(kept)
        if options.wants("shortcuts"):
            progress(f"{person}: shortcuts", number, len(items))
            rows += _shortcut_rows(dataset, person, targets, using, honest)
    return rows


def clip_samples(
    dataset: Dataset, person: str, targets: EmbeddingTargets, *, dummies: bool
) -> tuple[Samples, Samples]:
    """Return one window for each clip: 10 volumes, 3 TR after its start, of detrended runs.

    Parameters
    ----------
    dataset : Dataset
    person : str
    targets : EmbeddingTargets
    dummies : bool
        Keep the first row of each run as the notebook does, and repetitions as rows of their own.
    """
    parts = []
    for part in ("train", "test"):
        own = tuple(run for run in dataset.of(person) if run.part == part)
        runs = with_dummies(own) if dummies else own
        windows = run_features(
            runs,
            features=_spec(runs),
            preprocess=PreprocessSpec(detrend="polynomial", order=1),
            shortest=0.5,  # the last clip of a run has 7 of its 10 volumes
        )
        samples = make_samples(
            windows,
            lag_s=SHIFT_TR * runs[0].tr_s,
            targets=targets,
            choice=WindowChoice(choose="clip", repeat="never" if dummies else "stimulus"),
        )
        parts.append(samples.separate() if part == "train" or dummies else samples)
    return parts[0], parts[1]


def _spec(runs: Sequence[Run]) -> TrMeanSpec:
    """Return windows of a clip; only those that are used, where clips begin on a grid of theirs.

    Every window of 237,653 voxels would take 7 GB.
    """
    tr_s = runs[0].tr_s
    hop = round(CLIP_S / tr_s)
    onsets = np.array([event.onset_s for run in runs for event in run.events]) / (hop * tr_s)
    if np.abs(onsets - np.round(onsets)).max() * hop < 0.25:
        return TrMeanSpec(window_s=CLIP_S, hop_volumes=hop, start_volume=SHIFT_TR)
    return TrMeanSpec(window_s=CLIP_S)


def _honest(
    train: Samples, test: Samples, dataset: Dataset, using: str, options: ReproduceOptions
) -> tuple[list[Row], float, _Chosen]:
    from calibration.methods.encoding_selected import EncodingSelected

    # The selection brings embeddings to a mean square of 1; the printed penalties are of vectors as
    # they are.
    size = float(np.mean(np.square(train.y - train.y.mean(axis=0))))

    def make() -> EncodingSelected:
        return EncodingSelected(
            THRESHOLDS,
            alphas=DECODER_ALPHAS,
            encoding_alphas=tuple(alpha / max(size, 1e-12) for alpha in ENCODING_ALPHAS),
            cv=options.n_folds,
            inner_cv=options.n_folds,
        )

    fitted = fit_and_score(
        train, test, make, options=options, name=f"{PAPER} {using}", dataset=dataset.path.name
    )
    scores = fitted.scores
    metric = "identification test"
    beside = controls(scores)
    if fitted.held_out_identification is not None:
        beside["held out, training"] = fitted.held_out_identification
    comparable = using.startswith("clap (")
    row = Row(
        "decoding",
        "identification of 60 clips",
        metric,
        published=find(PAPER, "decoding", "identification of 60 clips", metric),
        ours=scores.identification,
        error=scores.standard_error,
        using=using,
        comparable=comparable,
        controls=beside,
        remark=f"{scores.n_clips} clips; {scores.sentence}",
    )
    n = len(fitted.decoder.selected_)
    selection = Row(
        "selection",
        "threshold r > .05",
        "voxels",
        published=find(PAPER, "selection", "threshold r > .05", "voxels"),
        ours=float(n),
        using=using,
        comparable=comparable,
        controls={"voxels in all": float(train.x.shape[2])},
        remark=f"threshold r > {fitted.decoder.threshold_:g}, chosen inside the folds",
    )
    of = fitted.decoder.selected_
    kept = _Chosen(
        replace(train, x=train.x[:, :, of]), replace(test, x=test.x[:, :, of]), dataset.path.name
    )
    return [row, selection], scores.identification, kept


def _aligned_rows(chosen: dict[str, list[_Chosen]], options: ReproduceOptions) -> list[Row]:
    """Decode the first person with the others brought into their selected voxels."""
    from calibration.methods.alignment import align_people

    metric = "identification test"
    rows = []
    for using, people_of in chosen.items():
        if len(people_of) < 2:
            continue
        own, *others = people_of
        aligned = align_people(
            own.train,
            [other.train for other in others],
            held_out=tuple(str(name) for name in np.unique(own.test.clip)),
            cv=options.n_folds,
        )
        fitted = fit_and_score(
            aligned.samples,
            own.test,
            lambda: Ridge(DECODER_ALPHAS, cv=options.n_folds),
            options=options,
            name=f"{PAPER} {using} aligned",
            dataset=own.dataset,
        )
        r = ", ".join(f"{name} {value:.3f}" for name, value in aligned.r.items())
        rows.append(
            Row(
                "decoding",
                "identification of 60 clips",
                metric,
                published=find(PAPER, "decoding", "identification of 60 clips", metric),
                ours=fitted.scores.identification,
                error=fitted.scores.standard_error,
                using=f"{using}; {own.train.person[0]} with {len(others)} others aligned, stacked",
                comparable=using.startswith("clap ("),
                controls=controls(fitted.scores),
                remark=f"held-out correlation of the alignment: {r}; how people are pooled is not "
                "published [?]",
            )
        )
    return rows


def _shortcut_rows(
    dataset: Dataset, person: str, targets: EmbeddingTargets, using: str, honest: float | None
) -> list[Row]:
    metric = "identification test"
    paper = find(PAPER, "decoding", "identification of 60 clips", metric)
    rows: list[Row] = []
    before: float | None = None
    for step in shortcuts(*clip_samples(dataset, person, targets, dummies=True)):
        beside = {"chance": 0.5}
        if honest is not None:
            beside |= {"honest": honest, "more than honest": step.result.strict - honest}
        if before is not None:
            beside["more than the row above"] = step.result.strict - before
        before = step.result.strict
        rows.append(
            Row(
                "shortcuts",
                step.name,
                metric,
                published=paper,
                ours=step.result.strict,
                error=step.result.standard_error,
                using=using,
                comparable=using.startswith("clap ("),
                leaky=step.why,
                controls=beside,
                remark=(
                    f"{step.result.n} rows, {step.n_voxels:,} voxels; with ties at one half "
                    f"{step.result.ties_half:.3f}"
                ),
            )
        )
        if step.name == _IN_SAMPLE:
            name = "notebook: in-sample R2 > .1"
            rows.append(
                Row(
                    "selection",
                    name,
                    "voxels",
                    published=find(PAPER, "selection", name, "voxels"),
                    ours=float(step.n_voxels),
                    using=using,
                    comparable=using.startswith("clap ("),
                    leaky="chosen by how well a model remembers, on the clips it was fitted on",
                )
            )
    return rows


_ALL_ROWS = "all 41 rows, repetitions as rows"
_IN_SAMPLE = "and voxels by in-sample R2"
_ON_TEST = "and the threshold chosen on the test clips"


def shortcuts(train: Samples, test: Samples) -> list[_Shortcut]:
    """Decode with the notebook's shortcuts, one more each time.

    Parameters
    ----------
    train, test : Samples
        With the repeated first rows, and every repetition a row of its own.
    """
    x, x_test = train.x[:, 0], test.x[:, 0]

    def score(columns: NDArray[np.intp]) -> Identification:
        model = Ridge(DECODER_ALPHAS, cv=5).fit(x[:, columns], train.y)
        return identification(correlations(model.predict(x_test[:, columns]), test.y))

    everything = np.arange(x.shape[1])
    why = (
        "the repeated first clip counts twice, and repetitions of one clip count as clips: errors "
        "look smaller than they are, and a clip loses to its own repetitions"
    )
    steps = [_Shortcut(_ALL_ROWS, score(everything), len(everything), why)]
    r2 = in_sample_r2(train.y, x)
    chosen = {
        threshold: np.flatnonzero(r2 > threshold) for threshold in (*THRESHOLDS, _NOTEBOOK_R2)
    }
    if len(chosen[_NOTEBOOK_R2]):
        own = chosen[_NOTEBOOK_R2]
        why = (
            "voxels are chosen by a model's fit to the clips it was fitted on, outside all folds: "
            "any score within the training part is too good, and noise voxels pass"
        )
        steps.append(_Shortcut(_IN_SAMPLE, score(own), len(own), why))
    tried = [(score(own), len(own)) for own in chosen.values() if len(own)]
    if tried:
        best, n = max(tried, key=lambda item: item[0].strict)
        why = "the threshold is the one with the best score on the test clips"
        steps.append(_Shortcut(_ON_TEST, best, n, why))
    return steps


def in_sample_r2(
    embedding: NDArray[np.float64], responses: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return R^2 of an encoding model on the rows that it was fitted on: (n_voxels,).

    This is no measure of anything but the number of dimensions; it is here as a shortcut whose
    price is printed.
    """
    result = np.empty(responses.shape[1])
    for start in range(0, responses.shape[1], _VOXELS):
        y = np.asarray(responses[:, start : start + _VOXELS], np.float64)
        model = Ridge(ENCODING_ALPHAS, cv=5).fit(embedding, y)
        rest = np.sum((y - model.predict(embedding)) ** 2, axis=0)
        total = np.sum((y - y.mean(axis=0)) ** 2, axis=0)
        result[start : start + _VOXELS] = np.where(
            total > 0, 1.0 - rest / np.where(total > 0, total, 1.0), 0.0
        )
    return result


def _waiting(rows: list[Row]) -> list[Row]:
    done = {(row.table, row.name, row.metric) for row in rows if row.ours is not None}
    reasons = {
        "human 2AFC": (
            "listeners. The protocol is there: positions balanced for each listener, seeded and "
            "logged, catch trials (honest.audio_metrics.two_choice_sequence)"
        ),
        "mapping": "MusicLDM's weights and MusicCaps, for the map from CLAP to its text side",
        "decoding": "its table, left out by --only",
        "selection": "its table (left out by --only), or a voxel above the threshold",
    }
    left = [p for p in published(PAPER) if (p.table, p.row, p.metric) not in done]
    return [row for item in left for row in waiting([item], reasons[item.table])]
