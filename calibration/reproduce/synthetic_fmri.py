"""Synthetic cortical responses: what of the paper's plumbing can be checked without its encoder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from calibration.reproduce.options import Progress, ReproduceOptions
from calibration.reproduce.record import Check, Reproduction, Row, waiting
from calibration.reproduce.tables import PAPERS, find, published
from calibration.scores import correlations, identification
from models.errors import SettingError

__all__ = ["TABLES", "lowest_clap", "orthogonal", "reproduce", "rerank"]

logger = logging.getLogger(__name__)

PAPER = "synthetic-fmri"
TABLES = ("reranking", "adapters")

N_VERTICES = 20_484  # fsaverage5, both hemispheres
N_VOXELS = 15_724  # what MindEye2's first participant takes
_ALPHA = 0.3
_HIDDEN = 2_048
# Published: CLAP of four candidates, and the score after reranking of two of them.
_CLAP = {"piano": 0.314, "concert": 0.241, "moonlight and shadow": 0.205, "clouds": 0.173}
_BEST, _THIRD = 0.889, 0.680


def rerank(
    clap: Sequence[float] | NDArray[np.float64],
    clip: Sequence[float] | NDArray[np.float64],
    *,
    alpha: float = _ALPHA,
) -> NDArray[np.float64]:
    """Return alpha CLAP + (1 - alpha) CLIP, each brought to 0 to 1 over the candidates.

    Parameters
    ----------
    clap, clip : arrays of shape (n_candidates,)
        Cosines of each candidate with the sound, and of its image with its caption.
    alpha : float
        Weight of the sound, 0 to 1; 0.3 in the paper.

    Returns
    -------
    score : array of shape (n_candidates,)
        Where all candidates are alike on an axis, it says nothing: 0 for all.

    Raises
    ------
    SettingError
        If there are no candidates, the lengths differ, or alpha is not in 0 to 1.
    """
    a, b = np.asarray(clap, np.float64), np.asarray(clip, np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a) or not 0.0 <= alpha <= 1.0:
        raise SettingError(
            f"Reranking needs as many CLAP as CLIP values and alpha in 0 to 1, got {a.shape}, "
            f"{b.shape} and {alpha}."
        )
    return alpha * _scaled(a) + (1.0 - alpha) * _scaled(b)


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    width = float(np.ptp(values))
    return (values - values.min()) / width if width > 0 else np.zeros_like(values)


def lowest_clap(score: float, clap: float, highest: float, *, alpha: float = _ALPHA) -> float:
    """Return the lowest CLAP among all candidates that makes `score` of the one with best CLIP.

    With CLIP scaled to 1, score = alpha (clap - low) / (highest - low) + 1 - alpha.
    """
    share = (score - (1.0 - alpha)) / alpha
    return (clap - share * highest) / (1.0 - share)


def orthogonal(n_rows: int, n_columns: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random matrix with orthonormal rows, or columns where it is taller than wide.

    Raises
    ------
    SettingError
        If a size is not above 0.
    """
    if min(n_rows, n_columns) < 1:
        raise SettingError(f"Expected sizes above 0, got {n_rows} x {n_columns}.")
    tall = rng.normal(size=(max(n_rows, n_columns), min(n_rows, n_columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diagonal(r))  # uniform over all rotations, not those QR prefers
    return np.asarray(q if n_rows >= n_columns else q.T)


def reproduce(options: ReproduceOptions, *, progress: Progress) -> Reproduction:
    """Compute what can be computed; a data set is not used, since none is public."""
    rows: list[Row] = []
    if options.wants("reranking"):
        rows += _reranking()
    if options.wants("adapters"):
        progress("adapters", 0, 1)
        rows += _adapters(options)
    done = {(row.table, row.name, row.metric) for row in rows if row.ours is not None}
    left = [p for p in published(PAPER) if (p.table, p.row, p.metric) not in done]
    rows += [row for item in left for row in waiting([item], _reason(item.table, item.row))]
    notes = ["Plumbing, not evidence: no row here says anything about a brain."]
    if options.data is not None:
        notes.append("--data was not read: the paper's pairs are not public, its encoder closed.")
    return Reproduction(
        paper=PAPER,
        title=PAPERS[PAPER].title,
        claim=PAPERS[PAPER].claim,
        data="none; published values and random numbers only",
        participants=(),
        checks=tuple(_checks()),
        rows=tuple(rows),
        notes=tuple(notes),
        settings=options.to_json(),
    )


def _checks() -> list[Check]:
    raw = (_BEST - _ALPHA * _CLAP["moonlight and shadow"]) / (1.0 - _ALPHA)
    return [
        Check(
            "the best score from raw cosines would need a CLIP of",
            "at most 1",
            f"{raw:.2f}, so scores are scaled over the candidates",
            True,
        )
    ]


def _reranking() -> list[Row]:
    """Put the published components through the rule; what is not published is solved for."""
    low = lowest_clap(_BEST, _CLAP["moonlight and shadow"], _CLAP["piano"])
    share = (_CLAP["clouds"] - low) / (_CLAP["piano"] - low)
    clip_of_third = (_THIRD - _ALPHA * share) / (1.0 - _ALPHA)
    # Five candidates: the best two of the page by CLAP, the two with both values, the lowest.
    clap = [_CLAP["piano"], _CLAP["moonlight and shadow"], _CLAP["clouds"], low]
    clip = [0.0, 1.0, clip_of_third, 0.0]
    made = rerank(clap, clip)
    told = (
        f"CLIP values are not published: with the best CLIP at its highest the lowest CLAP comes "
        f"to {low:.3f}, and this candidate's scaled CLIP to "
    )
    rows = []
    for name, value, scaled in (("candidate 1", made[1], 1.0), ("candidate 3", made[2], clip[2])):
        rows.append(
            Row(
                "reranking",
                name,
                "score",
                published=find(PAPER, "reranking", name, "score"),
                ours=float(value),
                using="min-max rule, alpha 0.3",
                controls={"CLAP": clap[1] if name.endswith("1") else clap[2]},
                remark=told + f"{scaled:.3f}. The equality is solved for, no test; that all "
                "values lie in 0 to 1 is what the rule had to show",
            )
        )
    return rows


def _adapters(options: ReproduceOptions) -> list[Row]:
    rng = np.random.default_rng(options.seed)
    frames = rng.normal(size=(60, 512))
    spread = np.linalg.svd(frames - frames.mean(axis=0), compute_uv=False) ** 2
    n = int(np.searchsorted(np.cumsum(spread) / spread.sum(), 0.99) + 1)
    sizes = (N_VERTICES, _HIDDEN, _HIDDEN, N_VOXELS)
    linear = sum(a * b + b for a, b in pairwise(sizes))
    n_parameters = linear + 2 * 2 * _HIDDEN  # and two layer norms
    # The rotation itself is 15,724 x 20,484; a smaller one shows the same.
    latent = rng.normal(size=(60, 16)) @ rng.normal(size=(16, 1024))
    truth = latent + 0.5 * rng.normal(size=latent.shape)
    turn = orthogonal(786, 1024, rng=rng)
    before = identification(correlations(latent, truth)).ties_half
    after = identification(correlations(latent @ turn.T, truth @ turn.T)).ties_half
    null = identification(correlations(latent @ turn.T, truth[rng.permutation(60)] @ turn.T))
    return [
        Row(
            "adapter A",
            "60 frames",
            "components",
            published=find(PAPER, "adapter A", "60 frames", "components"),
            ours=float(n),
            using="random frames",
            remark="60 frames without their mean have 59 components at most; 99 % of the variance "
            "of white noise takes nearly all of them, of real responses fewer",
        ),
        Row(
            "adapter A",
            "random rotation, 1,024 to 786",
            "identification",
            ours=after,
            using="random vectors",
            controls={"chance": 0.5, "before the rotation": before, "dealt out": null.ties_half},
            remark="a rotation keeps who resembles whom and adds nothing",
        ),
        Row(
            "adapter B",
            "MLP",
            "parameters, millions",
            published=find(PAPER, "adapter B", "MLP", "parameters, millions"),
            ours=n_parameters / 1e6,
            using="20,484 to 2,048 to 2,048 to 15,724",
            remark=f"{n_parameters:,}",
        ),
        Row(
            "adapter B",
            "ridge",
            "parameters, millions",
            ours=(N_VERTICES * N_VOXELS + N_VOXELS) / 1e6,
            using="20,484 to 15,724",
        ),
    ]


def _reason(table: str, row: str) -> str:
    if table == "reranking":
        return "the CLIP values of these candidates, which are not published"
    if table in ("adapter A", "adapter B"):
        return "its table, left out by --only"
    if table == "synthetic and real cortex":
        return "MARY-Nano, which is closed (TRIBE v2 is public, non-commercial, another encoder)"
    if table == "true fMRI":
        return "MindEye2's weights and the Natural Scenes Dataset"
    return "MARY-Nano, which is closed, and MindEye2's weights"
