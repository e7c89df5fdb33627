"""Embeddings kept on disk, under a name made of the sound's content and all settings.

Each entry is one `.npy` file (no pickle) followed by the SHA-256 of its bytes, so that one that was
cut short or changed is seen and made again. A file appears under its name only when it is whole:
two processes that fill one folder disturb each other in nothing but doing some work twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.embedders.base import Embedder, TextEmbedder
from export.npy import read_npy, write_npy
from models.errors import FileError
from stream.safe_file import say_why

__all__ = ["EmbeddingCache"]

logger = logging.getLogger(__name__)

_FORMAT = 1
_DIGEST_BYTES = 32
_MAX_BYTES = 4 << 30


class EmbeddingCache:
    """Embeddings in a folder.

    Parameters
    ----------
    folder : Path
        Made if it is not there. It may be removed at any time; it only saves work.

    Attributes
    ----------
    n_hits, n_misses : int
        Entries that were found, and that had to be computed, since it was opened.

    Raises
    ------
    FileError
        If the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.n_hits = 0
        self.n_misses = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(
                f"The cache folder {self.folder} cannot be made: {say_why(error)}. Choose another."
            ) from error

    def embed(
        self, embedder: Embedder, pcm: ArrayLike, *, sample_rate_hz: int
    ) -> NDArray[np.float32]:
        """Return `embedder.embed(pcm, sample_rate_hz)`, from the folder where it is there."""
        sound = _sound(pcm)
        rows = self._entry(
            self._key(embedder, "sound", sound.tobytes(), rate=sample_rate_hz),
            shape=(1, embedder.dim),
            compute=lambda: embedder.embed(sound, sample_rate_hz)[np.newaxis],
        )
        return rows.reshape(-1)

    def embed_windows(
        self,
        embedder: Embedder,
        pcm: ArrayLike,
        *,
        sample_rate_hz: int,
        starts_s: ArrayLike,
        stops_s: ArrayLike,
    ) -> NDArray[np.float32]:
        """Return `embedder.embed_windows(...)`, from the folder where it is there.

        All windows of one call are one entry.
        """
        sound = _sound(pcm)
        starts = np.atleast_1d(np.asarray(starts_s, np.float64))
        stops = np.atleast_1d(np.asarray(stops_s, np.float64))
        windows = [starts.tolist(), stops.tolist()]
        return self._entry(
            self._key(embedder, "windows", sound.tobytes(), rate=sample_rate_hz, windows=windows),
            shape=(len(starts), embedder.dim),
            compute=lambda: embedder.embed_windows(sound, sample_rate_hz, starts, stops),
        )

    def embed_texts(self, embedder: TextEmbedder, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return `embedder.embed_texts(texts)`, from the folder where it is there."""
        return self._entry(
            self._key(embedder, "texts", json.dumps(list(texts)).encode()),
            shape=(len(texts), embedder.dim),
            compute=lambda: embedder.embed_texts(texts),
        )

    def size_bytes(self) -> int:
        """Return how much the entries take on the disk."""
        return sum(path.stat().st_size for path in self.folder.glob("??/*.npy"))

    def _key(self, embedder: Embedder, kind: str, content: bytes, **values: object) -> str:
        settings = {
            "format": _FORMAT,
            "kind": kind,
            "embedder": embedder.settings(),
            "content": hashlib.sha256(content).hexdigest(),
            **values,
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def _entry(
        self, key: str, *, shape: tuple[int, int], compute: Callable[[], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        path = self.folder / key[:2] / f"{key}.npy"
        found = _read(path, shape)
        if found is not None:
            self.n_hits += 1
            return found
        self.n_misses += 1
        made = np.ascontiguousarray(compute(), dtype="<f4")
        made.setflags(write=False)
        _write(path, made)
        return made


def _sound(pcm: ArrayLike) -> NDArray[np.float32]:
    return np.ascontiguousarray(pcm, dtype=np.float32)


def _read(path: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """Return an entry, or None if it is not there or not whole."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is far too large")
        stored = path.read_bytes()
        data, digest = stored[:-_DIGEST_BYTES], stored[-_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            raise ValueError("its bytes are not those that were written")
        values: NDArray[np.float32] = read_npy(data, dtype=np.dtype("<f4"), ndim=2)
        if values.shape != shape:
            raise ValueError(f"it has shape {values.shape} instead of {shape}")
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        logger.warning("The cached embedding %s is damaged (%s); made again.", path.name, error)
        return None
    return values


def _write(path: Path, values: NDArray[np.float32]) -> None:
    """Put an entry in its place in one step; a folder that is full costs only the saving."""
    data = write_npy(values)
    draft = path.with_name(f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data + hashlib.sha256(data).digest())
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        logger.warning("An embedding could not be cached in %s: %s.", path.parent, say_why(error))
