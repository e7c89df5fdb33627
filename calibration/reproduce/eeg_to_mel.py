"""EEG to mel on NMED-T: a ridge under the published split, which leaks, and under honest ones.

Each person heard each song once, so a song is a recording. Under the random-chunk split a decoder
only has to recognise the recording and say the song's mean mel.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Dataset
from calibration.data.samples import Samples
from calibration.honest.splits import Family, Split, make_splits
from calibration.reproduce.music import need_path, people
from calibration.reproduce.options import Progress, ReproduceOptions, told
from calibration.reproduce.record import Check, Reproduction, Row, waiting
from calibration.reproduce.tables import PAPERS, find, published
from calibration.scores import correlations
from calibration.stimulus_sound import stimulus_sound
from models.errors import FileError
from models.features import batch_features
from models.frontends.mel_decibels import MelDecibels
from models.ridge.estimator import Ridge
from models.spec import PsdSpec

__all__ = ["TABLES", "Chunks", "read_chunks", "reproduce", "score_family"]

logger = logging.getLogger(__name__)

PAPER = "eeg-to-mel"
WHAT = "NMED-T (song21_Imputed.mat to song30_Imputed.mat)"
TABLES = ("random chunks", "person-out", "song-out", "both-out")

N_FRAMES = 44
_FAMILIES: tuple[tuple[str, Family, int], ...] = (
    ("random chunks", "random-chunk", 5),
    ("person-out", "person", 5),
    ("song-out", "song", 5),
    ("both-out", "both", 3),
)
_Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Chunks:
    """Seconds of EEG, and which second of which song each is."""

    samples: Samples  # without features and targets: they are here
    x: NDArray[np.float32]  # (n, 63 x channels) log power
    row: NDArray[np.int64]  # (n,) row of `mels`
    mels: NDArray[np.float32]  # (n_songs x seconds, 44 x 128)
    song: NDArray[np.int64]  # (n_songs x seconds,) of each row of `mels`
    songs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Score:
    """What one way of predicting scores, mean over chunks."""

    cosine: float  # of mels as they are: high for any mean
    centred: float  # after the mean of the training mels is taken off both
    song: float  # share of chunks whose own song's mean mel is the nearest


def reproduce(options: ReproduceOptions, *, progress: Progress) -> Reproduction:
    """Compute the ridge rows under four splits.

    Raises
    ------
    HearbackError
        If the data set is not there, or is not this one, or the songs are missing.
    """
    from calibration.readers import read_dataset

    need_path(options, WHAT)
    names = people(options, formats=("nmed-t",), what=WHAT)
    assert options.data is not None
    dataset = read_dataset(
        options.data,
        participant=list(names),
        stimuli=options.stimuli,
        strict=not options.partial,
        progress=lambda done, total: progress("reading", done, total),
    )
    lost = [name for name, item in dataset.stimuli.items() if item.path is None]
    if lost:
        raise FileError(
            f"The targets are the songs' mels; there is no sound for {told(lost)}. The audio of "
            "NMED-T has to be bought; give its folder with --stimuli, files named song21.wav, ..."
        )
    progress("power and mels", 0, 1)
    chunks = read_chunks(dataset, seconds=options.seconds)
    rows: list[Row] = []
    for name, family, n_folds in _FAMILIES:
        if options.wants(name):
            progress(name, 0, 1)
            rows += _family_rows(chunks, name, family, n_folds, options)
    done = {(row.table, row.name, row.metric) for row in rows if row.ours is not None}
    left = [p for p in published(PAPER) if (p.table, p.row, p.metric) not in done]
    return Reproduction(
        paper=PAPER,
        title=PAPERS[PAPER].title,
        claim=PAPERS[PAPER].claim,
        data=options.data.name,
        participants=dataset.participants,
        checks=tuple(_checks(dataset, chunks, options)),
        rows=tuple(
            rows + waiting(left, "the network decoders and the song classifier: their own issue")
        ),
        notes=(*dataset.warnings, *_NOTES),
        settings=options.to_json(),
    )


_NOTES = (
    "Only person-out, song-out and both-out can show decoding; the random-chunk rows are there to "
    "show that the published number is reached by recognising the recording.",
    "The paper's accuracy is a network's that tells songs from mels; beside it stands the share of "
    "chunks whose own song's mean mel is nearest, which needs no network.",
    "The cosine of mels as they are is high for any mean mel: read it beside the floors.",
    "The paper's '90 % accuracy', (cosine + 1) / 2, is not reported.",
)


def read_chunks(dataset: Dataset, *, seconds: int) -> Chunks:
    """Return the first seconds of each trial, cut into chunks of 1 s.

    X is the power of 63 frequencies by periodogram (as published; its logarithm, since a ridge has
    no normalisation layer), Y the mel in doubled decibels, 44 x 128.

    Parameters
    ----------
    dataset : Dataset
    seconds : int
        Of each trial; 270 in the paper. Fewer where a trial or a song is shorter.
    """
    spec = PsdSpec(
        method="periodogram", window_s=1.0, hop_s=1.0, taper="boxcar", detrend="constant"
    )
    front = MelDecibels()
    songs = tuple(dict.fromkeys(event.stimulus for run in dataset.runs for event in run.events))
    mels: list[NDArray[np.float32]] = []
    first: dict[str, int] = {}
    length: dict[str, int] = {}
    song_of: list[int] = []
    for number, name in enumerate(songs):
        pcm = stimulus_sound(dataset.stimuli[name], sample_rate_hz=front.sample_rate_hz)
        n = min(seconds, len(pcm) // front.sample_rate_hz)
        first[name], length[name] = len(mels), n
        for k in range(n):
            second = pcm[k * front.sample_rate_hz : (k + 1) * front.sample_rate_hz]
            mels.append(front(second)[:N_FRAMES].ravel())
        song_of += [number] * n
    columns: dict[str, list[object]] = {
        key: [] for key in ("person", "clip", "run", "start", "order")
    }
    x: list[NDArray[np.float32]] = []
    row: list[NDArray[np.int64]] = []
    for number, run in enumerate(dataset.runs):
        name = run.events[0].stimulus
        _, _, values = batch_features(spec, run.signal, sfreq_hz=run.sfreq_hz)
        n = min(len(values), length[name])
        x.append(values[:n])
        row.append(first[name] + np.arange(n))
        for key, value in (("person", run.participant), ("clip", name), ("run", run.run)):
            columns[key] += [value] * n
        columns["start"] += list(range(n))
        columns["order"] += [number * 1e6 + k for k in range(n)]
    start = np.array(columns["start"], np.float64)
    clip = np.array(columns["clip"], np.str_)
    samples = Samples(
        x=np.zeros((len(start), 1, 1), np.float32),
        y=np.zeros((len(start), 1)),
        clip=clip,
        label=clip,
        start_s=start,
        stop_s=start + 1.0,
        person=np.array(columns["person"], np.str_),
        session=np.full((len(start), 1), ""),
        run=np.array(columns["run"], np.str_)[:, None],
        previous_clip=np.full(len(start), ""),
        order=np.array(columns["order"], np.float64),
    )
    return Chunks(
        samples, np.concatenate(x), np.concatenate(row), np.array(mels), np.array(song_of), songs
    )


def _checks(dataset: Dataset, chunks: Chunks, options: ReproduceOptions) -> list[Check]:
    from calibration.readers.nmed_t import N_SAMPLES

    lengths = {run.run: len(run.signal) for run in dataset.runs}
    expected = {f"song{number}": n for number, n in N_SAMPLES.items()}
    good = lengths == expected
    wrong = [name for name, n in lengths.items() if expected.get(name) != n]
    n_people = len(dataset.participants)
    n = len(chunks.x)
    shape = (63, len(dataset.channels))
    return [
        Check(
            "lengths of the ten songs, samples",
            "as published",
            "as published" if good else f"other for {told(wrong) or 'songs that are not there'}",
            good,
        ),
        Check("people", "20", str(n_people), n_people == 20),
        Check("chunks of 1 s", "54,000", f"{n:,}", n == 54_000),
        Check(
            "features of a chunk",
            "63 x 125",
            f"{chunks.x.shape[1] // shape[1]} x {shape[1]}",
            chunks.x.shape[1] == 63 * 125,
        ),
        Check("mel of a chunk", "44 x 128", f"{N_FRAMES} x 128", chunks.mels.shape[1] == 44 * 128),
    ]


def _family_rows(
    chunks: Chunks, name: str, family: Family, n_folds: int, options: ReproduceOptions
) -> list[Row]:
    from models.errors import SettingError

    try:
        splits = make_splits(chunks.samples, family, n_folds=n_folds, seed=options.seed)
    except SettingError as error:
        return [Row(name, "periodogram + mel-dB", "cosine", remark=str(error))]
    scores = score_family(chunks, splits, options=options)
    ours = scores["ours"]
    leaky = splits[0].why if splits[0].leaky else ""
    row = "periodogram + mel-dB"

    def beside(what: str) -> dict[str, float]:
        return {key: getattr(score, what) for key, score in scores.items() if key != "ours"}

    paper_table = "random chunks"
    accuracy = "song classifier accuracy"
    n_songs = len(chunks.songs)
    return [
        Row(
            name,
            row,
            "cosine",
            published=find(PAPER, paper_table, row, "cosine"),
            ours=ours.cosine,
            using="ridge",
            comparable=name == "random chunks",
            leaky=leaky,
            controls=beside("cosine"),
        ),
        Row(
            name,
            row,
            "cosine without the training mean",
            ours=ours.centred,
            using="ridge",
            leaky=leaky,
            controls={"chance": 0.0} | beside("centred"),
        ),
        Row(
            name,
            row,
            accuracy,
            published=find(PAPER, paper_table, row, accuracy),
            ours=ours.song,
            using="ridge",
            comparable=False,
            leaky=leaky,
            controls={"chance": 1.0 / n_songs} | beside("song"),
            remark="share of chunks whose own song's mean mel is nearest, instead of a network",
        ),
    ]


def score_family(
    chunks: Chunks, splits: Sequence[Split], *, options: ReproduceOptions
) -> dict[str, _Score]:
    """Fit and score a ridge and its floors over the folds of one family.

    Parameters
    ----------
    chunks : Chunks
    splits : sequence of Split
    options : ReproduceOptions

    Returns
    -------
    scores : dict of str to _Score
        "ours"; "mean": the mean training mel for every chunk; "song mean": the mean mel of the
        chunk's song over all seconds, which is what knowing the song is worth; "within song": ours
        dealt out anew within each person's song; "shuffled brain": a ridge on the mels of other
        trials.
    """
    song_means = np.array(
        [chunks.mels[chunks.song == k].mean(axis=0) for k in range(len(chunks.songs))], np.float64
    )
    made: dict[str, list[tuple[NDArray[np.float64], int]]] = {}
    for number, split in enumerate(splits):
        rng = np.random.default_rng([options.seed, number])
        train, test = split.train, split.test
        mean, std = chunks.x[train].mean(axis=0), chunks.x[train].std(axis=0)
        x = (chunks.x[train] - mean) / np.where(std > 0, std, 1.0)
        x_test = (chunks.x[test] - mean) / np.where(std > 0, std, 1.0)
        groups = _inner_groups(chunks.samples, train, split.family)
        target = chunks.mels[chunks.row[train]]
        centre = target.mean(axis=0, dtype=np.float64)
        truth = chunks.mels[chunks.row[test]].astype(np.float64)
        own = chunks.song[chunks.row[test]]
        predicted = _ridge(x, target, x_test, groups, options)
        others = {
            "mean": np.tile(centre, (len(test), 1)),
            "song mean": song_means[own],
            "within song": predicted[_dealt_within(chunks.samples, test, rng)],
        }
        if options.n_shuffled:
            dealt = target[_dealt_trials(chunks.samples, train, rng)]
            others["shuffled brain"] = _ridge(x, dealt, x_test, groups, options)
        for name, rows in {"ours": predicted, **others}.items():
            score = _score(rows, truth, centre, own, song_means)
            made.setdefault(name, []).append((np.array(score), len(test)))
    means = {
        name: np.average([s for s, _ in parts], axis=0, weights=[n for _, n in parts])
        for name, parts in made.items()
    }
    return {name: _Score(*(float(value) for value in mean)) for name, mean in means.items()}


def _score(
    rows: _Rows, truth: _Rows, centre: _Rows, own: NDArray[np.int64], song_means: _Rows
) -> tuple[float, float, float]:
    r = np.round(correlations(rows - centre, song_means - song_means.mean(axis=0)), 12)
    best = r == r.max(axis=1, keepdims=True)
    right = best[np.arange(len(own)), own] / best.sum(axis=1)  # ties share
    return _cosine(rows, truth), _cosine(rows - centre, truth - centre), float(right.mean())


def _cosine(a: _Rows, b: _Rows) -> float:
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean(np.sum(a * b, axis=1) / np.where(norm > 1e-12, norm, np.inf)))


def _ridge(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    x_test: NDArray[np.float32],
    groups: NDArray[np.str_],
    options: ReproduceOptions,
) -> _Rows:
    n_folds = min(3, len(np.unique(groups)))
    model = Ridge(options.alphas, cv=n_folds, dtype=np.float32)
    return np.asarray(model.fit(x, y, groups=groups).predict(x_test), np.float64)


def _inner_groups(samples: Samples, rows: NDArray[np.int64], family: Family) -> NDArray[np.str_]:
    """Return what the folds that choose the penalty hold out: what the outer ones do."""
    if family == "random-chunk":
        return np.array([f"{k:07d}" for k in rows])
    names = samples.person if family == "person" else samples.clip
    chosen = names[rows]
    return chosen if len(np.unique(chosen)) > 1 else samples.person[rows]


def _dealt_within(
    samples: Samples, rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    trial = np.array(
        [f"{p}/{c}" for p, c in zip(samples.person[rows], samples.clip[rows], strict=True)]
    )
    order = np.arange(len(rows))
    for name in np.unique(trial):
        here = np.flatnonzero(trial == name)
        order[here] = rng.permutation(here)
    return order


def _dealt_trials(
    samples: Samples, rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Deal the mels of whole trials out anew."""
    trial = np.array(
        [f"{p}/{c}" for p, c in zip(samples.person[rows], samples.clip[rows], strict=True)]
    )
    names = np.unique(trial)
    members = [np.flatnonzero(trial == name) for name in names]
    out = np.empty(len(rows), np.int64)
    for mine, k in zip(members, rng.permutation(len(names)), strict=True):
        out[mine] = members[k][np.arange(len(mine)) % len(members[k])]
    return out
