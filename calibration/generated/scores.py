"""How well generated sound tells what was heard: it is analysed again, by another encoder.

What is scored is not what a decoder meant but what comes out of the generator. Direct generation
can lose which sound it was (RAG-Audio: 10-way .14 to .18, and .40 to .43 when it begins from a
retrieved sound), so ways to generate stand side by side, with chance, the sound of a brain that
heard something else, and the sound of the true embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.honest.identify import n_way_top_k, ranks, similarities
from calibration.scores import identification, permutation_p, shuffled_identification
from models.errors import SettingError

__all__ = ["GeneratedScores", "SoundScore", "SoundWay", "mean_score", "score_vectors"]

SoundWay = Literal["embedding", "direct", "started", "retrieved", "shuffled", "true"]
"""What was re-embedded.

embedding  nothing: the decoded embedding itself, in the space that it was decoded to
direct     generated from the decoded condition alone
started    the same, from the nearest library sound on
retrieved  the nearest library sound as it is
shuffled   generated from what a decoder says that learnt from a brain that heard other sounds
true       generated from the embedding of what was really heard: a ceiling
"""


@dataclass(frozen=True, slots=True)
class SoundScore:
    """Identification of what was heard, by one way to sound."""

    way: SoundWay
    strength: float | None  # of a start, else None
    identification: float  # ties count one half; chance is 0.5
    identification_strict: float  # ties lose
    standard_error: float
    permutation_p: float | None  # whole clips dealt out anew; None where it is a floor
    n_way: int  # candidates of the n-way question
    top_1: float  # how often the right one of `n_way`; chance is 1 / n_way
    n_clips: int

    @property
    def told(self) -> str:
        """What it is, for a person."""
        strength = "" if self.strength is None else f", strength {self.strength:g}"
        return {
            "embedding": "Decoded embedding, before any sound",
            "direct": "Generated sound, direct",
            "started": f"Generated sound, begun from the retrieved one{strength}",
            "retrieved": "Retrieved sound as it is",
            "shuffled": "Control: shuffled brain, generated"
            + ("" if self.strength is None else f" from a retrieved sound{strength}"),
            "true": "Ceiling: generated from the true embedding",
        }[self.way]


@dataclass(frozen=True, slots=True)
class GeneratedScores:
    """All ways to sound that were scored, on the same clips."""

    rows: tuple[SoundScore, ...]
    chain: str  # "semantic" or "coarse-to-fine"
    judge: str  # what re-embedded the sound
    generator: str
    seconds_per_clip: float  # of generated sound, at most
    notes: tuple[str, ...] = ()

    def row(self, way: SoundWay, strength: float | None = None) -> SoundScore | None:
        """Return a row; of several strengths the one that is asked for, or the first."""
        of_way = [row for row in self.rows if row.way == way]
        if strength is not None:
            of_way = [row for row in of_way if row.strength == strength]
        return of_way[0] if of_way else None

    @property
    def started(self) -> SoundScore | None:
        """That of the strength that was set, which comes first; the best would flatter itself."""
        return self.row("started")

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            **{k: v for k, v in asdict(self).items() if k not in ("rows", "notes")},
            "rows": [{**asdict(row), "told": row.told} for row in self.rows],
            "notes": list(self.notes),
        }

    def line(self) -> dict[str, Any]:
        """Return what stands in the command's last line."""
        direct, started = self.row("direct"), self.started
        floor, top, meant = self.row("shuffled"), self.row("true"), self.row("embedding")
        return {
            "sound_identification": direct and direct.identification,
            "sound_permutation_p": direct and direct.permutation_p,
            "sound_identification_started": started and started.identification,
            "sound_started_strength": started and started.strength,
            "sound_floor_shuffled": floor and floor.identification,
            "sound_ceiling": top and top.identification,
            "sound_identification_embedding": meant and meant.identification,
        }


def score_vectors(
    vectors: NDArray[np.floating[Any]],
    truth: NDArray[np.floating[Any]],
    *,
    way: SoundWay,
    own: NDArray[np.integer[Any]] | None = None,
    strength: float | None = None,
    n_way: int = 10,
    n_permutations: int = 2_000,
    seed: int = 0,
) -> SoundScore:
    """Score embeddings of sounds against those of what was heard.

    Parameters
    ----------
    vectors : array of shape (n, d)
        One for each clip.
    truth : array of shape (m, d)
        Of all clips, in the same space.
    way : str
    own : array of shape (n,), optional
        Row of `truth` that belongs to each vector; k belongs to k if not given.
    strength : float, optional
    n_way : int
        Candidates of the n-way question; fewer where there are fewer clips.
    n_permutations : int
        0: a floor, of which no p is asked.
    seed : int

    Raises
    ------
    SettingError
        If there are fewer than 3 clips.
    """
    if len(truth) < 3:
        raise SettingError(
            f"Sounds are told apart among at least 3 clips, got {len(truth)}. Hold out more."
        )
    mine = np.arange(len(vectors)) if own is None else np.asarray(own)
    table = similarities(
        np.asarray(vectors, np.float64), np.asarray(truth, np.float64), metric="correlation"
    )
    result = identification(table, own=mine)
    ways = min(n_way, len(truth))
    top = n_way_top_k(ranks(table, mine.astype(np.int64)), n_clips=len(truth), n_way=ways, k=1)
    p = None
    if n_permutations:
        # Each clip is a row and a column here: dealing out columns deals out whole clips.
        square = table[:, mine]
        null = shuffled_identification(square, n_permutations=n_permutations, seed=seed)
        p = permutation_p(identification(square).ties_half, null)
    return SoundScore(
        way=way,
        strength=strength,
        identification=result.ties_half,
        identification_strict=result.strict,
        standard_error=result.standard_error,
        permutation_p=p,
        n_way=ways,
        top_1=top,
        n_clips=len(vectors),
    )


def mean_score(scores: Sequence[SoundScore]) -> SoundScore:
    """Return the mean of scores of one way, of several shuffled brains."""
    first = scores[0]
    return SoundScore(
        way=first.way,
        strength=first.strength,
        identification=float(np.mean([score.identification for score in scores])),
        identification_strict=float(np.mean([score.identification_strict for score in scores])),
        standard_error=float(np.mean([score.standard_error for score in scores])),
        permutation_p=None,
        n_way=first.n_way,
        top_1=float(np.mean([score.top_1 for score in scores])),
        n_clips=first.n_clips,
    )
