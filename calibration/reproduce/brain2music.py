"""Brain2Music: embeddings of music from BOLD, encoding models, and a genre left out.

Preprocessing as printed: a median filter of 240 s and a z-score per run, scans averaged over each
target's window, the six best regions averaged. The lag is not published: 0 s, which is what the
text amounts to, and the lag fitted on training runs stand beside each other.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Dataset
from calibration.data.samples import Samples
from calibration.lag import LagSweep, default_lags_s, sweep_lags
from calibration.preprocess import PreprocessSpec
from calibration.reproduce.captions import caption_targets
from calibration.reproduce.encoding import component_rows, encoding_rows, partition_rows
from calibration.reproduce.fitting import Fitted, controls, fit_and_score, make_decoder
from calibration.reproduce.music import check_counts, check_voxels, people, read_person
from calibration.reproduce.options import (
    WINDOWS_S,
    Progress,
    ReproduceOptions,
    StandIn,
    make_stand_in,
    stand_ins,
)
from calibration.reproduce.record import Check, Reproduction, Row, over_people, waiting
from calibration.reproduce.tables import PAPERS, find, published
from calibration.run_features import RunFeatures, run_features
from calibration.targets import EmbeddingTargets, TargetSource
from calibration.windows import WindowChoice, make_samples
from models.spec import TrMeanSpec

if TYPE_CHECKING:
    from calibration.methods.encoding import EncodingModel

__all__ = ["FORMATS", "TABLES", "WHAT", "reproduce"]

logger = logging.getLogger(__name__)

PAPER = "brain2music"
FORMATS = ("ds003720", "bids-func")
WHAT = "the music genre fMRI data set ds003720 (BIDS, with its training and test runs)"
TABLES = ("decoding", "lag sweep", "genre ablation", "encoding")

_WAITS = {
    "SoundStream": "an embedder in SoundStream's place: --embedder log-mel is the nearest",
    "w2v-BERT": "weights in w2v-BERT's place: --wav2vec2 or --hubert FOLDER",
    "MuLan-text": "captions in the table of stimuli and CLAP's words: --clap FOLDER",
    "MuLan-music": "weights in MuLan's place (it is closed): --clap FOLDER",
}


@dataclass(frozen=True, slots=True, eq=False)
class _Person:
    """One person's runs, as far as they are the same for every row."""

    dataset: Dataset
    name: str
    rois: dict[str, NDArray[np.intp]]

    def windows(self, window_s: float) -> tuple[RunFeatures, ...]:
        """Return scans averaged over windows of this length, after preprocessing."""
        return run_features(
            self.dataset.of(self.name),
            features=TrMeanSpec(window_s=window_s),
            preprocess=PreprocessSpec(),
        )


def reproduce(options: ReproduceOptions, *, progress: Progress) -> Reproduction:
    """Compute the rows of Brain2Music that can be computed.

    Raises
    ------
    HearbackError
        If the data set is not there, or is not this one, or sounds are missing.
    """
    names = people(options, formats=FORMATS, what=WHAT)
    checks: list[Check] = []
    notes: list[str] = []
    rows_of: dict[str, list[Row]] = {}
    models: dict[str, EncodingModel] = {}
    for participant in names:
        dataset = read_person(options, participant, progress=progress)
        checks += check_counts(dataset)
        checks.append(check_voxels(dataset, dataset.participants[0]))
        space = dataset.space_of(dataset.participants[0])
        person = _Person(
            dataset, dataset.participants[0], dict(space.rois) if space is not None else {}
        )
        if not person.rois:
            notes.append(
                "No regions are known, so all voxels decode together. Give the Destrieux regions "
                "of each person as a label image with --labels for the ensemble of six."
            )
        notes += dataset.warnings
        rows_of[person.name] = _rows(person, options, progress, models)
    first = stand_ins(options)[0]
    rows = over_people(rows_of) + component_rows(models, using=first.name)
    return Reproduction(
        paper=PAPER,
        title=PAPERS[PAPER].title,
        claim=PAPERS[PAPER].claim,
        data=options.data.name if options.data is not None else "",
        participants=tuple(rows_of),
        checks=tuple(checks),
        rows=tuple(rows + _waiting(rows, options)),
        notes=(*dict.fromkeys(notes), *_NOTES),
        settings=options.to_json(),
    )


_NOTES = (
    "The lag is not published [?]: 0 s, and the lag fitted on training runs, are both given. At "
    "lag 0 the first scans of a window answer to the clip before, which in the test is always the "
    "same clip.",
    "Identification holds clips against clips (60 in the data set), after the mean over a clip's "
    "windows; correlation is per dimension over windows. The paper does not say which [?].",
    "'train' is of the clips that the decoder was fitted on, as its size in the paper suggests; "
    "it says how well the decoder remembers, not how well it decodes.",
    "The penalties' grid is not published [?]; half decades from 1 to 1e7 by default.",
)


