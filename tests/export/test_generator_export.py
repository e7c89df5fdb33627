"""The true networks, one block deep, through the whole export: seconds for each graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.checkpoint import TrainedNetworks
from export.convert import convert_generator
from export.engines import need_device
from export.generator import open_generator, read_generator_card
from export.generator_folder import Checks
from export.parity import mel_correlation, relative_error, run_stream
from export.runtime import Device, open_runner
from models.errors import DeviceError
from models.mel import MelSpec, log_mel
from models.nets.stretch import TorchGenerator
from tests.export.conftest import HELD, STRETCHES

# Seconds each on a free core; minutes where others work on it too.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
_SAME_MODULE = HealthCheck.function_scoped_fixture


@pytest.fixture(scope="module")
def torch_generator(trained: TrainedNetworks) -> TorchGenerator:
    return TorchGenerator(trained.nets, steps=trained.steps, stretches=STRETCHES, held=HELD)


@given(lengths=st.lists(st.sampled_from(STRETCHES), min_size=1, max_size=8), seed=st.integers(0, 9))
@settings(max_examples=10, deadline=None, suppress_health_check=[_SAME_MODULE])
def test_streams_are_those_of_torch_in_any_sequence_of_lengths(
    lengths: list[int], seed: int, exported: Path, torch_generator: TorchGenerator
) -> None:
    generator = open_generator(exported)
    found = np.concatenate(run_stream(generator, lengths, seed=seed))
    expected = np.concatenate(run_stream(torch_generator, lengths, seed=seed))
    assert float(np.abs(expected).max()) > 0.01
    assert relative_error(found, expected) < 3e-5
    np.testing.assert_array_equal(np.concatenate(run_stream(generator, lengths, seed=seed)), found)


def test_a_norm_is_one_operator_for_the_runtime(exported: Path, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(exported / "generator-1.onnx", options)
    graph = onnx.load(tmp_path / "optimised.onnx", load_external_data=False).graph
    norms = [n for n in graph.node if n.op_type == "SimplifiedLayerNormalization"]
    # Two steps of one block: before attention and map, of queries and keys, before leaving. Of what
    # was heard the last block keeps what comes before the map.
    assert len(norms) == 2 * 4 + 3


def test_the_card_says_what_the_folder_holds(exported: Path, trained: TrainedNetworks) -> None:
    card = read_generator_card(exported)
    assert card.spec.stretches == STRETCHES
    assert card.spec.delay_samples == trained.nets.vocoder.lookahead * 160
    assert {p.name for p in exported.iterdir()} == {"generator.json", *card.files}
    assert set(card.live_files()) == {
        *("generator.json", "generator.data", "generator-1.onnx", "generator-3.onnx"),
        *("generator-state.npy", "generator-golden.npy", "card.md"),
    }
    assert card.parity["failed"] == []
    assert card.parity["figures"]["single.stream.latents.relative_l2"] <= 1e-5
    assert card.parity["figures"]["random.not_finite"] == 0.0
    stages = {
        name.split(".")[2]
        for name in card.parity["figures"]
        if name.startswith(("single.1.", "single.3.")) and name.endswith("relative_l2")
    }
    assert stages == {
        *("denoiser", "sampler", "codec", "phases", "vocoder"),
        *("stretch", "state"),
    }
    assert card.licence in (exported / "card.md").read_text("utf-8")


def test_weights_stand_once_and_no_axis_is_open(exported: Path, trained: TrainedNetworks) -> None:
    nets = trained.nets
    weights = sum(
        value.numel() * 4
        for module in (nets.codec.decoder, nets.denoiser, nets.vocoder)
        for value in [*module.parameters(), *module.buffers()]
    )
    data = (exported / "generator.data").stat().st_size
    assert 0.8 * weights < data < 1.2 * weights + 100_000
    for length in STRETCHES:
        model = onnx.load(exported / f"generator-{length}.onnx", load_external_data=False)
        assert [entry.version for entry in model.opset_import if entry.domain == ""] == [20]
        for value in (*model.graph.input, *model.graph.output):
            axes = value.type.tensor_type.shape.dim
            assert all(axis.HasField("dim_value") and axis.dim_value > 0 for axis in axes)
        assert str(Path.home()) not in str(model)


def test_encoders_read_mel_frames_and_give_what_the_networks_give(
    exported: Path, trained: TrainedNetworks
) -> None:
    pcm = 0.1 * np.random.default_rng(0).standard_normal(256 * 160)
    mel = log_mel(pcm, MelSpec())[np.newaxis, :256]
    with torch.no_grad():
        vector = trained.encoder(torch.from_numpy(mel)).numpy()
        judged = trained.judge(torch.from_numpy(mel))
        classes = trained.readout(judged)[0].numpy()
        latents = trained.nets.codec.encode(torch.from_numpy(mel)).numpy()
        tokens = trained.tokens(torch.from_numpy(mel)).numpy()
    found = open_runner(exported / "judge.onnx").run({"mel": mel})
    assert list(found) == ["vector", "classes", "factors"]
    np.testing.assert_allclose(found["classes"], classes, rtol=1e-4, atol=1e-5)
    for name, output, expected in (
        ("encoder", "vector", vector),
        ("codec_encoder", "latents", latents),
        ("tokens", "tokens", tokens),
    ):
        value = open_runner(exported / f"{name}.onnx").run({"mel": mel})[output]
        assert relative_error(value, expected) < 1e-5


def test_half_precision_runs_on_the_cpu_and_keeps_its_bounds(
    exported: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half"
    checks = Checks(conditions=10, streams=1)
    card = convert_generator(exported, half, precision="fp16", checks=checks)
    assert card.parity["failed"] == []
    assert 1e-6 < card.parity["figures"]["half.stream.latents.relative_l2"] <= 1e-2
    assert "half.stream.cosine_change" in card.parity["figures"]
    lengths = [*STRETCHES, *STRETCHES]
    expected, found = (
        np.concatenate(run_stream(open_generator(each), lengths, seed=1))
        for each in (exported, half)
    )
    assert mel_correlation(found, expected) > 0.99
    for name in ("encoder.onnx", "judge.onnx", "codec_encoder.onnx", "tokens.onnx"):
        assert (half / name).read_bytes() == (exported / name).read_bytes()


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_gives_the_sound_of_the_cpu(device: Device, exported: Path, tmp_path: Path) -> None:
    try:
        need_device(device)
    except DeviceError as error:
        pytest.skip(str(error))
    lengths = [*STRETCHES, *STRETCHES]
    expected = np.concatenate(run_stream(open_generator(exported), lengths, seed=0))
    for _ in range(2):  # the second time from the engines that were kept
        generator = open_generator(exported, device=device, strict=True, cache_dir=tmp_path)
        assert generator.device == device
        found = np.concatenate(run_stream(generator, lengths, seed=0))
        assert relative_error(found, expected) < 2e-2
