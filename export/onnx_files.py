"""Which other files an ONNX file would read, told without the onnx package.

An ONNX file may keep its weights in files beside it ("external data") and names them by a path. A
path that leaves the bundle would make the runtime read whatever lies there, so a bundle's ONNX
files are walked, at the level of the protobuf wire format, before anything opens them.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

__all__ = ["OnnxFormatError", "external_files"]

Buffer: TypeAlias = bytes | mmap.mmap

# Field numbers of onnx.proto: message -> {field: message that the field holds}.
_CHILDREN = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_MAX_MESSAGES = 2_000_000


class OnnxFormatError(ValueError):
    """The file is not the protobuf message that an ONNX file is."""


def external_files(path: Path) -> set[str]:
    """Return the paths of external data that an ONNX file names, as they are written there.

    Raises
    ------
    OnnxFormatError
        If the file is not a protobuf message with a graph.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise OnnxFormatError("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return set(_walk(data))


def _walk(data: Buffer) -> Iterator[str]:
    """Visit every message that can lead to a tensor, without recursion."""
    waiting: list[tuple[str, int, int]] = [("Model", 0, len(data))]
    visited = graphs = 0
    while waiting:
        kind, start, stop = waiting.pop()
        visited += 1
        if visited > _MAX_MESSAGES:
            raise OnnxFormatError(f"it has more than {_MAX_MESSAGES} parts")
        children = _CHILDREN[kind]
        for field, first, last in _fields(data, start, stop):
            child = children.get(field)
            if child == "Entry":
                key, value = _entry(data, first, last)
                if key == "location":
                    yield value
            elif child is not None:
                graphs += child == "Graph"
                waiting.append((child, first, last))
    if not graphs:
        raise OnnxFormatError("it has no graph")


def _entry(data: Buffer, start: int, stop: int) -> tuple[str, str]:
    """Read a key and its value (StringStringEntryProto)."""
    texts = {1: "", 2: ""}
    for field, first, last in _fields(data, start, stop):
        texts[field] = data[first:last].decode(errors="surrogateescape")
    return texts[1], texts[2]


def _fields(data: Buffer, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and stop of each length-delimited field; step over the others."""
    while at < stop:
        tag, at = _varint(data, at, stop)
        wire = tag & 7
        if wire == 0:
            _, at = _varint(data, at, stop)
        elif wire == 1:
            at += 8
        elif wire == 5:
            at += 4
        elif wire == 2:
            size, at = _varint(data, at, stop)
            if size <= stop - at:
                yield tag >> 3, at, at + size
            at += size
        else:
            raise OnnxFormatError(f"wire type {wire} at byte {at}")
        if at > stop:
            raise OnnxFormatError(f"a field runs past its message at byte {stop}")


def _varint(data: Buffer, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= stop or shift > 63:
            raise OnnxFormatError(f"a number is cut off at byte {at}")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
