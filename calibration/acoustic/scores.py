"""How well tokens are decoded, and what is reached without a brain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.scores import correlations, identification
from models.errors import SettingError
from models.ridge.shared import column_correlations

__all__ = ["TokenScores", "score_tokens", "shuffled_rows"]


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Scores of decoded tokens of held-out windows.

    `dimension` is what C2F-LDM's boxplots show: the correlation over windows and places of each of
    the 768 dimensions, first quartile, median and third. `place` is the same for each of the 8 m
    places over windows and dimensions, with the mean tokens of training taken off.
    """

    error: float  # mean squared error over that of the mean training tokens; 1: as good as those
    dimension: tuple[float, float, float]
    place: tuple[float, float, float]
    identification: float  # share of the windows of other clips that are less alike, ties half
    identification_se: float  # over clips
    n_windows: int
    n_clips: int

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def score_tokens(
    predicted: Mapping[str, NDArray[Any]],
    tokens: NDArray[Any],
    clips: NDArray[Any],
    *,
    mean: NDArray[Any],
) -> dict[str, TokenScores]:
    """Score several predictions of the same held-out windows beside each other.

    Parameters
    ----------
    predicted : mapping of str to array of shape (n, places, dim)
        The decoder, the closed form, a shuffled brain...; the floor "mean tokens" is added.
    tokens : array of shape (n, places, dim)
        Of what was heard.
    clips : array of shape (n,)
        Which clip; windows of the own clip are no candidates of an identification.
    mean : array of shape (places, dim)
        Mean of the training tokens.

    Raises
    ------
    SettingError
        If shapes differ.
    """
    true = np.asarray(tokens, np.float32)
    mean = np.asarray(mean, np.float32)
    for name, rows in predicted.items():
        if rows.shape != true.shape or len(clips) != len(true) or mean.shape != true.shape[1:]:
            raise SettingError(
                f"Tokens {name!r} have shape {rows.shape}, those that were heard {true.shape}, "
                f"clips {len(clips)}, the mean {mean.shape}. They must be of the same windows."
            )
    floor = max(float(np.mean((true - mean) ** 2)), 1e-12)
    same = np.asarray(clips)[:, None] == np.asarray(clips)[None, :]
    both = {**predicted, "mean tokens": np.broadcast_to(mean, true.shape)}
    return {
        name: _score(np.asarray(rows, np.float32), true, mean, floor, clips, same)
        for name, rows in both.items()
    }


def _score(
    rows: NDArray[np.float32],
    true: NDArray[np.float32],
    mean: NDArray[np.float32],
    floor: float,
    clips: NDArray[Any],
    same: NDArray[np.bool_],
) -> TokenScores:
    dim = true.shape[2]
    by_dimension = column_correlations(rows.reshape(-1, dim), true.reshape(-1, dim))
    places = range(true.shape[1])
    by_place = [
        column_correlations(
            (rows[:, k] - mean[k]).reshape(-1, 1), (true[:, k] - mean[k]).reshape(-1, 1)
        )[0]
        for k in places
    ]
    alike = correlations((rows - mean).reshape(len(rows), -1), (true - mean).reshape(len(true), -1))
    found = identification(alike, candidates=~same) if not same.all() else None
    names = np.unique(clips)
    per_clip = (
        np.array([found.each[np.asarray(clips) == name].mean() for name in names])
        if found is not None
        else np.full(1, np.nan)
    )
    spread = per_clip.std(ddof=1) / np.sqrt(len(names)) if len(names) > 1 else np.nan
    return TokenScores(
        error=float(np.mean((rows - true) ** 2)) / floor,
        dimension=_quartiles(by_dimension),
        place=_quartiles(np.asarray(by_place)),
        identification=float(per_clip.mean()),
        identification_se=float(spread),
        n_windows=len(rows),
        n_clips=len(names),
    )


def _quartiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def shuffled_rows(groups: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return for each row one of another group, all rows of a group from the same one.

    What was decoded from those rows is the control: a brain that heard something else.

    Parameters
    ----------
    groups : array of shape (n,)
        Clips, at least two.
    rng : numpy.random.Generator
    """
    names, number = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise SettingError("A shuffled brain needs windows of 2 clips or more.")
    # A cycle through a random order: no group stays with itself.
    order = rng.permutation(len(names))
    other = np.empty(len(names), np.int64)
    other[order] = np.roll(order, 1)
    members = [np.flatnonzero(number == k) for k in range(len(names))]
    out = np.empty(len(number), np.int64)
    for k, rows in enumerate(members):
        theirs = members[other[k]]
        out[rows] = theirs[np.arange(len(rows)) % len(theirs)]
    return out
