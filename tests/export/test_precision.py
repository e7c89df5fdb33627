from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.precision import SINGLE, stays_single, to_half
from models.errors import SettingError


def _run(model: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return found


def _network(scale: float = 1.0) -> Any:
    """A residual block: x + W2 gelu(W1 norm(x)), a marked product, and a product with a basis."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((16, 32)) / 4.0 * scale,
        "w2": rng.standard_normal((32, 16)) / 6.0,
        "w3": rng.standard_normal((16, 16)) / 4.0,
        "net.synthesis": rng.standard_normal((16, 16)) / 4.0,
        "two": np.array(2.0),
    }
    nodes = [
        helper.make_node("Pow", ["x", "two"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["mean"], keepdims=1),
        helper.make_node("Sqrt", ["mean"], ["root"]),
        helper.make_node("Div", ["x", "root"], ["normed"]),
        helper.make_node("MatMul", ["normed", "w1"], ["up"]),
        helper.make_node("Gelu", ["up"], ["gelu"], approximate="tanh"),
        helper.make_node("MatMul", ["gelu", "w2"], ["down"]),
        helper.make_node("Add", ["x", "down"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w3"], ["timed"]),
        helper.make_node("MatMul", ["timed", "net.synthesis"], ["y"]),
    ]
    nodes[8].metadata_props.append(onnx.StringStringEntryProto(key=SINGLE, value="1"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 16])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_products_become_half_and_the_rest_stays_single() -> None:
    model = _network()
    half = to_half(model)
    onnx.checker.check_model(half)
    inferred = onnx.shape_inference.infer_shapes(half, strict_mode=True)
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    for name in ("up", "gelu", "down"):
        assert types[name] == TensorProto.FLOAT16
    for name in ("square", "mean", "root", "normed", "sum", "timed"):
        assert types[name] == TensorProto.FLOAT
    stored = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert stored["w1.half"] == stored["w2.half"] == TensorProto.FLOAT16
    assert stored["w3"] == stored["net.synthesis"] == TensorProto.FLOAT
    assert "w1" not in stored
    x = np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32)
    expected, found = _run(model, x), _run(half, x)
    assert found.dtype == np.float32
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 1e-7 < float(error) < 2e-3
    assert [node.op_type for node in model.graph.node].count("Cast") == 0  # the first is left alone


def test_an_output_in_half_comes_out_in_single() -> None:
    model = _network()
    del model.graph.node[7:]
    model.graph.output[0].name = "down"
    half = to_half(model)
    onnx.checker.check_model(half)
    x = np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32)
    np.testing.assert_allclose(_run(half, x), _run(model, x), atol=5e-3)


def test_an_output_that_is_constant_stays() -> None:
    model = _network()
    model.graph.output.append(helper.make_tensor_value_info("two", TensorProto.FLOAT, []))
    model.graph.output.append(helper.make_tensor_value_info("still", TensorProto.FLOAT, [2]))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "still"))
    kept = {tensor.name: tensor.data_type for tensor in to_half(model).graph.initializer}
    assert kept["two"] == kept["still"] == TensorProto.FLOAT


def test_weights_beyond_its_range_are_refused() -> None:
    with pytest.raises(SettingError, match="beyond half precision"):
        to_half(_network(scale=1e6))


@pytest.mark.parametrize(
    ("part", "stays"),
    [
        (": Graph/denoiser: Denoiser/denoiser.time: Sequential/denoiser.time.0: Linear", True),
        (": Graph/unet: UNet/unet.time_embedding: TimestepEmbedding/linear_1: Linear", True),
        (": Graph/denoiser: Denoiser/denoiser.blocks.0.up: Linear/linear: aten.linear", False),
        (": Graph/unet.down_blocks.0.resnets.0.time_emb_proj: Linear", False),
        (": Graph/sometimes: Linear", False),
    ],
)
def test_the_embedding_of_time_is_known_by_its_place(part: str, stays: bool) -> None:
    assert stays_single(part) is stays
