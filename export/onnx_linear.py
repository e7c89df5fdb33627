"""A linear decoder as an ONNX file: features (1, n_features) -> x W + b, reshaped, normalised.

Dense, or with the few weights of each output that are not zero: 500 of 60,784 for 512 outputs are
1 MB of weights and as much of indices instead of 124 MB, which one product would read from memory.

Needs the extra `train` (the onnx package); what it writes runs without it.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["check_onnx", "factored_linear_onnx", "linear_onnx", "sparse_linear_onnx"]

# Opset 18 is what TensorRT 10 is safe with; IR 8 belongs to it and loads in every runtime >= 1.14.
_OPSET = 18
_IR_VERSION = 8
_EPSILON = 1e-12


def linear_onnx(
    weights: NDArray[np.floating],
    bias: NDArray[np.floating],
    *,
    output: str = "embedding",
    shape: tuple[int, ...] | None = None,
    normalise: bool = False,
) -> bytes:
    """Return a linear decoder as the bytes of an ONNX file; the same weights, the same bytes.

    Parameters
    ----------
    weights : array of shape (n_features, n_out)
    bias : array of shape (n_out,)
    output : str
        Name of the output: "mel" for a direct chain, "embedding" for a retrieval chain.
    shape : tuple of int, optional
        Shape of one output without the batch, e.g. (n_frames, n_mels), C order; (n_out,) if not
        given.
    normalise : bool
        Divide by the Euclidean norm over all outputs, as an embedding needs it.

    Returns
    -------
    model : bytes
        Input "features" (1, n_features) float32; output float32 of shape (1, *shape).

    Raises
    ------
    SettingError
        If shapes do not fit, or a number is not finite in float32.
    """
    matrix, offset = np.asarray(weights, "<f4"), np.asarray(bias, "<f4")
    if matrix.ndim != 2 or offset.shape != matrix.shape[1:] or not matrix.size:
        raise SettingError(
            f"Expected weights (n_features, n_out) and bias (n_out,), got {matrix.shape} and "
            f"{offset.shape}."
        )
    shape = _check_output(matrix, offset, shape)
    check_onnx()
    from onnx import helper, numpy_helper

    tensors = [numpy_helper.from_array(matrix, "weights"), numpy_helper.from_array(offset, "bias")]
    nodes = [helper.make_node("Gemm", ["features", "weights", "bias"], ["linear"])]
    return _model(nodes, tensors, matrix.shape[0], output, shape, normalise=normalise)


def factored_linear_onnx(
    left: NDArray[np.floating],
    right: NDArray[np.floating],
    bias: NDArray[np.floating],
    *,
    output: str = "embedding",
    normalise: bool = False,
) -> bytes:
    """Return a linear decoder of low rank, x L R + b, as the bytes of an ONNX file.

    Parameters
    ----------
    left : array of shape (n_features, rank)
    right : array of shape (rank, n_out)
    bias : array of shape (n_out,)
    output, normalise
        As `linear_onnx`.

    Returns
    -------
    model : bytes
        Input "features" (1, n_features) float32; output float32 of shape (1, n_out).

    Raises
    ------
    SettingError
        If shapes do not fit, or a number is not finite in float32.
    """
    first, second, offset = (np.asarray(part, "<f4") for part in (left, right, bias))
    if (
        first.ndim != 2
        or second.shape != (first.shape[1], len(offset))
        or offset.ndim != 1
        or not first.size
    ):
        raise SettingError(
            "Expected factors (n_features, rank) and (rank, n_out) and bias (n_out,), got "
            f"{first.shape}, {second.shape} and {offset.shape}."
        )
    _check_output(first, offset, None)
    shape = _check_output(second, offset, None)
    check_onnx()
    from onnx import helper, numpy_helper

    tensors = [
        numpy_helper.from_array(first, "left"),
        numpy_helper.from_array(second, "right"),
        numpy_helper.from_array(offset, "bias"),
    ]
    nodes = [
        helper.make_node("MatMul", ["features", "left"], ["factors"]),
        helper.make_node("Gemm", ["factors", "right", "bias"], ["linear"]),
    ]
    return _model(nodes, tensors, len(first), output, shape, normalise=normalise)


def sparse_linear_onnx(
    indices: NDArray[np.integer],
    values: NDArray[np.floating],
    bias: NDArray[np.floating],
    *,
    n_features: int,
    output: str = "embedding",
    shape: tuple[int, ...] | None = None,
    normalise: bool = False,
) -> bytes:
    """Return a linear decoder with k weights for each output as the bytes of an ONNX file.

    y_t = sum_j values[t, j] x[indices[t, j]] + bias_t, in operations that every runtime has
    (Gather, Mul, ReduceSum); the same arguments, the same bytes.

    Parameters
    ----------
    indices : array of shape (n_out, k), integer
        Which features each output takes, from 0 to n_features - 1.
    values : array of shape (n_out, k)
        Their weights.
    bias : array of shape (n_out,)
    n_features : int
        Features of one window, also those that no output takes.
    output, shape, normalise
        As `linear_onnx`.

    Returns
    -------
    model : bytes
        Input "features" (1, n_features) float32; output float32 of shape (1, *shape).

    Raises
    ------
    SettingError
        If shapes do not fit, an index is out of range, or a number is not finite in float32.
    """
    places, weights, offset = (
        np.asarray(indices),
        np.asarray(values, "<f4"),
        np.asarray(bias, "<f4"),
    )
    if (
        places.ndim != 2
        or places.dtype.kind not in "iu"
        or weights.shape != places.shape
        or offset.shape != places.shape[:1]
        or not places.size
    ):
        raise SettingError(
            "Expected integer indices (n_out, k), values (n_out, k) and bias (n_out,), got "
            f"{places.dtype} {places.shape}, {weights.shape} and {offset.shape}."
        )
    if not 0 <= int(places.min()) <= int(places.max()) < n_features <= np.iinfo(np.int32).max:
        raise SettingError(
            f"Expected indices from 0 to n_features - 1 = {n_features - 1}, got "
            f"{int(places.min())} to {int(places.max())}."
        )
    shape = _check_output(weights, offset, shape)
    check_onnx()
    from onnx import helper, numpy_helper

    tensors = [
        numpy_helper.from_array(places.astype("<i4"), "indices"),
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(offset, "bias"),
        numpy_helper.from_array(np.array([2], np.int64), "over_chosen"),
    ]
    nodes = [
        helper.make_node("Gather", ["features", "indices"], ["chosen"], axis=1),  # (1, n_out, k)
        helper.make_node("Mul", ["chosen", "weights"], ["products"]),
        helper.make_node("ReduceSum", ["products", "over_chosen"], ["sums"], keepdims=0),
        helper.make_node("Add", ["sums", "bias"], ["linear"]),  # (1, n_out)
    ]
    return _model(nodes, tensors, n_features, output, shape, normalise=normalise)


def check_onnx() -> None:
    """Refuse at once, in a sentence, where decoders cannot be written.

    Raises
    ------
    SettingError
        If the package onnx is not installed.
    """
    if importlib.util.find_spec("onnx") is None:
        raise SettingError(
            "Making a bundle needs the package onnx. Install it: pip install onnx, or in a clone "
            "of hearback: pip install -e '.[train]'"
        )


def _check_output(
    weights: NDArray[np.float32], offset: NDArray[np.float32], shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Return the shape of one output, after a look at the numbers."""
    if not (np.isfinite(weights).all() and np.isfinite(offset).all()):
        raise SettingError("Weights and bias must be finite in float32; fit the decoder again.")
    shape = offset.shape if shape is None else tuple(shape)
    if min(shape, default=0) < 1 or int(np.prod(shape)) != len(offset):
        raise SettingError(f"Shape {shape} does not hold {len(offset)} outputs.")
    return shape


def _model(
    nodes: list[Any],
    tensors: list[Any],
    n_features: int,
    output: str,
    shape: tuple[int, ...],
    *,
    normalise: bool,
) -> bytes:
    """Return the model whose nodes make "linear" (1, n_out) of "features" (1, n_features)."""
    from onnx import TensorProto, checker, helper, numpy_helper

    last = "linear"
    if normalise:
        # The floor keeps an all-zero output zero instead of NaN.
        tensors.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
        tensors.append(numpy_helper.from_array(np.array(_EPSILON, np.float32), "epsilon"))
        nodes.append(helper.make_node("ReduceL2", [last, "axes"], ["norm"], keepdims=1))
        nodes.append(helper.make_node("Max", ["norm", "epsilon"], ["divisor"]))
        nodes.append(helper.make_node("Div", [last, "divisor"], ["unit"]))
        last = "unit"
    tensors.append(numpy_helper.from_array(np.array([1, *shape], np.int64), "shape"))
    nodes.append(helper.make_node("Reshape", [last, "shape"], [output]))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, n_features])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, *shape])],
        initializer=tensors,
    )
    model = helper.make_model(
        graph,
        producer_name="hearback",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
