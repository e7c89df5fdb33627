"""C2F-LDM: the linear rows of its tables - ridge to mel, the semantic decoder, what an SVM hears.

The data set is told from its files: ds003720 (B2M), Kamitani's BData (B2S) or ds003020 (B2Sp).
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.honest.audio_metrics import mel_pcc, mel_psnr
from calibration.reproduce.c2f_data import (
    MEL_BANDS,
    SETS,
    DataKind,
    Windows,
    count_checks,
    mel_pairs,
    mel_targets,
    read_windows,
    semantic_targets,
)
from calibration.reproduce.fitting import controls, deal, fit_and_score
from calibration.reproduce.music import check_counts, check_voxels, people, read_person
from calibration.reproduce.options import Progress, ReproduceOptions, make_stand_in, stand_ins
from calibration.reproduce.record import Check, Reproduction, Row, over_people, waiting
from calibration.reproduce.svm import svm_accuracy
from calibration.reproduce.tables import PAPERS, find, published
from models.ridge.estimator import Ridge
from models.ridge.selected import SelectedRidge

__all__ = ["TABLES", "decode_mel", "reproduce"]

logger = logging.getLogger(__name__)

PAPER = "c2f-ldm"
WHAT = (
    "ds003720 (BIDS), Kamitani's natural sounds (BData .h5) or ds003020's stories "
    "(derivative/preprocessed_data)"
)
TABLES = ("ridge", "semantic", "svm", "mel")

_WEIGHTS = 1 << 26  # of the mel bins that are decoded at once: 250 MB in float32
_N_SELECTED = 500
_Rows = NDArray[np.float64]


def reproduce(options: ReproduceOptions, *, progress: Progress) -> Reproduction:
    """Compute the rows of the paper that can be computed.

    Raises
    ------
    HearbackError
        If the data set is not there, or is none of the three, or sounds are missing.
    """
    from calibration.readers import detect_format

    formats = tuple(name for kind in SETS for name in kind.formats)
    names = people(options, formats=formats, what=WHAT)
    assert options.data is not None
    found = detect_format(options.data)
    kind = next(item for item in SETS if found in item.formats)
    checks: list[Check] = []
    notes: list[str] = []
    rows_of: dict[str, list[Row]] = {}
    for number, participant in enumerate(names):
        dataset = read_person(options, participant, progress=progress)
        person = dataset.participants[0]
        notes += dataset.warnings
        progress(f"{person}: windows", number, len(names))
        windows = read_windows(dataset, kind, lag_s=options.lag_s, options=options)
        if kind.name == "B2M":
            checks += [*check_counts(dataset), check_voxels(dataset, person)]
        checks += count_checks(windows)
        rows_of[person] = _rows(windows, options, progress)
        if kind.name == "B2M" and options.lag_s is None and windows.lag_s != 0.0:
            at_zero = read_windows(dataset, kind, lag_s=0.0, options=options)
            if options.wants("ridge"):
                progress(f"{person}: ridge without a lag", number, len(names))
                few = replace(options, n_shuffled=0)
                rows_of[person] += _ridge_rows(at_zero, few, told="none stated")
        if number == 0 and options.wants("mel"):
            rows_of[person] += _mel_to_mel(windows)
    rows = over_people(rows_of)
    return Reproduction(
        paper=PAPER,
        title=PAPERS[PAPER].title,
        claim=PAPERS[PAPER].claim,
        data=f"{options.data.name}: {kind.told}",
        participants=tuple(rows_of),
        checks=tuple(checks),
        rows=tuple(rows + _waiting(rows, kind)),
        notes=(*dict.fromkeys(notes), *_NOTES),
        settings=options.to_json(),
    )


_NOTES = (
    "The penalty of the paper's ridge and the range that its PSNR is taken over are not published "
    "[?]: penalties are chosen in folds by clip, and the range is that of the training mels, so "
    "PSNR is not comparable.",
    "A mel correlates with the mean mel of all sounds: read PCC beside 'mean', the same mel said "
    "for every clip.",
    "No lag is stated for B2M [?]: the fitted lag and 0 s are both given.",
)


def _rows(windows: Windows, options: ReproduceOptions, progress: Progress) -> list[Row]:
    rows: list[Row] = []
    if options.wants("ridge"):
        progress(f"{windows.person}: ridge to mel", 0, 1)
        given = options.lag_s is not None or windows.kind.lag_s is not None
        rows += _ridge_rows(windows, options, told="given" if given else "fitted")
    for item in stand_ins(options):
        if not (options.wants("semantic") or options.wants("svm")):
            break
        progress(f"{windows.person}: semantic decoder, {item.name}", 0, 1)
        embedder = make_stand_in(item, options)
        train, test = windows.samples(semantic_targets(windows.dataset, embedder))
        using = item.name + _at(windows)
        rows += _semantic(windows, train, test, using, options)
    return rows


def _at(windows: Windows) -> str:
    return "" if windows.lag_s is None else f", lag {windows.lag_s:g} s"


def _ridge_rows(windows: Windows, options: ReproduceOptions, *, told: str) -> list[Row]:
    kind = windows.kind
    train, test = windows.samples(mel_targets(windows.dataset, kind))
    predicted = decode_mel(train, test, options=options)
    low, high = float(train.y.min()), float(train.y.max())
    value_range = max(high - low, 1e-9)

    def score(made: _Rows) -> tuple[float, float, NDArray[np.float64]]:
        shape = (kind.n_frames, MEL_BANDS)
        pairs = [(a.reshape(shape), b.reshape(shape)) for a, b in zip(test.y, made, strict=True)]
        each = np.array([mel_pcc(a, b) for a, b in pairs])
        loud = [mel_psnr(a, b, data_range=value_range) for a, b in pairs]
        return float(each.mean()), float(np.mean(loud)), each

    pcc, psnr, each = score(predicted)
    mean = score(np.tile(train.y.mean(axis=0), (len(test), 1)))
    beside = {"mean": mean[:2]}
    for k in range(min(options.n_shuffled, 1)):
        rng = np.random.default_rng([options.seed, k])
        dealt = deal(train.clip, rng)
        other = decode_mel(train, test, options=options, rows=dealt)
        beside["shuffled brain"] = score(other)[:2]
    before = _of_clip_before(test)
    if before is not None:
        made, rows_before = before
        pairs = zip(predicted[rows_before], made, strict=True)
        shape = (kind.n_frames, MEL_BANDS)
        r = [mel_pcc(p.reshape(shape), t.reshape(shape)) for p, t in pairs]
        beside["clip before"] = (float(np.mean(r)), float("nan"))
    clips = [float(np.mean(each[test.clip == name])) for name in np.unique(test.clip)]
    error = float(np.std(clips, ddof=1) / np.sqrt(len(clips))) if len(clips) > 1 else None
    table = f"main table, {kind.name}"
    using = f"ridge to {kind.n_frames} x {MEL_BANDS} mel bins"
    using += f"{_at(windows)} ({told})" if windows.lag_s is not None else ""
    return [
        Row(
            table,
            "Ridge",
            metric,
            published=find(PAPER, table, "Ridge", metric),
            ours=value,
            error=spread,
            using=using,
            comparable=metric == "PCC",
            controls={name: pair[k] for name, pair in beside.items() if np.isfinite(pair[k])},
        )
        for k, (metric, value, spread) in enumerate((("PCC", pcc, error), ("PSNR", psnr, None)))
    ]


def decode_mel(
    train: Samples,
    test: Samples,
    *,
    options: ReproduceOptions,
    rows: NDArray[np.int64] | None = None,
) -> _Rows:
    """Return decoded mels, (n_test, n_bins), in blocks of bins.

    Parameters
    ----------
    train, test : Samples
    options : ReproduceOptions
    rows : array of shape (n_train,), optional
        Training targets dealt out anew.
    """
    x, x_test = train.x[:, 0], test.mean_x()
    out = np.empty((len(test), train.y.shape[1]))
    block = max(256, _WEIGHTS // x.shape[1])
    for start in range(0, train.y.shape[1], block):
        y = train.y[:, start : start + block]
        model = Ridge(options.alphas, cv=options.n_folds)
        model.fit(x, y if rows is None else y[rows], groups=_groups(train))
        out[:, start : start + block] = model.predict(x_test)
    return out


def _groups(samples: Samples) -> NDArray[np.str_]:
    """Return what folds must not divide: clips; of sounds cut into windows, their sound."""
    return samples.clip


def _of_clip_before(test: Samples) -> tuple[_Rows, NDArray[np.intp]] | None:
    """Return the mel of the same stretch of the clip before, and the windows that have one."""
    named = zip(test.clip, test.start_s, strict=True)
    place = {(str(clip), round(float(start), 3)): k for k, (clip, start) in enumerate(named)}
    pairs = [
        (row, place[(str(name), round(float(start), 3))])
        for row, (name, start) in enumerate(zip(test.previous_clip, test.start_s, strict=True))
        if (str(name), round(float(start), 3)) in place
    ]
    if not pairs:
        return None
    rows = np.array([row for row, _ in pairs], np.intp)
    return test.y[[other for _, other in pairs]], rows


def _semantic(
    windows: Windows, train: Samples, test: Samples, using: str, options: ReproduceOptions
) -> list[Row]:
    """Return how well the semantic decoder identifies, and what an SVM makes of its features."""
    name = windows.kind.name

    def make() -> SelectedRidge:
        return SelectedRidge(
            min(_N_SELECTED, train.x.shape[2]), options.alphas, cv=options.n_folds,
            keep_held_out=True,
        )  # fmt: skip

    rows: list[Row] = []
    several = len(np.unique(test.clip)) > 2
    if options.wants("semantic") and several:
        fitted = fit_and_score(
            train, test, make, options=options, name=f"{PAPER} semantic {using}",
            dataset=windows.dataset.path.name,
        )  # fmt: skip
        predictions = fitted.predictions
        rows.append(
            Row(
                f"semantic decoder, {name}",
                f"500 voxels of each dimension ({windows.kind.name})",
                "identification test",
                ours=fitted.scores.identification,
                error=fitted.scores.standard_error,
                using=using,
                controls=controls(fitted.scores),
                remark="not in the paper, which reports what the whole chain makes of it",
            )
        )
    else:
        model = make().fit(train.x[:, 0], train.y, groups=_groups(train))
        predictions = np.asarray(model.predict(test.mean_x()), np.float64)
    if options.wants("svm") and name in ("B2M", "B2Sp") and len(np.unique(test.label)) > 1:
        rows += _svm_rows(name, test, predictions, using, options)
    return rows


_SVM_LEAKY = {
    "B2M": "folds divide the windows of a clip, so that recognising the clip is enough",
    "B2Sp": "each speaker tells one story: recognising the recording is enough",
}


def _svm_rows(
    name: str, test: Samples, predictions: _Rows, using: str, options: ReproduceOptions
) -> list[Row]:
    what = "genre" if name == "B2M" else "speaker"
    metric = f"{what} accuracy"
    kinds = [("true semantic", test.y), ("decoded semantic", predictions)]
    if using.startswith("audiomae"):  # acoustic features; the paper decodes none of them so
        kinds = [("true acoustic", test.y)]
    chance = 1.0 / len(np.unique(test.label))
    rows = []
    for kind, features in kinds:
        by_window = svm_accuracy(features, test.label, seed=options.seed)
        by_clip = svm_accuracy(features, test.label, groups=test.clip, seed=options.seed)
        null = svm_accuracy(
            features, test.label[deal(test.clip, np.random.default_rng(options.seed))],
            groups=test.clip, seed=options.seed,
        )  # fmt: skip
        paper = find(PAPER, f"SVM, {name}", kind, metric)
        if by_window is not None:
            rows.append(
                Row(
                    f"SVM, {name}", kind, metric, published=paper, ours=by_window,
                    using=f"{using}; 5 folds within the test set, windows dealt out",
                    comparable=using.startswith(("clap (", "audiomae (")), leaky=_SVM_LEAKY[name],
                    controls={"chance": chance},
                )
            )  # fmt: skip
        if by_clip is not None:
            beside = {"chance": chance} | ({} if null is None else {"labels dealt out": null})
            rows.append(
                Row(
                    f"SVM, {name}", kind, metric, published=paper, ours=by_clip,
                    using=f"{using}; 5 folds within the test set, whole clips",
                    comparable=False, controls=beside,
                    remark="trained within the test set, as published: it says what the features "
                    "hold, not what a decoder of the label would score on new data",
                )
            )  # fmt: skip
    return rows


def _mel_to_mel(windows: Windows) -> list[Row]:
    """Return how well a ridge turns AudioMAE's mel into the vocoder's, on sounds held out."""
    dataset = windows.dataset
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for run in dataset.runs:
        parts[run.part or "train"] += [event.stimulus for event in run.events]
    for epochs in dataset.epochs:
        for part in parts:
            parts[part] += epochs.stimulus[epochs.part == part].tolist()
    train, test = (mel_pairs(dataset, list(dict.fromkeys(parts[p]))) for p in ("train", "test"))
    group = np.concatenate([np.full(len(pair[0]), k) for k, pair in enumerate(train)])
    x, y = (np.concatenate([pair[k] for pair in train]) for k in (0, 1))
    model = Ridge(tuple(10.0**k for k in range(-3, 4)), cv=5).fit(x, y, groups=group)
    r = [mel_pcc(ours, model.predict(theirs)) for theirs, ours in test]
    mean = [mel_pcc(ours, np.tile(y.mean(axis=0), (len(ours), 1))) for _, ours in test]
    name = windows.kind.name
    table = "AudioMAE mel to vocoder mel"
    return [
        Row(
            table,
            name,
            "PCC",
            published=find(PAPER, table, name, "PCC"),
            ours=float(np.mean(r)),
            error=float(np.std(r, ddof=1) / np.sqrt(len(r))) if len(r) > 1 else None,
            using="ridge, frame by frame; no brain",
            controls={"mean": float(np.mean(mean))},
            remark=f"{len(train)} sounds to learn from, {len(test)} held out, first 4 s of each",
        )
    ]


def _waiting(rows: list[Row], kind: DataKind) -> list[Row]:
    done = {(row.table, row.name, row.metric) for row in rows if row.ours is not None}
    result = []
    for item in published(PAPER):
        if (item.table, item.row, item.metric) in done:
            continue
        result += waiting([item], _reason(item.table, item.row, item.metric, kind))
    return result


def _reason(table: str, row: str, metric: str, kind: DataKind) -> str:
    set_name = next((s.name for s in SETS if s.name in (table.split(", ")[-1].split()[0], row)), "")
    if row in ("MLP", "BiLSTM", "Transformer"):
        return "network baselines, which have their own issue"
    if row == "Park et al.":
        return "another paper's model"
    if row in ("Fine-LDM", "C2F-Decoder", "C2F-LDM") or table.startswith("P_gt"):
        return "the generator and its weights (AudioMAE, AudioLDM 2)"
    if table.startswith("human"):
        return "six raters; the protocol is published, listeners are not software"
    if metric in ("FD", "KL"):
        return "a vocoder, and PANNs weights (Cnn14), which the user has to name"
    if metric == "FAD":
        return "a vocoder, and VGGish weights, which the user has to name"
    if metric == "CLAP":
        return "a vocoder, and --clap FOLDER"
    if set_name and set_name != kind.name:
        told = next(item.told for item in SETS if item.name == set_name)
        return f"its data set: --data with {told}"
    if row == "true acoustic":
        return "AudioMAE's weights: --audiomae FILE"
    return "its table, left out by --only, or two labels in the test set"
