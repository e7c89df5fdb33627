"""How alike true and reconstructed sounds are: distances of sets, of mels, and of classes.

Each takes arrays (embeddings, log mels, class logits), so that the model they come from is named
by the caller and a changed model changes the name, not silently the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from calibration.scores import correlations
from models.errors import SettingError

__all__ = [
    "FrechetReport",
    "frechet_distance",
    "frechet_report",
    "kl_divergence",
    "mel_pcc",
    "mel_psnr",
    "pairwise_identification",
    "top_n_agreement",
    "two_choice_sequence",
]

Rows: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FrechetReport:
    """A Frechet distance with what it must be read against."""

    distance: float
    infinite: float  # extrapolated to endless samples: linear in 1 / n
    floor: float  # a random half of the true set against the other half
    n_true: int
    n_made: int


def frechet_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return the Frechet distance of two sets of embeddings, as if each were Gaussian.

    |m1 - m2|^2 + tr(S1) + tr(S2) - 2 tr(sqrt(S1 S2)) (Heusel et al. 2017, arXiv:1706.08500, eq. 6).
    With centred rows X, S = X^T X / (n - 1), the last trace is the nuclear norm of
    X1 X2^T / sqrt((n1 - 1)(n2 - 1)): no square root of a matrix that has none when there are fewer
    samples than dimensions.

    Parameters
    ----------
    first, second : arrays of shape (n1, d) and (n2, d)

    Raises
    ------
    SettingError
        If a set has fewer than 2 rows, the widths differ, or a value is not finite.
    """
    a, b = _set(first), _set(second)
    if a.shape[1] != b.shape[1]:
        raise SettingError(
            f"A Frechet distance needs embeddings of one width, got {a.shape[1]} and {b.shape[1]}. "
            "Embed both sets with the same model."
        )
    means = a.mean(axis=0), b.mean(axis=0)
    a, b = a - means[0], b - means[1]
    scale = np.sqrt((len(a) - 1.0) * (len(b) - 1.0))
    # Few dimensions: the same singular values from the smaller factors of both.
    product = _factor(a) @ _factor(b).T
    cross = float(np.sum(np.linalg.svd(product, compute_uv=False))) / scale
    spread = np.sum(a * a) / (len(a) - 1) + np.sum(b * b) / (len(b) - 1)
    return max(float(np.sum((means[0] - means[1]) ** 2) + spread - 2.0 * cross), 0.0)


