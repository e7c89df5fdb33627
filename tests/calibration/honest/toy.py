"""Small samples with known truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples

__all__ = ["make", "music", "people_and_songs"]


def make(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    clip: NDArray[np.str_],
    label: NDArray[np.str_] | None = None,
    start_s: NDArray[np.floating] | None = None,
    window_s: float = 1.5,
    person: NDArray[np.str_] | None = None,
    session: NDArray[np.str_] | None = None,
    run: NDArray[np.str_] | None = None,
    previous_clip: NDArray[np.str_] | None = None,
    order: NDArray[np.floating] | None = None,
) -> Samples:
    """Fill in what a test does not care about."""
    n = len(x)
    x = np.asarray(x, np.float32)
    x = x[:, None, :] if x.ndim == 2 else x
    start = np.zeros(n) if start_s is None else np.asarray(start_s, np.float64)

    def names(given: NDArray[np.str_] | None, default: str) -> NDArray[np.str_]:
        return np.full(n, default) if given is None else np.asarray(given, np.str_)

    def repeated(given: NDArray[np.str_] | None, default: str) -> NDArray[np.str_]:
        rows = names(given, default)
        return np.repeat(rows[:, None], x.shape[1], axis=1) if rows.ndim == 1 else rows

    return Samples(
        x=x,
        y=np.asarray(y, np.float64),
        clip=np.asarray(clip, np.str_),
        label=names(label, ""),
        start_s=start,
        stop_s=start + window_s,
        person=names(person, "p1"),
        session=repeated(session, "s1"),
        run=repeated(run, "r1"),
        previous_clip=names(previous_clip, ""),
        order=np.asarray(np.arange(n) * window_s if order is None else order, np.float64),
    )


def music(
    *,
    n_clips: int = 40,
    n_windows: int = 5,
    dim: int = 16,
    n_features: int = 30,
    snr: float = 1.0,
    n_labels: int = 4,
    seed: int = 0,
    clips_per_run: int = 10,
) -> tuple[Samples, NDArray[np.float64]]:
    """One person, clips of several windows, linear brain; also the map from target to brain."""
    rng = np.random.default_rng(seed)
    clip_y = rng.standard_normal((n_clips, dim))
    y = np.repeat(clip_y, n_windows, axis=0)
    y = y + 0.5 * rng.standard_normal(y.shape)
    weights = np.random.default_rng(99).standard_normal((dim, n_features)) / np.sqrt(dim)
    x = np.sqrt(snr) * y @ weights + rng.standard_normal((len(y), n_features))
    number = np.repeat(np.arange(n_clips), n_windows)
    names = np.array([f"c{k:03d}" for k in range(n_clips)])
    run = number // clips_per_run
    before = np.where(number % clips_per_run > 0, names[number - 1], "")
    samples = make(
        x,
        y,
        clip=names[number],
        label=np.array([f"g{k % n_labels}" for k in range(n_clips)])[number],
        start_s=np.tile(np.arange(n_windows) * 1.5, n_clips),
        run=np.array([f"r{k}" for k in run]),
        previous_clip=before,
        order=run * 1e6
        + (number % clips_per_run) * n_windows * 1.5
        + np.tile(np.arange(n_windows) * 1.5, n_clips),
    )
    return samples, weights


def people_and_songs(
    *,
    seed: int,
    fingerprint: float = 0.5,
    signal: float = 0.0,
    n_people: int = 20,
    n_songs: int = 10,
    n_chunks: int = 6,
    n_features: int = 192,
    dim: int = 16,
) -> Samples:
    """Everybody hears every song once: the song's name is the recording's name.

    Features are noise plus a fingerprint of the recording (person and song), and, if `signal` is
    above 0, what the song evokes in everybody.
    """
    rng = np.random.default_rng(seed)
    song_y = rng.standard_normal((n_songs, dim))
    grid = np.meshgrid(np.arange(n_people), np.arange(n_songs), np.arange(n_chunks), indexing="ij")
    person, song, chunk = (axis.ravel() for axis in grid)
    mark = fingerprint * rng.standard_normal((n_people, n_songs, n_features))
    x = mark[person, song] + rng.standard_normal((len(person), n_features))
    evoked = rng.standard_normal((dim, n_features)) / np.sqrt(dim)
    x += signal * song_y[song] @ evoked

    def names(letter: str, numbers: NDArray[np.int64]) -> NDArray[np.str_]:
        return np.array([f"{letter}{number:02d}" for number in numbers])

    return make(
        x,
        song_y[song],
        clip=names("song", song),
        start_s=chunk * 1.0,
        window_s=1.0,
        person=names("p", person),
        session=names("s", song // 5),
        run=names("r", song),
        order=song * 1e6 + chunk,
    )
