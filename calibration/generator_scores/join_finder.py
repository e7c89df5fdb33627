"""Can a classifier tell where stretches are joined? On held-out streams, beside two controls.

It sees 50 ms of log mel around a join or around another boundary between latent frames, so that
the rhythm of frames itself tells nothing. With shuffled labels it must not find anything; with
joins that were made bad on purpose it must find them, or its failure to find ours means nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.scores import area_under_curve
from models.errors import SettingError
from models.mel import MelSpec, log_mel

__all__ = ["Finder", "JoinFinding", "find_joins", "join_patches", "spoil_joins"]

Rows = NDArray[np.floating]
Places = Sequence[int] | NDArray[np.int64]
Finder = Literal["logistic", "cnn"]

# 5 ms steps and windows of 16 ms: a break of a few samples must not drown in a long window.
_SPEC = MelSpec(n_fft=256, hop=80, n_mels=40, pad_samples=0)
_SIDE = 400  # samples before and after: 50 ms in all
_EDGE = _SIDE + _SPEC.n_fft // 2


@dataclass(frozen=True, slots=True)
class JoinFinding:
    """Area under the curve of finding joins in streams that the classifier has not seen."""

    auc: float
    shuffled_auc: float  # labels permuted within each stream: .5 but for chance
    spoiled_auc: float  # joins made bad on purpose: near 1
    n_joins: int
    n_streams: int

    def to_json(self) -> dict[str, float]:
        """Return all of it."""
        return {
            "auc": self.auc,
            "shuffled_auc": self.shuffled_auc,
            "spoiled_auc": self.spoiled_auc,
            "n_joins": self.n_joins,
            "n_streams": self.n_streams,
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Patches:
    """Patches of all streams."""

    values: NDArray[np.float32]  # (n, frames, bands)
    is_join: NDArray[np.bool_]
    stream: NDArray[np.int64]


def find_joins(
    streams: Sequence[Rows],
    joins: Sequence[Places],
    *,
    rng: np.random.Generator,
    finder: Finder = "logistic",
    grid: int = 640,
    folds: int = 4,
) -> JoinFinding:
    """Train a classifier on some streams and let it find the joins of the others.

    Parameters
    ----------
    streams : sequence of arrays of shape (n,)
        Sound at 16 kHz, at least 4.
    joins : sequence of sequences of int
        For each stream the first sample of each stretch but the first.
    rng : numpy.random.Generator
        Chooses patches without a join, folds, initial weights.
    finder : {"logistic", "cnn"}
        Logistic regression on the patch and the size of its changes, or three convolutions (torch).
    grid : int
        Samples of a latent frame; places without a join are joins moved by multiples of it.
    folds : int
        Each stream is judged once, by a classifier trained on the streams of the other folds.

    Raises
    ------
    SettingError
        If there are too few streams, or no place without a join.
    """
    if len(streams) < max(folds, 2) or folds < 2:
        raise SettingError(
            f"Finding joins in held-out streams needs at least {max(folds, 2)} streams and 2 folds,"
            f" got {len(streams)} and {folds}."
        )
    own = _gathered(streams, joins, grid, rng)
    spoiled = _gathered(spoil_joins(streams, joins, rng=rng), joins, grid, rng)
    fit = _logistic if finder == "logistic" else _cnn
    order = rng.permutation(len(streams)) % folds  # (streams,)
    shuffled = own.is_join.copy()
    for number in range(len(streams)):
        where = np.flatnonzero(own.stream == number)
        shuffled[where] = own.is_join[rng.permutation(where)]
    return JoinFinding(
        auc=_held_out(own, own.is_join, order, fit, rng),
        shuffled_auc=_held_out(own, shuffled, order, fit, rng),
        spoiled_auc=_held_out(spoiled, spoiled.is_join, order, fit, rng),
        n_joins=int(own.is_join.sum()),
        n_streams=len(streams),
    )


def join_patches(sound: Rows, places: Places) -> NDArray[np.float32]:
    """Return log mel patches of 50 ms around samples, (places, 11, 40); places lie 30 ms inside."""
    wave = np.asarray(sound, np.float64)
    cut = [log_mel(wave[place - _EDGE : place + _EDGE], _SPEC) for place in np.asarray(places)]
    if not cut:
        return np.zeros((0, 2 * _SIDE // _SPEC.hop + 1, _SPEC.n_mels), np.float32)
    return np.stack(cut)


def spoil_joins(
    streams: Sequence[Rows],
    joins: Sequence[Places],
    *,
    rng: np.random.Generator,
    least_s: float = 0.01,
    most_s: float = 0.08,
) -> list[NDArray[np.float32]]:
    """Return the streams with every stretch moved in time by itself: joins become bare cuts.

    What is as loud and as coloured as before, and lacks only continuity, is the smallest fault that
    naive joins have.

    Parameters
    ----------
    streams, joins
        As for `find_joins`.
    rng : numpy.random.Generator
    least_s, most_s : float
        By how much a stretch is turned around within itself, s.
    """
    spoiled = []
    for sound, places in zip(streams, joins, strict=True):
        wave = np.array(sound, np.float32)
        edges = [0, *np.asarray(places, np.int64).tolist(), len(wave)]
        for first, last in pairwise(edges):
            shift = round(float(rng.uniform(least_s, most_s)) * _SPEC.sample_rate_hz)
            # Mirrored in time at its end, so that the cut inside the stretch does not jump.
            piece = wave[first:last]
            moved = np.concatenate([piece[shift:], piece[::-1][:shift]])
            wave[first:last] = moved[: last - first]
        spoiled.append(wave)
    return spoiled


def _gathered(
    streams: Sequence[Rows], joins: Sequence[Places], grid: int, rng: np.random.Generator
) -> _Patches:
    """Cut as many patches without a join as with one out of each stream."""
    values, labels, numbers = [], [], []
    for number, (sound, places) in enumerate(zip(streams, joins, strict=True)):
        own = np.unique(np.asarray(places, np.int64))
        own = own[(own >= _EDGE) & (own <= len(sound) - _EDGE)]
        if not len(own):
            continue
        other = np.arange(own[0] % grid, len(sound), grid)
        other = other[(other >= _EDGE) & (other <= len(sound) - _EDGE)]
        other = other[np.min(np.abs(other[:, None] - own[None, :]), axis=1) >= grid]
        if not len(other):
            continue
        n = min(len(own), len(other))
        own, other = rng.choice(own, n, replace=False), rng.choice(other, n, replace=False)
        values += [join_patches(sound, own), join_patches(sound, other)]
        labels += [np.ones(n, bool), np.zeros(n, bool)]
        numbers.append(np.full(2 * n, number))
    if not values:
        raise SettingError(
            "Finding joins needs stretches of at least two latent frames and a join in each stream."
        )
    return _Patches(np.concatenate(values), np.concatenate(labels), np.concatenate(numbers))


_Fit = Callable[
    [NDArray[np.float32], NDArray[np.bool_], np.random.Generator],
    Callable[[NDArray[np.float32]], NDArray[np.float64]],
]


def _held_out(
    patches: _Patches,
    labels: NDArray[np.bool_],
    order: NDArray[np.int64],
    fit: _Fit,
    rng: np.random.Generator,
) -> float:
    """Return the area under the curve; scores are compared within a fold only."""
    areas, weights = [], []
    fold = order[patches.stream]
    for number in range(int(order.max()) + 1):
        test = fold == number
        if labels[test].all() or not labels[test].any():
            continue
        score = fit(patches.values[~test], labels[~test], rng)
        areas.append(area_under_curve(score(patches.values[test]), labels[test]))
        weights.append(int(test.sum()))
    return float(np.average(areas, weights=weights))


def _features(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return patches and the size of their changes in time, flat: a jump has no sign."""
    changes = np.abs(np.diff(values, axis=1))
    return np.concatenate([values.reshape(len(values), -1), changes.reshape(len(values), -1)], 1)


