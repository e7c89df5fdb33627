from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.nets.full.graph import SoundGraph
from models.nets.full.published import FamilyName
from tests.models.nets.full.tiny import NAMES, noise, shallow_generator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("onnxscript") is None, reason="exporting needs onnxscript"
    ),
    # Of torch's exporter, about its own internals.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(autouse=True)
def _no_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    # The exporter logs each of its thoughts for a file that nobody asked for.
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)


def _parity(module: nn.Module, inputs: tuple[Tensor, ...], file: Path) -> float:
    """Export with static shapes; return the relative error of ONNX Runtime on other inputs."""
    import onnxruntime

    module = module.eval()
    torch.onnx.export(
        module, inputs, str(file), dynamo=True, opset_version=18, external_data=False, verbose=False
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    source = torch.Generator().manual_seed(8)
    others = [
        torch.randn(x.shape, generator=source) if x.is_floating_point() else x for x in inputs
    ]
    names = [value.name for value in session.get_inputs()]
    assert len(names) == len(inputs)
    feeds: dict[str, Any] = {n: v.numpy() for n, v in zip(names, others, strict=True)}
    found = session.run(None, feeds)[0]
    with torch.inference_mode():
        expected = module(*others).numpy()
    assert float(expected.std()) > 0.01  # nothing to compare otherwise
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


# MusicLDM's is in the whole chain below.
@pytest.mark.parametrize("family", NAMES[1:])
def test_denoisers_export_with_parity(family: FamilyName, tmp_path: Path) -> None:
    generator = shallow_generator(family)
    condition = generator.random_condition(torch.Generator().manual_seed(2))
    parts = [getattr(condition, name) for name in generator.family.conditions]
    inputs = (noise(generator, 8), torch.tensor(500), *parts)
    assert _parity(generator.denoiser, inputs, tmp_path / "unet.onnx") <= 1e-4


def test_mel_decoder_and_vocoder_export_with_parity(tmp_path: Path) -> None:
    generator = shallow_generator("musicldm")
    with torch.inference_mode():
        mel = generator.mel(noise(generator, 8))
    mel = mel.clone()
    assert _parity(generator.decoder, (noise(generator, 8),), tmp_path / "vae.onnx") <= 1e-4
    assert _parity(generator.vocoder, (mel,), tmp_path / "vocoder.onnx") <= 1e-4


def test_the_whole_chain_exports_as_one_graph_with_parity(tmp_path: Path) -> None:
    generator = shallow_generator("musicldm")
    vector = generator.random_condition(torch.Generator().manual_seed(2)).vector
    assert vector is not None
    graph = SoundGraph(generator, n_steps=2)
    assert _parity(graph, (noise(generator, 8), vector), tmp_path / "chain.onnx") <= 1e-4