def _rows(
    person: _Person,
    options: ReproduceOptions,
    progress: Progress,
    models: dict[str, EncodingModel],
) -> list[Row]:
    rows: list[Row] = []
    lag_s = options.lag_s
    for number, item in enumerate(stand_ins(options)):
        progress(f"{person.name}: {item.name}", number, len(stand_ins(options)))
        embedder = make_stand_in(item, options)
        targets = EmbeddingTargets(person.dataset.stimuli, embedder, stretch="window")
        windows = person.windows(item.window_s)
        if lag_s is None or options.wants("lag sweep"):
            sweep = _sweep(windows, targets, item, options)
            if lag_s is None:
                lag_s = sweep.lag_s
            if options.wants("lag sweep") and number == 0:
                rows += _sweep_rows(sweep, item)
        if options.wants("decoding"):
            rows += _decoding(person, windows, targets, item, lag_s, options)
        if options.wants("genre ablation") and number == 0:
            progress(f"{person.name}: a genre left out", 0, 1)
            rows += _ablation(person, windows, targets, item, lag_s, options)
        words = caption_targets(person.dataset.stimuli, embedder)
        if options.wants("decoding") and words is not None:
            text = StandIn(item.spec, "MuLan-text", WINDOWS_S["MuLan-text"])
            whole = person.windows(text.window_s)
            rows += _decoding(person, whole, words, text, lag_s, options, of="captions, ")
        if options.wants("encoding"):
            progress(f"{person.name}: encoding models", 0, 1)
            using = f"{item.name}, lag {lag_s:g} s"
            train = _samples(windows, "train", targets, item, lag_s)
            test = _samples(windows, "test", targets, item, lag_s)
            found, model = encoding_rows(
                train, test, rois=person.rois, using=using, options=options
            )
            rows += found
            if number == 0:
                models[person.name] = model
            if words is not None:
                rows += partition_rows(train, words, rois=person.rois, using=using, options=options)
    return rows


def _choice(item: StandIn) -> WindowChoice:
    return WindowChoice(choose="all", stretch_s=item.window_s, align="start")


def _sweep(
    windows: tuple[RunFeatures, ...],
    targets: TargetSource,
    item: StandIn,
    options: ReproduceOptions,
) -> LagSweep:
    train = [run for run in windows if run.run.part == "train"]
    return sweep_lags(
        train,
        targets=targets,
        lags_s=default_lags_s(train[0].run.tr_s),
        choice=_choice(item),
        n_folds=options.n_folds,
    )


def _sweep_rows(sweep: LagSweep, item: StandIn) -> list[Row]:
    rows = []
    for lag, score, error in zip(
        sweep.lags_s.tolist(), sweep.scores.tolist(), sweep.standard_errors.tolist(), strict=True
    ):
        remark = ""
        if abs(lag - sweep.lag_s) < 1e-9:
            remark = "chosen"
        elif lag < -1e-9:
            remark = "before the sound: what the order of clips, or the clip's own start, gives"
        rows.append(
            Row(
                "lag sweep",
                f"{lag:+g} s",
                "held-out correlation, training runs",
                ours=score,
                error=error,
                using=item.name,
                controls={"chance": sweep.chance},
                remark=remark,
            )
        )
    return rows


def _samples(
    windows: tuple[RunFeatures, ...],
    part: str,
    targets: TargetSource,
    item: StandIn,
    lag_s: float,
) -> Samples:
    runs = [run for run in windows if run.run.part == part]
    samples = make_samples(runs, lag_s=lag_s, targets=targets, choice=_choice(item))
    return samples.separate() if part == "train" else samples


def _decoding(
    person: _Person,
    windows: tuple[RunFeatures, ...],
    targets: TargetSource,
    item: StandIn,
    lag_s: float,
    options: ReproduceOptions,
    *,
    of: str = "",
) -> list[Row]:
    rows: list[Row] = []
    for lag, told in dict(
        [(lag_s, "fitted" if options.lag_s is None else "given"), (0.0, "none")]
    ).items():
        fitted = fit_and_score(
            _samples(windows, "train", targets, item, lag),
            _samples(windows, "test", targets, item, lag),
            make_decoder(options, rois=person.rois),
            make_shuffled=make_decoder(options, rois=person.rois, keep_held_out=False),
            options=options,
            name=f"{PAPER} {item.name} {of}{lag:g}",
            dataset=person.dataset.path.name,
        )
        rows += _four(fitted, item, f"{item.name}, {of}lag {lag:g} s ({told})")
        if lag == lag_s and not of:
            rows += _regions(fitted, person, item)
    return rows


