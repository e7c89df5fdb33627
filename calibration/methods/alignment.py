"""Several people in the space of one: ridge from brain to brain on the clips that both heard.

Decoding Musical Perception (methods, "functional alignment"): ridge maps each person's voxels into
another's, and the data are pooled; how is not said there, so it is a setting. Here the space is
that of the person who is decoded: nothing of their own data is lost by a map, and the decoder runs
on their own voxels. All of it is learnt from training rows; no row of anybody that answers to a
clip of the test goes in.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples, join_samples
from calibration.methods.correlate import fold_correlations
from models.errors import SettingError
from models.ridge.estimator import Ridge
from models.ridge.folds import group_folds

__all__ = ["ALIGNMENT_ALPHAS", "AlignedPeople", "Pooling", "align_people", "shared_rows"]

logger = logging.getLogger(__name__)

Pooling = Literal["stack", "average", "joint"]
# Of brains whose voxels have a mean square of about 1, as standardised features have.
ALIGNMENT_ALPHAS = tuple(float(10.0**k) for k in range(0, 8))
_KEPT_BYTES = 512 * 2**20  # of held-out predictions at all penalties


@dataclass(frozen=True, slots=True, eq=False)
class AlignedPeople:
    """The rows of one person, and after them those of others in the same voxels."""

    samples: Samples  # every row a single measurement; `person` says whose
    n_own: int  # rows of the person themselves, which come first
    r: dict[str, float]  # held-out correlation of what was mapped, mean over voxels, by person
    n_shared: dict[str, int]  # rows that each map was learnt on


def align_people(
    own: Samples,
    others: Sequence[Samples],
    *,
    held_out: Collection[str] = (),
    how: Pooling = "stack",
    n_dims: int | None = None,
    alphas: Sequence[float] | NDArray[np.floating] = ALIGNMENT_ALPHAS,
    cv: int = 5,
) -> AlignedPeople:
    """Bring others into the voxels of one person.

    Parameters
    ----------
    own : Samples
        Training rows of the person who is decoded.
    others : sequence of Samples
        Training rows of other people, each with voxels of their own.
    held_out : collection of str
        Clips that will be tested: nobody's rows of them are used. `own` may not hold any.
    how : {"stack", "average", "joint"}
        "stack": rows of every other person follow. "average": one row for each stretch, the mean
        over the others. "joint": one map from all others' voxels together, for the stretches that
        all of them heard; best where recordings are noisy and few are shared.
    n_dims : int, optional
        Dimensions that the people share: what is mapped keeps the so many strongest.
    alphas : sequence of float
        One is chosen for each voxel.
    cv : int
        Folds over clips. Rows that a map was learnt on are those predictions that a fold held out.

    Raises
    ------
    SettingError
        If too few clips were heard by both, a clip of the test is among the person's own rows, or
        a setting is not usable.
    """
    if how not in get_args(Pooling):
        raise SettingError(f"Expected how to be one of {get_args(Pooling)}, got {how!r}.")
    if not others or (n_dims is not None and n_dims < 1):
        raise SettingError(
            f"An alignment needs one other person or more, and n_dims of 1 or more, got "
            f"{len(others)} and {n_dims}."
        )
    mine = own.separate()
    tested = sorted(set(held_out) & set(mine.clip.tolist()))
    if tested:
        raise SettingError(
            f"Clips that are held out are among the person's training rows: {tested[:3]}. "
            "Alignment is learnt inside the training part only."
        )
    allowed = [_without(other.separate(), held_out) for other in others]
    if how == "joint":
        allowed = [_side_by_side(allowed)]
    parts, scores, shared = [], {}, {}
    for other in allowed:
        name = " + ".join(dict.fromkeys(other.person.tolist())) if how != "joint" else "all"
        mapped, score, n = _map(other, mine, n_dims, alphas, cv)
        parts.append(mapped)
        scores[name], shared[name] = score, n
        logger.info("alignment of %s: r = %.3f on %d rows", name, score, n)
    if how == "average" and len(parts) > 1:
        parts = [_average(parts)]
    joined = join_samples([mine, *parts])
    return AlignedPeople(joined, len(mine), scores, shared)


def shared_rows(mine: Samples, other: Samples) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows of two people that answer to the same stretch of the same clip.

    Each row of `mine` is paired with that row of `other` of the same clip whose stretch begins
    nearest, within a quarter of its length; where `other` heard it several times, the presentations
    take turns.

    Returns
    -------
    mine, other : arrays of shape (n_shared,)
    """
    theirs: dict[str, NDArray[np.intp]] = {
        str(clip): np.flatnonzero(other.clip == clip) for clip in np.unique(other.clip)
    }
    turn: dict[int, int] = {}
    pairs = []
    for row, clip in enumerate(mine.clip.tolist()):
        candidates = theirs.get(clip)
        if candidates is None:
            continue
        apart = np.abs(other.start_s[candidates] - mine.start_s[row])
        nearest = candidates[apart <= apart.min() + 1e-6]
        if apart.min() <= 0.25 * (mine.stop_s[row] - mine.start_s[row]):
            first = int(nearest[0])
            turn[first] = turn.get(first, -1) + 1
            pairs.append((row, int(nearest[turn[first] % len(nearest)])))
    table = np.array(pairs, np.intp).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _map(
    other: Samples,
    mine: Samples,
    n_dims: int | None,
    alphas: Sequence[float] | NDArray[np.floating],
    cv: int,
) -> tuple[Samples, float, int]:
    """Return other's rows in the voxels of `mine`, the held-out correlation, and shared rows."""
    at, there = shared_rows(mine, other)
    groups = mine.clip[at]
    n_clips = len(np.unique(groups))
    if n_clips < max(cv, 2):
        who = " and ".join(dict.fromkeys((*mine.person.tolist(), *other.person.tolist())))
        raise SettingError(
            f"{who} share {n_clips} clips of the training part; an alignment needs {max(cv, 2)} or "
            "more that both heard. Record more, or align with somebody who heard the same."
        )
    folds = group_folds(len(at), cv, groups=groups)
    x, y = other.x[:, 0], mine.x[at, 0]
    mapped = np.empty((len(other), y.shape[1]), np.float32)
    r = np.empty(y.shape[1])
    step = max(1, _KEPT_BYTES // (4 * len(np.atleast_1d(alphas)) * len(at)))
    for start in range(0, y.shape[1], step):
        of = slice(start, start + step)
        ridge = Ridge(alphas, cv=folds, keep_held_out=True).fit(x[there], y[:, of])
        mapped[:, of] = ridge.predict(x)
        # A fit flatters the rows it was made of; the decoder must not learn to trust that.
        mapped[there, of] = ridge.held_out_
        r[of] = fold_correlations(ridge.held_out_, y[:, of], folds=folds)
    if n_dims is not None:
        mapped = _strongest(mapped, n_dims)
    return replace(other, x=mapped[:, None]), float(r.mean()), len(at)


def _strongest(rows: NDArray[np.float32], n_dims: int) -> NDArray[np.float32]:
    """Return rows with only their strongest principal components left."""
    mean = rows.mean(axis=0)
    u, s, vt = np.linalg.svd(rows - mean, full_matrices=False)
    k = min(n_dims, len(s))
    return np.asarray((u[:, :k] * s[:k]) @ vt[:k] + mean, np.float32)


def _without(samples: Samples, clips: Collection[str]) -> Samples:
    kept = ~np.isin(samples.clip, np.array(sorted(clips), np.str_))
    if not kept.any():
        raise SettingError(
            "Another person heard nothing but the clips that are held out, so there is nothing "
            "to learn from them."
        )
    return samples.take(kept) if not kept.all() else samples


def _side_by_side(people: Sequence[Samples]) -> Samples:
    """Return the voxels of several people next to each other, for stretches all of them heard."""
    first = people[0]
    rows = np.arange(len(first))
    partners = [rows]
    for other in people[1:]:
        at, there = shared_rows(first, other)
        pair = np.full(len(first), -1, np.intp)
        pair[at] = there
        partners.append(pair)
    everywhere = np.all(np.array(partners) >= 0, axis=0)
    if not everywhere.any():
        raise SettingError(
            "The other people have no stretch in common that all heard. Pool them with 'stack'."
        )
    wide = [p.x[rows[everywhere], 0] for p, rows in zip(people, partners, strict=True)]
    return replace(first.take(everywhere), x=np.concatenate(wide, axis=1)[:, None])


def _average(people: Sequence[Samples]) -> Samples:
    """Return one row for each stretch that anybody heard: the mean over people."""
    joined = join_samples(people)
    keys: dict[tuple[str, int], int] = {}
    number = np.array(
        [
            keys.setdefault((clip, round(start * 100)), len(keys))
            for clip, start in zip(joined.clip.tolist(), joined.start_s.tolist(), strict=True)
        ]
    )
    _, first = np.unique(number, return_index=True)
    total = np.zeros((len(keys), joined.x.shape[2]))
    np.add.at(total, number, joined.x[:, 0].astype(np.float64))
    mean: NDArray[Any] = total / np.bincount(number)[:, None]
    return replace(joined.take(first), x=mean.astype(np.float32)[:, None])
