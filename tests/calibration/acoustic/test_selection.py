from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.acoustic.selection import SelectedStage, train_selected
from calibration.training.checkpoint import load_tensors
from calibration.training.settings import StageSettings, TrainingSettings


class _Falling(SelectedStage):
    """One number that falls by a tenth a step, and is best at 1."""

    def __init__(self, *, patience: int) -> None:
        settings = StageSettings(steps=40, batch=2, warmup=1, average=0.0)
        super().__init__("falling", TrainingSettings(), settings, check_every=2, patience=patience)
        network = torch.nn.Linear(1, 1)
        with torch.no_grad():
            network.weight.fill_(2.0)
        self.train_network("one", network)

    def learn(self, step: int, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Any]:
        with torch.no_grad():
            self.networks["one"].get_parameter("weight").sub_(0.1)
        return {"loss": 0.0}

    def held_out_loss(self) -> float:
        return float((self.averages["one"].get_parameter("weight").detach() - 1.0).abs())

    def finish(self, out: Path) -> dict[str, float]:
        self.take_best()
        return {"loss": self.best_loss}


def test_training_ends_when_nothing_gets_better_and_keeps_the_best(tmp_path: Path) -> None:
    stage = _Falling(patience=3)
    assert train_selected(stage, tmp_path)
    # Best after 10 steps, looked at every second step, and three looks later it is enough.
    assert stage.best_step == 10
    assert stage.curve[-1][0] == 16
    kept, note = load_tensors(tmp_path / "final.safetensors")
    assert float(kept["one.weight"]) == float(stage.averages["one"].get_parameter("weight"))
    assert abs(float(kept["one.weight"]) - 1.0) < 1e-5
    assert note["step"] == 10


def test_one_that_ended_early_is_done_when_it_is_resumed(tmp_path: Path) -> None:
    first = _Falling(patience=3)
    train_selected(first, tmp_path)
    again = _Falling(patience=3)
    assert train_selected(again, tmp_path, resume=True)
    assert again.curve == first.curve
    assert again.best_step == 10


def test_one_that_never_gets_worse_goes_to_its_last_step(tmp_path: Path) -> None:
    stage = _Falling(patience=100)
    assert train_selected(stage, tmp_path)
    assert stage.curve[-1][0] == 38
