"""Ridge regression of each target on its own few features: every fold, every penalty, in threads.

For each target and training part one system of k x k is reduced to tridiagonal form; all penalties
follow from it. Training parts share Gram matrices: that of the union of the selected features is
added up once, and each fold takes off what it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.ridge.scoring import HeldOutScores
from models.ridge.selection import Array, Columns, Part
from models.ridge.small_systems import SmallSystems, blas_threads

__all__ = ["GramSource", "InterceptKind", "Shrinkage", "fit_parts", "in_threads", "score_part"]

InterceptKind: TypeAlias = Literal["free", "penalised", "none"]

# Two Gram matrices of a union; beyond, each target multiplies its own features.
_UNION_BYTES = 1_600 * 2**20
# Targets whose scores are added up together.
_BATCH = 8


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """What the intercept does to the normal equations, for n samples with means m and m_y.

    Centred, (G + alpha I) w = g. With the intercept's own square in the penalty ("penalised"), or
    with no intercept, f m m' is added to G and f m m_y to g, f = n alpha / (n + alpha) or n, and
    the intercept is n (m_y - m'w) / (n + alpha) or 0. (Eliminate b from the normal equations of the
    augmented X.)
    """

    kind: InterceptKind

    def factors(self, n: int, alphas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return f for each alpha."""
        if self.kind == "free":
            return np.zeros_like(alphas)
        return n * alphas / (n + alphas) if self.kind == "penalised" else np.full_like(alphas, n)

    def intercepts(
        self, n: int, alphas: NDArray[np.float64], u: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return b from u = m_y - m'w, for each alpha."""
        if self.kind == "free":
            return u
        return n / (n + alphas) * u if self.kind == "penalised" else np.zeros_like(u)


class GramSource:
    """Gives the centred Gram matrix of some features over a training part.

    Parameters
    ----------
    data : Columns
    parts : sequence of Part
        All that will be asked for; their features make the union.
    """

    def __init__(self, data: Columns, parts: Sequence[Part]) -> None:
        self._data = data
        n_targets, k = parts[0].indices.shape
        union = np.unique(np.concatenate([part.indices.ravel() for part in parts]))
        n_systems = n_targets * len(parts)
        fits = 2 * len(union) ** 2 * data.x.itemsize <= _UNION_BYTES
        self.shared = fits and len(union) ** 2 <= n_systems * k**2
        self._part: Part | None = None
        if self.shared:
            self._place = np.zeros(data.x.shape[0], np.intp)
            self._place[union] = np.arange(len(union))
            self._x = data.x if len(union) == data.x.shape[0] else data.x[union]
            self._union = union
            self._whole = self._x @ self._x.T
            self._gram = self._whole

    def prepare(self, part: Part) -> None:
        """Make ready for a part; BLAS may use all its threads here."""
        self._part = part
        if not self.shared or part.left_out is None:
            if self.shared:
                self._gram = self._whole
            return
        x = self._x[:, part.left_out]
        gram = x @ x.T
        mean = part.x_mean[self._union]
        for start in range(0, len(gram), 512):  # no third matrix of that size
            rows = slice(start, start + 512)
            np.subtract(self._whole[rows], gram[rows], out=gram[rows])
            gram[rows] -= np.multiply.outer(part.n * mean[rows], mean)
        self._gram = gram

    def fill(self, matrix: Array, target: int) -> None:
        """Write the Gram matrix of a target's features to `matrix` (k, k); for any thread."""
        part = self._part
        assert part is not None
        index = part.indices[target]
        if self.shared:
            place = self._place[index]
            matrix[:] = self._gram[np.ix_(place, place)]
            return
        x = self._data.x[index]
        np.matmul(x, x.T, out=matrix)
        if part.left_out is not None:
            x, mean = x[:, part.left_out], part.x_mean[index]
            matrix -= x @ x.T
            matrix -= np.multiply.outer(part.n * mean, mean)


def fit_parts(
    data: Columns,
    part: Part,
    grams: GramSource,
    alphas: NDArray[np.float64],
    *,
    shrinkage: Shrinkage,
    n_threads: int,
) -> tuple[Array, NDArray[np.float64]]:
    """Fit each target on a part at its own penalty.

    Parameters
    ----------
    data : Columns
    part : Part
    grams : GramSource
    alphas : array of shape (n_targets,)
    shrinkage : Shrinkage
    n_threads : int

    Returns
    -------
    values : array of shape (n_targets, k)
        Weights, in the order of the part's indices.
    intercept : array of shape (n_targets,), float64
        For features as they were before their means were taken off.
    """
    n_targets, k = part.indices.shape
    values = np.empty((n_targets, k), data.x.dtype)
    intercept = np.empty(n_targets)
    grams.prepare(part)

    def work(targets: Iterator[int]) -> None:
        systems = SmallSystems(k, data.x.dtype, np.zeros(1))
        for target in targets:
            grams.fill(systems.matrix, target)
            alpha = alphas[target]
            solved = systems.solve(_sides(data, part, target, shrinkage), alpha=float(alpha))
            weights, offsets = _finish(
                data, part, target, solved[np.newaxis], alphas[target : target + 1], shrinkage
            )
            values[target] = weights[0]
            x_mean = data.x_mean[part.indices[target]]
            intercept[target] = data.y_mean[target] + offsets[0] - x_mean @ weights[0]

    in_threads(work, range(n_targets), n_threads)
    return values, intercept


def score_part(
    data: Columns,
    part: Part,
    grams: GramSource,
    alphas: NDArray[np.float64],
    *,
    scores: HeldOutScores,
    shrinkage: Shrinkage,
    n_threads: int,
    predictions: Array | None = None,
) -> None:
    """Predict a part's held-out samples at every penalty, and add that to the scores.

    Parameters
    ----------
    data : Columns
    part : Part
    grams : GramSource
    alphas : array of shape (n_alphas,)
    scores : HeldOutScores
        Made for `data.y` turned.
    shrinkage : Shrinkage
    n_threads : int
    predictions : array of shape (n_alphas, n_targets, n), optional
        Where to write what is predicted, in the units of `data.y`.
    """
    assert part.held_out is not None
    held_out = part.held_out
    n_targets, k = part.indices.shape
    n_sides = 1 if shrinkage.kind == "free" else 2
    rows = np.arange(data.n)[held_out]
    grams.prepare(part)

    def work(batches: Iterator[int]) -> None:
        systems = SmallSystems(k, data.x.dtype, alphas, n_sides=n_sides)
        for first in batches:
            targets = slice(first, min(first + _BATCH, n_targets))
            batch = np.empty((len(alphas), len(rows), targets.stop - first), data.x.dtype)
            for target in range(first, targets.stop):
                grams.fill(systems.matrix, target)
                solved = systems.path(_sides(data, part, target, shrinkage))
                weights, offsets = _finish(data, part, target, solved, alphas, shrinkage)
                x = data.x[part.indices[target]][:, held_out]  # (k, n_held_out)
                batch[:, :, target - first] = weights @ x
                batch[:, :, target - first] += offsets[:, np.newaxis].astype(batch.dtype)
            if predictions is not None:
                predictions[:, targets, held_out] = batch.transpose(0, 2, 1)
            scores.add(rows, targets, batch)  # other threads add to other columns

    in_threads(work, range(0, n_targets, _BATCH), n_threads)


def _sides(data: Columns, part: Part, target: int, shrinkage: Shrinkage) -> Array:
    """Return g, and where the intercept is not free m beside it: (n_sides, k)."""
    if shrinkage.kind == "free":
        return part.cross[target : target + 1]
    return np.stack([part.cross[target], _mean(data, part, target).astype(part.cross.dtype)])


def _mean(data: Columns, part: Part, target: int) -> NDArray[np.float64]:
    """Return the means over the part of a target's features, as the user gave them."""
    index = part.indices[target]
    return np.asarray(data.x_mean[index] + part.x_mean[index], np.float64)


def _finish(
    data: Columns,
    part: Part,
    target: int,
    solved: Array,
    alphas: NDArray[np.float64],
    shrinkage: Shrinkage,
) -> tuple[Array, NDArray[np.float64]]:
    """Return weights (n_alphas, k) and the offsets (n_alphas,) that go with `data`.

    With z = (G + alpha I)^-1 g and z_m = (G + alpha I)^-1 m: u = (m_y - m'z) / (1 + f m'z_m) and
    w = z + f u z_m (Sherman and Morrison).
    """
    index = part.indices[target]
    if shrinkage.kind == "free":
        weights = solved[:, 0]
        return weights, part.y_mean[target] - weights.astype(np.float64) @ part.x_mean[index]
    mean, y_mean = _mean(data, part, target), float(data.y_mean[target] + part.y_mean[target])
    factors = shrinkage.factors(part.n, alphas)
    z, z_mean = solved[:, 0].astype(np.float64), solved[:, 1].astype(np.float64)
    u = (y_mean - z @ mean) / (1.0 + factors * (z_mean @ mean))
    precise = z + (factors * u)[:, np.newaxis] * z_mean
    offsets = shrinkage.intercepts(part.n, alphas, u)
    # For features and targets less their means: b + w'x_mean - y_mean.
    offsets = offsets + precise @ data.x_mean[index] - data.y_mean[target]
    return precise.astype(solved.dtype), offsets


def in_threads(
    work: Callable[[Iterator[int]], None], numbers: Sequence[int], n_threads: int
) -> None:
    """Share the items out to threads, each of which takes the next one that is left."""
    items = iter(numbers)  # one step of it is atomic
    with blas_threads(1):
        if n_threads == 1:
            work(items)
            return
        with ThreadPoolExecutor(n_threads) as pool:
            try:
                for done in [pool.submit(work, items) for _ in range(n_threads)]:
                    done.result()
            except BaseException:
                for _ in items:  # leave nothing to the others: Ctrl-C ends within one system
                    pass
                raise
