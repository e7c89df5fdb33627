"""The sounds that a bundle can play or begin from: written, read, and the nearest one found.

Three files: a JSON list of items, one audio file with all sounds one after another (FLAC or WAV,
16-bit PCM, one channel), and one unit-norm float32 embedding per item.
"""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from export.chains import DirectChain, LibraryFiles, library_of
from export.npy import read_npy, write_npy
from export.search import CosineSearch
from export.strict_json import parse_object, record_from_json
from models.errors import BundleError, SettingError

__all__ = ["Library", "LibraryItem", "LibrarySound", "check_library", "library_files"]

logger = logging.getLogger(__name__)

LIBRARY_SCHEMA = 1
_JSON_MAX_BYTES = 64 << 20
_EMBEDDINGS_MAX_BYTES = 4 << 30
_MAX_ITEMS = 1_000_000
_PRELOAD_BYTES = 256 << 20  # of float32; a larger library is read sound by sound
_NORM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class LibraryItem:
    """One sound, as a stretch of the audio file."""

    name: str
    label: str  # its class; "" if it has none
    start: int  # sample
    n_samples: int


@dataclass(frozen=True, slots=True)
class _LibraryFile:
    """What stands in the JSON file."""

    schema: int
    sample_rate_hz: int
    items: tuple[LibraryItem, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LibrarySound:
    """A sound on its way into a library."""

    name: str
    pcm: NDArray[np.float32]  # (n,) full scale 1.0
    label: str = ""


def library_files(
    sounds: Sequence[LibrarySound],
    embeddings: NDArray[np.floating],
    *,
    sample_rate_hz: int,
    names: LibraryFiles | None = None,
) -> dict[str, bytes]:
    """Return the files of a library, ready for `save_bundle`.

    Parameters
    ----------
    sounds : sequence of LibrarySound
        With names that are all different.
    embeddings : array of shape (n, dim)
        One row per sound; rows are brought to unit length.
    sample_rate_hz : int
        Of all sounds.
    names : LibraryFiles, optional
        Names of the files; the suffix of the audio file (.flac or .wav) chooses its format.

    Returns
    -------
    files : dict of str to bytes

    Raises
    ------
    SettingError
        If there is no sound, a name is empty or comes twice, a sound is empty or not finite, or
        an embedding is missing, zero or not finite.
    """
    import soundfile

    names = names or LibraryFiles()
    vectors = np.asarray(embeddings, np.float64)
    if not sounds or vectors.ndim != 2 or len(vectors) != len(sounds):
        raise SettingError(
            f"A library needs one embedding per sound; got {len(sounds)} sounds and embeddings "
            f"of shape {vectors.shape}."
        )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(vectors).all() and (norms > 0).all()):
        raise SettingError("Embeddings of a library must be finite and not zero.")
    items: list[LibraryItem] = []
    at = 0
    for sound in sounds:
        if sound.pcm.ndim != 1 or not sound.pcm.size or not np.isfinite(sound.pcm).all():
            raise SettingError(f"Sound {sound.name!r} must be finite PCM of shape (n,), n > 0.")
        items.append(LibraryItem(sound.name, sound.label, at, sound.pcm.size))
        at += sound.pcm.size
    _check_items(tuple(items))
    pcm = np.concatenate([sound.pcm for sound in sounds])
    audio = io.BytesIO()
    kind = "WAV" if names.audio.endswith(".wav") else "FLAC"
    whole = np.clip(np.rint(pcm * 32767.0), -32768, 32767).astype(np.int16)
    soundfile.write(audio, whole, sample_rate_hz, subtype="PCM_16", format=kind)
    text = {
        "schema": LIBRARY_SCHEMA,
        "sample_rate_hz": sample_rate_hz,
        "items": [
            {"name": i.name, "label": i.label, "start": i.start, "n_samples": i.n_samples}
            for i in items
        ],
    }
    return {
        names.json: (json.dumps(text, indent=1) + "\n").encode(),
        names.audio: audio.getvalue(),
        names.embeddings: write_npy((vectors / norms).astype("<f4")),
    }