def _four(fitted: Fitted, item: StandIn, using: str) -> list[Row]:
    scores = fitted.scores
    in_sample = "scored on the clips that it was fitted on"
    held_out = {}
    if fitted.held_out_identification is not None:
        held_out = {"held out": fitted.held_out_identification}
    told = (
        f"window level {scores.window_identification:.3f}" if scores.window_identification else ""
    )
    values: list[tuple[str, float, float | None, dict[str, float], str, str]] = [
        (
            "identification test", scores.identification, scores.standard_error,
            controls(scores), "", told,
        ),
        ("identification train", fitted.train_identification, None, held_out, in_sample, ""),
        (
            "correlation test", fitted.test_correlation, None, {"chance": 0.0}, "",
            f"of clip means {scores.pearson:.3f}",
        ),
        ("correlation train", fitted.train_correlation, None, {}, in_sample, ""),
    ]  # fmt: skip
    return [
        Row(
            "decoding",
            item.instead_of,
            metric,
            published=find(PAPER, "decoding", item.instead_of, metric),
            ours=value,
            error=error,
            using=using,
            comparable=False,
            leaky=leaky,
            controls=beside,
            remark=remark,
        )
        for metric, value, error, beside, leaky, remark in values
    ]


def _regions(fitted: Fitted, person: _Person, item: StandIn) -> list[Row]:
    chosen = getattr(fitted.decoder, "chosen_", None)
    if not chosen:
        return []
    sizes = [len(person.rois[name]) for name in chosen]
    told = ", ".join(f"{name} ({n})" for name, n in zip(chosen, sizes, strict=True))
    rows = [
        Row(
            "regions", row, "voxels in a chosen region", ours=value, using=item.name,
            published=find(PAPER, "regions", row, "voxels in a chosen region"), remark=remark,
            comparable=False,
        )
        for row, value, remark in (
            ("median over people", float(np.median(sizes)), f"{person.name}: {told}"),
            ("mean over people", float(np.mean(sizes)), ""),
        )
    ]  # fmt: skip
    if person.name == "sub-001":
        metric = "voxels of the six together"
        rows.append(
            Row(
                "regions", "sub-001", metric, ours=float(sum(sizes)), using=item.name,
                published=find(PAPER, "regions", "sub-001", metric), comparable=False,
            )
        )  # fmt: skip
    return rows


def _ablation(
    person: _Person,
    windows: tuple[RunFeatures, ...],
    targets: TargetSource,
    item: StandIn,
    lag_s: float,
    options: ReproduceOptions,
) -> list[Row]:
    """Leave each genre out of training, and identify its test clips among all test clips."""
    from calibration.methods.genre_out import leave_label_out

    train = _samples(windows, "train", targets, item, lag_s)
    test = _samples(windows, "test", targets, item, lag_s)
    genres = [str(name) for name in np.unique(test.label) if name and np.any(train.label == name)]
    if len(genres) < 2:
        return []
    found = leave_label_out(
        train,
        test,
        decoder=make_decoder(options, rois=person.rois, keep_held_out=False),
        rng=np.random.default_rng(options.seed),
        labels=genres,
    )
    metric = "identification test"
    using = f"{item.name}, lag {lag_s:g} s"

    def row(name: str, without: float, full: float, control: float) -> Row:
        beside = {"chance": found.chance, "trained on": full, "as many others left out": control}
        return Row(
            "genre ablation", f"{name} not trained on", metric, ours=without, using=using,
            controls=beside,
        )  # fmt: skip

    each = [
        row(*values)
        for values in zip(found.labels, found.without, found.full, found.control, strict=True)
    ]
    means = [float(np.mean(values)) for values in (found.without, found.full, found.control)]
    mean = replace(
        row("genre", *means),
        published=find(PAPER, "genre ablation", "genre not trained on", metric),
        comparable=False,
    )
    return [mean, *each]


def _waiting(rows: list[Row], options: ReproduceOptions) -> list[Row]:
    """Return the published rows that nothing of ours stands beside."""
    done = {(row.table, row.name, row.metric) for row in rows if row.ours is not None}
    reasons = {
        "reconstruction": "the generator, MusicLM's stand-in, and PANNs weights in LEAF's place",
        "encoding": "captions, for the words' embedding, and --clap FOLDER",
        "encoding weights": "the encoding models of several people (name them all)",
        "regions": "regions: --labels with each person's Destrieux label image",
        "genre ablation": "clips of two genres or more",
    }
    left = [p for p in published(PAPER) if (p.table, p.row, p.metric) not in done]
    result = []
    for item in left:
        reason = _WAITS.get(item.row, "") if item.table == "decoding" else reasons[item.table]
        asked = {"regions": "decoding", "encoding weights": "encoding"}.get(item.table, item.table)
        if not options.wants(asked):
            reason = f"--only {asked}: it was left out of this run"
        result += waiting([item], reason)
    return result
