"""Scores of made sounds are kept in shards, so that a run that was cut off goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.generator_scores.scorers import Scorer, mel_windows
from calibration.generator_scores.sound_factors import measure_factors
from calibration.whole_file import write_whole
from models.errors import FileError

__all__ = ["MEASURED", "Scored", "score_sounds", "scored_shards"]

_log = logging.getLogger(__name__)
Rows = NDArray[np.float32]

MEASURED = ("pitch", "tempo", "brightness")  # by signal analysis, in the order of `measured`


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What is kept of sounds: not the sounds."""

    embedded: Rows  # (n, 512), training encoder
    judged: Rows  # (n, 512), the judge
    classes: NDArray[np.int64]  # (n,), the judge's
    factors: Rows  # (n, 5), the judge's readout
    measured: Rows  # (n, 3), by signal analysis; NaN where it was not asked for

    def __len__(self) -> int:
        return len(self.classes)


def score_sounds(sounds: Sequence[Rows], scorer: Scorer, *, measure: bool) -> Scored:
    """Return what the scorers say of sounds of 2.56 s.

    Parameters
    ----------
    sounds : sequence of arrays of shape (samples,)
    scorer : Scorer
    measure : bool
        Also pitch, tempo and brightness by signal analysis, which takes longer than all else.
    """
    mel = mel_windows(sounds)
    judged = scorer.judge(mel)
    measured = np.full((len(sounds), len(MEASURED)), np.nan, np.float32)
    if measure:
        for row, sound in zip(measured, sounds, strict=True):
            found = measure_factors(sound)
            row[:] = (found.pitch_hz, found.tempo_bpm, found.brightness_hz)
    return Scored(scorer.embed(mel), judged.vectors, judged.classes, judged.factors, measured)


def scored_shards(
    folder: Path,
    name: str,
    n: int,
    make: Callable[[range], Sequence[Rows]],
    scorer: Scorer,
    *,
    measure: bool,
    shard: int = 50,
    progress: Callable[[str, float, float], None] | None = None,
) -> Scored:
    """Make and score sounds 0 to n - 1, shard by shard; what is in the folder is not made again.

    Parameters
    ----------
    folder : Path
        A file for each shard. It belongs to one generator: give another one another folder.
    name : str
        Of the setting.
    n : int
    make : callable
        Takes numbers of sounds and returns them.
    scorer : Scorer
    measure : bool
        See `score_sounds`.
    shard : int
        Sounds in a file.
    progress : callable, optional
    """
    parts = []
    for first in range(0, n, shard):
        rows = range(first, min(first + shard, n))
        path = folder / f"{name}-{rows.start:05d}-{rows.stop:05d}{'m' if measure else ''}.npz"
        if not path.is_file():
            if progress is not None:
                progress(f"{name}: {rows.start} of {n}", rows.start, n)
            made = score_sounds(make(rows), scorer, measure=measure)
            arrays = {key: getattr(made, key) for key in Scored.__dataclass_fields__}
            write_whole(path, lambda file, arrays=arrays: np.savez(file, **arrays))  # type: ignore[misc]
        parts.append(_load(path))
    return Scored(
        *(np.concatenate([getattr(part, key) for part in parts]) for key in parts[0].__slots__)
    )


def _load(path: Path) -> Scored:
    try:
        with np.load(path) as stored:
            return Scored(**dict(stored))
    except (OSError, ValueError, TypeError) as error:
        raise FileError(f"{path} is damaged ({error}). Remove it, and it is made again.") from error
