"""What a generator is told for each clip that was held out: its windows' conditions, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.embedders.base import unit_rows
from calibration.outer import Decoded

__all__ = ["ClipConditions", "as_given", "as_vectors", "clip_conditions", "dealt_tokens"]


@dataclass(frozen=True, slots=True, eq=False)
class ClipConditions:
    """The conditions of one clip, from its beginning to its end."""

    clip: str
    vectors: NDArray[np.float32]  # (n, 512), unit length
    tokens: NDArray[np.float32] | None = None  # (n, 8 steps, 768)

    @property
    def mean(self) -> NDArray[np.float64]:
        """What was decoded of the clip as a whole: (512,)."""
        return np.asarray(self.vectors.mean(axis=0, dtype=np.float64))


def as_vectors(raw: NDArray[np.floating], centre: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what a generator is given for decoded, centred embeddings: (n, d), unit length.

    A decoder learns embeddings without their training mean; a generator knows whole ones, so the
    mean is put back, as the exported decoder does.

    Parameters
    ----------
    raw : array of shape (n, d)
    centre : array of shape (n, d) or (d,)
    """
    return unit_rows(np.asarray(raw, np.float64) + centre)


def as_given(
    decoded: Decoded, shuffled: Sequence[NDArray[np.float64]] = ()
) -> tuple[Decoded, list[NDArray[np.float64]]]:
    """Return what was decoded as the generator gets it, the training mean taken off again.

    So that what is scored is what runs: to bring the whole to unit length changes its direction
    about the mean a little.

    Parameters
    ----------
    decoded : Decoded
    shuffled : sequence of arrays of shape (n, d)
        By decoders of shuffled brains.
    """

    def given(raw: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.full_like(raw, np.nan)  # a half may lack repetitions
        there = np.isfinite(raw).all(axis=1)
        centre = decoded.centre[there]
        out[there] = as_vectors(raw[there], centre) - centre
        return out

    halves = decoded.halves
    made = replace(
        decoded,
        raw=given(decoded.raw),
        halves=None if halves is None else (given(halves[0]), given(halves[1])),
    )
    return made, [given(raw) for raw in shuffled]


def dealt_tokens(
    tokens: NDArray[np.float32] | None, samples: Samples, rng: np.random.Generator
) -> NDArray[np.float32] | None:
    """Return tokens of another clip for every clip: what a brain says that heard something else."""
    if tokens is None:
        return None
    names, number = np.unique(samples.clip, return_inverse=True)
    order = rng.permutation(len(names))
    out = np.empty_like(tokens)
    for clip, other in zip(order, np.roll(order, 1), strict=True):
        rows, theirs = np.flatnonzero(number == clip), np.flatnonzero(number == other)
        out[rows] = tokens[theirs[np.arange(len(rows)) % len(theirs)]]
    return out


def clip_conditions(
    vectors: NDArray[np.float32],
    samples: Samples,
    clips: Sequence[str],
    *,
    each_s: float,
    tokens: NDArray[np.float32] | None = None,
) -> tuple[ClipConditions, ...]:
    """Return the conditions of clips, each in the order of its windows.

    Where a clip was presented again and again, windows at the same place of it are averaged.

    Parameters
    ----------
    vectors : array of shape (n, 512)
        Of every window.
    samples : Samples
        The windows, in the same order.
    clips : sequence of str
    each_s : float
        From window to window, s.
    tokens : array of shape (n, 8 steps, 768), optional
    """
    made = []
    for clip in clips:
        rows = np.flatnonzero(samples.clip == clip)
        start_s = samples.start_s[rows]
        place = np.rint((start_s - start_s.min()) / each_s).astype(np.int64)
        there = [rows[place == k] for k in np.unique(place)]
        means = np.array([vectors[mine].mean(axis=0, dtype=np.float64) for mine in there])
        made.append(
            ClipConditions(
                str(clip),
                unit_rows(means),
                None if tokens is None else np.stack([tokens[m].mean(axis=0) for m in there]),
            )
        )
    return tuple(made)
