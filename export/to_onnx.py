"""Torch modules to ONNX graphs of fixed shapes, and several graphs over one file of weights.

Needs the extra `train`; what it writes runs without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.onnx_linear import check_onnx
from models.errors import SettingError, StageError

__all__ = ["OPSET", "drop_outputs", "save_alone", "save_shared", "to_onnx"]

# Opset 21's GroupNormalization fails in TensorRT (NVIDIA/TensorRT#4336); every op here is in 20.
OPSET = 20
_ALIGN = 64  # bytes: weights are mapped into memory as they stand
_INLINE = 1024  # bytes up to which a tensor stays in its graph


def to_onnx(
    module: nn.Module,
    inputs: Sequence[Tensor],
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> Any:
    """Return a module as an ONNX model whose inputs and outputs have the names and shapes given.

    Parameters
    ----------
    module : Module
        In evaluation mode, on the CPU; takes and gives tensors only.
    inputs : sequence of Tensor
        Of the shapes that the graph is made for.
    input_names, output_names : sequence of str

    Returns
    -------
    model : onnx.ModelProto
        Opset 20, every weight inside.

    Raises
    ------
    SettingError
        If onnx or onnxscript is missing.
    StageError
        If the module cannot be exported, or an axis came out without a fixed length.
    """
    check_onnx()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                tuple(inputs),
                input_names=list(input_names),
                output_names=list(output_names),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except ImportError as error:
        raise SettingError(
            f"Exporting needs {error.name}. Install it with: pip install 'hearback[train]'"
        ) from error
    except Exception as error:  # torch's exporter has many classes and no base
        reason = str(error).strip().splitlines()
        raise StageError(
            f"{type(module).__name__} cannot be exported: {(reason or [repr(error)])[0][:200]}. "
            "Use the versions of constraints.txt."
        ) from error
    assert program is not None
    model: Any = program.model_proto
    _check_fixed(model, input_names, output_names)
    _plain(model)
    return model


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


def _check_fixed(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Check names and that every axis has a length."""
    for expected, values in ((inputs, model.graph.input), (outputs, model.graph.output)):
        came = [value.name for value in values]
        if came != list(expected):
            raise StageError(f"The graph has {came} where {list(expected)} was asked for.")
        for value in values:
            axes = value.type.tensor_type.shape.dim
            if not all(axis.HasField("dim_value") for axis in axes):
                raise StageError(
                    f"{value.name!r} of the graph has an axis of any length; all must be fixed."
                )


def _plain(model: Any) -> None:
    """Take out what tells of the machine that it was exported on: paths in stack traces."""
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        kept = [entry for entry in node.metadata_props if entry.key.endswith("namespace")]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about its own parts off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.__trace", "onnxscript")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
        logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate = propagate
