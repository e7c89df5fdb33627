"""What a decoder is fitted on and scored with: feature windows, what was heard, and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["Samples", "join_samples"]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Rows are windows of different sounds; hearing a sound again adds a repetition, never a row.

    Treating four repetitions of a test clip as four samples would shrink every error bar.
    """

    x: NDArray[np.float32]  # (n, n_repetitions, n_features), NaN where a repetition is missing
    y: NDArray[np.float64]  # (n, n_targets)
    clip: NDArray[np.str_]  # (n,) id of the stimulus
    label: NDArray[np.str_]  # (n,) its class
    start_s: NDArray[np.float64]  # (n,) where the window's stretch begins in the stimulus
    stop_s: NDArray[np.float64]  # (n,)
    person: NDArray[np.str_]  # (n,)
    session: NDArray[np.str_]  # (n, n_repetitions)
    run: NDArray[np.str_]  # (n, n_repetitions)
    previous_clip: NDArray[np.str_]  # (n,) id of what was heard just before; "" at a run's start
    order: NDArray[
        np.float64
    ]  # (n,) time of the first repetition, for blocks: run number * 1e6 + s

    def __post_init__(self) -> None:
        n = len(self.x)
        columns = (self.y, self.clip, self.label, self.start_s, self.stop_s, self.person)
        if self.x.ndim != 3 or any(len(column) != n for column in columns):
            raise SettingError(
                f"Samples need as many rows in every column, got x {self.x.shape} and "
                f"{[len(column) for column in columns]}."
            )

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.x)

    @property
    def n_repetitions(self) -> NDArray[np.int64]:
        """How often each window was heard: (n,)."""
        return np.asarray(np.sum(~np.isnan(self.x[:, :, 0]), axis=1), np.int64)

    def mean_x(self) -> NDArray[np.float32]:
        """Return the features averaged over repetitions: (n, n_features)."""
        if self.x.shape[1] == 1:
            return self.x[:, 0]
        return np.asarray(np.nanmean(self.x, axis=1, dtype=np.float64), np.float32)

    def take(self, rows: NDArray[Any]) -> Samples:
        """Return the windows `rows` (indices, or a mask)."""
        return replace(self, **{item.name: getattr(self, item.name)[rows] for item in fields(self)})

    def without_features(self) -> Samples:
        """Return the windows with the first feature alone, which tells what repetitions there are.

        What was heard and when is a thousandth of the memory of a brain.
        """
        return replace(self, x=self.x[:, :, :1].copy())

    def separate(self) -> Samples:
        """Return every repetition as a row of its own, in the order of time: to train on.

        More rows with more noise are worth as much to a decoder as fewer clean ones, but no test
        may count them: that is what the dimension is for.
        """
        there = ~np.isnan(self.x[:, :, 0])
        if there.shape[1] == 1 and there.all():
            return self  # a whole brain is not copied for nothing
        row, repetition = np.nonzero(there)
        return replace(
            self.without_features().take(row),
            x=self.x[row, repetition][:, None],
            session=self.session[row, repetition][:, None],
            run=self.run[row, repetition][:, None],
        )


def join_samples(parts: Sequence[Samples]) -> Samples:
    """Return the windows of several samples, one after the other.

    Runs are numbered anew in each part; their order is kept apart, so that no run of one part is
    taken for a run of another.
    """
    most = max(part.x.shape[1] for part in parts)

    def wide(name: str) -> NDArray[np.str_]:
        arrays = [getattr(part, name) for part in parts]
        gaps = [((0, 0), (0, most - a.shape[1])) for a in arrays]
        return np.concatenate(
            [np.pad(a, gap, constant_values="") for a, gap in zip(arrays, gaps, strict=True)]
        )

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    missing = [((0, 0), (0, most - part.x.shape[1]), (0, 0)) for part in parts]
    rows = [
        np.pad(part.x, gap, constant_values=np.nan)
        for part, gap in zip(parts, missing, strict=True)
    ]
    return Samples(
        x=np.concatenate(rows),
        y=column("y"),
        clip=column("clip"),
        label=column("label"),
        start_s=column("start_s"),
        stop_s=column("stop_s"),
        person=column("person"),
        session=wide("session"),
        run=wide("run"),
        previous_clip=column("previous_clip"),
        order=np.concatenate([part.order + k * 1e9 for k, part in enumerate(parts)]),
    )
