"""How well a decoded sound identifies what was heard: the sound itself, analysed again.

What is scored is what came out of the loudspeaker, not what the decoder meant; beside it stands the
same score for brains that heard other sounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.embedding import MelStatistics
from calibration.fit_direct import MEL_FLOOR, mel_identification
from calibration.runs import Run, run_windows
from calibration.scores import (
    correlations,
    identification,
    permutation_p,
    shuffled_identification,
)
from calibration.stimuli import StimulusSequence
from export.bundle import Bundle
from export.library import Library
from export.manifest import DirectChain
from models.mel import MelSpec, log_mel
from models.standardise import standardise_batch
from stream.chain import Chain
from stream.messages import FeatureWindow

__all__ = [
    "DemoScore",
    "Segments",
    "decode_run",
    "library_embedding",
    "score_sound",
    "segments_of",
    "similarity_of",
]

# Share of a segment that must have been heard. What an overloaded machine left out counts against
# the score, as silence; only where most of it is missing there is nothing to judge.
_COVERED = 0.7
_N_PERMUTATIONS = 2_000


@dataclass(frozen=True, slots=True)
class DemoScore:
    """Identification of what was heard from what was decoded; chance is 0.5."""

    identification: float  # ties count one half
    identification_strict: float  # ties lose
    standard_error: float
    chance_se: float  # standard deviation of the score when targets are dealt out anew
    permutation_p: float
    n_segments: int
    segment_s: float
    floor_shuffled: float  # the same for brains that heard other sounds
    chance: float = 0.5


Segments = list[tuple[int, int]]


def segments_of(
    sequence: StimulusSequence,
    known: NDArray[np.bool_],
    *,
    segment_s: float | None,
    tail_s: float = 0.0,
) -> Segments:
    """Return the stretches that are scored: from sample, to sample.

    Parameters
    ----------
    sequence : StimulusSequence
    known : array of shape (n,), bool
        Where a decoded sound was heard.
    segment_s : float, optional
        Length of a segment, side by side from the first sound heard; without it each clip is one.
    tail_s : float
        Left out at the start of each clip, where the brain still answers to the clip before.
    """
    rate = sequence.sample_rate_hz
    if not known.any():
        return []
    if segment_s is None:
        bounds = [
            (
                round((clip.onset_s + tail_s) * rate),
                min(round((clip.onset_s + clip.duration_s) * rate), len(known)),
            )
            for clip in sequence.clips
            if clip.duration_s > 2.0 * tail_s + 0.5
        ]
    else:
        start, step = int(np.argmax(known)), round(segment_s * rate)
        bounds = [(k, k + step) for k in range(start, len(known) - step + 1, step)]
    return [(a, b) for a, b in bounds if np.mean(known[a:b]) >= _COVERED]


def score_sound(
    heard: NDArray[np.float32],
    decoded: NDArray[np.float32],
    segments: Segments,
    *,
    embed: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None,
    floors: Sequence[NDArray[np.float64]] = (),
    seed: int = 0,
) -> DemoScore | None:
    """Score a decoded sound against what was heard.

    Parameters
    ----------
    heard, decoded : arrays of shape (n,), float32
        On the same time, 16 kHz.
    segments : list of (int, int)
        What is told apart; None is returned for fewer than 3.
    embed : callable, optional
        Sound to vector: segments are compared by these; without it by their log mel spectrograms,
        frame by frame, each band's mean over all segments taken off.
    floors : sequence of arrays of shape (n_segments, n_segments)
        Similarities that brains gave which heard other sounds.
    """
    if len(segments) < 3:
        return None
    if embed is not None:
        truth = np.array([embed(heard[a:b]) for a, b in segments])
        similarity = similarity_of(decoded, segments, truth, embed)
    else:
        n = min(b - a for a, b in segments) // MelSpec().hop
        mels = [
            np.concatenate([_floored(pcm[a:b])[:n] for a, b in segments])
            for pcm in (decoded, heard)
        ]
        similarity = mel_identification(mels[0], mels[1], frames_per_segment=n)
    result = identification(similarity)
    null = shuffled_identification(similarity, n_permutations=_N_PERMUTATIONS, seed=seed)
    low, high = segments[0]
    return DemoScore(
        identification=result.ties_half,
        identification_strict=result.strict,
        standard_error=result.standard_error,
        chance_se=float(np.std(null)),
        permutation_p=permutation_p(result.ties_half, null),
        n_segments=result.n,
        segment_s=(high - low) / MelSpec().sample_rate_hz,
        floor_shuffled=(
            float(np.mean([identification(floor).ties_half for floor in floors]))
            if floors
            else float("nan")
        ),
    )


def similarity_of(
    decoded: NDArray[np.float32],
    segments: Segments,
    truth: NDArray[np.floating],
    embed: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> NDArray[np.float64]:
    """Return how each segment of a decoded sound (row) resembles what was heard in each (column).

    Parameters
    ----------
    decoded : array of shape (n,), float32
    segments : list of (int, int)
    truth : array of shape (n_segments, dim)
        Embeddings of the segments that were heard.
    embed : callable
        Sound to vector.
    """
    return correlations(np.array([embed(decoded[a:b]) for a, b in segments]), truth)


def library_embedding(bundle: Bundle) -> MelStatistics | None:
    """Return the embedding of a retrieval bundle, standardised over its library; else None."""
    if isinstance(bundle.manifest.chain, DirectChain):
        return None
    library = Library(bundle)
    return MelStatistics.fit([library.sound(k) for k in range(len(library))])


def decode_run(
    bundle: Bundle, chain: Chain, run: Run, heard: NDArray[np.float32], segments: Segments
) -> NDArray[np.float64]:
    """Return how the sounds decoded from a run resemble segments of a sound that was not heard.

    The control of the demo: the same brain, while it heard other sounds on the same timetable.

    Returns
    -------
    similarity : array of shape (n_segments, n_segments), float64
    """
    manifest = bundle.manifest
    windows = run_windows(run, manifest.features)
    x = standardise_batch(manifest.standardise, windows.values, bundle.mean, bundle.std)
    decoded = [chain.decode(FeatureWindow(row, k, 0, 1, 0.0, 0.0)) for k, row in enumerate(x)]
    block_s = manifest.sound.block_s
    stretch = windows.stretch(manifest.lag_s, block_s)
    rate = run.sequence.sample_rate_hz
    if isinstance(manifest.chain, DirectChain):
        mel, per_window = manifest.chain.mel, manifest.chain.frames_per_window
        n = min(b - a for a, b in segments) // mel.hop
        frames = np.concatenate([condition.values for condition in decoded])
        # Frame k of all decoded ones starts so many frames after the onset of the sound.
        offset = round(stretch[0, 0] * rate / mel.hop)
        at = [np.arange(n) + round(a / mel.hop) - offset for a, _ in segments]
        mine = [frames[np.clip(index, 0, len(frames) - 1)] for index in at]
        truth = [_floored(heard[a:b])[:n] for a, b in segments]
        assert per_window > 0
        return mel_identification(np.concatenate(mine), np.concatenate(truth), frames_per_segment=n)
    library = Library(bundle)
    embedding = MelStatistics.fit([library.sound(k) for k in range(len(library))])
    vectors = library.embeddings[[condition.item for condition in decoded]]
    middle = stretch.mean(axis=1) * rate
    rows = np.array(
        [
            vectors[(middle >= a) & (middle < b)].mean(axis=0)
            if np.any((middle >= a) & (middle < b))
            else np.zeros(vectors.shape[1])
            for a, b in segments
        ]
    )
    return correlations(rows, np.array([embedding.embed(heard[a:b]) for a, b in segments]))


def _floored(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(log_mel(pcm, MelSpec()), np.float32(MEL_FLOOR))
