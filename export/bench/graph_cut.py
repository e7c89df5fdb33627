"""An ONNX model cut off at one of its outputs, made without the onnx package.

ONNX Runtime computes every node of a graph whatever outputs are asked for; its option to follow
only the path to them is for training builds. So what does not lead to an output is taken out, at
the level of the protobuf wire format: everything else stays as it is, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from export.onnx_files import OnnxFormatError

__all__ = ["cut_graph"]

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO = 1, 5, 12, 13  # of a graph
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_TENSOR_NAME, _VALUE_NAME = 8, 1
_ATTRIBUTE_GRAPHS = (6, 11)
_BYTES = 2  # wire type of strings and messages


class _Field(NamedTuple):
    number: int
    begin: int  # of its tag
    first: int  # of its content
    last: int


def cut_graph(model: bytes, output: str) -> bytes:
    """Return a model that has this output only, and the nodes that it depends on.

    Parameters
    ----------
    model : bytes
        An ONNX file; its weights may lie in other files. All inputs stay, used or not.
    output : str
        Name of an output.

    Raises
    ------
    OnnxFormatError
        If it is no ONNX model, has no such output, or has graphs within nodes.
    """
    made = bytearray()
    cut = False
    for field in _fields(model, 0, len(model)):
        if field.number != _MODEL_GRAPH:
            made += model[field.begin : field.last]
            continue
        graph = _cut(model, field.first, field.last, output)
        made += _tag(_MODEL_GRAPH) + _number(len(graph)) + graph
        cut = True
    if not cut:
        raise OnnxFormatError("it has no graph")
    return bytes(made)


def _cut(data: bytes, start: int, stop: int, output: str) -> bytes:
    fields = list(_fields(data, start, stop))
    outputs = {_text(data, f, _VALUE_NAME): f for f in fields if f.number == _OUTPUT}
    if output not in outputs:
        raise OnnxFormatError(f"it has no output {output!r}, but {sorted(outputs)}")
    needed = {output}
    kept = {outputs[output]}
    # Nodes stand in the order of computing, so one pass from the last to the first is enough.
    for field in reversed(fields):
        if field.number == _NODE:
            inputs, gives = _node(data, field)
            if needed & gives:
                needed |= inputs
                kept.add(field)
    made = bytearray()
    for field in fields:
        if field.number == _INITIALIZER:
            keep = _text(data, field, _TENSOR_NAME) in needed
        elif field.number == _VALUE_INFO:
            keep = _text(data, field, _VALUE_NAME) in needed
        else:
            keep = field.number not in (_NODE, _OUTPUT) or field in kept
        if keep:
            made += data[field.begin : field.last]
    return bytes(made)


def _node(data: bytes, node: _Field) -> tuple[set[str], set[str]]:
    """Return the names that a node takes and gives."""
    names: dict[int, set[str]] = {_NODE_INPUT: set(), _NODE_OUTPUT: set()}
    for field in _fields(data, node.first, node.last):
        if field.number in names:
            names[field.number].add(data[field.first : field.last].decode())
        elif field.number == _NODE_ATTRIBUTE:
            inner = _fields(data, field.first, field.last)
            if any(part.number in _ATTRIBUTE_GRAPHS for part in inner):
                raise OnnxFormatError("a node holds a graph of its own")
    return names[_NODE_INPUT], names[_NODE_OUTPUT] - {""}


def _text(data: bytes, message: _Field, number: int) -> str:
    for field in _fields(data, message.first, message.last):
        if field.number == number:
            return data[field.first : field.last].decode()
    return ""


def _fields(data: bytes, at: int, stop: int) -> Iterator[_Field]:
    """Yield every field of a message, with where its tag begins and its content lies."""
    while at < stop:
        begin = at
        tag, at = _varint(data, at, stop)
        wire = tag & 7
        first = at
        if wire == 0:
            _, at = _varint(data, at, stop)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == _BYTES:
            size, first = _varint(data, at, stop)
            at = first + size
        else:
            raise OnnxFormatError(f"wire type {wire} at byte {begin}")
        if at > stop:
            raise OnnxFormatError(f"a field runs past its message at byte {stop}")
        yield _Field(tag >> 3, begin, first, at)


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise OnnxFormatError(f"a number is cut off at byte {at}")


def _number(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _tag(number: int) -> bytes:
    return _number(number << 3 | _BYTES)
