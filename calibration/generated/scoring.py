"""Generate the sound of clips that were held out, in several ways, and score each by the judge."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibration.embedders.base import Embedder
from calibration.generated.conditions import ClipConditions
from calibration.generated.render import nowhere, render_conditions
from calibration.generated.scores import GeneratedScores, SoundScore, mean_score, score_vectors
from calibration.generated.start_library import StartLibrary
from models.errors import SettingError
from stream.messages import Condition
from stream.render import Renderer

__all__ = ["HeldOut", "RendererMaker", "SoundScoring", "score_generated"]

RendererMaker = Callable[[int, StartLibrary | None, float], Renderer]
"""(seed, library to begin from or None, strength) -> a renderer at its beginning."""


@dataclass(frozen=True, slots=True)
class SoundScoring:
    """How generated sound is scored."""

    strengths: tuple[float, ...] = (0.5, 0.7, 0.9)  # of starts from retrieved sounds
    most_clips: int = 40  # generated, drawn at random from those that are held out
    most_s: float = 10.0  # of generated sound for each clip
    n_shuffled: int = 1  # decoders of shuffled brains whose sound is generated too
    n_permutations: int = 2_000
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Clips that were held out: what was decoded of them, and what they really are."""

    decoded: tuple[ClipConditions, ...]
    shuffled: tuple[tuple[ClipConditions, ...], ...]  # the same clips, by other decoders
    heard: tuple[NDArray[np.float32], ...]  # (n,) their sounds, 16 kHz
    meant: NDArray[np.float64]  # (n_clips, 512) their embeddings by the generator's encoder
    each_s: float  # how long a condition sounds
    # Names of library sounds that a clip must not begin from: those held out together with it.
    without: Mapping[str, Collection[str]] = field(default_factory=dict)
    # True conditions; None: `meant` alone. Empty: nothing is known that this generator takes.
    true: tuple[ClipConditions, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The clips."""
        return tuple(clip.clip for clip in self.decoded)


def score_generated(
    held: HeldOut,
    *,
    chain: str,
    generator: str,
    renderer: RendererMaker,
    judge: Embedder,
    library: StartLibrary | None,
    options: SoundScoring,
    progress: Callable[[int, int], None] | None = None,
    notes: Sequence[str] = (),
) -> GeneratedScores:
    """Score the sound of held-out conditions, re-embedded by the judge.

    Every way to sound uses the same clips and, clip by clip, the same noise.

    Parameters
    ----------
    held : HeldOut
    chain, generator : str
        What they are called in the report.
    renderer : callable
        Makes a renderer, as a live session's.
    judge : Embedder
        Not the encoder in whose space was decoded.
    library : StartLibrary, optional
        Nothing is begun from a retrieved sound without it.
    options : SoundScoring
    progress : callable, optional
        Told how many ways are done, of how many.
    notes : sequence of str

    Raises
    ------
    SettingError
        If there are fewer than 3 clips.
    """
    if len(held.decoded) < 3:
        raise SettingError(
            f"Generated sound is told apart among at least 3 clips, got {len(held.decoded)}. Hold "
            "out more."
        )
    truth = np.stack([judge.embed(_first(pcm, options.most_s), 16_000) for pcm in held.heard])
    strengths = options.strengths if library is not None else ()
    shuffled = held.shuffled[: options.n_shuffled]
    total = 1 + len(strengths) + len(shuffled) * (1 + len(strengths[:1])) + (held.true != ())
    done = 0
    made: list[NDArray[np.float32]] = []  # vectors of the direct sounds

    def score(
        clips: Sequence[ClipConditions], way: str, strength: float | None = None, *, p: bool = True
    ) -> SoundScore:
        nonlocal done
        if progress is not None:
            progress(done, total)
        done += 1
        start = None if strength is None else library
        sounds = [
            _sound(clip, number, held, renderer, start, strength, options)
            for number, clip in enumerate(clips)
        ]
        vectors = np.stack([judge.embed(pcm, 16_000) for pcm in sounds])
        if way == "direct":
            made.append(vectors)
        return score_vectors(
            vectors,
            truth,
            way=way,  # type: ignore[arg-type]
            strength=strength,
            n_permutations=options.n_permutations if p else 0,
            seed=options.seed,
        )

    def scored(
        vectors: NDArray[np.floating], against: NDArray[np.floating], way: str
    ) -> SoundScore:
        return score_vectors(
            vectors,
            against,
            way=way,  # type: ignore[arg-type]
            n_permutations=options.n_permutations,
            seed=options.seed,
        )

    rows = [scored(np.stack([c.mean for c in held.decoded]), held.meant, "embedding")]
    rows.append(score(held.decoded, "direct"))
    rows += [score(held.decoded, "started", strength) for strength in strengths]
    if library is not None:
        rows.append(scored(_retrieved(held, library, judge, options), truth, "retrieved"))
    if shuffled:
        rows.append(mean_score([score(clips, "shuffled", p=False) for clips in shuffled]))
        for strength in strengths[:1]:
            again = [score(clips, "shuffled", strength, p=False) for clips in shuffled]
            rows.append(mean_score(again))
    else:
        rows.append(_dealt(made[0], truth, options))
        notes = (*notes, "The control of the sound deals what was decoded out to other clips.")
    true = held.true if held.true is not None else _meant(held)
    if true:
        rows.append(score(true, "true", p=False))
    return GeneratedScores(
        rows=tuple(rows),
        chain=chain,
        judge=judge.name,
        generator=generator,
        seconds_per_clip=options.most_s,
        notes=tuple(notes),
    )


def _meant(held: HeldOut) -> tuple[ClipConditions, ...]:
    """Return the true embedding of each clip for all of its windows."""
    meant = np.asarray(held.meant / np.linalg.norm(held.meant, axis=1, keepdims=True), np.float32)
    return tuple(
        ClipConditions(clip.clip, np.repeat(row[np.newaxis], len(clip.vectors), axis=0))
        for clip, row in zip(held.decoded, meant, strict=True)
    )


def _sound(
    clip: ClipConditions,
    number: int,
    held: HeldOut,
    renderer: RendererMaker,
    library: StartLibrary | None,
    strength: float | None,
    options: SoundScoring,
) -> NDArray[np.float32]:
    """Return the sound of a clip's conditions, from silence on."""
    n = max(1, int(np.ceil(options.most_s / held.each_s - 1e-9)))
    conditions = []
    for k, vector in enumerate(clip.vectors[:n]):
        item = -1
        if library is not None:
            item = library.nearest(vector, without=held.without.get(clip.clip, ()))
        tokens = None if clip.tokens is None else clip.tokens[k]
        conditions.append(Condition(vector, nowhere(k), item, tokens=tokens))
    made = renderer(options.seed + number, library, 1.0 if strength is None else strength)
    pcm = render_conditions(made, conditions, each_s=held.each_s, least_s=_LEAST_S)
    return _first(pcm, options.most_s)


def _dealt(
    vectors: NDArray[np.float32], truth: NDArray[np.float32], options: SoundScoring
) -> SoundScore:
    """Return the score of sounds that belong to other clips, where no shuffled brain is at hand."""
    rng = np.random.default_rng([options.seed, 514])
    scores = []
    for _ in range(_N_DEALT):
        order = rng.permutation(len(truth))
        own = np.empty(len(truth), np.int64)
        own[order] = np.roll(order, 1)
        scores.append(score_vectors(vectors, truth, way="shuffled", own=own, n_permutations=0))
    return mean_score(scores)


def _retrieved(
    held: HeldOut, library: StartLibrary, judge: Embedder, options: SoundScoring
) -> NDArray[np.float64]:
    """Return the judge's embedding of the sounds that would be begun from, mean over windows."""
    n = max(1, int(np.ceil(options.most_s / held.each_s - 1e-9)))
    known: dict[int, NDArray[np.float32]] = {}
    rows = []
    for clip in held.decoded:
        without = held.without.get(clip.clip, ())
        items = [library.nearest(vector, without=without) for vector in clip.vectors[:n]]
        for item in items:
            if item not in known:
                known[item] = judge.embed(library.sounds[item].pcm, 16_000)
        rows.append(np.mean([known[item] for item in items], axis=0, dtype=np.float64))
    return np.stack(rows)


_N_DEALT = 20
_LEAST_S = 2.56  # what the judge hears at once


def _first(pcm: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    return pcm[: max(1, round(seconds * 16_000))]
