from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.bound_runner import open_bound_runner
from export.runtime import open_runner
from models.errors import DeviceError, SettingError


def _model(path: Path, length: int | str = 3) -> Path:
    """y = 2 x + c; z = x."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["double"]),
        helper.make_node("Add", ["double", "c"], ["y"]),
        helper.make_node("Identity", ["x"], ["z"]),
    ]
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, length])
        for name in ("x", "c", "y", "z")
    }
    graph = helper.make_graph(nodes, "g", [values["x"], values["c"]], [values["y"], values["z"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    return path


def test_it_gives_what_a_plain_runner_gives_again_and_again(tmp_path: Path) -> None:
    path = _model(tmp_path / "m.onnx")
    plain, bound = open_runner(path), open_bound_runner(path)
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(3):
        inputs = {k: rng.standard_normal((1, 3)).astype(np.float32) for k in ("x", "c")}
        expected, found = plain.run(inputs), bound.run(inputs)
        np.testing.assert_array_equal(found["y"], expected["y"])
        kept.append((found["y"], expected["y"]))
    for found_y, expected_y in kept:  # the next call did not write into what was given
        np.testing.assert_array_equal(found_y, expected_y)


def test_a_constant_is_given_once(tmp_path: Path) -> None:
    constant = np.array([[1.0, 2.0, 3.0]], np.float32)
    bound = open_bound_runner(_model(tmp_path / "m.onnx"), constants={"c": constant})
    assert [item.name for item in bound.inputs] == ["x"]
    found = bound.run({"x": np.zeros((1, 3), np.float32)})
    np.testing.assert_array_equal(found["y"], constant)
    with pytest.raises(SettingError, match="Expected inputs"):
        bound.run({"x": np.zeros((1, 3), np.float32), "c": constant})


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = _model(tmp_path / "m.onnx")
    with pytest.raises(SettingError, match="only fixed shapes"):
        open_bound_runner(_model(tmp_path / "open.onnx", "n"))
    with pytest.raises(SettingError, match="'c'"):
        open_bound_runner(path, constants={"c": np.zeros((1, 4), np.float32)})
    with pytest.raises(SettingError, match="Expected input 'x'"):
        open_bound_runner(path).run({k: np.zeros((1, 3)) for k in ("x", "c")})


@pytest.mark.gpu
def test_a_recorded_graph_gives_the_same_on_a_gpu(tmp_path: Path) -> None:
    path = _model(tmp_path / "m.onnx")
    try:
        bound = open_bound_runner(path, device="cuda", strict=True)
    except DeviceError as error:
        pytest.skip(str(error))
    for value in (1.0, 2.0):
        x = np.full((1, 3), value, np.float32)
        np.testing.assert_array_equal(bound.run({"x": x, "c": x})["y"], 3.0 * x)
