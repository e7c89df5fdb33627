"""Does a score depend on having seen the recording: split families compared by quick decoders.

Every recording has a fingerprint (cap, impedances, state, drift). If a clip was heard in one
recording only, a decoder that recognises the recording names the clip without decoding anything.
Such a decoder does well as long as parts of a recording are on both sides of the split, and falls
to chance when whole recordings are held out; one that decodes does not fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.honest.identify import similarities
from calibration.honest.splits import Family, Split, make_splits, run_groups
from calibration.scores import identification
from models.errors import SettingError

__all__ = ["Decoder", "FamilyScore", "LeakReport", "detect_leaks", "quick_predictions"]

Rows: TypeAlias = NDArray[np.float64]
Decoder: TypeAlias = Literal["nearest", "ridge"]

FLAG_P = 1e-3
_BLOCK = 4_096  # features averaged and projected at once
_MIN_SHARE = 0.1  # of the score above chance that must be lost without the recording
_COMPARED: tuple[Family, ...] = (
    "random-chunk", "segment", "clip", "run", "session", "song", "person", "both",
)  # fmt: skip
_BY = {"nearest": "a nearest neighbour", "ridge": "a ridge regression"}
_PURGED = "purged"
_SAID: dict[str, str] = {
    "random-chunk": "random chunks", "segment": "segments of trials", "clip": "clip-out",
    "run": "run-out", "session": "session-out", "song": "song-out", "person": "person-out",
    "both": "person-and-song-out",
    _PURGED: "the same splits without the tested recordings in training",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FamilyScore:
    """What quick decoders reach under one family of splits; None where it is impossible."""

    family: str
    score: float | None  # identification of clips, ties one half, mean over recordings
    standard_error: float | None  # over recordings
    decoder: str  # the quick decoder that told most
    shares_recordings: bool  # parts of tested recordings are in training
    # The family without shared recordings that it is held against, or "purged": its own splits
    # with tested recordings taken out of training; "": there is none.
    reference: str
    lost: float | None  # share of the score above chance that is gone under the reference
    p: float | None  # that nothing is lost: sign flips over recordings, both decoders counted
    flagged: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class LeakReport:
    """Split families side by side; never one number alone."""

    families: tuple[FamilyScore, ...]
    n_recordings: int
    n_flips: int
    chance: float = 0.5

    @property
    def flagged(self) -> tuple[str, ...]:
        """Families whose score depends on recognising the recording."""
        return tuple(row.family for row in self.families if row.flagged)

    @property
    def sentence(self) -> str:
        """Return the finding in one sentence."""
        if self.flagged:
            said = " and ".join(_SAID[name] for name in self.flagged)
            return (
                f"Scores under {said} depend on recognising the recording and say nothing about "
                "decoding; read those with whole recordings held out."
            )
        if not any(row.reference for row in self.families):
            return (
                "Whether scores depend on recognising the recording cannot be told: no recording "
                "can be held out whole."
            )
        return "No split family's score was found to depend on recognising the recording."

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the report."""
        return {**asdict(self), "flagged": list(self.flagged), "sentence": self.sentence}


