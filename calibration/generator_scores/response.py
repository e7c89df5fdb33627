"""How soon a changed condition is heard: when a classifier takes the sound for the new class.

A window of sound holds old and new sound for a while after any change, so the same is measured on
real sounds cut hard from one class to the other: what a generator takes beyond that is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["Response", "heard_after_s", "response"]

Rows = NDArray[np.floating]
Classify = Callable[[NDArray[np.float32]], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Response:
    """Time from the change of the condition until the new class is heard, s."""

    p50_s: float
    p95_s: float
    cut_p50_s: float  # of real sounds cut from one to the other at the same moment
    heard: float  # share of changes whose new class was heard at all
    cut_heard: float
    n: int

    def to_json(self) -> dict[str, float]:
        """Return all of it; `beyond_cut_s` is what the generator takes beyond a hard cut."""
        return {
            "p50_s": self.p50_s,
            "p95_s": self.p95_s,
            "cut_p50_s": self.cut_p50_s,
            "beyond_cut_s": self.p50_s - self.cut_p50_s,
            "heard": self.heard,
            "cut_heard": self.cut_heard,
            "n": self.n,
        }


def response(
    made: Sequence[Rows],
    cut: Sequence[Rows],
    changed_at: Sequence[int],
    wanted: Sequence[int],
    classify: Classify,
    *,
    window: int,
    hop: int = 640,
    sample_rate_hz: int = 16_000,
) -> Response:
    """Compare streams whose condition changes with real sounds that are cut hard.

    Parameters
    ----------
    made, cut : sequences of arrays of shape (samples,)
    changed_at : sequence of int
        Sample at which the condition changed; in `cut`, the first sample of the new sound.
    wanted : sequence of int
        The new class of each.
    classify : callable
        Windows (n, window) to classes (n,).
    window, hop : int
        Samples of a window, and from one to the next.
    sample_rate_hz : int

    Raises
    ------
    SettingError
        If no change is heard even in the cut sounds.
    """
    times: dict[str, NDArray[np.float64]] = {}
    for name, sounds in (("made", made), ("cut", cut)):
        times[name] = np.array(
            [
                heard_after_s(sound, at, label, classify, window, hop, sample_rate_hz)
                for sound, at, label in zip(sounds, changed_at, wanted, strict=True)
            ]
        )
    heard = {name: np.isfinite(values) for name, values in times.items()}
    if not heard["cut"].any():
        raise SettingError(
            "The classifier hears no change even where real sounds are cut from one class to the "
            "other. Give it longer windows, or a trained judge."
        )
    found = times["made"][heard["made"]]
    return Response(
        float(np.median(found)) if len(found) else float("nan"),
        float(np.percentile(found, 95.0)) if len(found) else float("nan"),
        float(np.median(times["cut"][heard["cut"]])),
        float(np.mean(heard["made"])),
        float(np.mean(heard["cut"])),
        len(times["made"]),
    )


def heard_after_s(
    sound: Rows,
    changed_at: int,
    wanted: int,
    classify: Classify,
    window: int,
    hop: int = 640,
    sample_rate_hz: int = 16_000,
) -> float:
    """Return how long after a sample the new class is heard, NaN if never.

    It is heard at the end of the first window that is taken for it and so is the next one: a single
    window can be taken for anything.

    Parameters
    ----------
    sound : array of shape (samples,)
    changed_at : int
    wanted : int
    classify, window, hop, sample_rate_hz
        As for `response`.
    """
    wave = np.asarray(sound, np.float32)
    ends = np.arange(max(changed_at, window), len(wave) + 1, hop)
    if not len(ends):
        return float("nan")
    windows = np.stack([wave[end - window : end] for end in ends])
    right = classify(windows) == wanted
    stays = right & np.append(right[1:], right[-1])
    if not stays.any():
        return float("nan")
    return float(ends[int(np.argmax(stays))] - changed_at) / sample_rate_hz
