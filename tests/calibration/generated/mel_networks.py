"""A generator folder whose networks are matrices that NumPy can follow, for tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.generator_files import (
    CARD_FILE,
    GeneratorCard,
    GeneratorFile,
    GraphEntry,
    card_to_json,
    file_entry,
    read_generator_card,
)
from models.stretch import GeneratorSpec
from tests.export.plain_generator import write_plain

__all__ = ["MATRICES", "network_card", "reference_vector", "write_networks", "write_whole"]

_FRAMES, _BANDS = 256, 64


def _matrices() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    shapes = {"encoder": (64, 512), "judge": (64, 512), "codec": (256, 32), "tokens": (128, 768)}
    return {
        name: rng.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(shape[0]))
        for name, shape in shapes.items()
    }


MATRICES = _matrices()


def reference_vector(name: str, mel: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what `encoder` or `judge` says of 256 mel frames."""
    row = (mel.astype(np.float64).mean(axis=0) + 6.0) @ MATRICES[name]
    return np.asarray(row / np.linalg.norm(row))


def write_networks(folder: Path) -> Path:
    """Write encoder, judge, codec encoder and tokens, and a card that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("encoder", "judge"):
        nodes = [
            helper.make_node("ReduceMean", ["mel"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("Add", ["mean", "six"], ["level"]),
            helper.make_node("MatMul", ["level", "weights"], ["row"]),
            helper.make_node("LpNormalization", ["row"], ["vector"], axis=1, p=2),
        ]
        _write(folder / f"{name}.onnx", nodes, "vector", [1, 512], MATRICES[name], [1, _FRAMES, 64])
    nodes = [
        helper.make_node("Reshape", ["mel", "shape"], ["patches"]),
        helper.make_node("MatMul", ["patches", "weights"], ["latents"]),
    ]
    _write(folder / "codec_encoder.onnx", nodes, "latents", [1, 64, 32], MATRICES["codec"],
           [1, _FRAMES, 64], shape=[1, 64, 256])  # fmt: skip
    nodes = [
        helper.make_node("Reshape", ["mel", "shape"], ["cut"]),
        helper.make_node("Transpose", ["cut"], ["turned"], perm=[0, 1, 3, 2, 4]),
        helper.make_node("Reshape", ["turned", "flat"], ["patches"]),
        helper.make_node("MatMul", ["patches", "weights"], ["tokens"]),
    ]
    _write(folder / "tokens.onnx", nodes, "tokens", [1, 128, 768], MATRICES["tokens"],
           [1, _FRAMES, 64], shape=[1, 16, 16, 8, 8], flat=[1, 128, 128])  # fmt: skip
    if not (folder / CARD_FILE).exists():
        (folder / CARD_FILE).write_bytes(card_to_json(network_card()))
    return folder


def write_whole(folder: Path) -> Path:
    """Write the same beside graphs that make sound, all of it on the card."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_networks(write_plain(folder))
    card = read_generator_card(folder)
    names = [f"{name}.onnx" for name in ("encoder", "judge", "codec_encoder", "tokens")]
    files = {name: file_entry(folder / name, "scores") for name in names}
    card = replace(card, files={**card.files, **files})
    (folder / CARD_FILE).write_bytes(card_to_json(card))
    return folder


def network_card() -> GeneratorCard:
    """Return a card of a generator whose graphs are not there: only its networks are run."""
    names = ("generator-4.onnx", "generator-state.npy", "generator-golden.npy")
    return GeneratorCard(
        spec=GeneratorSpec("small", "tiny", 1, (4,), 0, ("vector",), startable=True),
        sampler="euler",
        guidance=1.0,
        precision="fp32",
        graphs=(GraphEntry(4, names[0], (1, 1, 8, 32)),),
        state=(),
        silence=(0.0,) * 32,
        licence="made for tests",
        files={name: GeneratorFile("0" * 64, 1, "live") for name in names},
    )


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    output: str,
    shape_out: list[int],
    weights: NDArray[np.float32],
    shape_in: list[int],
    **shapes: list[int],
) -> None:
    constants = [numpy_helper.from_array(weights, "weights")]
    constants.append(numpy_helper.from_array(np.array(6.0, np.float32), "six"))
    constants += [
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in shapes.items()
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("mel", TensorProto.FLOAT, shape_in)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape_out)],
        [constant for constant in constants if constant.name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
