"""Each stage of an exported stretch beside the same in torch: what is wrong is told where it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from export.stage_parity import stage_figures
from export.to_onnx import to_onnx
from models.nets.stretch import StretchGraph, random_nets

_STAGES = ("denoiser", "sampler", "codec", "phases", "vocoder", "stretch", "state")


@pytest.fixture(scope="module")
def graph() -> StretchGraph:
    return StretchGraph(random_nets("tiny"), n_frames=2, steps=2, probes=True).eval()


@pytest.fixture(scope="module")
def model(graph: StretchGraph) -> Any:
    return to_onnx(
        graph, graph.example(), input_names=graph.input_names, output_names=graph.output_names
    )


def test_every_stage_is_as_in_torch(graph: StretchGraph, model: Any) -> None:
    figures = stage_figures(graph, model, seeds=(0, 1))
    names = {f"single.2.{stage}.relative_l2" for stage in _STAGES}
    assert set(figures) == names | {"single.2.mel_pcc", "single.2.phase_drift"}
    assert all(0.0 < figures[name] < 1e-5 for name in names)
    assert figures["single.2.mel_pcc"] > 0.9999


@pytest.mark.parametrize(
    ("weight", "wrong"),
    [
        ("denoiser.blocks.0.up.bias", {"denoiser", "sampler"}),
        ("codec.decoder.leave.bias", {"codec"}),
        ("vocoder.leave.bias", {"phases", "vocoder"}),
    ],
)
def test_a_wrong_weight_shows_in_its_stage_and_in_the_whole(
    graph: StretchGraph, model: Any, weight: str, wrong: set[str]
) -> None:
    spoilt = type(model)()
    spoilt.CopyFrom(model)
    (held,) = (i for i in spoilt.graph.initializer if i.name == weight)
    values = numpy_helper.to_array(held)
    noise = np.random.default_rng(0).standard_normal(values.shape).astype(np.float32)
    held.CopyFrom(numpy_helper.from_array(values + 0.1 * noise, weight))
    figures = stage_figures(graph, spoilt, seeds=(0,))
    found = {stage for stage in _STAGES if figures[f"single.2.{stage}.relative_l2"] > 1e-4}
    assert found == wrong | {"stretch", "state"}
