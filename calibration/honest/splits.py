"""Which windows train and which test: by clip, run, session, person or song, and what that leaves.

A split that puts windows of one recording on both sides rewards a decoder for recognising the
recording; such a split exists only by its own name and carries `leaky` into every result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from models.errors import SettingError

__all__ = [
    "FAMILIES",
    "Family",
    "Split",
    "given_split",
    "make_splits",
    "recording_of",
    "run_groups",
    "song_of",
    "trial_of",
]

Family: TypeAlias = Literal[
    "clip", "run", "session", "person", "song", "both", "segment", "random-chunk", "given"
]
FAMILIES: tuple[Family, ...] = get_args(Family)
Rows: TypeAlias = NDArray[np.int64]

_WHY: dict[str, str] = {
    "clip": "No window of a test clip is in training; runs are on both sides.",
    "run": "No window of a test run is in training, nor a repetition of what it played.",
    "session": "No window of a test session is in training.",
    "person": "Nobody tested is in training; the clips may be known from others.",
    "song": "No window of a test song (label) is in training, from anybody.",
    "both": "Neither the person nor the song (label) of a test window is in training.",
    "segment": (
        "Leaky: each trial is cut into stretches, and other stretches of the same trial are in "
        "training, so that recognising the recording is enough."
    ),
    "random-chunk": (
        "Leaky: windows are dealt out at random, and neighbours of each test window are in "
        "training, so that recognising the recording is enough."
    ),
}
_PLURAL = {
    "clip": "clips", "run": "runs that share no repetition", "session": "sessions",
    "person": "people", "song": "songs (labels)",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Rows to train on and rows to test on, and what the division can and cannot show."""

    family: Family
    train: Rows  # (n_train,) rows of the samples
    test: Rows  # (n_test,)
    held_out: tuple[str, ...]  # names of the groups that are only in the test
    leaky: bool  # True: parts of one recording are on both sides
    why: str  # one sentence on what is, and is not, kept apart

    def describe(self) -> dict[str, Any]:
        """Return what a report says of the split: plain values, without the rows."""
        return {
            "family": self.family,
            "leaky": self.leaky,
            "why": self.why,
            "held_out": list(self.held_out),
            "n_train": len(self.train),
            "n_test": len(self.test),
        }


def make_splits(
    samples: Samples, family: Family, *, n_folds: int = 5, seed: int | None = None
) -> tuple[Split, ...]:
    """Divide samples into folds of whole groups; each row is tested exactly once.

    Parameters
    ----------
    samples : Samples
        Repetitions are a dimension of the samples and always stay together.
    family : str
        ``"clip"``, ``"run"``, ``"session"``, ``"person"``, ``"song"`` (the label, or the clip
        where there are no labels) or ``"both"`` (person and song; every fold of people with every
        fold of songs). Only by name, and leaky: ``"segment"`` (stretches of each trial) and
        ``"random-chunk"``.
    n_folds : int
        At most so many; with fewer groups each is a fold of its own.
    seed : int, optional
        Deal the groups out at random. Without it neighbours in time stay in one fold, which keeps
        what carries over from one clip to the next on one side. Random chunks take 0.

    Raises
    ------
    SettingError
        If the family is unknown or the samples cannot be divided so; the message says why.
    """
    if family not in FAMILIES or family == "given":
        known = ", ".join(name for name in FAMILIES if name != "given")
        raise SettingError(f"Unknown split {family!r}. Choose one of {known}.")
    if n_folds < 2:
        raise SettingError(f"A split needs at least 2 folds, got {n_folds}. Ask for 2 or more.")
    if len(samples) < 2:
        raise SettingError(f"A split needs at least 2 windows, got {len(samples)}.")
    if family == "random-chunk":
        return _random_chunks(samples, n_folds, 0 if seed is None else seed)
    if family == "segment":
        return _segments(samples, n_folds)
    if family == "both":
        return _both_out(samples, n_folds, seed)
    groups = _GROUPS[family](samples)
    fold, names = _folds(groups, samples.order, family, n_folds, seed)
    return tuple(_split(family, fold != k, fold == k, names[k]) for k in range(len(names)))


