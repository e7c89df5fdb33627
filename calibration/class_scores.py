"""Scores of a decoder of classes: every presentation is one trial, and candidates are the classes.

Where events name a class (a category, one of two sounds) rather than a sound of its own, averaging
presentations of a class would leave as many rows as classes. Here each presentation is scored, and
classes count equally, however often each was presented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.honest.bootstrap import bootstrap_mean
from calibration.honest.identify import score_if_own
from calibration.scores import area_under_curve, permutation_p
from models.errors import SettingError

__all__ = ["ClassScores", "score_classes"]

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores:
    """How well single presentations tell which class was presented."""

    identification: float  # ties lose
    identification_ties_half: float
    accuracy: float  # the most similar class is the right one
    accuracy_chance: float
    auc: float  # one class against the others within a run, mean over runs and classes
    auc_classes: dict[str, float]
    permutation_p: float
    n_permutations: int
    floor_shuffled: float  # mean over permutations
    null_95: float
    floor_mean: float  # the mean of the training targets, said of every presentation
    floor_previous_clip: float | None  # predictions against the presentation before
    confidence_interval: tuple[float, float]
    standard_error: float
    n_trials: int
    by_class: dict[str, float]
    similarity: Rows  # (n_trials, n_classes)
    confusion: Rows  # (n_classes, n_classes) mean similarity of presentations of a row's class

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, under the names that every report uses."""
        return {
            "identification": self.identification,
            "identification_ties_half": self.identification_ties_half,
            "chance": 0.5,
            "accuracy": self.accuracy,
            "accuracy_chance": self.accuracy_chance,
            "auc": self.auc,
            "auc_classes": self.auc_classes,
            "permutation_p": self.permutation_p,
            "n_permutations": self.n_permutations,
            "floor_shuffled": self.floor_shuffled,
            "null_95": self.null_95,
            "floor_mean": self.floor_mean,
            "floor_previous_clip": self.floor_previous_clip,
            "confidence_interval": list(self.confidence_interval),
            "standard_error": self.standard_error,
            "ceiling": None,
            "ceiling_told": "Single presentations of a class have no measured ceiling.",
            "n_clips": self.n_trials,
        }


