"""Features of recordings that know who and which recording, and of the stimulus only on request.

Where each person hears each song once, a song is a recording: a decoder may tell recordings apart
by impedances, drowsiness or the seat of the cap and seem to know the song. Splits that hold out
pieces of recordings do not notice; those that hold out people or songs do.
"""

from __future__ import annotations

import numpy as np

from calibration.data.samples import Samples
from models.errors import SettingError

__all__ = ["fingerprint_samples"]


def fingerprint_samples(
    *,
    n_people: int = 20,
    n_songs: int = 10,
    n_chunks: int = 240,
    n_features: int = 192,
    n_targets: int = 16,
    fingerprint: float = 0.5,
    person: float = 0.5,
    stimulus: float = 0.0,
    seed: int = 0,
) -> Samples:
    """Simulate the features of one-second chunks of songs, each heard once by each person.

    x = person + recording + stimulus + noise; the noise has unit variance in each feature.

    Parameters
    ----------
    n_people, n_songs, n_chunks, n_features, n_targets : int
    fingerprint : float
        Standard deviation, over recordings, of what a recording adds to each feature.
    person : float
        Standard deviation, over people, of what a person adds.
    stimulus : float
        Standard deviation of what the target adds to each feature, by one map for all people.
        0: the features say nothing of what is heard.
    seed : int

    Returns
    -------
    samples : Samples
        A row a chunk; `clip`, `label` and `run` name the song. The target of a chunk is half its
        song's own, half the chunk's (variances); it is the same for all people.

    Raises
    ------
    SettingError
        If a number is not positive, or a deviation negative.
    """
    counts = (n_people, n_songs, n_chunks, n_features, n_targets)
    spreads = (fingerprint, person, stimulus)
    if min(counts) < 1 or not all(0.0 <= spread < np.inf for spread in spreads):
        raise SettingError(
            f"Counts are 1 or more and deviations 0 or more, got {counts} and {spreads}."
        )
    rng = np.random.default_rng([seed, 61])
    shape = (n_people, n_songs, n_chunks)
    target = np.sqrt(0.5) * (
        rng.standard_normal((n_songs, 1, n_targets))
        + rng.standard_normal((n_songs, n_chunks, n_targets))
    )
    x = rng.standard_normal((*shape, n_features), np.float32)
    x += np.float32(person) * rng.standard_normal((n_people, 1, 1, n_features), np.float32)
    x += np.float32(fingerprint) * rng.standard_normal(
        (n_people, n_songs, 1, n_features), np.float32
    )
    if stimulus > 0.0:
        maps = rng.standard_normal((n_targets, n_features)) / np.sqrt(n_targets)
        x += (stimulus * (target @ maps)).astype(np.float32)
    who, song, chunk = (index.ravel() for index in np.indices(shape))
    songs = np.array([f"song-{k + 1:02d}" for k in range(n_songs)])
    people = np.array([f"sub-{k + 1:02d}" for k in range(n_people)])
    names = songs[song]
    return Samples(
        x=x.reshape(-1, 1, n_features),
        y=np.broadcast_to(target, (n_people, *target.shape)).reshape(-1, n_targets),
        clip=names,
        label=names,
        start_s=chunk.astype(np.float64),
        stop_s=chunk + 1.0,
        person=people[who],
        session=np.full((len(who), 1), ""),
        run=names[:, None],
        previous_clip=np.full(len(who), ""),
        order=song * 1e6 + chunk,
    )