class Library:
    """The library of a verified bundle.

    Parameters
    ----------
    bundle : Bundle
        With a retrieval chain, or with a generator that begins from retrieved sounds.

    Attributes
    ----------
    items : tuple of LibraryItem
    embeddings : array of shape (n, dim), float32
        Unit length, read-only.
    sample_rate_hz : int
    search : str
        How the nearest sound is searched for (`export.search`).

    Raises
    ------
    BundleError
        If the files do not fit the manifest or each other.
    """

    def __init__(self, bundle: Bundle) -> None:
        files, dim = _files(bundle)
        self.items, self.sample_rate_hz = _read_items(bundle, files)
        self.embeddings = _read_embeddings(bundle, files, (len(self.items), dim))
        self._search = CosineSearch(self.embeddings)
        logger.info("Library of %d sounds, search: %s.", len(self.items), self._search.how)
        self._path = bundle.file(files.audio)
        self._lock = threading.Lock()
        n_samples = _check_audio(bundle, files, self.items)
        self._pcm: NDArray[np.float32] | None = None
        if 4 * n_samples <= _PRELOAD_BYTES:
            self._pcm = self._read(0, n_samples)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def search(self) -> str:
        """How the nearest sound is searched for: flat, faiss or pruned; all are exact."""
        return self._search.how

    def sound(self, index: int) -> NDArray[np.float32]:
        """Return the sound of an item: (n_samples,), float32, full scale 1.0, read-only."""
        item = self.items[index]
        if self._pcm is not None:
            return self._pcm[item.start : item.start + item.n_samples]
        return self._read(item.start, item.n_samples)

    def nearest(
        self, embedding: NDArray[np.floating], *, k: int = 1
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return the items nearest to an embedding by cosine, exactly.

        Parameters
        ----------
        embedding : array of shape (dim,)
            Any length but zero.
        k : int
            How many; at most as many as there are items.

        Returns
        -------
        indices : array of shape (k,)
            Nearest first; of equal ones the lowest index first.
        cosines : array of shape (k,), float32

        Raises
        ------
        SettingError
            If the embedding has another shape, is zero or not finite, or k is out of range.
        """
        return self._search.nearest(embedding, k=k)

    def find(self, text: str) -> tuple[int, ...]:
        """Return the items of this name, else of this label; none if there is neither."""
        named = tuple(i for i, item in enumerate(self.items) if item.name == text)
        return named or tuple(i for i, item in enumerate(self.items) if item.label == text and text)

    def _read(self, start: int, n_samples: int) -> NDArray[np.float32]:
        import soundfile

        with self._lock, soundfile.SoundFile(self._path) as file:
            file.seek(start)
            pcm: NDArray[np.float32] = file.read(n_samples, dtype="float32")
        if len(pcm) != n_samples:
            raise BundleError(
                f"{self._path.name} ended after {len(pcm)} of {n_samples} samples. It was changed "
                "after the start; copy the bundle again."
            )
        pcm.setflags(write=False)
        return pcm


def check_library(bundle: Bundle) -> None:
    """Check that the files of a library fit the manifest and each other.

    Raises
    ------
    BundleError
        If they do not.
    """
    files, dim = _files(bundle)
    items, _ = _read_items(bundle, files)
    _read_embeddings(bundle, files, (len(items), dim))
    _check_audio(bundle, files, items)


def _files(bundle: Bundle) -> tuple[LibraryFiles, int]:
    """Return the files of the library, and the dimensions of its embeddings."""
    chain = bundle.manifest.chain
    files = library_of(chain)
    if files is None or isinstance(chain, DirectChain):
        raise BundleError(
            f"Bundle {bundle.path.name!r} has a {chain.kind} chain and no library; one with a "
            "library of sounds was expected, as every retrieval bundle has it."
        )
    return files, chain.embedding.dim


def _read_items(bundle: Bundle, files: LibraryFiles) -> tuple[tuple[LibraryItem, ...], int]:
    name = files.json
    where = f"{bundle.path.name}/{name}"
    data = bundle.read(name, max_bytes=_JSON_MAX_BYTES)
    try:
        values = parse_object(data, where, max_bytes=_JSON_MAX_BYTES, max_items=12 * _MAX_ITEMS)
        file: _LibraryFile = record_from_json(_LibraryFile, values, where)
        if file.schema != LIBRARY_SCHEMA:
            raise SettingError(
                f"{where} has schema {file.schema}; this hearback reads {LIBRARY_SCHEMA}."
            )
        expected = bundle.manifest.sound.sample_rate_hz
        if file.sample_rate_hz != expected:
            raise SettingError(
                f"{where}: sounds have {file.sample_rate_hz} Hz, the manifest says {expected} Hz."
            )
        _check_items(file.items)
    except SettingError as error:
        raise BundleError(f"{error} Export the bundle again.") from error
    return file.items, file.sample_rate_hz


def _check_items(items: tuple[LibraryItem, ...]) -> None:
    if not 1 <= len(items) <= _MAX_ITEMS:
        raise SettingError(f"A library has 1 to {_MAX_ITEMS} sounds, not {len(items)}.")
    names = [item.name for item in items]
    if not all(names) or len(set(names)) != len(names):
        raise SettingError("The sounds of a library need names that are all different.")
    for item in items:
        if item.start < 0 or item.n_samples < 1:
            raise SettingError(
                f"Sound {item.name!r} has start {item.start}, {item.n_samples} long."
            )


def _read_embeddings(
    bundle: Bundle, files: LibraryFiles, expected: tuple[int, int]
) -> NDArray[np.float32]:
    name = files.embeddings
    where = f"Bundle {bundle.path.name!r}: {name}"
    data = bundle.read(name, max_bytes=_EMBEDDINGS_MAX_BYTES)
    try:
        values = read_npy(data, dtype=np.dtype("<f4"), ndim=2)
    except ValueError as error:
        raise BundleError(f"{where} should be float32 {expected}: {error}.") from error
    if values.shape != expected:
        raise BundleError(
            f"{where} should have shape {expected} (sounds, embedding dimensions) but has "
            f"{values.shape}. Export the bundle again."
        )
    squares = np.einsum("nd,nd->n", values, values)
    if not (np.abs(squares - 1.0) < _NORM_TOLERANCE).all():  # NaN fails as well
        raise BundleError(f"{where} should hold unit vectors only. Export the bundle again.")
    return values


def _check_audio(bundle: Bundle, files: LibraryFiles, items: tuple[LibraryItem, ...]) -> int:
    """Check the header of the audio file against the items; return its length in samples."""
    import soundfile

    name = files.audio
    where = f"Bundle {bundle.path.name!r}: {name}"
    try:
        info: Any = soundfile.info(str(bundle.file(name)))
    except (soundfile.SoundFileError, OSError) as error:
        raise BundleError(f"{where} is not a sound file: {error}.") from error
    expected = bundle.manifest.sound.sample_rate_hz
    if info.format not in ("FLAC", "WAV") or info.channels != 1 or info.samplerate != expected:
        raise BundleError(
            f"{where} should be FLAC or WAV, 1 channel, {expected} Hz, but is {info.format}, "
            f"{info.channels} channels, {info.samplerate} Hz. Export the bundle again."
        )
    last = max(items, key=lambda item: item.start + item.n_samples)
    if last.start + last.n_samples > info.frames:
        raise BundleError(
            f"{where} has {info.frames} samples, but sound {last.name!r} ends at "
            f"{last.start + last.n_samples}. Export the bundle again."
        )
    return int(info.frames)
