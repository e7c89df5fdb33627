"""Sums of products from which a selected ridge is solved again when samples are added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.ridge.gram import Array
from models.ridge.selected_solver import in_threads
from models.ridge.small_systems import SmallSystems, usable_cores

__all__ = ["SelectedState"]


@dataclass(frozen=True, slots=True, eq=False)
class SelectedState:
    """Centred sums of a `SelectedRidge`; nothing of it grows, and rounding does not add up.

    The Gram matrix of the union of all selected features is kept, or where the targets' own ones
    need less memory, those.
    """

    n: int
    x_mean: Array  # (n_features,) 0 without an intercept
    y_mean: Array  # (n_targets,)
    alphas: NDArray[np.float64]  # (n_targets,)
    indices: NDArray[np.intp]  # (n_targets, k)
    union: NDArray[np.intp]  # (n_union,) rising; empty where each target has its own Gram matrix
    gram: Array  # (n_union, n_union), or (n_targets, k, k)
    cross: Array  # (n_targets, k) of features with the target
    intercept: bool

    @classmethod
    def of(
        cls,
        x: Array,
        y: Array,
        indices: NDArray[np.intp],
        alphas: NDArray[np.float64],
        *,
        fit_intercept: bool,
    ) -> SelectedState:
        """Add up all samples."""
        n_targets, k = indices.shape
        union = np.unique(indices)
        shared = len(union) ** 2 <= n_targets * k**2
        shape = (len(union), len(union)) if shared else (n_targets, k, k)
        empty = cls(
            n=0,
            x_mean=np.zeros(x.shape[1], x.dtype),
            y_mean=np.zeros(n_targets, x.dtype),
            alphas=np.array(alphas, np.float64),
            indices=indices,
            union=union if shared else union[:0],
            gram=np.zeros(shape, x.dtype),
            cross=np.zeros((n_targets, k), x.dtype),
            intercept=fit_intercept,
        )
        return empty.add(x, y)

    @property
    def n_samples(self) -> int:
        """Samples in all."""
        return self.n

    def add(self, x: Array, y: Array) -> SelectedState:
        """Return the state with new samples (m, n_features) and (m, n_targets).

        Sums about the mean of both parts: S = S_1 + S_2 + n_1 n_2 / (n_1 + n_2) d d', d the
        difference of their means (Chan, Golub and LeVeque 1979).
        """
        m, dtype = len(x), self.gram.dtype
        total = self.n + m
        x_step, y_step = np.zeros(x.shape[1]), np.zeros(y.shape[1])
        if self.intercept:
            x_step = x.mean(axis=0, dtype=np.float64) - self.x_mean
            y_step = y.mean(axis=0, dtype=np.float64) - self.y_mean
        # One more row holds the difference of the means.
        share = np.sqrt(self.n * m / total)
        rows = np.vstack([x - (self.x_mean + x_step).astype(dtype), (share * x_step).astype(dtype)])
        values = np.vstack(
            [y - (self.y_mean + y_step).astype(dtype), (share * y_step).astype(dtype)]
        )
        cross = self.cross.copy()
        gram = self.gram.copy()
        if len(self.union):
            chosen = np.ascontiguousarray(rows[:, self.union])
            gram += chosen.T @ chosen
        for target, index in enumerate(self.indices):
            own = rows[:, index]
            cross[target] += values[:, target] @ own
            if not len(self.union):
                gram[target] += own.T @ own
        return replace(
            self,
            n=total,
            x_mean=(self.x_mean + m / total * x_step).astype(dtype),
            y_mean=(self.y_mean + m / total * y_step).astype(dtype),
            gram=gram,
            cross=cross,
        )

    def values(self) -> tuple[Array, Array]:
        """Return weights (n_targets, k), in the order of `indices`, and bias (n_targets,)."""
        n_targets, k = self.indices.shape
        place = np.zeros(len(self.x_mean), np.intp)
        place[self.union] = np.arange(len(self.union))
        values = np.empty((n_targets, k), self.gram.dtype)

        def work(targets: Iterator[int]) -> None:
            systems = SmallSystems(k, self.gram.dtype, np.zeros(1))
            for target in targets:
                own = place[self.indices[target]]
                systems.matrix[:] = (
                    self.gram[np.ix_(own, own)] if len(self.union) else self.gram[target]
                )
                side = self.cross[target : target + 1]
                values[target] = systems.solve(side, alpha=float(self.alphas[target]))[0]

        in_threads(work, range(n_targets), usable_cores())
        means = self.x_mean[self.indices].astype(np.float64)
        bias = self.y_mean - np.einsum("tk,tk->t", values, means)
        return values, bias.astype(values.dtype)

    def weights(self) -> tuple[Array, Array]:
        """Return dense weights (n_features, n_targets) and bias (n_targets,)."""
        values, bias = self.values()
        dense = np.zeros((len(self.x_mean), len(values)), values.dtype)
        np.put_along_axis(dense, self.indices.T, values.T, axis=0)
        return dense, bias

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all of it as arrays by name."""
        named = {item.name: np.asarray(getattr(self, item.name)) for item in fields(self)}
        return {"kind": np.array("selected"), **named}