def _logistic(
    values: NDArray[np.float32], labels: NDArray[np.bool_], rng: np.random.Generator
) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """Fit logistic regression with a squared penalty (weight 1 on standardised features)."""
    from scipy.optimize import minimize

    x = _features(values)
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-3
    x = (x - mean) / spread
    sign = np.where(labels, 1.0, -1.0)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (x @ weights[:-1] + weights[-1])
        pull = -sign / (1.0 + np.exp(np.clip(margin, -500.0, 500.0)))
        value = np.logaddexp(0.0, -margin).sum() + 0.5 * float(weights[:-1] @ weights[:-1])
        return float(value), np.append(x.T @ pull + weights[:-1], pull.sum())

    start = np.zeros(x.shape[1] + 1)
    weights = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return lambda new: (_features(new) - mean) / spread @ weights[:-1] + weights[-1]


def _cnn(
    values: NDArray[np.float32],
    labels: NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    epochs: int = 12,
    batch: int = 64,
) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """Fit three convolutions over the patch and the size of its changes."""
    import torch
    from torch import nn
    from torch.nn import functional

    mean, spread = float(values.mean()), float(values.std()) + 1e-3

    def seen(patches: NDArray[np.float32]) -> torch.Tensor:
        x = (patches - mean) / spread
        changes = np.abs(np.diff(x, axis=1, append=x[:, -1:]))
        return torch.from_numpy(np.stack([x, changes], axis=1).astype(np.float32))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        network = nn.Sequential(
            nn.Conv2d(2, 12, (3, 5), stride=(1, 2), padding=(1, 2)),
            nn.ReLU(),
            nn.Conv2d(12, 16, (3, 3), stride=(1, 2), padding=(1, 1)),
            nn.ReLU(),
            nn.Conv2d(16, 16, (3, 3), stride=(1, 2), padding=(1, 1)),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d((values.shape[1], 1)),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(16 * values.shape[1], 1),
        )
        optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
        x, wanted = seen(values), torch.from_numpy(labels.astype(np.float32))
        for _ in range(epochs):
            order = torch.from_numpy(rng.permutation(len(x)))
            for rows in torch.split(order, batch):
                optimiser.zero_grad()
                judged = network(x[rows])[:, 0]
                loss = functional.binary_cross_entropy_with_logits(judged, wanted[rows])
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    network.eval()

    def score(new: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.no_grad():
            return np.asarray(network(seen(new))[:, 0].numpy(), np.float64)

    return score