def score_classes(
    predictions: Rows,
    *,
    classes: Rows,
    names: tuple[str, ...],
    code: NDArray[np.int64],
    trial: NDArray[np.str_],
    within: NDArray[np.str_],
    training_mean: Rows,
    centre: Rows | None = None,
    n_permutations: int = 1000,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> ClassScores:
    """Score held-out predictions, window by window, as presentations.

    Parameters
    ----------
    predictions : array of shape (n_windows, d)
        Of windows that were held out, in the order of time within each run.
    classes : array of shape (n_classes, d)
        Target of each class.
    names : tuple of str
        Of the classes.
    code : array of shape (n_windows,)
        Class of each window.
    trial : array of shape (n_windows,)
        Presentation of each window; its windows are averaged.
    within : array of shape (n_windows,)
        Run or session; labels are dealt out anew within it, and the presentation before is looked
        for in it.
    training_mean : array of shape (d,) or (n_windows, d)
        What the predictions of each window still hold of the mean of its training targets.
    centre : array of shape (d,), optional
        What is taken off the targets of the classes; `training_mean`, averaged, if not given.

    Raises
    ------
    SettingError
        If there are fewer than two classes among the windows.
    """
    trials, first, number = np.unique(trial, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")  # of time
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    # Without the training mean: a rare class must not lose to a frequent one on its mean alone.
    flat_mean = np.broadcast_to(training_mean, predictions.shape)
    mean = _means(predictions - flat_mean, place[number], len(trials))
    centred = classes - (np.mean(flat_mean, axis=0) if centre is None else centre)
    own, hall = code[first[order]], within[first[order]]
    present = np.unique(own)
    if len(present) < 2:
        raise SettingError(
            f"Scores need presentations of 2 or more classes, got {len(present)} "
            f"({', '.join(names[k] for k in present)})."
        )
    similarity = _projections(mean, centred)
    win = score_if_own(similarity)  # (n_trials, n_classes)
    rows = np.arange(len(own))
    weights = 1.0 / np.bincount(own, minlength=len(names))[own] / len(present)
    observed = float(np.sum(weights * win[rows, own]))
    rng = np.random.default_rng(seed)
    null = np.empty(n_permutations)
    for k in range(n_permutations):
        dealt = _dealt(own, hall, rng)
        null[k] = np.sum(weights * win[rows, dealt])
    strict = np.sum(similarity < similarity[rows, own][:, None], axis=1) / (len(names) - 1)
    flat = np.zeros((1, predictions.shape[1]))  # the mean predictor, after the mean is taken off
    floor = score_if_own(_projections(flat, centred))
    before = _before(own, hall)
    known = before >= 0
    interval = bootstrap_mean(
        win[rows, own] * weights * len(own), trials[order], n_resamples=n_bootstrap, rng=rng
    )
    auc = {names[k]: _area(similarity[:, k], own == k, hall) for k in present}
    best = np.argmax(similarity, axis=1)
    return ClassScores(
        identification=float(np.sum(weights * strict)),
        identification_ties_half=observed,
        accuracy=float(np.sum(weights * (best == own))),
        accuracy_chance=1.0 / len(names),
        auc=float(np.mean(list(auc.values()))),
        auc_classes=auc,
        permutation_p=permutation_p(observed - 1e-12, null),
        n_permutations=n_permutations,
        floor_shuffled=float(np.mean(null)),
        null_95=float(np.quantile(null, 0.95)),
        floor_mean=float(np.mean(floor[0])),
        floor_previous_clip=(
            float(np.mean(win[rows[known], before[known]])) if known.any() else None
        ),
        confidence_interval=(interval.low, interval.high),
        standard_error=interval.standard_error,
        n_trials=len(own),
        by_class={names[k]: float(np.mean(win[own == k, k])) for k in present},
        similarity=similarity,
        confusion=np.array(
            [
                similarity[own == k].mean(axis=0) if np.any(own == k) else np.zeros(len(names))
                for k in range(len(names))
            ]
        ),
    )


def _means(values: Rows, group: NDArray[np.int64], n: int) -> Rows:
    total = np.zeros((n, values.shape[1]))
    np.add.at(total, group, np.asarray(values, np.float64))
    return np.asarray(total / np.bincount(group, minlength=n)[:, None])


def _projections(predictions: Rows, classes: Rows) -> Rows:
    """Return how far each prediction goes towards each class: (n, n_classes).

    Not the cosine: a faint prediction must not count as much as a clear one. Rounded, so that
    equal ones tie.
    """
    length = np.maximum(np.linalg.norm(classes, axis=1, keepdims=True), 1e-12)
    return np.asarray(np.round(predictions @ (classes / length).T, 12))


def _area(values: Rows, positive: NDArray[np.bool_], hall: NDArray[np.str_]) -> float:
    """Return the area within each run that has both, their mean; all runs as one if none has."""
    areas = [
        area_under_curve(values[rows], positive[rows])
        for rows in (hall == name for name in np.unique(hall))
        if 0 < np.sum(positive[rows]) < np.sum(rows)
    ]
    return float(np.mean(areas)) if areas else area_under_curve(values, positive)


def _dealt(
    own: NDArray[np.int64], hall: NDArray[np.str_], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Deal the labels of presentations out anew within each run."""
    dealt = own.copy()
    for name in np.unique(hall):
        rows = np.flatnonzero(hall == name)
        dealt[rows] = own[rng.permutation(rows)]
    return dealt


def _before(own: NDArray[np.int64], hall: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the class presented before each presentation; -1 at the start of a run."""
    before = np.full(len(own), -1, np.int64)
    before[1:] = np.where(hall[1:] == hall[:-1], own[:-1], -1)
    return before
