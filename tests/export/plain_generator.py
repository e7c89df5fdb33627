"""A generator folder whose graphs NumPy can follow: matrices and a tangent, made in no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.generator_files import DATA_FILE, GeneratorCard, GraphEntry, StateEntry
from export.generator_folder import Checks, finish_folder
from export.onnx_store import save_shared
from models.stretch import GeneratorInput, GeneratorSpec, GeneratorState
from models.stretch_inputs import stretch_arrays

__all__ = ["LENGTHS", "SPEC", "WEIGHTS", "PlainGenerator", "write_plain"]

LENGTHS = (1, 3)
HELD = 1
PREFIX = 4
SPEC = GeneratorSpec("small", "tiny", 2, LENGTHS, HELD, ("vector", "tokens"), startable=True)


def _weights() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    shapes = {"mix": (32, 32), "condition": (512, 32), "voice": (32, 640), "words": (768, 32)}
    scale = {"mix": 0.2, "condition": 1.0, "voice": 0.05, "words": 0.05}
    return {
        name: (scale[name] * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


WEIGHTS = _weights()


class PlainGenerator:
    """The same in NumPy."""

    def __init__(self) -> None:
        self.spec = SPEC

    def noise_shape(self, n_frames: int) -> tuple[int, ...]:
        return (1, n_frames, 32)

    def initial_state(self) -> GeneratorState:
        return {"prefix": np.zeros((1, PREFIX, 32), np.float32), "count": np.ones((1, 1), "f4")}

    def stretch(
        self,
        given: GeneratorInput,
        state: GeneratorState,
        noise: NDArray[np.float32],
        *,
        n_frames: int,
    ) -> tuple[NDArray[np.float32], GeneratorState]:
        silence = np.zeros(32, np.float32)
        arrays = stretch_arrays(given, SPEC, n_frames=n_frames, silence=silence)
        level = noise @ WEIGHTS["mix"] + arrays["tokens"][:, :n_frames] @ WEIGHTS["words"]
        level = level + (arrays["vector"] @ WEIGHTS["condition"])[:, None] + state["count"] * 0.1
        latents = np.tanh(level)
        sound = (latents @ WEIGHTS["voice"]).reshape(-1)
        prefix = np.concatenate([state["prefix"], latents], axis=1)[:, -PREFIX:]
        return sound, {"prefix": prefix, "count": np.minimum(state["count"] + 1.0, 3.0)}


def write_plain(folder: Path) -> Path:
    """Write the folder, encoders aside; it keeps its bounds."""
    folder.mkdir(parents=True)
    save_shared({f"generator-{n}.onnx": _graph(n) for n in LENGTHS}, folder, DATA_FILE)
    (folder / "encoder.onnx").write_bytes(_encoder().SerializeToString())
    plain = PlainGenerator()
    first = plain.initial_state()
    card = GeneratorCard(
        spec=SPEC,
        sampler="ping_pong",
        guidance=1.0,
        precision="fp32",
        graphs=tuple(GraphEntry(n, f"generator-{n}.onnx", plain.noise_shape(n)) for n in LENGTHS),
        state=tuple(StateEntry(name, value.shape) for name, value in first.items()),
        silence=(0.0,) * 32,
        licence="made for tests",
    )
    finish_folder(
        folder,
        card,
        list(first.values()),
        {},
        reference=plain,
        scores=["encoder.onnx"],
        checks=Checks(conditions=5, streams=1),
    )
    return folder


def _graph(n_frames: int) -> Any:
    node = helper.make_node
    nodes = [
        node("MatMul", ["noise", "mix"], ["mixed"]),
        node("Slice", ["tokens", "zero", "frames", "one"], ["new"]),
        node("MatMul", ["new", "words"], ["said"]),
        node("Add", ["mixed", "said"], ["level0"]),
        node("MatMul", ["vector", "condition"], ["given"]),
        node("Unsqueeze", ["given", "one"], ["given3"]),
        node("Add", ["level0", "given3"], ["level1"]),
        node("Mul", ["state.count", "tenth"], ["lifted"]),
        node("Add", ["level1", "lifted"], ["level"]),
        node("Tanh", ["level"], ["latents"]),
        node("MatMul", ["latents", "voice"], ["blocks"]),
        node("Reshape", ["blocks", "flat"], ["sound"]),
        node("Concat", ["state.prefix", "latents"], ["all"], axis=1),
        node("Slice", ["all", "minus", "end", "one"], ["next.prefix"]),
        node("Add", ["state.count", "unit"], ["more"]),
        node("Min", ["more", "most"], ["next.count"]),
    ]
    constants: dict[str, NDArray[Any]] = {
        **WEIGHTS,
        "zero": np.array([0]),
        "one": np.array([1]),
        "frames": np.array([n_frames]),
        "flat": np.array([1, 640 * n_frames]),
        "minus": np.array([-PREFIX]),
        "end": np.array([1 << 30]),
        "tenth": np.array([0.1], np.float32),
        "unit": np.array([1.0], np.float32),
        "most": np.array([3.0], np.float32),
    }
    takes = {
        "vector": (1, 512),
        "tokens": (1, n_frames + HELD, 768),
        "noise": (1, n_frames, 32),
        "start": (1, n_frames + HELD, 32),
        "times": (SPEC.steps + 1,),
        "state.prefix": (1, PREFIX, 32),
        "state.count": (1, 1),
    }
    gives = {
        "sound": (1, 640 * n_frames),
        "next.prefix": (1, PREFIX, 32),
        "next.count": (1, 1),
    }
    return _model(nodes, takes, gives, constants)


def _encoder() -> Any:
    nodes = [
        helper.make_node("ReduceMean", ["mel", "axis"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "basis"], ["row"]),
        helper.make_node("LpNormalization", ["row"], ["vector"], axis=1, p=2),
    ]
    basis = np.random.default_rng(1).standard_normal((64, 512)).astype(np.float32)
    constants: dict[str, NDArray[Any]] = {"axis": np.array([1]), "basis": basis}
    return _model(nodes, {"mel": (1, 256, 64)}, {"vector": (1, 512)}, constants)


def _model(
    nodes: list[Any],
    takes: dict[str, tuple[int, ...]],
    gives: dict[str, tuple[int, ...]],
    constants: dict[str, NDArray[Any]],
) -> Any:
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in takes.items()],
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in gives.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