def given_split(samples: Samples, test: NDArray[np.bool_]) -> Split:
    """Return the division that the data set itself makes, and say whether it leaks.

    Parameters
    ----------
    samples : Samples
    test : array of shape (n,), bool
        The test windows.

    Returns
    -------
    split : Split
        Leaky if windows of one trial, or the same person's hearing of one clip, are on both sides.

    Raises
    ------
    SettingError
        If a side is empty or the lengths differ.
    """
    test = np.asarray(test, bool)
    if test.shape != (len(samples),) or test.all() or not test.any():
        raise SettingError(
            f"A given split needs both training and test among {len(samples)} windows, got "
            f"{int(test.sum())} of {test.shape} as test. Name the test runs in the data set."
        )
    trial = _pairs(samples.person, samples.clip)
    both = np.intersect1d(trial[test], trial[~test])
    if len(both):
        why = (
            f"Leaky: {len(both)} clips, {str(both[0])!r} among them, were heard by the same person "
            "in training and in the test, so that recognising them is enough."
        )
    else:
        why = "As the data set divides itself; no clip of a person is on both sides."
    held_out = np.setdiff1d(samples.clip[test], samples.clip[~test])
    return Split(
        "given", np.flatnonzero(~test), np.flatnonzero(test), _names(held_out), len(both) > 0, why
    )


def recording_of(samples: Samples) -> NDArray[np.str_]:
    """Return the recording of each row: person, session and run of its first repetition, (n,)."""
    return _pairs(samples.person, samples.session[:, 0], samples.run[:, 0])


def trial_of(samples: Samples) -> NDArray[np.str_]:
    """Return the trial of each row: one clip heard in one recording, (n,)."""
    return _pairs(recording_of(samples), samples.clip)


def song_of(samples: Samples) -> NDArray[np.str_]:
    """Return the label of each row, or its clip if nothing has a label, (n,)."""
    return samples.label if np.any(samples.label != "") else samples.clip


