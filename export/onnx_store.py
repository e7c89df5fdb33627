"""ONNX models as files: alone, or several over one file of weights that holds each of them once.

Needs the package onnx; what it writes runs without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["drop_outputs", "save_alone", "save_shared"]

_ALIGN = 64  # bytes: weights are mapped into memory as they stand
_INLINE = 1024  # bytes up to which a tensor stays in its graph


def drop_outputs(model: Any, prefix: str) -> Any:
    """Return a copy without the outputs whose names begin so, and without what only they needed."""
    import onnx

    slim = onnx.ModelProto()
    slim.CopyFrom(model)
    kept = [value for value in slim.graph.output if not value.name.startswith(prefix)]
    del slim.graph.output[:]
    slim.graph.output.extend(kept)
    needed = {value.name for value in kept}
    nodes = []
    for node in reversed(slim.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    del slim.graph.node[:]
    slim.graph.node.extend(reversed(nodes))
    weights = [tensor for tensor in slim.graph.initializer if tensor.name in needed]
    del slim.graph.initializer[:]
    slim.graph.initializer.extend(weights)
    return slim


def save_shared(models: Mapping[str, Any], folder: Path, data_name: str) -> None:
    """Write models whose weights stand in one file, each of them once.

    Parameters
    ----------
    models : mapping of str to onnx.ModelProto
        By file name. They are not changed.
    folder : Path
        Of the models and of the file of weights.
    data_name : str
        Name of that file.
    """
    import onnx

    places: dict[tuple[int, bytes], tuple[int, int]] = {}
    with (folder / data_name).open("wb") as file:
        for name, model in models.items():
            small = onnx.ModelProto()
            small.CopyFrom(model)
            for tensor in small.graph.initializer:
                raw = onnx.numpy_helper.to_array(tensor).tobytes()
                if len(raw) <= _INLINE:
                    continue
                key = tensor.data_type, hashlib.sha256(raw).digest()
                if key not in places:
                    file.write(bytes(-file.tell() % _ALIGN))
                    places[key] = file.tell(), len(raw)
                    file.write(raw)
                _point(tensor, data_name, *places[key])
            (folder / name).write_bytes(small.SerializeToString(deterministic=True))


def save_alone(model: Any, path: Path) -> None:
    """Write one model with its weights inside."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def _point(tensor: Any, location: str, offset: int, length: int) -> None:
    """Let a tensor stand in a file instead of in the model."""
    from onnx import StringStringEntryProto, TensorProto

    for where in ("raw_data", "float_data", "int64_data", "int32_data", "double_data"):
        tensor.ClearField(where)
    tensor.data_location = TensorProto.EXTERNAL
    said = {"location": location, "offset": str(offset), "length": str(length)}
    tensor.external_data.extend(StringStringEntryProto(key=k, value=v) for k, v in said.items())
