"""Is it more than chance: nulls that keep what neighbours share, and p values that are never zero.

Brain signals and sounds both change slowly. A null made by shuffling single windows is too narrow,
and noise then looks significant; here whole clips, or blocks of at least 10 TR, change places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.scores import permutation_p, permute_blocks
from models.errors import SettingError

__all__ = [
    "MIN_BLOCK_TR",
    "Permutation",
    "block_units",
    "column_permutation_p",
    "permute_units",
    "phase_randomise",
]

Rows: TypeAlias = NDArray[np.float64]

MIN_BLOCK_TR = 10  # as Huth's encoding scripts have it; the haemodynamic response is over by then


@dataclass(frozen=True, slots=True, eq=False)
class Permutation:
    """A permutation test: p = (1 + #{null >= observed}) / (N + 1), one-sided."""

    p: float
    n: int  # N
    null: Rows  # (N,)
    kind: str  # what was permuted


def permute_units(
    score_if_own: Rows,
    own: NDArray[np.int64],
    *,
    n_permutations: int,
    rng: np.random.Generator,
) -> Permutation:
    """Deal the clips' targets out anew; people who heard one clip get the same new target for it.

    Parameters
    ----------
    score_if_own : array of shape (n_rows, n_clips)
        From `identify.score_if_own`.
    own : array of shape (n_rows,)
        Column of each row's clip.
    n_permutations : int
    rng : numpy.random.Generator
    """
    rows, n_clips = np.arange(len(own)), score_if_own.shape[1]
    observed = float(score_if_own[rows, own].mean())
    null = np.empty(n_permutations)
    for k in range(n_permutations):
        null[k] = score_if_own[rows, rng.permutation(n_clips)[own]].mean()
    # Equal scores must count as equal although their sums are added in another order.
    return Permutation(permutation_p(observed - 1e-12, null), n_permutations, null, "clips")


def column_permutation_p(
    predicted: Rows,
    measured: Rows,
    *,
    blocks: NDArray[np.str_] | NDArray[np.int64],
    n_permutations: int,
    rng: np.random.Generator,
) -> Rows:
    """Return p of the correlation over time of each column: an encoding model's voxels.

    Whole blocks change places, the same for all columns, so that what voxels share is kept.

    Parameters
    ----------
    predicted, measured : arrays of shape (n, n_columns)
        Over time; constant columns get p = 1.
    blocks : array of shape (n,)
        Clip, or block of at least 10 TR (`block_units`), of each row.
    n_permutations : int
    rng : numpy.random.Generator

    Returns
    -------
    p : array of shape (n_columns,)
    """
    fit, truth = _standard(predicted), _standard(measured)
    observed = np.einsum("ij,ij->j", fit, truth)
    above = np.zeros(fit.shape[1], np.int64)
    for _ in range(n_permutations):
        order = permute_blocks(blocks, rng=rng)
        above += np.einsum("ij,ij->j", fit[order], truth) >= observed - 1e-12
    return np.asarray((1 + above) / (n_permutations + 1))


def block_units(samples: Samples, *, block_s: float) -> NDArray[np.str_]:
    """Cut long clips (stories, songs) into blocks that can be told apart and permuted.

    Parameters
    ----------
    samples : Samples
    block_s : float
        Length of a block in the stimulus, s; for BOLD at least `MIN_BLOCK_TR` times the TR.

    Returns
    -------
    units : array of shape (n,)
        Clip and number of its block; a rest shorter than half a block goes with the block before.

    Raises
    ------
    SettingError
        If `block_s` is not positive.
    """
    if not block_s > 0.0:
        raise SettingError(f"A block needs a positive length, got {block_s} s.")
    names = np.empty(len(samples), dtype=f"<U{samples.clip.dtype.itemsize // 4 + 24}")
    clips, number = np.unique(samples.clip, return_inverse=True)
    stop_s = np.zeros(len(clips))
    np.maximum.at(stop_s, number, samples.stop_s)
    last = np.maximum(np.round(stop_s / block_s).astype(np.int64) - 1, 0)[number]
    block = np.minimum(((samples.start_s + 1e-9) // block_s).astype(np.int64), last)
    for k, clip in enumerate(samples.clip):
        names[k] = f"{clip}#{block[k]:05d}"
    return names


def phase_randomise(rows: Rows, *, rng: np.random.Generator) -> Rows:
    """Return rows with the spectrum of each column kept and the phases drawn anew.

    All columns get the same phases, which keeps their correlations with each other (Theiler et al.
    1992, doi:10.1016/0167-2789(92)90102-S; Prichard and Theiler 1994,
    doi:10.1103/PhysRevLett.73.951).

    Parameters
    ----------
    rows : array of shape (n, d)
        Evenly spaced in time.
    rng : numpy.random.Generator
    """
    n = len(rows)
    spectrum = np.fft.rfft(rows, axis=0)
    turn = np.exp(2j * np.pi * rng.random(len(spectrum)))[:, None]
    turn[0] = 1.0  # the mean stays
    if n % 2 == 0:
        turn[-1] = np.where(rng.random() < 0.5, 1.0, -1.0)  # the Nyquist bin is real
    return np.fft.irfft(spectrum * turn, n, axis=0)


def _standard(rows: Rows) -> Rows:
    values = np.asarray(rows, np.float64)
    centred = values - values.mean(axis=0)
    norm = np.linalg.norm(centred, axis=0)
    return np.asarray(np.where(norm > 1e-12, centred / np.maximum(norm, 1e-12), 0.0))
