"""What an embedder is, and what all of them have in common: rates, windows and unit length.

A window is always exactly the stretch of sound that was asked for. Where a model takes sound of one
length only, its class says how a window is brought to it; nothing is ever drawn at random, because
the same sound must give the same target today and tomorrow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError

__all__ = [
    "Embedder",
    "TextEmbedder",
    "WindowEmbedder",
    "at_rate",
    "even_starts",
    "needs_train",
    "unit_rows",
]

# A stretch may end this much after the sound: clips are a little shorter than their timetable says
# (14.99 s of 15 s in ds003720). What is missing is left out, not filled.
_OVERHANG_S = 0.05


@runtime_checkable
class Embedder(Protocol):
    """Turns sound into a vector of unit length."""

    @property
    def name(self) -> str:
        """What it is called in reports and bundles."""

    @property
    def dim(self) -> int:
        """Length of the vectors."""

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the sound that it works on; sound of other rates is converted."""

    @property
    def licence(self) -> str:
        """Under which terms its weights may be used, for the user to read."""

    @property
    def source(self) -> str:
        """Where its weights come from, for the user to read."""

    def settings(self) -> dict[str, Any]:
        """Return all that the vectors depend on, as JSON values: the key of a cache."""

    def embed(self, pcm: ArrayLike, sample_rate_hz: int) -> NDArray[np.float32]:
        """Return the embedding of a whole sound: (dim,), unit length."""

    def embed_windows(
        self,
        pcm: ArrayLike,
        sample_rate_hz: int,
        starts_s: ArrayLike,
        stops_s: ArrayLike,
    ) -> NDArray[np.float32]:
        """Return the embeddings of stretches of a sound: (n, dim), unit length."""


@runtime_checkable
class TextEmbedder(Embedder, Protocol):
    """An embedder that puts words into the same space."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of texts: (n, dim), unit length."""


class WindowEmbedder(ABC):
    """An embedder that is made by saying how a batch of windows is embedded.

    Parameters
    ----------
    batch_size : int
        Windows that are embedded at once; it changes memory and speed only.
    """

    name: str
    dim: int
    sample_rate_hz: int
    licence: str
    source: str

    def __init__(self, *, batch_size: int = 8) -> None:
        if batch_size < 1:
            raise SettingError(f"Expected a batch size of 1 or more, got {batch_size}.")
        self._batch_size = batch_size

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return all that the vectors depend on, as JSON values: the key of a cache."""

    @abstractmethod
    def _embed_batch(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.floating]:
        """Return the embeddings of windows at the embedder's rate, of any length: (n, dim)."""

    def embed(self, pcm: ArrayLike, sample_rate_hz: int) -> NDArray[np.float32]:
        """Return the embedding of a whole sound.

        Parameters
        ----------
        pcm : array of shape (n,)
            Mono, full scale 1.0.
        sample_rate_hz : int

        Returns
        -------
        embedding : array of shape (dim,), float32
            Of unit length.

        Raises
        ------
        SettingError
            If the sound is not mono, empty, not finite, or too short for this embedder.
        """
        sound = at_rate(pcm, sample_rate_hz, self.sample_rate_hz)
        return self._in_batches([sound]).reshape(-1)

    def embed_windows(
        self,
        pcm: ArrayLike,
        sample_rate_hz: int,
        starts_s: ArrayLike,
        stops_s: ArrayLike,
    ) -> NDArray[np.float32]:
        """Return the embeddings of stretches of a sound.

        The sound is brought to the embedder's rate as a whole and then cut, so that no window has
        the edges of a resampling filter.

        Parameters
        ----------
        pcm : array of shape (n,)
            Mono, full scale 1.0.
        sample_rate_hz : int
        starts_s, stops_s : array of shape (n_windows,)
            Seconds from the beginning of the sound.

        Returns
        -------
        embeddings : array of shape (n_windows, dim), float32
            Of unit length.

        Raises
        ------
        SettingError
            If a window does not lie in the sound, or the sound is not usable.
        """
        sound = at_rate(pcm, sample_rate_hz, self.sample_rate_hz)
        starts = np.atleast_1d(np.asarray(starts_s, np.float64))
        stops = np.atleast_1d(np.asarray(stops_s, np.float64))
        if starts.ndim != 1 or starts.shape != stops.shape:
            raise SettingError(
                f"Windows need as many starts as stops, got {starts.shape} and {stops.shape}."
            )
        duration_s = len(sound) / self.sample_rate_hz
        good = (starts >= 0) & (stops > starts) & (stops <= duration_s + _OVERHANG_S)
        if not good.all():
            bad = int(np.argmin(good))
            raise SettingError(
                f"A window from {starts[bad]:g} to {stops[bad]:g} s does not lie in a sound of "
                f"{duration_s:g} s. Choose stretches of the sound, the start before the stop."
            )
        edges = np.rint(np.stack([starts, stops], axis=1) * self.sample_rate_hz).astype(np.int64)
        windows = [sound[first:last] for first, last in edges]
        if any(not len(window) for window in windows):
            raise SettingError("A window without a single sample cannot be embedded.")
        return self._in_batches(windows)

    def _in_batches(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        if not windows:
            return np.zeros((0, self.dim), np.float32)
        parts = [
            self._embed_batch(windows[at : at + self._batch_size])
            for at in range(0, len(windows), self._batch_size)
        ]
        return unit_rows(np.concatenate(parts))


def at_rate(pcm: ArrayLike, sample_rate_hz: int, wanted_hz: int) -> NDArray[np.float32]:
    """Return a mono sound at another sample rate (soxr, high quality); the same one if it has it.

    Raises
    ------
    SettingError
        If the sound is not of shape (n,), empty or not finite, or a rate is not above 0.
    """
    sound = np.asarray(pcm, dtype=np.float32)
    if sound.ndim != 1 or not sound.size or not np.isfinite(sound).all():
        raise SettingError(
            f"Expected a mono sound of shape (n,), finite and not empty, got {sound.shape}. "
            "Average the channels first."
        )
    if sample_rate_hz < 1 or wanted_hz < 1:
        raise SettingError(f"Sample rates must be above 0, got {sample_rate_hz} and {wanted_hz}.")
    if sample_rate_hz == wanted_hz:
        return sound
    import soxr

    converted = np.asarray(soxr.resample(sound, sample_rate_hz, wanted_hz, "HQ"), np.float32)
    if not converted.size:
        raise SettingError(f"{sound.size} samples at {sample_rate_hz} Hz are too short to convert.")
    return converted


def even_starts(n: int, length: int) -> NDArray[np.int64]:
    """Return where the fewest windows of `length` samples start that cover n samples evenly.

    The first begins with the sound and the last ends with it; those between are evenly spaced and
    overlap if they must. This stands where released code draws a random crop.
    """
    count = max(1, -(-n // length))
    return np.rint(np.linspace(0, max(0, n - length), count)).astype(np.int64)


def unit_rows(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return rows at unit length.

    Raises
    ------
    SettingError
        If a row is not finite or has no direction.
    """
    values = np.asarray(rows, np.float64)
    norms = np.linalg.norm(values, axis=-1, keepdims=True)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        raise SettingError(
            "An embedding came out zero or not finite. Its weights are damaged, or the sound is "
            "nothing that they can embed."
        )
    return np.asarray(values / norms, np.float32)


def needs_train(package: str, what: str) -> SettingError:
    """Return the error that says that a package of the extra `train` is missing."""
    return SettingError(
        f"{what} needs the package {package}, of the extra train: pip install 'hearback[train]'."
    )
