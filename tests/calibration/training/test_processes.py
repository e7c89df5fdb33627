from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from calibration.training.checkpoint import load_tensors, read_note
from calibration.training.codec import CodecStage
from calibration.training.loop import Stage, train_stage
from calibration.training.material import Material, prepare_sounds
from calibration.training.processes import Processes
from calibration.training.settings import CodecSettings, SoundsSettings, TrainingSettings
from models.errors import SettingError

_RUN = TrainingSettings(
    precision="fp32",
    sounds=SoundsSettings(clips=13, blends=4, held_out=2),
    codec=CodecSettings(steps=1, batch=8, warmup=1, average=0.5),
)
_CONFIG = """
precision = "fp32"
[sounds]
clips = 13
blends = 4
held_out = 2
[codec]
steps = 1
batch = 8
warmup = 1
average = 0.5
"""


class _OneOf(Processes):
    """One of two processes that are not there."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank, self.count = rank, 2


def test_one_process_is_alone() -> None:
    alone = Processes()
    assert (alone.count, alone.rank, alone.first) == (1, 0, True)
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([1.0, 2.0])
    alone.average([weight])
    assert torch.equal(weight.grad, torch.tensor([1.0, 2.0]))
    assert alone.any(True)
    assert not alone.any(False)
    alone.wait()


def test_each_process_draws_its_own_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibration.training.loop.processes", lambda: _OneOf(1))
    second = Stage("codec", _RUN, _RUN.codec)
    assert second.batch == 4
    monkeypatch.setattr("calibration.training.loop.processes", lambda: _OneOf(0))
    first = Stage("codec", _RUN, _RUN.codec)
    assert first.generators(3)[0].random() != second.generators(3)[0].random()
    assert not torch.equal(
        *(torch.randn(3, generator=stage.generators(3)[1]) for stage in (first, second))
    )
    with pytest.raises(SettingError, match="cannot be shared by 2"):
        Stage("codec", _RUN, replace(_RUN.codec, batch=7))


@pytest.mark.slow
def test_two_processes_take_steps_down_the_mean_of_their_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    (tmp_path / "run.toml").write_text(_CONFIG)
    # On GPUs `accelerate launch` does this; on CPUs it wants MPI for more than one process.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    launch += ["-m", "calibration.training", "codec", "--json"]
    launch += ["--out", str(tmp_path / "out"), "--config", str(tmp_path / "run.toml")]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])  # one process alone prints
    assert done.stdout.count('"done"') == 1
    assert result["done"]
    assert result["stages"]["codec"]["steps"] == 1
    material = Material(_RUN, tmp_path / "out")
    stages = []
    for rank in range(2):
        monkeypatch.setattr("calibration.training.loop.processes", lambda rank=rank: _OneOf(rank))
        stages.append(CodecStage(_RUN, material))
    _train_side_by_side(stages, monkeypatch)
    found, note = load_tensors(tmp_path / "out" / "codec" / "checkpoint.safetensors")
    assert note["step"] == 1
    made = read_note(tmp_path / "out" / "codec" / "final.safetensors")["made_with"]
    assert made["processes"] == 2
    # Moments are the gradients times what is known; weights move by their sign at first, which
    # rounding turns where a gradient is next to nothing.
    moments = {k: v for k, v in stages[0].tensors().items() if k.endswith(".exp_avg")}
    assert len(moments) > 20
    for name, value in moments.items():
        assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-5 * float(value.abs().max()))


def _grad(weight: torch.nn.Parameter) -> torch.Tensor:
    assert weight.grad is not None
    return weight.grad.clone()


def _train_side_by_side(stages: list[CodecStage], monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the same steps in this process, by the definition."""
    update = Stage.update
    for step in range(_RUN.codec.steps):
        grads: list[list[torch.Tensor]] = []

        def keep(self: Stage, loss: torch.Tensor, *keys: str) -> None:
            self.networks["codec"].zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            grads.append([_grad(p) for p in self.networks["codec"].parameters()])  # noqa: B023

        monkeypatch.setattr(Stage, "update", keep)
        for stage in stages:
            stage.advance(step, *stage.generators(step))
        monkeypatch.setattr(Stage, "update", update)
        for stage in stages:
            for group in stage.optimisers["codec"].param_groups:
                group["lr"] = stage.rates(step)["codec"]
            network = stage.networks["codec"]
            for weight, a, b in zip(network.parameters(), *grads, strict=True):
                weight.grad = 0.5 * (a + b)
            torch.nn.utils.clip_grad_norm_(network.parameters(), stage.settings.clip)
            stage.optimisers["codec"].step()
            stage.average(step)


def test_half_precision_scales_its_loss_and_resumes_with_the_scale(tmp_path: Path) -> None:
    run = replace(_RUN, precision="fp16")
    material = prepare_sounds(run, tmp_path)
    train_stage(CodecStage(run, material), tmp_path / "codec")
    tensors, _ = load_tensors(tmp_path / "codec" / "checkpoint.safetensors")
    scale, since = tensors["scaler"].tolist()
    assert scale >= 1.0
    stage = CodecStage(run, material)
    stage.restore(tensors)
    assert stage.scaler.get_scale() == scale
    assert stage.scaler.state_dict()["_growth_tracker"] == since
    weights = [value for name, value in tensors.items() if name.startswith("now.")]
    assert all(torch.all(torch.isfinite(value)) for value in weights)
