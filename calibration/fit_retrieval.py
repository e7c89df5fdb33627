"""Fit a retrieval chain: brain features to an embedding, then the nearest library sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.runs import Run, clip_at, run_windows
from calibration.scores import correlations, identification
from calibration.stimuli import SAMPLE_RATE_HZ
from models.errors import SettingError
from models.ridge.shared import LinearFit, fit_shared
from models.spec import FeatureSpec, StandardiseSpec
from models.standardise import standardise_batch

__all__ = [
    "RetrievalFit",
    "SoundEmbedding",
    "fit_retrieval",
    "predict_embedding",
    "score_retrieval",
]


class SoundEmbedding(Protocol):
    """What a sound is to a retrieval chain: `calibration.embedding.MelStatistics` is one."""

    def embed(self, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the embedding of a sound at 16 kHz: (dim,), unit length."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalFit:
    """A fitted retrieval chain, without its library."""

    features: FeatureSpec
    standardise: StandardiseSpec
    mean: NDArray[np.float64]  # (n_features,)
    std: NDArray[np.float64]
    linear: LinearFit
    embedding: SoundEmbedding
    block_s: float
    lag_s: float
    lag_scores: dict[float, float]  # held-out correlation at each lag that was tried


def fit_retrieval(
    runs: Sequence[Run],
    *,
    embedding: SoundEmbedding,
    features: FeatureSpec,
    block_s: float,
    lags_s: Sequence[float],
    alphas: Sequence[float] = (1e2, 1e3, 1e4, 1e5, 1e6),
    standardise: StandardiseSpec | None = None,
) -> RetrievalFit:
    """Fit features to the embedding of what was heard `lag_s` before.

    The target of a window is the embedding of the clip that sounds in the middle of the stretch
    that the window renders. The lag and the penalty are chosen by five folds of whole clips.

    Parameters
    ----------
    runs : sequence of Run
        Training runs.
    embedding : SoundEmbedding
    features : FeatureSpec
    block_s : float
        Length of the stretch that one window renders: its hop, s.
    lags_s : sequence of float
        Lags to choose from, s.
    alphas : sequence of float
        Penalties to choose from, for standardised features.
    standardise : StandardiseSpec, optional
        Causal with the statistics of the training runs kept, if not given.

    Raises
    ------
    SettingError
        If there is nothing to fit or a choice is not usable.
    """
    if not runs or not lags_s:
        raise SettingError(f"A fit needs runs and lags, got {len(runs)} and {list(lags_s)}.")
    standardise = standardise or StandardiseSpec()
    windows = [run_windows(run, features) for run in runs]
    clips = [_clip_embeddings(run, embedding) for run in runs]
    raw = np.concatenate([w.values for w in windows]).astype(np.float64)
    mean, std = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-30)
    fits: dict[float, LinearFit] = {}
    for lag_s in lags_s:
        x_rows, y_rows, g_rows = [], [], []
        for number, (run, w, vectors) in enumerate(zip(runs, windows, clips, strict=True)):
            clip = clip_at(run.sequence, w.stretch(lag_s, block_s).mean(axis=1))
            rows = np.flatnonzero(clip >= 0)
            x_rows.append(standardise_batch(standardise, w.values, mean, std)[rows])
            y_rows.append(vectors[clip[rows]])
            g_rows.append(clip[rows] + 1_000_000 * number)
        fits[lag_s] = fit_shared(
            np.concatenate(x_rows), np.concatenate(y_rows), np.concatenate(g_rows), alphas=alphas
        )
    lag_scores = {lag: fit.scores[fit.alpha] for lag, fit in fits.items()}
    lag_s = max(lag_scores, key=lambda lag: lag_scores[lag])
    return RetrievalFit(
        features, standardise, mean, std, fits[lag_s], embedding, block_s, lag_s, lag_scores
    )


def predict_embedding(fit: RetrievalFit, run: Run) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return decoded embeddings (n, dim), unit length, and the clip that each one renders."""
    windows = run_windows(run, fit.features)
    clip = clip_at(run.sequence, windows.stretch(fit.lag_s, fit.block_s).mean(axis=1))
    rows = np.flatnonzero(clip >= 0)
    x = standardise_batch(fit.standardise, windows.values, fit.mean, fit.std)[rows]
    vectors = fit.linear.predict(x)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), clip[rows]


def score_retrieval(
    fit: RetrievalFit,
    run: Run,
    other: Run,
    *,
    library: NDArray[np.float32],
    labels: Sequence[str],
) -> dict[str, float]:
    """Return scores of a run that was held out, clip by clip, and their floors.

    Parameters
    ----------
    fit : RetrievalFit
    run : Run
        With clips of several classes.
    other : Run
        Of the same brain while it heard other sounds on the same timetable: held against the
        sounds of `run`, it gives what is scored without any brain signal of theirs.
    library : array of shape (n_sounds, dim), float32
        Embeddings of the library.
    labels : sequence of str
        Class of each sound of the library.
    """
    decoded, clip = predict_embedding(fit, run)
    numbers = np.unique(clip)
    per_clip = _clip_means(decoded, clip, numbers)
    truth = _clip_embeddings(run, fit.embedding)[numbers]
    similarity = correlations(per_clip, truth)
    elsewhere = correlations(_clip_means(*predict_embedding(fit, other), numbers), truth)
    result = identification(similarity)
    nearest = np.argmax(decoded @ library.T, axis=1)
    played = np.array([labels[k] for k in nearest])
    heard = np.array([run.sequence.clips[number].stimulus.label for number in clip])
    # What the retrieved sound itself identifies, as a person who only hears it would score.
    sounds = _clip_means(library[nearest], clip, numbers)
    return {
        "identification": result.ties_half,
        "identification_strict": result.strict,
        "identification_retrieved": identification(correlations(sounds, truth)).ties_half,
        "identification_other_sound": identification(elsewhere).ties_half,
        "chance": 0.5,
        "n_clips": float(result.n),
        "right_class": float(np.mean(played == heard)),
        "right_class_chance": float(np.mean([np.mean(heard == label) for label in played])),
    }


def _clip_means(
    rows: NDArray[np.floating], clip: NDArray[np.int64], numbers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the mean of the rows of each clip."""
    return np.array([np.asarray(rows[clip == number], np.float64).mean(0) for number in numbers])


def _clip_embeddings(run: Run, embedding: SoundEmbedding) -> NDArray[np.float64]:
    """Return the embedding of each clip of a run: (n_clips, dim)."""
    vectors = []
    for clip in run.sequence.clips:
        first = round(clip.onset_s * SAMPLE_RATE_HZ)
        n = round(clip.duration_s * SAMPLE_RATE_HZ)
        vectors.append(embedding.embed(run.sequence.pcm[first : first + n]))
    return np.asarray(vectors, np.float64)
