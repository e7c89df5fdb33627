"""Torch modules to ONNX graphs of fixed shapes.

Needs the extra `train`; what it makes runs without it.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from export.onnx_linear import check_onnx
from export.precision import SINGLE, stays_single
from models.errors import SettingError, StageError

__all__ = ["OPSET", "to_onnx"]

# Opset 21's GroupNormalization fails in TensorRT (NVIDIA/TensorRT#4336); every op here is in 20.
OPSET = 20


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
    """Take out what tells of the machine that it was exported on: paths in stack traces.

    Of the remarks at the nodes one stays: that a part is to keep its precision.
    """
    from onnx import StringStringEntryProto

    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        said = next((e.value for e in node.metadata_props if e.key == "namespace"), "")
        del node.metadata_props[:]
        if stays_single(said):
            node.metadata_props.append(StringStringEntryProto(key=SINGLE, value="1"))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
        value.doc_string = ""
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    del model.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about its own parts off the terminal."""
    names = ("torch.onnx", "torch.__trace", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
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
