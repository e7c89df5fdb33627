"""Does a long stream stay what it was: the sound late in it against the sound at its beginning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.honest.audio_metrics import frechet_distance
from models.errors import SettingError

__all__ = ["Drift", "Steadiness", "drift", "level_change_db", "level_dbfs", "steadiness"]

Rows = NDArray[np.floating]
_SILENT_DBFS = -120.0


@dataclass(frozen=True, slots=True)
class Drift:
    """Late sound against early sound of the same streams."""

    distance_first: float  # Frechet distance to real sounds
    distance_last: float
    level_change_db: float  # median over streams
    accuracy_first: float  # share whose class is heard right
    accuracy_last: float
    cosine_first: float  # to the condition
    cosine_last: float
    n: int

    @property
    def distance_ratio(self) -> float:
        """Late over early: 1 where nothing decays."""
        return self.distance_last / self.distance_first

    def to_json(self) -> dict[str, float]:
        """Return all of it."""
        return {
            "distance_first": self.distance_first,
            "distance_last": self.distance_last,
            "distance_ratio": self.distance_ratio,
            "level_change_db": self.level_change_db,
            "accuracy_first": self.accuracy_first,
            "accuracy_last": self.accuracy_last,
            "accuracy_change": self.accuracy_last - self.accuracy_first,
            "cosine_first": self.cosine_first,
            "cosine_last": self.cosine_last,
            "n": self.n,
        }


@dataclass(frozen=True, slots=True)
class Steadiness:
    """How much a stream under one condition changes, beside a real sound of that kind."""

    level_sd_db: float  # standard deviation of the level of windows
    real_level_sd_db: float
    cosine: float  # mean cosine between the vectors of two windows of one stream
    real_cosine: float
    n: int

    def to_json(self) -> dict[str, float]:
        """Return all of it."""
        return {
            "level_sd_db": self.level_sd_db,
            "real_level_sd_db": self.real_level_sd_db,
            "cosine": self.cosine,
            "real_cosine": self.real_cosine,
            "n": self.n,
        }


def level_dbfs(sound: Rows) -> float:
    """Return the root mean square of a sound in dB of full scale, at least -120."""
    power = float(np.mean(np.asarray(sound, np.float64) ** 2)) if len(sound) else 0.0
    return 10.0 * float(np.log10(max(power, 10.0 ** (_SILENT_DBFS / 10.0))))


def level_change_db(before: Sequence[Rows], after: Sequence[Rows]) -> float:
    """Return the median difference in level between sounds and others in the same order, in dB.

    Pairs that are silent say nothing about the level and are left out; 0 if all are.

    Parameters
    ----------
    before, after : sequences of arrays of shape (samples,)
    """
    levels = np.array([(level_dbfs(a), level_dbfs(b)) for a, b in zip(before, after, strict=True)])
    heard = levels.max(axis=1) > -70.0
    return float(np.median(levels[heard, 1] - levels[heard, 0])) if heard.any() else 0.0


def drift(
    real: Rows,
    first: Rows,
    last: Rows,
    *,
    first_sounds: Sequence[Rows],
    last_sounds: Sequence[Rows],
    first_right: NDArray[np.bool_],
    last_right: NDArray[np.bool_],
    first_cosine: NDArray[np.floating],
    last_cosine: NDArray[np.floating],
) -> Drift:
    """Compare windows at the beginning of streams with windows late in the same streams.

    Parameters
    ----------
    real, first, last : arrays of shape (n, d)
        The judge's vectors of real sounds, and of the early and the late window of each stream.
    first_sounds, last_sounds : sequences of arrays of shape (samples,)
        The windows themselves; see `level_change_db`.
    first_right, last_right : bool arrays of shape (n,)
        Whether the judge hears the class that was asked for.
    first_cosine, last_cosine : arrays of shape (n,)
        Training encoder, to the condition.

    Raises
    ------
    SettingError
        If there are not as many late as early windows.
    """
    if len(first) != len(last) or len(first_sounds) != len(last_sounds):
        raise SettingError(
            f"Drift compares early and late windows of the same streams, got {len(first)} and "
            f"{len(last)}."
        )
    return Drift(
        frechet_distance(real, first),
        frechet_distance(real, last),
        level_change_db(first_sounds, last_sounds),
        float(np.mean(first_right)),
        float(np.mean(last_right)),
        float(np.mean(first_cosine)),
        float(np.mean(last_cosine)),
        len(first),
    )


def steadiness(
    made: Sequence[Rows],
    real: Sequence[Rows],
    *,
    made_vectors: Sequence[Rows],
    real_vectors: Sequence[Rows],
    window: int = 16_000,
) -> Steadiness:
    """Return how level and vector wander within streams of one condition each.

    Parameters
    ----------
    made, real : sequences of arrays of shape (samples,)
        Streams, and real sounds of the same classes.
    made_vectors, real_vectors : sequences of arrays of shape (windows, d)
        The judge's vectors of windows of each.
    window : int
        Samples of a window for the level.
    """
    return Steadiness(
        float(np.mean([_level_sd(sound, window) for sound in made])),
        float(np.mean([_level_sd(sound, window) for sound in real])),
        float(np.mean([_own_cosine(rows) for rows in made_vectors])),
        float(np.mean([_own_cosine(rows) for rows in real_vectors])),
        len(made),
    )


def _level_sd(sound: Rows, window: int) -> float:
    levels = [
        max(level_dbfs(sound[i : i + window]), -80.0)
        for i in range(0, len(sound) - window + 1, window)
    ]
    return float(np.std(levels)) if len(levels) > 1 else 0.0


def _own_cosine(rows: Rows) -> float:
    if len(rows) < 2:
        return 1.0
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    table = unit @ unit.T
    return float(table[np.triu_indices(len(rows), 1)].mean())