def detect_leaks(
    samples: Samples,
    *,
    families: Sequence[Family] = _COMPARED,
    decoders: Sequence[Decoder] = ("nearest", "ridge"),
    n_folds: int = 4,
    n_flips: int = 9_999,
    max_windows: int = 4_000,
    max_features: int = 512,
    seed: int = 0,
) -> LeakReport:
    """Score quick decoders under several split families and say which depend on the recording.

    The score is the identification of clips, those that were in training against all, others
    against others. Families that leave parts of a tested recording in training are held against
    the best family that does not: a score that only fell because the task is harder (nobody known,
    no song known) would not fall under every one of them. Flagged are those that lose more than a
    tenth of their score above chance, with p < 0.001 by sign flips over recordings (times the
    number of decoders).

    Parameters
    ----------
    samples : Samples
        All windows, of all people; repetitions are averaged.
    families : sequence of str
        What to compare; impossible ones are listed as such.
    decoders : sequence of {"nearest", "ridge"}
        A nearest neighbour recognises recordings best; a ridge is what is fitted in earnest.
    n_folds : int
    n_flips : int
        Of the sign-flip test; with few recordings all of them are counted instead.
    max_windows, max_features : int
        More windows are thinned at random; more features are projected at random (which keeps
        distances, Johnson and Lindenstrauss 1984).
    seed : int

    Raises
    ------
    SettingError
        If there are fewer than 2 clips, no decoder, or nothing can be compared.
    """
    clips = np.unique(samples.clip)
    if len(clips) < 2 or not decoders or not families:
        raise SettingError(
            f"Leaks are looked for with at least 2 clips, a decoder and a family, got {len(clips)} "
            f"clips, {list(decoders)} and {list(families)}."
        )
    rng = np.random.default_rng(seed)
    if len(samples) > max_windows:
        samples = samples.take(np.sort(rng.choice(len(samples), max_windows, replace=False)))
    x = _reduced(samples, max_features, rng)
    recording = run_groups(samples)
    scored: dict[str, dict[str, Rows]] = {}
    alone: dict[str, dict[str, Rows]] = {}  # the same splits, tested recordings not trained on
    shares: dict[str, bool] = {}
    why_not: dict[str, str] = {}
    for family in families:
        try:
            # Neighbours in time stay together, so that few recordings are shared.
            dealt = seed if family == "random-chunk" else None
            splits = make_splits(samples, family, n_folds=n_folds, seed=dealt)
        except SettingError as error:
            why_not[family] = str(error)
            continue
        shares[family] = any(_share(split, recording) for split in splits)
        scored[family] = {
            name: _by_recording(_each(x, samples, splits, name), recording) for name in decoders
        }
        purged = [_purged(split, recording) for split in splits] if shares[family] else []
        if purged and all(split is not None for split in purged):
            alone[family] = {
                name: _by_recording(
                    _each(x, samples, [split for split in purged if split], name), recording
                )
                for name in decoders
            }
    clean = [family for family in scored if not shares[family]]
    rows = []
    for family in families:
        if family in why_not:
            rows.append(
                FamilyScore(
                    family, None, None, "", False, "", None, None, False, why_not[family]
                )
            )  # fmt: skip
            continue
        against = {name: scored[name] for name in clean} if shares[family] else {}
        if family in alone:
            against[_PURGED] = alone[family]
        told = scored[family]
        rows.append(_judge(family, told, against, shares[family], n_flips=n_flips, rng=rng))
    return LeakReport(tuple(rows), len(np.unique(recording)), n_flips)


def quick_predictions(x: Rows, y: Rows, x_new: Rows, *, decoder: Decoder) -> Rows:
    """Return targets of new rows by the nearest neighbour or by ridge regression.

    Features are standardised with the training rows. The ridge's penalty is the number of
    training rows, a signal-to-noise ratio of one; nothing is selected, so nothing can leak here.

    Parameters
    ----------
    x : array of shape (n, n_features)
    y : array of shape (n, d)
    x_new : array of shape (m, n_features)
    decoder : {"nearest", "ridge"}

    Returns
    -------
    predictions : array of shape (m, d)
    """
    mean, std = x.mean(axis=0), x.std(axis=0)
    scale = np.where(std > 1e-12, std, 1.0)
    train, test = (x - mean) / scale, (x_new - mean) / scale
    if decoder == "nearest":
        # |a - b|^2 without the |a|^2, which is the same for all candidates.
        distance = np.sum(train**2, axis=1) - 2.0 * test @ train.T
        return np.asarray(y[np.argmin(distance, axis=1)], np.float64)
    centre = y.mean(axis=0)
    gram = train.T @ train
    gram[np.diag_indices_from(gram)] += len(train)
    return np.asarray(test @ np.linalg.solve(gram, train.T @ (y - centre)) + centre)


def _reduced(samples: Samples, max_features: int, rng: np.random.Generator) -> Rows:
    """Average repetitions and return at most so many features.

    More are standardised, so that none outweighs the others, and projected block by block: a whole
    brain of every window in float64 would not fit into memory.
    """
    n_features = samples.x.shape[2]
    if n_features <= max_features:
        return np.asarray(samples.mean_x(), np.float64)
    projected = np.zeros((len(samples), max_features))
    for start in range(0, n_features, _BLOCK):
        some = replace(samples, x=samples.x[:, :, start : start + _BLOCK])
        rows = np.asarray(some.mean_x(), np.float64)
        std = rows.std(axis=0)
        rows = (rows - rows.mean(axis=0)) / np.where(std > 1e-12, std, 1.0)
        projected += rows @ rng.standard_normal((rows.shape[1], max_features))
    return np.asarray(projected / np.sqrt(max_features))


def _purged(split: Split, recording: NDArray[np.str_]) -> Split | None:
    """Take tested recordings out of training; None if less than half of it is left."""
    keep = ~np.isin(recording[split.train], recording[split.test])
    return replace(split, train=split.train[keep]) if np.mean(keep) >= 0.5 else None


def _share(split: Split, recording: NDArray[np.str_]) -> bool:
    return bool(np.isin(recording[split.test], recording[split.train]).any())


