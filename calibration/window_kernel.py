"""Inner products of feature windows, computed once for all choices of windows that follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.run_features import RunFeatures
from calibration.windows import WindowRows

__all__ = ["WindowKernel"]

_MOST_BYTES = 1 << 30  # of the shared matrix; beyond, each choice computes its own


class WindowKernel:
    """Inner products of the windows of runs, averaged over repetitions.

    With many voxels, one matrix between all windows that any choice uses is cheaper than one for
    each choice; with few features, or very many windows, each choice has its own.

    Parameters
    ----------
    runs : sequence of RunFeatures
    choices : sequence of WindowRows
        All that `between` will be asked for.
    """

    def __init__(self, runs: Sequence[RunFeatures], choices: Sequence[WindowRows]) -> None:
        self._runs = runs
        used = [
            np.unique(np.concatenate([rows.window[rows.run == k] for rows in choices]))
            for k in range(len(runs))
        ]
        n_used = sum(map(len, used))
        own = sum(float(len(rows)) ** 2 for rows in choices)
        self._shared: NDArray[np.float32] | None = None
        if 0.5 * n_used**2 < own and 4 * n_used**2 < _MOST_BYTES:
            self._position = [np.full(len(run.values), -1, np.int64) for run in runs]
            at = 0
            for position, windows in zip(self._position, used, strict=True):
                position[windows] = at + np.arange(len(windows))
                at += len(windows)
            self._shared = _gram([run.values[w] for run, w in zip(runs, used, strict=True)])

    @property
    def is_shared(self) -> bool:
        """Whether all choices use one matrix."""
        return self._shared is not None

    def between(self, rows: WindowRows) -> NDArray[np.float64]:
        """Return the inner products (n, n) of chosen windows, each averaged over repetitions."""
        present = rows.run >= 0  # (n, n_repetitions)
        weight = present / np.maximum(present.sum(axis=1, keepdims=True), 1)
        if self._shared is None:
            x = self._average(rows, weight)
            return np.asarray(x @ x.T, np.float64)
        index = np.zeros_like(rows.run)
        for k, position in enumerate(self._position):
            index[rows.run == k] = position[rows.window[rows.run == k]]
        if index.shape[1] == 1:
            return self._shared[index[:, :1], index[:, 0]].astype(np.float64)
        half = np.zeros((len(rows), len(self._shared)))
        for column, share in zip(index.T, weight.T, strict=True):
            half += share[:, None] * self._shared[column]
        result = np.zeros((len(rows), len(rows)))
        for column, share in zip(index.T, weight.T, strict=True):
            result += half[:, column] * share
        return result

    def _average(self, rows: WindowRows, weight: NDArray[np.float64]) -> NDArray[np.float32]:
        x = np.zeros((len(rows), self._runs[0].n_features), np.float32)
        for k, run in enumerate(self._runs):
            for repetition in range(rows.run.shape[1]):
                at = np.flatnonzero(rows.run[:, repetition] == k)
                share = weight[at, repetition, None].astype(np.float32)
                x[at] += share * run.values[rows.window[at, repetition]]
        return x


def _gram(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the inner products of all rows, block by block: the rows are never brought together.

    The upper half is the transpose of the lower, which saves half of the work.
    """
    edges = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    gram = np.empty((edges[-1], edges[-1]), np.float32)
    for i, a in enumerate(parts):
        for j, b in enumerate(parts[: i + 1]):
            block = a @ b.T
            gram[edges[i] : edges[i + 1], edges[j] : edges[j + 1]] = block
            gram[edges[j] : edges[j + 1], edges[i] : edges[i + 1]] = block.T
    return gram
