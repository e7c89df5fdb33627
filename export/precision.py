"""ONNX graphs to half precision, leaving in single precision what half would spoil.

Products and convolutions, where time and weights are, become half. Norms, softmax, exponentials and
roots, the embedding of time, and the inverse DFT stay as they are: a mean square of 256 channels
overflows or loses its small ones, and phases and moments need more than 11 bits. What only moves or
adds numbers takes the precision of what it is given; a sum of both is single, so that residual
streams do not lose what is added to them.

Needs the package onnx.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from models.errors import SettingError

__all__ = ["SINGLE", "stays_single", "to_half"]

_HALF = {"MatMul", "Gemm", "Conv", "ConvTranspose"}
# These carry on in the precision of what they are given.
_EITHER = {
    "Add", "Concat", "Div", "Expand", "Flatten", "Gather", "Gelu", "Identity", "LeakyRelu", "Mul",
    "Neg", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Split", "Squeeze", "Sub",
    "Tanh", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
# Only their first input is data; the others say where, or how large.
_FIRST_ONLY = {
    "Expand",
    "Gather",
    "Pad",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Unsqueeze",
}
# Parts that stay single: the embedding of time, and products with fixed bases of the DFT.
_TIME = re.compile(r"(^|[./ ])(time|time_embedding|time_proj)(\.|:|/|$)")
_BASES = (".synthesis", ".prior")
_LARGEST = 65_504.0
SINGLE = "hearback.single"
"""Key of the remark at a node that belongs to a part which stays in single precision."""


def stays_single(namespace: str) -> bool:
    """Return whether a part of a network, by its path, stays in single precision."""
    return bool(_TIME.search(namespace))


def to_half(model: Any) -> Any:
    """Return a copy of a model that computes its products in half precision.

    Inputs and outputs stay float32.

    Parameters
    ----------
    model : onnx.ModelProto
        Of `export.to_onnx`; its nodes know from which part of the network they come.

    Returns
    -------
    half : onnx.ModelProto

    Raises
    ------
    SettingError
        If a weight is beyond the range of half precision.
    """
    import onnx

    half = onnx.ModelProto()
    half.CopyFrom(model)
    _Converter(half).run()
    return half


class _Converter:
    """One walk over the nodes, in their order; a value is cast once for each precision."""

    def __init__(self, model: Any) -> None:
        import onnx

        self.onnx = onnx
        self.graph = model.graph
        self.single = onnx.TensorProto.FLOAT
        self.half = onnx.TensorProto.FLOAT16
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.types = {name: tensor.data_type for name, tensor in self.weights.items()}
        for value in self.graph.input:
            self.types[value.name] = value.type.tensor_type.elem_type
        for value in self.graph.value_info:
            self.types[value.name] = value.type.tensor_type.elem_type
        self.outputs = {value.name for value in self.graph.output}
        self.now: dict[str, int] = {}  # precision of what nodes have made so far
        self.made: dict[tuple[str, int], str] = {}
        self.nodes: list[Any] = []

    def run(self) -> None:
        """Rewrite the graph in place."""
        for node in list(self.graph.node):
            self._convert(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        # Shapes stay as they were, types do not; the runtime finds both.
        del self.graph.value_info[:]
        # An output may be a constant, which no node takes.
        used = self.outputs.union(*(node.input for node in self.graph.node))
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _convert(self, node: Any) -> None:
        places = self._data_places(node)
        wanted = self._wanted(node, places)
        for place in places:
            node.input[place] = self._as(node.input[place], wanted)
        outputs = list(node.output)
        self.nodes.append(node)
        if not places:
            return
        for place, name in enumerate(outputs):
            if name in self.outputs and wanted == self.half:
                node.output[place] = f"{name}.half"
                self.now[f"{name}.half"] = self.half
                self._cast(f"{name}.half", name, self.single)
                self.now[name] = self.single
                self.made[name, self.half] = f"{name}.half"
            else:
                self.now[name] = wanted

    def _data_places(self, node: Any) -> list[int]:
        """Return which inputs of a node are floating numbers that it computes with."""
        places = range(len(node.input))
        if node.op_type in _FIRST_ONLY:
            # The number that a Pad fills with is of the data's type.
            places = [0, 2] if node.op_type == "Pad" and len(node.input) > 2 else [0]  # type: ignore[assignment]
        return [i for i in places if node.input[i] and self._floating(node.input[i])]

    def _floating(self, name: str) -> bool:
        if name in self.now:
            return True
        return self.types.get(name) in (self.single, self.half)

    def _wanted(self, node: Any, places: Iterable[int]) -> int:
        if node.op_type in _HALF:
            return self.single if self._stays(node) else self.half
        if node.op_type not in _EITHER:
            return self.single
        given = [node.input[i] for i in places if node.input[i] not in self.weights]
        # Half only if nothing of it is single; weights alone are left as they are.
        if given and all(self.now.get(name) == self.half for name in given):
            return self.half
        return self.single

    def _stays(self, node: Any) -> bool:
        marked = any(entry.key == SINGLE for entry in node.metadata_props)
        return marked or any(name.endswith(_BASES) for name in node.input)

    def _as(self, name: str, wanted: int) -> str:
        """Return the name of a value in a precision; casts it where that was not done yet."""
        known = name in self.weights and name not in self.now
        if (self.single if known else self.now.get(name, self.single)) == wanted:
            return name
        if (name, wanted) not in self.made:
            other = f"{name}.{'half' if wanted == self.half else 'single'}"
            if known:
                self._weight(name, other)
            else:
                self._cast(name, other, wanted)
            self.now[other] = wanted
            self.made[name, wanted] = other
        return self.made[name, wanted]

    def _cast(self, name: str, other: str, wanted: int) -> None:
        self.nodes.append(
            self.onnx.helper.make_node("Cast", [name], [other], name=f"cast.{other}", to=wanted)
        )

    def _weight(self, name: str, other: str) -> None:
        array = self.onnx.numpy_helper.to_array(self.weights[name])
        if array.size and float(np.abs(array).max()) > _LARGEST:
            raise SettingError(
                f"The weight {name!r} reaches {np.abs(array).max():.3g}, beyond half precision. "
                "Export with --precision fp32."
            )
        tensor = self.onnx.numpy_helper.from_array(array.astype(np.float16), other)
        self.graph.initializer.append(tensor)