def frechet_report(
    true: NDArray[np.floating],
    made: NDArray[np.floating],
    *,
    rng: np.random.Generator,
    n_points: int = 8,
) -> FrechetReport:
    """Return the distance, its extrapolation to endless samples, and its floor.

    The distance is biased upward by about 1 / n, so that sets of different size cannot be compared
    (Chong and Forsyth 2020, arXiv:1911.07023, for the extrapolation; FAD: arXiv:2311.01616).

    Parameters
    ----------
    true, made : arrays of shape (n, d) and (m, d)
    rng : numpy.random.Generator
        Chooses the subsets.
    n_points : int
        Sizes, from half of the sounds made to all, that the line is fitted through.

    Raises
    ------
    SettingError
        If there are fewer than 4 rows in a set.
    """
    a, b = _set(true), _set(made)
    if min(len(a), len(b)) < 4:
        raise SettingError(
            f"A Frechet distance with its floor needs 4 sounds in each set, got {len(a)} and "
            f"{len(b)}."
        )
    n = min(len(a), len(b))
    sizes = np.unique(np.linspace(max(n // 2, 2), n, n_points).astype(np.int64))
    values = [
        frechet_distance(a[rng.permutation(len(a))[:size]], b[rng.permutation(len(b))[:size]])
        for size in sizes
    ]
    slope_and_rest = np.polyfit(1.0 / sizes, values, 1)
    order = rng.permutation(len(a))
    half = len(a) // 2
    return FrechetReport(
        distance=frechet_distance(a, b),
        infinite=float(slope_and_rest[1]),
        floor=frechet_distance(a[order[:half]], a[order[half:]]),
        n_true=len(a),
        n_made=len(b),
    )


def mel_pcc(true: NDArray[np.floating], made: NDArray[np.floating]) -> float:
    """Return the Pearson correlation of two log mels over all bins; a constant one counts as 0.

    Parameters
    ----------
    true, made : arrays of the same shape (frames, bands)
    """
    a, b = _pair(true, made)
    return float(correlations(a.reshape(1, -1), b.reshape(1, -1))[0, 0])


def mel_psnr(true: NDArray[np.floating], made: NDArray[np.floating], *, data_range: float) -> float:
    """Return 10 log10(range^2 / mean squared error), dB; infinite for equal mels.

    Parameters
    ----------
    true, made : arrays of the same shape (frames, bands)
    data_range : float
        Largest minus smallest value that a mel can have, the same for all sounds of a report:
        taken from each sound, a silent one would score best.

    Raises
    ------
    SettingError
        If the shapes differ or the range is not positive.
    """
    a, b = _pair(true, made)
    if not data_range > 0.0:
        raise SettingError(f"PSNR needs the range of the mels, above 0, got {data_range}.")
    error = float(np.mean((a - b) ** 2))
    return float("inf") if error == 0.0 else float(10.0 * np.log10(data_range**2 / error))


def kl_divergence(
    true_logits: NDArray[np.floating],
    made_logits: NDArray[np.floating],
    *,
    kind: Literal["softmax", "sigmoid"] = "softmax",
    epsilon: float = 1e-6,
) -> float:
    """Return the Kullback-Leibler divergence of class probabilities, true from made, mean of pairs.

    ``"softmax"`` makes one distribution over all classes, which is what AudioLDM's evaluation does
    with PANNs although its classes do not exclude each other; ``"sigmoid"`` adds up the divergence
    of each class being there or not.

    Parameters
    ----------
    true_logits, made_logits : arrays of shape (n, n_classes)
        Before softmax or sigmoid; row k of both belongs to sound k.
    kind : {"softmax", "sigmoid"}
    epsilon : float
        Added to probabilities before the logarithm.

    Raises
    ------
    SettingError
        If the shapes differ.
    """
    a, b = _pair(true_logits, made_logits)
    if kind == "softmax":
        p, q = _softmax(a), _softmax(b)
        return float(np.mean(np.sum(p * (np.log(p + epsilon) - np.log(q + epsilon)), axis=1)))
    p, q = _sigmoid(a), _sigmoid(b)
    there = p * (np.log(p + epsilon) - np.log(q + epsilon))
    absent = (1.0 - p) * (np.log(1.0 - p + epsilon) - np.log(1.0 - q + epsilon))
    return float(np.mean(np.sum(there + absent, axis=1)))


def top_n_agreement(
    true: NDArray[np.floating],
    made: NDArray[np.floating],
    *,
    classes: Sequence[int],
    n: int,
) -> float:
    """Return |top_n(A) and top_n(B)| / |top_n(A) or top_n(B)| in a group of classes, mean of pairs.

    Brain2Music (arXiv:2307.11078): n = 2 of 25 genres, 2 of 18 instruments, 1 of 6 moods.

    Parameters
    ----------
    true, made : arrays of shape (n_sounds, n_classes)
        Probabilities or logits; row k of both belongs to sound k. Of equal ones the first class
        counts as higher.
    classes : sequence of int
        Columns of the group.
    n : int

    Raises
    ------
    SettingError
        If the shapes differ, or not 1 <= n <= number of classes.
    """
    a, b = _pair(true, made)
    if not 1 <= n <= len(classes):
        raise SettingError(f"Top {n} needs at least {max(n, 1)} classes, got {len(classes)}.")
    columns = np.asarray(classes)
    best = [np.argsort(-rows[:, columns], axis=1, kind="stable")[:, :n] for rows in (a, b)]
    shared = np.array([len(np.intersect1d(x, y)) for x, y in zip(*best, strict=True)])
    return float(np.mean(shared / (2 * n - shared)))


def pairwise_identification(
    predictions: NDArray[np.floating], candidates: NDArray[np.floating]
) -> Rows:
    """Return the share of wrong candidates with a lower correlation, as bdpy has it: (n,).

    Row k of the candidates is the right one. Candidates without a correlation (constant, or NaN)
    are left out; ties lose. A row without a correlation of its own is NaN.

    Parameters
    ----------
    predictions : array of shape (n, d)
    candidates : array of shape (m, d), m >= n
        The first n are the targets of the predictions.

    Raises
    ------
    SettingError
        If there are fewer candidates than predictions, or fewer than 2.
    """
    p, c = np.asarray(predictions, np.float64), np.asarray(candidates, np.float64)
    if len(c) < max(len(p), 2) or p.shape[1:] != c.shape[1:]:
        raise SettingError(
            f"Pairwise identification needs a target for every prediction, got {p.shape} and "
            f"{c.shape}."
        )
    dead = [np.isnan(rows).any(axis=1) | (np.ptp(rows, axis=1) == 0.0) for rows in (p, c)]
    r = correlations(np.nan_to_num(p), np.nan_to_num(c))
    rows = np.arange(len(p))
    wrong = np.tile(~dead[1], (len(p), 1))
    wrong[rows, rows] = False
    count = wrong.sum(axis=1)
    share = np.sum((r < r[rows, rows][:, None]) & wrong, axis=1) / np.maximum(count, 1)
    return np.asarray(np.where(dead[0] | dead[1][: len(p)] | (count == 0), np.nan, share))


def two_choice_sequence(
    n_trials: int, *, n_catch: int = 0, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where the decoded sound stands in each trial of a 2AFC test, for one listener.

    Exactly half of the trials have it first and half second, so that a listener who always gives
    the same answer scores 50 %. Catch trials (the same sound twice) are balanced among themselves.

    Parameters
    ----------
    n_trials : int
        Even, without the catch trials.
    n_catch : int
        Even; a tenth of the trials is usual.
    rng : numpy.random.Generator
        Seeded for the listener, and the seed kept with the answers.

    Returns
    -------
    position : array of shape (n_trials + n_catch,), int64
        0: first, 1: second.
    catch : array of shape (n_trials + n_catch,), bool

    Raises
    ------
    SettingError
        If a number is odd or negative, or there are no trials.
    """
    if n_trials < 2 or n_trials % 2 or n_catch < 0 or n_catch % 2:
        raise SettingError(
            "A balanced 2AFC test needs an even number of trials, at least 2, and of catch trials, "
            f"got {n_trials} and {n_catch}."
        )
    position = np.concatenate([np.arange(n_trials) % 2, np.arange(n_catch) % 2])
    catch = np.arange(n_trials + n_catch) >= n_trials
    order = rng.permutation(n_trials + n_catch)
    return position[order].astype(np.int64), catch[order]


def _set(rows: NDArray[np.floating]) -> Rows:
    values = np.asarray(rows, np.float64)
    if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
        raise SettingError(
            "A set of embeddings needs at least 2 rows of finite numbers, got shape "
            f"{values.shape} with {int(np.sum(~np.isfinite(values)))} that are not finite."
        )
    return values


def _factor(rows: Rows) -> Rows:
    """Return the rows, or fewer with the same products, if there are more rows than columns."""
    if len(rows) <= rows.shape[1]:
        return rows
    factor: Rows = np.linalg.qr(rows, mode="r")  # type: ignore[assignment]
    return factor


def _pair(first: NDArray[np.floating], second: NDArray[np.floating]) -> tuple[Rows, Rows]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim != 2 or not a.size:
        raise SettingError(
            f"Expected two arrays of the same two-dimensional shape, got {a.shape} and {b.shape}. "
            "Cut both sounds to the same length."
        )
    return a, b


def _softmax(logits: Rows) -> Rows:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _sigmoid(logits: Rows) -> Rows:
    from scipy.special import expit

    return np.asarray(expit(logits), np.float64)
