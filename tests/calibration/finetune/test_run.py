from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from calibration.finetune.cli import register
from calibration.training.checkpoint import load_tensors, load_weights
from export.runtime import open_runner
from export.tuned_checkpoint import read_tuned_checkpoint
from models.errors import SettingError
from models.nets.full.random_weights import save_checkpoint
from models.nets.full.schedule import Prediction
from models.nets.sizes import make_denoiser
from tests.calibration.finetune.training import OPTIONS, write_recordings, write_training
from tests.models.nets.full.tiny import tiny_generator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("brain") / "data")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training(tmp_path_factory.mktemp("training"))


def _config(folder: Path, **words: object) -> Path:
    path = folder / "brain.toml"
    path.write_text(OPTIONS.format(**words), "utf-8")
    return path


def _run(*arguments: str) -> object:
    app = Typer()
    register(app)
    app.callback()(lambda: None)
    return CliRunner().invoke(app, ["brain", *arguments])


@pytest.mark.parametrize("method", ["ridge", "transformer"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_recordings_and_a_training_folder_give_a_tuned_folder_and_an_acoustic_decoder(
    method: str, recordings: Path, training: Path, tmp_path: Path
) -> None:
    config = _config(
        tmp_path, what=f'generator = "{training}"', recordings=recordings, method=method
    )
    out = tmp_path / "out"
    stopped = _run("--config", str(config), "--out", str(out), "--budget", "0")
    assert stopped.exit_code == 4, stopped.output  # type: ignore[attr-defined]
    result = _run("--config", str(config), "--out", str(out), "--resume", "--json")
    assert result.exit_code == 0, result.output  # type: ignore[attr-defined]
    said = json.loads((out / "brain.json").read_text("utf-8"))
    beside = {"closed form"} if method == "transformer" else set()
    assert set(said["held_out"]) == {"decoder", "shuffled brain", "mean tokens"} | beside
    assert said["tuned"]["held_out_loss"] <= said["tuned"]["held_out_loss_before"]
    assert said["parity"] <= 1e-5
    runner = open_runner(out / "acoustic.onnx")
    n_features = runner.inputs[0].shape[1]
    made = runner.run(
        {
            "features": np.zeros((1, n_features or 0), np.float32),
            "embedding": np.full((1, 512), 512**-0.5, np.float32),
        }
    )["tokens"]
    assert made.shape == (1, 8 * said["steps"], 768)
    for stage in ("generator", "distill"):
        tensors, _ = load_tensors(out / stage / "final.safetensors")
        load_weights(make_denoiser("tiny"), tensors, "denoiser")
    assert (out / "codec" / "final.safetensors").is_file()
    again = _run("--config", str(config), "--out", str(out))
    assert "Resume it" in str(again.exception)  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_full_checkpoint_is_tuned_converted_distilled_and_loads_again(
    recordings: Path, tmp_path: Path
) -> None:
    from models.nets.full.loaders import load_full_generator

    checkpoint = tmp_path / "checkpoint"
    save_checkpoint(tiny_generator("musicldm", prediction="epsilon"), checkpoint)
    config = _config(tmp_path, what="", recordings=recordings, method="ridge")
    full = f"""
[full]
checkpoint = "{checkpoint}"
published = false
lora_rank = 2
clap = "clap-small-random"

[full.convert]
steps = 3
batch = 2

[full.distill]
steps = 2
batch = 2
points = 4
"""
    config.write_text(config.read_text("utf-8") + full, "utf-8")
    out = tmp_path / "out"
    result = _run("--config", str(config), "--out", str(out))
    assert result.exit_code == 0, (result.output, result.exception)  # type: ignore[attr-defined]
    loaded = load_full_generator(str(out / "checkpoint"), "musicldm", published=False)
    assert loaded.generator.schedule.prediction == "v_prediction"
    said = json.loads((out / "brain.json").read_text("utf-8"))
    assert said["parity"] is None
    assert "NC" in said["licence"]
    note = read_tuned_checkpoint(out / "checkpoint")
    assert note is not None
    assert note.trained_on
    assert note.pooling is None  # no tokens enter it
    assert note.sampler == "ping_pong"
    assert {"convert_loss", "distill_jump_error"} <= said["tuned"].keys()


@pytest.mark.parametrize(
    ("prediction", "table", "said"),
    [
        ("epsilon", "distill", r"Add the table \[full\.convert\]"),
        ("v_prediction", "convert", r"Leave the table \[full\.convert\] out"),
    ],
)
def test_a_checkpoint_that_predicts_the_wrong_thing_is_refused_before_hours_of_work(
    prediction: Prediction, table: str, said: str, recordings: Path, tmp_path: Path
) -> None:
    save_checkpoint(tiny_generator("musicldm", prediction=prediction), tmp_path / "checkpoint")
    config = _config(tmp_path, what="", recordings=recordings, method="ridge")
    full = f"""
[full]
checkpoint = "{tmp_path / "checkpoint"}"
published = false
clap = "clap-small-random"

[full.{table}]
steps = 2
"""
    config.write_text(config.read_text("utf-8") + full, "utf-8")
    result = _run("--config", str(config), "--out", str(tmp_path / "out"))
    with pytest.raises(SettingError, match=said):
        raise result.exception  # type: ignore[attr-defined]
    assert not (tmp_path / "out" / "brain").exists()
