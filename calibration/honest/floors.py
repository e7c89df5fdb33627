"""What a score is without decoding: the mean, the order of things, the clip before, the class.

A score that one of these reaches says nothing about the brain.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.honest.identify import ClipTable
from calibration.honest.splits import song_of
from calibration.scores import Identification, identification
from models.errors import SettingError

__all__ = [
    "label_mean_predictor",
    "mean_predictor",
    "order_predictor",
    "previous_clip",
    "shuffle_within_clip",
]

Rows: TypeAlias = NDArray[np.float64]

_RUN = 1e6  # `Samples.order` is run number * 1e6 + s
_WIDTH_S = 15.0  # how sharply the order predictor knows its place in a run


def mean_predictor(train: Samples, n: int) -> Rows:
    """Return the mean training target for every one of `n` windows: (n, d)."""
    return np.tile(train.y.mean(axis=0), (n, 1))


def label_mean_predictor(train: Samples, test: Samples) -> Rows | None:
    """Return the mean training target of each window's own label: (n, d); None without labels.

    Knows the class of what is heard and nothing else: the song-mean mel of pitfalls that made
    retrieval of a recording look like decoding of sound. Labels that were not in training get the
    mean of all.
    """
    mine, theirs = song_of(test), song_of(train)
    if not np.isin(mine, theirs).any():
        return None
    predictions = mean_predictor(train, len(test))
    for label in np.unique(mine):
        rows = theirs == label
        if rows.any():
            predictions[mine == label] = train.y[rows].mean(axis=0)
    return predictions


def order_predictor(train: Samples, test: Samples, *, width_s: float = _WIDTH_S) -> Rows:
    """Return what the time in the run and the place in the clip alone predict: (n, d).

    A ridge regression on bumps over the time since the run began and over the time in the clip,
    without any brain. It finds whatever a fixed order of presentation gives away.

    Parameters
    ----------
    train, test : Samples
    width_s : float
        Distance and width of the bumps in the run, s.

    Raises
    ------
    SettingError
        If `width_s` is not positive.
    """
    if not width_s > 0.0:
        raise SettingError(f"The order predictor needs a positive width, got {width_s} s.")
    in_run = [np.mod(samples.order, _RUN) for samples in (train, test)]
    in_clip = [samples.start_s for samples in (train, test)]
    blocks = []
    for times, step in ((in_run, width_s), (in_clip, 0.0)):
        low, high = float(times[0].min()), float(times[0].max())
        step = step or max((high - low) / 8.0, 1e-9)
        n_bumps = min(int((high - low) / step) + 1, 200)
        centres = np.linspace(low, high, n_bumps) if n_bumps > 1 else np.array([low])
        width = max(step, (high - low) / max(n_bumps - 1, 1))
        blocks.append([np.exp(-0.5 * ((t[:, None] - centres) / width) ** 2) for t in times])
    x, x_new = (np.concatenate([block[k] for block in blocks], axis=1) for k in (0, 1))
    mean, target = x.mean(axis=0), train.y.mean(axis=0)
    x = x - mean
    gram = x.T @ x
    # Enough to keep overlapping bumps solvable, too little to hide what the order gives away.
    gram[np.diag_indices_from(gram)] += 1e-3 * np.trace(gram) / len(gram) + 1e-12
    weights = np.linalg.solve(gram, x.T @ (train.y - target))
    return np.asarray((x_new - mean) @ weights + target)


def previous_clip(table: ClipTable, similarity: Rows) -> Identification | None:
    """Score predictions as if the clip before had been heard; None if there are too few.

    The clip that was heard is no candidate: a good decoder would lose to it and hide what is left
    of the clip before. Well above chance means that the lag is wrong or responses carry over.
    """
    rows = np.flatnonzero((table.previous >= 0) & (table.previous != table.own))
    if len(rows) < 3 or similarity.shape[1] < 3:
        return None
    wrong = np.ones((len(rows), similarity.shape[1]), bool)
    wrong[np.arange(len(rows)), table.own[rows]] = False
    return identification(similarity[rows], own=table.previous[rows], candidates=wrong)


def shuffle_within_clip(
    predictions: Rows, samples: Samples, *, rng: np.random.Generator
) -> Rows | None:
    """Return predictions dealt out anew within each person's clip; None if clips are one window.

    What is left of a window's score is what knowing the clip gives; only the rest was decoded from
    the window itself.
    """
    _, clip = np.unique(samples.clip, return_inverse=True)
    _, person = np.unique(samples.person, return_inverse=True)
    group = person * (clip.max() + 1) + clip
    if len(np.unique(group)) == len(group):
        return None
    order = np.lexsort((rng.random(len(group)), group))
    shuffled = np.empty_like(predictions)
    shuffled[np.argsort(group, kind="stable")] = predictions[order]
    return shuffled
