"""Exported encoders score as the arithmetic in them says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.generator_scores.scorers import OnnxScorer
from models.errors import SettingError

onnx = pytest.importorskip("onnx")

RNG = np.random.default_rng(5)
WEIGHTS = {
    "mix": RNG.standard_normal((64, 512)).astype(np.float32),
    "to_classes": RNG.standard_normal((512, 13)).astype(np.float32),
    "to_factors": RNG.standard_normal((512, 5)).astype(np.float32),
}


def write(path: Path, outputs: dict[str, int]) -> None:
    """Mean over time, a matrix, length 1; classes and factors are two more matrices."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("ReduceMean", ["mel", "time"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "mix"], ["mixed"]),
        helper.make_node("LpNormalization", ["mixed"], ["vector"], axis=-1, p=2),
        helper.make_node("MatMul", ["vector", "to_classes"], ["classes"]),
        helper.make_node("MatMul", ["vector", "to_factors"], ["factors"]),
    ]
    graph = helper.make_graph(
        nodes,
        "scorer",
        [helper.make_tensor_value_info("mel", TensorProto.FLOAT, [1, 256, 64])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width])
            for name, width in outputs.items()
        ],
        [
            *(numpy_helper.from_array(value, name) for name, value in WEIGHTS.items()),
            numpy_helper.from_array(np.array([1], np.int64), "time"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    path.write_bytes(model.SerializeToString())


def vectors(mel: NDArray[np.float32]) -> NDArray[np.float32]:
    mixed = mel.mean(axis=1) @ WEIGHTS["mix"]
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True))


def test_exported_scorers_take_one_sound_after_another(tmp_path: Path) -> None:
    write(tmp_path / "encoder.onnx", {"vector": 512})
    write(tmp_path / "judge.onnx", {"vector": 512, "classes": 13, "factors": 5})
    scorer = OnnxScorer(tmp_path)
    mel = RNG.standard_normal((3, 256, 64)).astype(np.float32)
    expected = vectors(mel)
    np.testing.assert_allclose(scorer.embed(mel), expected, atol=1e-5)
    judged = scorer.judge(mel)
    np.testing.assert_allclose(judged.vectors, expected, atol=1e-5)
    np.testing.assert_array_equal(judged.classes, (expected @ WEIGHTS["to_classes"]).argmax(axis=1))
    np.testing.assert_allclose(judged.factors, expected @ WEIGHTS["to_factors"], atol=1e-4)
    with pytest.raises(SettingError, match="256 mel frames, got 64"):
        scorer.embed(mel[:, :64])
