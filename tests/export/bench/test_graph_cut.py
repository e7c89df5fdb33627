"""A model cut off at an output computes that output, with the nodes it takes and no others."""

from __future__ import annotations

import numpy as np
import pytest

from export.bench.graph_cut import cut_graph
from export.onnx_files import OnnxFormatError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def chain(n: int) -> bytes:
    """x times W, n times; the first and the last product are outputs."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    names = ["x", *(f"a{i}" for i in range(n))]
    nodes = [
        helper.make_node("MatMul", [names[i], "used" if i < 1 else "unused"], [names[i + 1]])
        for i in range(n)
    ]
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 8]) for name in names
    }
    graph = helper.make_graph(
        nodes,
        "chain",
        [values["x"]],
        [values["a0"], values[f"a{n - 1}"]],
        [numpy_helper.from_array(weight, name) for name in ("used", "unused")],
        value_info=[values[name] for name in names[2:-1]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    return bytes(model.SerializeToString())


def test_what_does_not_lead_to_the_output_is_gone() -> None:
    whole = chain(5)
    cut = cut_graph(whole, "a0")
    model = onnx.load_from_string(cut)
    onnx.checker.check_model(model)
    assert [node.output[0] for node in model.graph.node] == ["a0"]
    assert [tensor.name for tensor in model.graph.initializer] == ["used"]
    assert [value.name for value in model.graph.output] == ["a0"]
    x = np.random.default_rng(1).standard_normal((2, 8)).astype(np.float32)
    expected, found = (
        onnxruntime.InferenceSession(data).run(["a0"], {"x": x})[0] for data in (whole, cut)
    )
    np.testing.assert_array_equal(found, expected)


def test_a_cut_at_the_last_output_keeps_every_node() -> None:
    model = onnx.load_from_string(cut_graph(chain(4), "a3"))
    assert len(model.graph.node) == 4
    assert len(model.graph.initializer) == 2


def test_unknown_outputs_and_other_files_are_refused() -> None:
    with pytest.raises(OnnxFormatError, match=r"no output 'b'.*a0"):
        cut_graph(chain(2), "b")
    with pytest.raises(OnnxFormatError, match="no graph"):
        cut_graph(b"", "a0")
    with pytest.raises(OnnxFormatError):
        cut_graph(b"\xff" * 30, "a0")
    with pytest.raises(OnnxFormatError):
        cut_graph(chain(2)[:-5], "a0")


def test_graphs_within_nodes_are_refused() -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "inner", [], [value])
    node = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph([node], "outer", [], [out]))
    with pytest.raises(OnnxFormatError, match="graph of its own"):
        cut_graph(model.SerializeToString(), "z")
