"""What of a stimulus drives the simulated brain: an embedding, every half second of each clip."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.embedding import MelStatistics, mel_statistics
from calibration.simulate.settings import SimulationSettings
from calibration.simulate.timetable import Clip, PlannedRun
from calibration.stimuli import SAMPLE_RATE_HZ, make_stimulus
from models.errors import SettingError
from models.mel import MelSpec, log_mel

__all__ = [
    "STEP_S",
    "ClipFeatures",
    "SoundEmbedding",
    "clip_features",
    "clip_sound",
    "clip_statistics",
]

STEP_S = 0.5  # from vector to vector
_WINDOW_S = 1.5  # of sound that a vector describes, around its middle
_WALK_S = 2.0  # how long the walk of latent vectors remembers
_WALK_SHARE = 0.5  # its variance over that between clips


class SoundEmbedding(Protocol):
    """A fixed vector of a stretch of sound, as `calibration.embedders` has them."""

    @property
    def name(self) -> str:
        """What the truth calls it."""
        ...

    def embed(self, pcm: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float32]:
        """Return the vector: (dim,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ClipFeatures:
    """The embedding of all clips, and the few dimensions of it that brains respond to.

    `values[c, i]` describes clip c around (i + 1/2) * `STEP_S`. The latent dimensions are the
    principal components over training clips, at unit variance: z = (value - mean) @ projection.
    """

    clips: tuple[str, ...]  # ids
    values: NDArray[np.float32]  # (n_clips, n_steps, n_features)
    mean: NDArray[np.float64]  # (n_features,)
    projection: NDArray[np.float64]  # (n_features, latent_dim)
    name: str
    # Mean and scale of the statistics, by which "mel-statistics" is had from a sound; else empty.
    standard: NDArray[np.float64]  # (2, 96), or (0, 0)

    @property
    def latent(self) -> NDArray[np.float64]:
        """What brains respond to: (n_clips, n_steps, latent_dim)."""
        return np.asarray((self.values - self.mean) @ self.projection)

    def of(self, clip: str, start_s: float, stop_s: float) -> NDArray[np.float64]:
        """Return the mean embedding of a stretch of a clip: (n_features,).

        Raises
        ------
        SettingError
            If there is no such clip, or no vector's middle lies in the stretch.
        """
        if clip not in self.clips:
            raise SettingError(f"No clip {clip!r} was simulated. Name one of the data set's.")
        middle = (np.arange(self.values.shape[1]) + 0.5) * STEP_S
        inside = (middle >= start_s - 1e-9) & (middle < stop_s - 1e-9)
        if not inside.any():
            raise SettingError(
                f"{start_s:g} to {stop_s:g} s of {clip!r} holds no vector; there is one every "
                f"{STEP_S} s from {STEP_S / 2} s on."
            )
        return np.asarray(
            self.values[self.clips.index(clip)][inside].mean(axis=0, dtype=np.float64)
        )


@lru_cache(maxsize=8)  # the one that is written is then embedded
def clip_sound(clip: Clip) -> NDArray[np.float32]:
    """Return the sound of a clip: (n,), 16 kHz."""
    return make_stimulus(clip.label, clip.seed, clip.duration_s).pcm


def _middles(duration_s: float) -> NDArray[np.float64]:
    return np.asarray((np.arange(int(np.ceil(duration_s / STEP_S - 1e-9))) + 0.5) * STEP_S)


def _stretches(duration_s: float, rate_hz: float, n: int) -> list[slice]:
    """Return the window around each middle, cut off at the ends of the clip."""
    middle = _middles(duration_s)
    first = np.maximum(np.round((middle - _WINDOW_S / 2) * rate_hz), 0).astype(np.int64)
    stop = np.minimum(np.round((middle + _WINDOW_S / 2) * rate_hz), n).astype(np.int64)
    return [slice(int(a), int(b)) for a, b in zip(first, stop, strict=True)]


@lru_cache(maxsize=4096)
def clip_statistics(clip: Clip) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the mel statistics of a clip's windows (n_steps, 96) and of all of it (96,)."""
    pcm = clip_sound(clip)
    mel = log_mel(pcm, MelSpec())
    rows = [mel_statistics(pcm, mel[s]) for s in _stretches(clip.duration_s, 100.0, len(mel))]
    return np.array(rows, np.float32), mel_statistics(pcm, mel)


def _mel_values(
    clips: Sequence[Clip], train: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    # NumPy lets go of the interpreter in long loops: threads halve the time on two cores.
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(clip_statistics, clips))
    whole = np.array([clip_row for _, clip_row in found])[train]
    # As MelStatistics.fit has it, of the training clips.
    standard = MelStatistics(whole.mean(axis=0), np.maximum(whole.std(axis=0), 0.05))
    values = (np.array([rows for rows, _ in found]) - standard.mean) / standard.scale
    values /= np.maximum(np.linalg.norm(values, axis=2, keepdims=True), 1e-12)
    return values.astype(np.float32), np.array([standard.mean, standard.scale])


def _latent_values(clips: Sequence[Clip], dim: int) -> NDArray[np.float32]:
    """Return random vectors: a clip's own, of a variance 1/k in dimension k, plus a walk."""
    remembered = np.exp(-STEP_S / _WALK_S)
    n_steps = len(_middles(clips[0].duration_s))
    values = np.empty((len(clips), n_steps, dim), np.float32)
    scale = 1.0 / np.sqrt(np.arange(1, dim + 1))
    for row, clip in zip(values, clips, strict=True):
        rng = np.random.default_rng([zlib.crc32(clip.label.encode()), clip.seed, 31])
        own, steps = rng.standard_normal(dim), rng.standard_normal((n_steps, dim))
        walk = steps[0]
        for k in range(n_steps):
            if k:
                walk = remembered * walk + np.sqrt(1.0 - remembered**2) * steps[k]
            row[k] = scale * (own + np.sqrt(_WALK_SHARE) * walk)
    return values


def _embedded(clips: Sequence[Clip], embedder: SoundEmbedding) -> NDArray[np.float32]:
    rows = []
    for clip in clips:
        pcm = clip_sound(clip)
        stretches = _stretches(clip.duration_s, SAMPLE_RATE_HZ, len(pcm))
        rows.append([embedder.embed(pcm[s], SAMPLE_RATE_HZ) for s in stretches])
    return np.array(rows, np.float32)


def clip_features(
    settings: SimulationSettings,
    runs: Sequence[PlannedRun],
    *,
    embedder: SoundEmbedding | None = None,
) -> ClipFeatures:
    """Return the embedding of all clips of the runs.

    Parameters
    ----------
    settings : SimulationSettings
    runs : sequence of PlannedRun
    embedder : SoundEmbedding, optional
        Instead of the one that the settings name.

    Raises
    ------
    SettingError
        If the clips have fewer directions than `latent_dim`.
    """
    clips = tuple(dict.fromkeys(clip for run in runs for clip in run.clips))
    trained = {clip for run in runs if run.part != "test" for clip in run.clips} or set(clips)
    train = np.array([clip in trained for clip in clips])
    standard = np.zeros((0, 0))
    if embedder is not None:
        values, name = _embedded(clips, embedder), embedder.name
    elif settings.embedding == "latent":
        values, name = _latent_values(clips, settings.embedding_dim), "latent"
    else:
        (values, standard), name = _mel_values(clips, train), "mel-statistics"
    mean, projection = _components(values[train], settings.latent_dim)
    ids = tuple(clip.id for clip in clips)
    return ClipFeatures(ids, values, mean, projection, name, standard)


def _components(
    values: NDArray[np.float32], n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
    mean = rows.mean(axis=0)
    variance, direction = np.linalg.eigh(np.cov(rows - mean, rowvar=False, ddof=0))
    variance, direction = variance[::-1], direction[:, ::-1]
    rank = int(np.sum(variance > 1e-9 * variance[0]))
    if n > rank:
        raise SettingError(
            f"The clips have {rank} directions in the embedding, fewer than latent_dim = {n}. "
            f"Simulate more clips, or set latent_dim to {rank} or less."
        )
    # The sign of an eigenvector is arbitrary and differs between LAPACK builds.
    largest = np.argmax(np.abs(direction), axis=0)
    direction = direction * np.sign(direction[largest, np.arange(len(largest))])
    return mean, np.asarray(direction[:, :n] / np.sqrt(variance[:n]))