def _each(x: Rows, samples: Samples, splits: Sequence[Split], decoder: Decoder) -> Rows:
    """Identification of the clip of each window among all clips: (n,); NaN: never tested."""
    clips, own = np.unique(samples.clip, return_inverse=True)
    targets = np.zeros((len(clips), samples.y.shape[1]))
    np.add.at(targets, own, samples.y)
    targets /= np.bincount(own)[:, None]
    targets -= targets.mean(axis=0)
    each = np.full(len(samples), np.nan)
    for split in splits:
        predictions = quick_predictions(
            x[split.train], samples.y[split.train], x[split.test], decoder=decoder
        )
        # The training mean resembles clips by how often they are in training; it is no decoding.
        predictions = predictions - samples.y[split.train].mean(axis=0)
        table = similarities(predictions, targets, metric="correlation")
        # A clip that was not in training is held against others that were not: those that were are
        # copied by a nearest neighbour, so that it would lose to them.
        seen = np.isin(np.arange(len(clips)), own[split.train])
        candidates = np.ones(table.shape, bool)
        if np.sum(~seen) > 1:
            candidates[~seen[own[split.test]]] = ~seen
        each[split.test] = identification(table, own=own[split.test], candidates=candidates).each
    return each


def _by_recording(each: Rows, recording: NDArray[np.str_]) -> Rows:
    """Mean of each recording: its windows are not independent. (n_recordings,)."""
    names, number = np.unique(recording, return_inverse=True)
    tested = ~np.isnan(each)
    total = np.bincount(number[tested], each[tested], minlength=len(names))
    count = np.bincount(number[tested], minlength=len(names))
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _judge(
    family: Family,
    told: dict[str, Rows],
    against: dict[str, dict[str, Rows]],
    shares: bool,
    *,
    n_flips: int,
    rng: np.random.Generator,
) -> FamilyScore:
    """Compare a family with the best of the clean ones, by the decoder that tells most."""
    said = _SAID[family]
    best = max(told, key=lambda name: float(np.nanmean(told[name])))
    if not shares or not against:
        score, error = _mean(told[best])
        if not shares:
            sentence = f"{said.capitalize()}: no tested recording is in training."
        else:
            sentence = (
                f"{said.capitalize()}: whether {score:.3f} depends on recognising the recording "
                "cannot be told, for no split holds whole recordings out."
            )
        return FamilyScore(
            family, score, error, best, shares, "", None, None, False, sentence
        )  # fmt: skip
    found = []
    for decoder, values in told.items():
        reference = max(against, key=lambda name: float(np.nanmean(against[name][decoder])))
        difference = values - against[reference][decoder]
        difference = difference[~np.isnan(difference)]
        p = min(_sign_flip_p(difference, n_flips, rng) * len(told), 1.0)
        score, error = _mean(values)
        gain = score - 0.5
        lost = float(np.mean(difference)) / gain if gain > 1e-9 else 0.0
        found.append((p, -lost, decoder, reference, score, error))
    p, minus_lost, decoder, reference, score, error = min(found)
    lost = max(-minus_lost, 0.0)
    # A score at chance depends on nothing.
    flagged = p < FLAG_P and lost > _MIN_SHARE and score - 0.5 > 2.0 * error
    other, _ = _mean(against[reference][decoder])
    fall = f"{score:.3f} by {_BY[decoder]} falls to {other:.3f} under {_SAID[reference]}"
    n = int(np.sum(~np.isnan(told[decoder] - against[reference][decoder])))
    if flagged:
        sentence = (
            f"{said.capitalize()}: the score depends on recognising the recording; {fall} "
            f"(p = {p:.1g}), so that {min(lost, 1.0):.0%} of what is above chance is gone."
        )
    elif lost > _MIN_SHARE and p < 0.05 and 0.5**n * len(told) >= FLAG_P:
        sentence = (
            f"{said.capitalize()}: the score may depend on recognising the recording; {fall}, but "
            f"{n} recordings are too few to be sure (p = {p:.2g})."
        )
    else:
        sentence = (
            f"{said.capitalize()}: no sign that {score:.3f} depends on recognising the recording "
            f"({other:.3f} under {_SAID[reference]}, p = {p:.2g})."
        )
    return FamilyScore(
        family, score, error, decoder, shares, reference, lost, p, flagged, sentence
    )  # fmt: skip


def _mean(values: Rows) -> tuple[float, float]:
    there = values[~np.isnan(values)]
    error = float(np.std(there, ddof=1) / np.sqrt(len(there))) if len(there) > 1 else float("nan")
    return float(np.mean(there)), error


def _sign_flip_p(difference: Rows, n_flips: int, rng: np.random.Generator) -> float:
    """One-sided p that differences are symmetric about 0; exact where there are few."""
    n = len(difference)
    if n == 0:
        return 1.0
    observed = float(np.sum(difference)) - 1e-12
    if 2**n <= n_flips:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(signs @ difference >= observed))
    signs = rng.integers(0, 2, (n_flips, n), dtype=np.int8) * 2.0 - 1.0
    return float((1 + np.sum(signs @ difference >= observed)) / (n_flips + 1))
