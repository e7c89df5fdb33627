"""The ONNX files of a bundle: written, walked, run, against NumPy."""

from __future__ import annotations

import builtins
import logging
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from export.bundle import save_bundle
from export.onnx_files import OnnxFormatError, external_files
from export.onnx_linear import linear_onnx
from export.runtime import Device, open_decoder, open_runner
from models.errors import BundleError, DeviceError, FileError, SettingError
from tests.export.bundles import N_FEATURES, direct_parts, retrieval_parts

ATOL = 1e-6


@pytest.fixture
def model(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    path = tmp_path / "decoder.onnx"
    path.write_bytes(linear_onnx(rng.standard_normal((4, 3)), np.zeros(3)))
    return path


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_features=st.integers(1, 50), normalise=st.booleans())
def test_a_linear_decoder_equals_numpy(
    seed: int, n_features: int, normalise: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((n_features, 6)).astype(np.float32) / np.float32(n_features)
    bias = rng.standard_normal(6).astype(np.float32)
    path = tmp_path_factory.mktemp("linear") / "d.onnx"
    path.write_bytes(linear_onnx(weights, bias, output="mel", shape=(2, 3), normalise=normalise))
    x = rng.standard_normal((1, n_features)).astype(np.float32)
    out = open_runner(path).run({"features": x})["mel"]
    expected = x.astype(np.float64) @ weights.astype(np.float64) + bias
    if normalise:
        expected /= np.linalg.norm(expected)
    assert out.shape == (1, 2, 3)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.reshape(1, 6), expected, atol=ATOL * max(1.0, np.ptp(expected)))


def test_the_same_weights_give_the_same_file_and_other_weights_another() -> None:
    weights, bias = np.ones((4, 3)), np.zeros(3)
    assert linear_onnx(weights, bias) == linear_onnx(weights.copy(), bias.copy())
    assert linear_onnx(weights, bias) != linear_onnx(2 * weights, bias)
    onnx.checker.check_model(onnx.load_from_string(linear_onnx(weights, bias)), full_check=True)


@pytest.mark.parametrize(
    ("weights", "bias", "shape"),
    [
        (np.ones((4, 3)), np.zeros(2), None),
        (np.ones(4), np.zeros(4), None),
        (np.full((4, 3), np.nan), np.zeros(3), None),
        (np.full((4, 3), 1e39), np.zeros(3), None),
        (np.ones((4, 3)), np.zeros(3), (2, 2)),
        (np.ones((0, 3)), np.zeros(3), None),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_weights_that_cannot_be_are_refused(weights: Any, bias: Any, shape: Any) -> None:
    with pytest.raises(SettingError):
        linear_onnx(weights, bias, shape=shape)


def test_zero_stays_finite_under_normalisation(tmp_path: Path) -> None:
    path = tmp_path / "d.onnx"
    path.write_bytes(linear_onnx(np.ones((4, 3)), np.zeros(3), normalise=True))
    out = open_runner(path).run({"features": np.zeros((1, 4), np.float32)})
    np.testing.assert_array_equal(out["embedding"], 0)


@pytest.mark.parametrize("parts", [retrieval_parts(), direct_parts()], ids=["retrieval", "direct"])
def test_the_decoder_of_a_bundle_equals_numpy(parts: Any, tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "b", parts.manifest, parts.files)
    runner = open_decoder(bundle)
    x = np.random.default_rng(5).standard_normal((1, N_FEATURES)).astype(np.float32)
    (out,) = runner.run({"features": x}).values()
    expected = (x @ parts.weights + parts.bias).ravel()
    if bundle.manifest.chain.kind == "retrieval":
        expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(out.ravel(), expected, rtol=ATOL, atol=3 * ATOL)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (linear_onnx(np.ones((N_FEATURES, 6)), np.ones(6)), "length 1"),
        (linear_onnx(np.ones((N_FEATURES, 5)), np.ones(5), normalise=True), "output"),
        (linear_onnx(np.ones((7, 6)), np.ones(6), normalise=True), "input"),
        (linear_onnx(np.ones((N_FEATURES, 6)), np.ones(6), output="mel"), "output"),
    ],
)
def test_a_decoder_that_is_not_the_manifests_is_refused(
    data: bytes, words: str, tmp_path: Path
) -> None:
    parts = retrieval_parts()
    bundle = save_bundle(tmp_path / "b", parts.manifest, {**parts.files, "decoder.onnx": data})
    with pytest.raises(BundleError, match=words):
        open_decoder(bundle)


def test_weights_that_overflow_on_zeros_are_refused(tmp_path: Path) -> None:
    big = helper.make_tensor("big", TensorProto.FLOAT, [3], [3e38] * 3)
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "big"], ["y"]),
            helper.make_node("Add", ["y", "big"], ["z"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3])],
        [big],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(BundleError, match="not finite"):
        open_runner(path)


def test_a_missing_device_falls_back_with_one_warning(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    devices: tuple[Device, ...] = ("cuda", "tensorrt")
    for device in devices:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            runner = open_runner(model, device=device)
        if runner.device == "cpu":
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            assert device in caplog.text
            assert runner.providers == ("CPUExecutionProvider",)
        else:
            assert runner.device == device


def test_inputs_that_do_not_fit_are_refused(model: Path) -> None:
    runner = open_runner(model)
    good = np.zeros((1, 4), np.float32)
    for inputs in ({}, {"x": good}, {"features": good[:, :3]}, {"features": good.astype("f8")}):
        with pytest.raises(SettingError):
            runner.run(inputs)
    runner.run({"features": good})


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not a model")
    with pytest.raises(FileError, match=r"x\.onnx"):
        open_runner(tmp_path / "x.onnx")
    with pytest.raises(FileError, match="No ONNX file"):
        open_runner(tmp_path / "absent.onnx")


def test_arguments_that_cannot_be_are_refused(model: Path) -> None:
    with pytest.raises(SettingError, match="device"):
        open_runner(model, device="tpu")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="thread"):
        open_runner(model, threads=0)


def test_no_onnxruntime_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DeviceError, match=r"pip install 'hearback\[cpu\]'"):
        open_runner(model)


def test_two_builds_over_each_other_are_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(DeviceError, match="uninstall"):
        open_runner(model)


def external_model(location: str, place: str) -> onnx.ModelProto:
    """Return a model with one tensor outside, held by an initializer, a node or a subgraph."""
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    inner = helper.make_graph([constant], "inner", [], [value])
    if place == "initializer":
        graph = helper.make_graph([], "g", [], [value], [tensor])
    elif place == "node":
        graph = helper.make_graph([constant], "g", [], [value])
    else:
        branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
        graph = helper.make_graph([branch], "g", [], [value])
    made: onnx.ModelProto = helper.make_model(graph)
    if place == "function":
        made.functions.add(name="f", domain="d").node.append(constant)
        del made.graph.node[:]
    return made


@pytest.mark.parametrize("place", ["initializer", "node", "subgraph", "function"])
def test_external_data_is_found_wherever_it_hides(place: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(external_model("../x.data", place).SerializeToString())
    assert external_files(tmp_path / "m.onnx") == {"../x.data"}


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_walked_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(data)
    try:
        external_files(path)
    except OnnxFormatError:
        return


@settings(deadline=None)
@given(st.data())
def test_a_damaged_model_is_walked_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(external_model("x.data", "subgraph").SerializeToString())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        external_files(path)
    except OnnxFormatError:
        return


def test_without_onnx_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SettingError, match=r"pip install onnx"):
        linear_onnx(np.ones((2, 1)), np.zeros(1))
