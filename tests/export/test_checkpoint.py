from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from export.checkpoint import TrainedNetworks, random_trained, read_training
from export.parity import run_stream
from export.sources import kind_of
from models.errors import FileError
from models.nets.stretch import TorchGenerator


@pytest.fixture(scope="module")
def networks() -> TrainedNetworks:
    return random_trained("tiny", seed=3)


def _write(
    folder: Path,
    trained: TrainedNetworks,
    *,
    distilled: bool = True,
    settings: dict[str, str] | None = None,
) -> Path:
    """Write a training run's folder with these weights, as the training does."""
    stages: dict[str, dict[str, torch.nn.Module]] = {
        "encoder": {"audio": trained.encoder, "readout": trained.readout},
        "judge": {"audio": trained.judge, "readout": trained.readout},
        "codec": {"codec": trained.nets.codec},
        "tokens": {"autoencoder": trained.tokens},
        "vocoder": {"vocoder": trained.nets.vocoder},
        "generator": {"denoiser": trained.nets.denoiser},
    }
    if distilled:
        stages["distill"] = {"denoiser": trained.nets.denoiser}
    for stage, modules in stages.items():
        tensors = {
            f"{key}.{name}": value.contiguous()
            for key, module in modules.items()
            for name, value in module.state_dict().items()
        }
        (folder / stage).mkdir(parents=True)
        said: dict[str, Any] = {
            "step": 7,
            "seconds": 90.0,
            "scores": {"good": 0.5, "bad": float("nan")},
        }
        if settings is not None:
            said["settings"] = settings
        note = json.dumps({**said, "made_with": {"machine": "2 cores", "threads": 2}, "epoch": 1})
        save_file(tensors, folder / stage / "final.safetensors", metadata={"hearback": note})
    (folder / "run.json").write_text(json.dumps({"size": "tiny", "seed": 3}))
    return folder


def test_a_training_run_comes_back_with_every_weight(
    networks: TrainedNetworks, tmp_path: Path
) -> None:
    folder = _write(tmp_path / "run", networks)
    assert kind_of(folder) == "training"
    found = read_training(folder)
    assert (found.nets.size, found.sampler, found.steps, found.guidance) == (
        *("tiny", "secants"),
        *(4, 1.0),
    )
    assert found.about["codec"] == {
        "step": 7,
        "seconds": 90.0,
        "scores": {"good": 0.5, "bad": None},
    }
    assert found.about["made_with"] == {"machine": "2 cores", "threads": 2}
    assert found.about["recipe"]["seed"] == 3
    for a, b in (
        (networks.nets.denoiser, found.nets.denoiser),
        (networks.tokens, found.tokens),
        (networks.judge, found.judge),
        (networks.readout, found.readout),
        (networks.encoder, found.encoder),
    ):
        for name, value in a.state_dict().items():
            torch.testing.assert_close(b.state_dict()[name], value, rtol=0, atol=0)
    sounds = [
        run_stream(TorchGenerator(each.nets, steps=1, stretches=(4,)), [4, 4], seed=0)
        for each in (networks, found)
    ]
    np.testing.assert_array_equal(sounds[0][1], sounds[1][1])


def test_without_distillation_it_is_the_teacher_in_many_guided_steps(
    networks: TrainedNetworks, tmp_path: Path
) -> None:
    both = read_training(_write(tmp_path / "both", networks), teacher=True)
    alone = read_training(_write(tmp_path / "alone", networks, distilled=False))
    for found in (both, alone):
        assert (found.sampler, found.steps) == ("euler", 32)
        assert found.guidance > 1.0


def test_steps_follow_one_another_as_they_were_learnt(
    networks: TrainedNetworks, tmp_path: Path
) -> None:
    for method, sampler in (("secants", "secants"), ("consistency", "ping_pong")):
        folder = _write(tmp_path / method, networks, settings={"method": method})
        assert read_training(folder).sampler == sampler
    with pytest.raises(FileError, match="'luck'; expected one of"):
        read_training(_write(tmp_path / "luck", networks, settings={"method": "luck"}))


def test_what_is_missing_or_damaged_is_named(networks: TrainedNetworks, tmp_path: Path) -> None:
    folder = _write(tmp_path / "run", networks)
    (folder / "vocoder" / "final.safetensors").unlink()
    with pytest.raises(FileError, match="lacks the trained vocoder"):
        read_training(folder)
    (folder / "tokens" / "final.safetensors").unlink()
    with pytest.raises(FileError, match="lacks the trained tokens and vocoder"):
        read_training(folder)
    other = _write(tmp_path / "other", networks)
    (other / "codec" / "final.safetensors").write_bytes(b"not at all")
    with pytest.raises(FileError, match="cannot be read as weights"):
        read_training(other)
    swapped = _write(tmp_path / "swapped", networks)
    (swapped / "vocoder" / "final.safetensors").write_bytes(
        (swapped / "codec" / "final.safetensors").read_bytes()
    )
    with pytest.raises(FileError, match="of another network"):
        read_training(swapped)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be exported"):
        kind_of(tmp_path)