def run_groups(samples: Samples, *, sessions: bool = False) -> NDArray[np.str_]:
    """Return the group of runs (or sessions) of each row: (n,).

    A row heard again in another run ties the two runs together: to hold one out and train on the
    other would put repetitions of a sound on both sides.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n, n_repetitions = samples.run.shape
    columns = []
    for k in range(n_repetitions):
        parts = [samples.person, samples.session[:, k]]
        columns.append(_pairs(*parts) if sessions else _pairs(*parts, samples.run[:, k]))
    keys = np.stack(columns, axis=1)
    there = ~np.isnan(samples.x[:, :, 0])
    there[:, 0] |= ~there.any(axis=1)  # a row belongs somewhere, even without a signal
    names, number = np.unique(keys[there], return_inverse=True)
    row = np.nonzero(there)[0]
    ones = np.ones(len(row), np.int8)
    size = n + len(names)
    graph = coo_array((ones, (row, n + number)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    by_component: dict[int, list[str]] = {}
    for name, label in zip(names, component[n:], strict=True):
        by_component.setdefault(int(label), []).append(str(name))
    joined = {label: "+".join(members) for label, members in by_component.items()}
    return np.array([joined[int(label)] for label in component[:n]])


_GROUPS: dict[str, Callable[[Samples], NDArray[np.str_]]] = {
    "clip": lambda samples: samples.clip,
    "run": run_groups,
    "session": lambda samples: run_groups(samples, sessions=True),
    "person": lambda samples: samples.person,
    "song": song_of,
}


def _folds(
    groups: NDArray[np.str_],
    order: NDArray[np.float64],
    family: str,
    n_folds: int,
    seed: int | None,
) -> tuple[Rows, list[tuple[str, ...]]]:
    """Return the fold of each row and the names of the groups of each fold."""
    names, number = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise SettingError(
            f"A split by {family} needs at least 2 {_PLURAL[family]}, got {len(names)} "
            f"({str(names[0])!r}). Choose another split or read more of the data set."
        )
    first = np.full(len(names), np.inf)
    np.minimum.at(first, number, order)
    rank = np.argsort(first, kind="stable")
    if seed is not None:
        rank = np.random.default_rng(seed).permutation(rank)
    n_folds = min(n_folds, len(names))
    fold_of = np.empty(len(names), np.int64)
    fold_of[rank] = np.arange(len(names)) * n_folds // len(names)
    return fold_of[number], [_names(names[fold_of == k]) for k in range(n_folds)]


def _both_out(samples: Samples, n_folds: int, seed: int | None) -> tuple[Split, ...]:
    person, people = _folds(samples.person, samples.order, "person", n_folds, seed)
    song, songs = _folds(song_of(samples), samples.order, "song", n_folds, seed)
    splits = []
    for i, mine in enumerate(people):
        for j, theirs in enumerate(songs):
            test = (person == i) & (song == j)
            train = (person != i) & (song != j)
            if not test.any():
                continue  # these people did not hear these songs
            if not train.any():
                raise SettingError(
                    "A split by person and song needs people who heard other songs than those "
                    f"tested; without {', '.join(mine)} and {', '.join(theirs)} nothing is left. "
                    "Choose a split by person or by song."
                )
            splits.append(_split("both", train, test, mine + theirs))
    return tuple(splits)


def _segments(samples: Samples, n_folds: int) -> tuple[Split, ...]:
    """Cut every trial into stretches; training rows that overlap a tested stretch are left out."""
    fold = np.full(len(samples), -1, np.int64)
    trials = trial_of(samples)
    by_trial = [np.flatnonzero(trials == name) for name in np.unique(trials)]
    longest = max(len(rows) for rows in by_trial)
    if longest < 2:
        raise SettingError(
            "A split into segments needs trials of at least 2 windows, got 1 window in each. "
            "Choose a split by clip."
        )
    n_folds = min(n_folds, longest)
    by_trial = [rows[np.argsort(samples.start_s[rows], kind="stable")] for rows in by_trial]
    for rows in by_trial:
        fold[rows] = np.arange(len(rows)) * n_folds // len(rows)
    splits = []
    for k in range(n_folds):
        test = fold == k
        train = ~test
        for rows in by_trial:
            mine = rows[test[rows]]
            if len(mine):
                low, high = samples.start_s[mine].min(), samples.stop_s[mine].max()
                near = (samples.stop_s[rows] > low + 1e-9) & (samples.start_s[rows] < high - 1e-9)
                train[rows[near]] = False
        if test.any() and train.any():
            splits.append(_split("segment", train, test, (f"stretch {k + 1} of {n_folds}",)))
    if not splits:
        raise SettingError(
            "A split into segments leaves nothing to train on: the windows of a trial all overlap. "
            "Choose a split by clip, or shorter windows."
        )
    return tuple(splits)


def _random_chunks(samples: Samples, n_folds: int, seed: int) -> tuple[Split, ...]:
    n = len(samples)
    n_folds = min(n_folds, n)
    fold = np.random.default_rng(seed).permutation(np.arange(n) * n_folds // n)
    return tuple(_split("random-chunk", fold != k, fold == k, ()) for k in range(n_folds))


def _split(
    family: Family, train: NDArray[np.bool_], test: NDArray[np.bool_], names: tuple[str, ...]
) -> Split:
    leaky = family in ("segment", "random-chunk")
    return Split(family, np.flatnonzero(train), np.flatnonzero(test), names, leaky, _WHY[family])


def _pairs(*columns: NDArray[np.str_]) -> NDArray[np.str_]:
    """Join columns of names row by row, without the empty ones."""
    return np.array(["/".join(part for part in row if part) for row in zip(*columns, strict=True)])


def _names(values: NDArray[np.str_]) -> tuple[str, ...]:
    return tuple(str(value) for value in np.unique(values))
