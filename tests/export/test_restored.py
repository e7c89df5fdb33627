"""What is read back from the generator that ships makes its sounds, and its encoders' vectors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
import typer
from torch import Tensor
from typer.testing import CliRunner

from export.checkpoint import TrainedNetworks
from export.cli import register
from export.generator import open_generator
from export.generator_files import (
    CARD_FILE,
    card_to_json,
    file_entry,
    read_generator_card,
)
from export.parity import relative_error, run_stream
from export.restored import read_exported
from models.errors import BundleError
from models.nets.stretch import TorchGenerator

_SHIPPED = Path(__file__).parents[2] / "calibration" / "generators" / "tiny"


@pytest.fixture(scope="module")
def restored() -> TrainedNetworks:
    return read_exported(_SHIPPED)


def test_streams_in_torch_are_those_of_the_exported_graphs(restored: TrainedNetworks) -> None:
    exported = open_generator(_SHIPPED)
    spec = exported.spec
    ours = TorchGenerator(
        restored.nets,
        steps=restored.steps,
        stretches=spec.stretches,
        held=spec.held,
        sampler=restored.sampler,
        guidance=restored.guidance,
    )
    np.testing.assert_allclose(ours.silence, exported.card.silent_latent, rtol=1e-6)
    lengths = [spec.stretches[0], spec.stretches[-1], spec.stretches[1]]
    found = np.concatenate(run_stream(ours, lengths, seed=5))
    expected = np.concatenate(run_stream(exported, lengths, seed=5))
    assert float(np.abs(expected).max()) > 0.01
    assert relative_error(found, expected) < 3e-3  # phases that run free pass rounding on


@pytest.mark.parametrize("name", ["encoder", "judge", "tokens", "codec_encoder"])
def test_encoders_give_what_their_graphs_give(name: str, restored: TrainedNetworks) -> None:
    networks: dict[str, Callable[[Tensor], Tensor]] = {
        "encoder": restored.encoder,
        "judge": lambda mel: restored.readout(restored.judge(mel))[1],
        "tokens": restored.tokens,
        "codec_encoder": restored.nets.codec.encode,
    }
    mel = torch.randn(1, 256, 64, generator=torch.Generator().manual_seed(0)) * 2.0 - 6.0
    expected = ort.InferenceSession(_SHIPPED / f"{name}.onnx").run(None, {"mel": mel.numpy()})[-1]
    with torch.no_grad():
        found = networks[name](mel).numpy()
    assert relative_error(found, expected) < 1e-5


def test_where_it_was_trained_stays_known(restored: TrainedNetworks) -> None:
    card = read_generator_card(_SHIPPED)
    assert restored.about == card.about
    assert restored.licence == card.licence


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_it_is_exported_anew_with_another_number_of_steps(tmp_path: Path) -> None:
    app = typer.Typer()
    register(app)
    app.callback()(lambda: None)
    options = ["--out", str(tmp_path / "one"), "--steps", "1", "--conditions", "3"]
    found = CliRunner().invoke(app, ["export", str(_SHIPPED), *options])
    assert found.exit_code == 0, found.exception
    made, before = open_generator(tmp_path / "one"), open_generator(_SHIPPED)
    assert made.spec == replace(before.spec, steps=1)
    assert made.card.about == before.card.about
    assert made.card.parity["failed"] == []
    # What embeds stays what it was, or bundles of before would not know their embedding again.
    for name in ("encoder.onnx", "judge.onnx"):
        assert (tmp_path / "one" / name).read_bytes() == (_SHIPPED / name).read_bytes(), name


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(_SHIPPED, tmp_path / "copy"))


def test_a_generator_in_half_precision_is_refused(copy: Path) -> None:
    values = json.loads((copy / CARD_FILE).read_text("utf-8"))
    (copy / CARD_FILE).write_text(json.dumps(values | {"precision": "fp16"}))
    with pytest.raises(BundleError, match=r"in fp16 with the sampler \w+; networks are read back"):
        read_exported(copy)


def test_without_its_encoders_it_is_refused(copy: Path) -> None:
    (copy / "judge.onnx").unlink()
    with pytest.raises(BundleError, match=r"lacks judge\.onnx"):
        read_exported(copy)


def test_a_graph_of_other_weights_is_refused(copy: Path) -> None:

    shutil.copy(copy / "encoder.onnx", copy / "tokens.onnx")
    card = read_generator_card(copy)
    files = card.files | {"tokens.onnx": file_entry(copy / "tokens.onnx", "scores")}
    (copy / CARD_FILE).write_bytes(card_to_json(replace(card, files=files)))
    with pytest.raises(BundleError, match=r"its graphs hold no .*another hearback"):
        read_exported(copy)
