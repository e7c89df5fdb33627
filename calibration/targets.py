"""What a decoder is to predict for a stretch of a stimulus: an embedding, mel frames or a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.data.dataset import Dataset, Stimulus
from calibration.stimulus_sound import check_inside, find_stimulus, stimulus_sound
from models.errors import SettingError
from models.mel import MelSpec, log_mel

if TYPE_CHECKING:
    from calibration.embedders.base import Embedder
    from calibration.embedders.cache import EmbeddingCache

__all__ = [
    "ClassTargets",
    "EmbeddingTargets",
    "MelTargets",
    "TargetSource",
    "class_targets",
]


class TargetSource(Protocol):
    """Gives the target of stretches of stimuli."""

    @property
    def dim(self) -> int:
        """Length of a target vector."""

    def targets(
        self, stimuli: Sequence[str], starts_s: ArrayLike, stops_s: ArrayLike
    ) -> NDArray[np.float64]:
        """Return the targets (n, dim) of stretches, s from the start of each stimulus."""


class ClassTargets:
    """A vector for each class, where there is no sound or the class is what is decoded.

    Parameters
    ----------
    stimuli : mapping of str to Stimulus
    vectors : mapping of str to array of shape (dim,)
        For each label, or id where a stimulus has no label: one-hot rows, or an embedding of the
        name.

    Raises
    ------
    SettingError
        If vectors differ in length, or there are none.
    """

    def __init__(self, stimuli: Mapping[str, Stimulus], vectors: Mapping[str, ArrayLike]) -> None:
        self._stimuli = stimuli
        self._vectors = {name: np.asarray(row, np.float64) for name, row in vectors.items()}
        shapes = {row.shape for row in self._vectors.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise SettingError(
                f"Class targets need one vector of the same length for each class, got {shapes}."
            )
        self.dim = int(next(iter(shapes))[0])
        self.classes = tuple(self._vectors)

    def targets(
        self, stimuli: Sequence[str], starts_s: ArrayLike, stops_s: ArrayLike
    ) -> NDArray[np.float64]:
        """Return the vector of each stimulus' class, whatever the stretch.

        Raises
        ------
        SettingError
            If a class has no vector.
        """
        return np.array([self._row(name) for name in stimuli]).reshape(len(stimuli), self.dim)

    def vector(self, name: str) -> NDArray[np.float64]:
        """Return the vector of a class: (dim,)."""
        return self._vectors[name]

    def _row(self, stimulus: str) -> NDArray[np.float64]:
        for name in (_label(self._stimuli, stimulus), stimulus):
            if name in self._vectors:
                return self._vectors[name]
        raise SettingError(
            f"There is no vector for stimulus {stimulus!r} of class "
            f"{_label(self._stimuli, stimulus)!r}; there are those of {list(self.classes)}."
        )


def _label(stimuli: Mapping[str, Stimulus], stimulus: str) -> str:
    known = stimuli.get(stimulus)
    return known.label if known is not None and known.label else stimulus


def class_targets(dataset: Dataset, participant: str | None = None) -> ClassTargets:
    """Return one-hot targets of the classes that are presented, in alphabetical order."""
    runs = dataset.runs if participant is None else dataset.of(participant)
    presented = {event.stimulus for run in runs for event in run.events}
    names = sorted({_label(dataset.stimuli, stimulus) for stimulus in presented})
    if not names:
        raise SettingError("The runs have no events, so there are no classes to decode.")
    return ClassTargets(dataset.stimuli, dict(zip(names, np.eye(len(names)), strict=True)))


class EmbeddingTargets:
    """The embedding of what was heard: of exactly the stretch, or of the whole clip.

    Windows are fixed, never drawn at random. A stretch shorter than `min_s` is repeated until it
    has that length (C2F-LDM tiles its clips to 10 s).

    Parameters
    ----------
    stimuli : mapping of str to Stimulus
    embedder : Embedder
    stretch : {"window", "clip"}
        Of what part of the stimulus. For "clip" the stretch does not matter.
    min_s : float
        Shortest sound that is given to the embedder, s; 0: as it is.
    cache : EmbeddingCache, optional
        Where embeddings are kept between sessions.
    """

    def __init__(
        self,
        stimuli: Mapping[str, Stimulus],
        embedder: Embedder,
        *,
        stretch: Literal["window", "clip"] = "window",
        min_s: float = 0.0,
        cache: EmbeddingCache | None = None,
    ) -> None:
        if stretch not in ("window", "clip"):
            raise SettingError(f"Expected target.stretch 'window' or 'clip', got {stretch!r}.")
        if not 0 <= min_s <= 600:
            raise SettingError(f"Expected min_s from 0 to 600 s, got {min_s}.")
        self._stimuli = stimuli
        self._embedder = embedder
        self._stretch = stretch
        self._min_s = min_s
        self._cache = cache
        self._known: dict[tuple[str, int, int], NDArray[np.float64]] = {}

    @property
    def dim(self) -> int:
        """Length of the embedding."""
        return self._embedder.dim

    @property
    def embedder(self) -> Embedder:
        """What embeds."""
        return self._embedder

    def targets(
        self, stimuli: Sequence[str], starts_s: ArrayLike, stops_s: ArrayLike
    ) -> NDArray[np.float64]:
        """Return the embeddings (n, dim) of stretches; each different one is computed once.

        Raises
        ------
        FileError
            If the sound of a stimulus cannot be read.
        SettingError
            If a stretch does not lie in its stimulus.
        """
        keys = [
            (name, 0, 0) if self._stretch == "clip" else (name, *_milliseconds(start, stop))
            for name, start, stop in zip(
                stimuli, np.asarray(starts_s), np.asarray(stops_s), strict=True
            )
        ]
        wanted: dict[str, list[tuple[str, int, int]]] = {}
        for key in dict.fromkeys(keys):
            if key not in self._known:
                wanted.setdefault(key[0], []).append(key)
        for name, rows in wanted.items():
            vectors = self._embed(name, rows)
            self._known.update(zip(rows, vectors, strict=True))
        return np.array([self._known[key] for key in keys]).reshape(len(keys), self.dim)

    def _embed(self, name: str, keys: list[tuple[str, int, int]]) -> NDArray[np.float64]:
        rate = self._embedder.sample_rate_hz
        pcm = stimulus_sound(find_stimulus(self._stimuli, name), sample_rate_hz=rate)
        if self._stretch == "clip":
            return self._whole(pcm, rate)[np.newaxis]
        duration_s = len(pcm) / rate
        stops = np.array([key[2] for key in keys]) / 1000.0
        check_inside(name, float(stops.max()), duration_s)
        # The last stretch may end a little after a clip that is shorter than its timetable says.
        starts, stops = np.array([key[1] for key in keys]) / 1000.0, np.minimum(stops, duration_s)
        long = stops - starts >= self._min_s - 1e-6
        out = np.empty((len(keys), self.dim))
        if long.any():
            out[long] = self._windows(pcm, rate, starts[long], stops[long])
        for k in np.flatnonzero(~long):
            out[k] = self._whole(pcm[round(starts[k] * rate) : round(stops[k] * rate)], rate)
        return out

    def _whole(self, pcm: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
        shortest = round(self._min_s * rate)
        if 0 < len(pcm) < shortest:
            pcm = np.tile(pcm, -(-shortest // len(pcm)))[:shortest]
        if self._cache is not None:
            return self._cache.embed(self._embedder, pcm, sample_rate_hz=rate).astype(np.float64)
        return self._embedder.embed(pcm, rate).astype(np.float64)

    def _windows(
        self,
        pcm: NDArray[np.float32],
        rate: int,
        starts: NDArray[np.float64],
        stops: NDArray[np.float64],
    ) -> NDArray[np.float32]:
        if self._cache is None:
            return self._embedder.embed_windows(pcm, rate, starts, stops)
        return self._cache.embed_windows(
            self._embedder, pcm, sample_rate_hz=rate, starts_s=starts, stops_s=stops
        )


class MelTargets:
    """Log mel frames that end with the stretch: what a direct chain renders.

    Parameters
    ----------
    stimuli : mapping of str to Stimulus
    mel : MelSpec
    frames_per_window : int
    floor : float
        Natural logarithm of mel; softer parts count as this soft.
    """

    def __init__(
        self,
        stimuli: Mapping[str, Stimulus],
        mel: MelSpec,
        *,
        frames_per_window: int,
        floor: float = -7.0,
    ) -> None:
        if frames_per_window < 1:
            raise SettingError(f"Expected frames_per_window of 1 or more, got {frames_per_window}.")
        self._stimuli = stimuli
        self._mel = mel
        self._n = frames_per_window
        self._floor = np.float32(floor)
        self._known: dict[str, NDArray[np.float32]] = {}

    @property
    def dim(self) -> int:
        """Frames times bands."""
        return self._n * self._mel.n_mels

    def targets(
        self, stimuli: Sequence[str], starts_s: ArrayLike, stops_s: ArrayLike
    ) -> NDArray[np.float64]:
        """Return the `frames_per_window` frames up to the end of each stretch, one after another.

        Raises
        ------
        FileError
            If the sound of a stimulus cannot be read.
        SettingError
            If the frames do not lie in the stimulus.
        """
        stops = np.rint(np.asarray(stops_s, np.float64) * self._mel.frames_per_s).astype(np.int64)
        out = np.empty((len(stimuli), self.dim))
        for row, name, stop in zip(out, stimuli, stops.tolist(), strict=True):
            frames = self._frames(name)
            check_inside(name, stop / self._mel.frames_per_s, len(frames) / self._mel.frames_per_s)
            stop = min(stop, len(frames))
            if stop < self._n:
                raise SettingError(
                    f"{self._n} mel frames that end {stop / self._mel.frames_per_s:g} s into "
                    f"{name!r} would begin before it. Give fewer frames a window, or leave out "
                    "more at the start of a clip (exclude_s)."
                )
            row[:] = frames[stop - self._n : stop].ravel()
        return out

    def _frames(self, name: str) -> NDArray[np.float32]:
        if name not in self._known:
            stimulus = find_stimulus(self._stimuli, name)
            pcm = stimulus_sound(stimulus, sample_rate_hz=self._mel.sample_rate_hz)
            self._known[name] = np.maximum(log_mel(pcm, self._mel), self._floor)
        return self._known[name]


def _milliseconds(start_s: float, stop_s: float) -> tuple[int, int]:
    return round(float(start_s) * 1000), round(float(stop_s) * 1000)
