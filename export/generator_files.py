"""The folder of an exported generator: `generator.json`, its graphs, and the files beside them.

A bundle holds the same files. Those that the live path runs are marked "live"; the encoders beside
them, marked "scores", embed and score sounds and may be left out of a bundle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from export.checked_files import check_digest, read_checked, read_plain, sha256_of
from export.manifest import FileEntry, plain_file_name
from export.npy import read_npy
from export.onnx_files import OnnxFormatError, external_files
from export.strict_json import parse_object, record_from_json
from models.errors import BundleError, SettingError
from models.spec import spec_to_json
from models.stretch import GeneratorSpec

__all__ = [
    "CARD_FILE",
    "DATA_FILE",
    "GeneratorCard",
    "GeneratorFile",
    "GraphEntry",
    "StateEntry",
    "card_to_json",
    "check_generator_files",
    "file_entry",
    "read_array",
    "read_generator_card",
]

CARD_FILE = "generator.json"
DATA_FILE = "generator.data"
SCHEMA = 1
_CARD_MAX_BYTES = 4 << 20
_ARRAY_MAX_BYTES = 256 << 20

Role = Literal["live", "scores"]


@dataclass(frozen=True, slots=True)
class GeneratorFile:
    """What a file of the folder must be, to the byte, and what it is for."""

    sha256: str
    bytes: int
    role: Role


@dataclass(frozen=True, slots=True)
class GraphEntry:
    """The graph of one length of stretch."""

    n_frames: int
    file: str
    noise: tuple[int, ...]  # shape of the noise that it takes


@dataclass(frozen=True, slots=True)
class StateEntry:
    """One array of the state: input `state.NAME` and output `next.NAME` of every graph."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GeneratorCard:
    """What `generator.json` says."""

    spec: GeneratorSpec
    sampler: str
    guidance: float  # outside the network; a distilled one has its own built in
    precision: Literal["fp32", "fp16"]
    graphs: tuple[GraphEntry, ...]  # in the order of `spec.stretches`
    state: tuple[StateEntry, ...]
    silence: tuple[float, ...]  # a latent frame of silence, C order, as `spec.latent`
    licence: str
    state_file: str = "generator-state.npy"  # the first state, its arrays one after the other
    golden_file: str = "generator-golden.npy"  # the sound of each graph on a fixed input
    constants: dict[str, str] = field(default_factory=dict)  # input of every graph: its file
    parity: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)  # recipe, machine, scores of the training
    files: dict[str, GeneratorFile] = field(default_factory=dict)
    schema: int = SCHEMA

    def graph(self, n_frames: int) -> GraphEntry:
        """Return the graph of a length that is in `spec.stretches`."""
        return next(entry for entry in self.graphs if entry.n_frames == n_frames)

    def live_files(self) -> tuple[str, ...]:
        """Return the names of the files that a bundle needs, `generator.json` first."""
        return (CARD_FILE, *(name for name, file in self.files.items() if file.role == "live"))

    @property
    def silent_latent(self) -> NDArray[np.float32]:
        """Latent frame of silence, of shape `spec.latent`."""
        return np.asarray(self.silence, np.float32).reshape(self.spec.latent)


def card_to_json(card: GeneratorCard) -> bytes:
    """Return the text of `generator.json`; the same card gives the same bytes."""
    values = spec_to_json(card)
    return (json.dumps(values, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def read_generator_card(folder: str | Path, *, name: str = CARD_FILE) -> GeneratorCard:
    """Read and check `generator.json`; the files beside it are not opened.

    Raises
    ------
    BundleError
        If it is missing, no strict JSON, of a newer schema, or an entry cannot be.
    """
    home = Path(folder)
    if not (home / name).is_file():
        raise BundleError(
            f"No generator at {home}: expected a folder with {name}. Export one with: hearback "
            "export TRAINING --out FOLDER"
        )
    where = f"{home.name}/{name}"
    try:
        values = parse_object(
            read_plain(home / name, _CARD_MAX_BYTES, home.name), where, max_bytes=_CARD_MAX_BYTES
        )
        schema = values.get("schema")
        if type(schema) is int and schema > SCHEMA:
            raise SettingError(
                f"{where} has schema {schema}; this hearback reads up to {SCHEMA}. Update hearback."
            )
        card: GeneratorCard = record_from_json(GeneratorCard, values, where)
        _check(card, where)
    except SettingError as error:
        raise BundleError(f"{error} Export the generator again.") from error
    return card


def check_generator_files(
    folder: str | Path, card: GeneratorCard, *, role: Role | None = None
) -> None:
    """Compare the files with the digests of the card, before anything opens them.

    Parameters
    ----------
    folder : str or Path
    card : GeneratorCard
    role : {"live", "scores"}, optional
        Check these only; otherwise those that are not live may be missing, but not be others.

    Raises
    ------
    BundleError
        If one is missing or was changed, or a graph would read a file that is not the card's.
    """
    home = Path(folder)
    for name, file in sorted(card.files.items()):
        if role is not None and file.role != role:
            continue
        if not (home / name).is_file():
            if role is None and file.role != "live":
                continue
            raise BundleError(
                f"Generator {home.name!r} lacks {name}. Copy the folder whole, or export it again."
            )
        check_digest(home / name, FileEntry(file.sha256, file.bytes), home.name)
        if name.endswith(".onnx"):
            _check_external(home / name, card, home.name)


def read_array(folder: Path, card: GeneratorCard, name: str, *, ndim: int) -> NDArray[np.float32]:
    """Read an array of the folder, checked against the card.

    Raises
    ------
    BundleError
        If it is missing, was changed, or is no float32 array of so many dimensions.
    """
    file = card.files[name]
    data = read_checked(
        folder / name, FileEntry(file.sha256, file.bytes), folder.name, _ARRAY_MAX_BYTES
    )
    try:
        array: NDArray[np.float32] = read_npy(data, dtype=np.dtype(np.float32), ndim=ndim)
    except ValueError as error:
        raise BundleError(f"Generator {folder.name!r}: {name} holds {error}.") from error
    return array


def file_entry(path: Path, role: Role) -> GeneratorFile:
    """Return the entry of a file that was written."""
    return GeneratorFile(sha256_of(path), path.stat().st_size, role)


def _check(card: GeneratorCard, where: str) -> None:
    """Check what the types cannot say.

    Raises
    ------
    SettingError
        Naming what is wrong.
    """
    if tuple(entry.n_frames for entry in card.graphs) != card.spec.stretches:
        raise SettingError(
            f"{where} has graphs of {[entry.n_frames for entry in card.graphs]} frames, but says "
            f"that it makes stretches of {list(card.spec.stretches)}."
        )
    if len(card.silence) != math.prod(card.spec.latent):
        raise SettingError(
            f"{where}: a latent of silence has {math.prod(card.spec.latent)} values, not "
            f"{len(card.silence)}."
        )
    needed = [
        card.state_file,
        card.golden_file,
        *(entry.file for entry in card.graphs),
        *card.constants.values(),
    ]
    for name in needed:
        if card.files.get(name, GeneratorFile("", 0, "scores")).role != "live":
            raise SettingError(f"{where} needs {name[:80]!r}, which is not in its live files.")
    for name in card.files:
        if not plain_file_name(name):
            raise SettingError(f"{where}: {name[:80]!r} is not a plain file name.")
    shapes: Mapping[str, tuple[int, ...]] = {
        **{entry.name: entry.shape for entry in card.state},
        **{entry.file: entry.noise for entry in card.graphs},
    }
    for name, shape in shapes.items():
        if not all(0 < length < 1 << 24 for length in shape):
            raise SettingError(f"{where}: the shape {list(shape)} of {name!r} cannot be.")


def _check_external(path: Path, card: GeneratorCard, where: str) -> None:
    try:
        others = external_files(path)
    except OnnxFormatError as error:
        raise BundleError(f"Generator {where!r}: {path.name} is no ONNX file: {error}.") from error
    for other in others:
        if other not in card.files:
            raise BundleError(
                f"Generator {where!r}: {path.name} would read {other[:80]!r}, which is not one of "
                "its files. Take generators only from people you trust."
            )
