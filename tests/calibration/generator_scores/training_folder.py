"""A training folder of the true layout whose networks have learnt nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from calibration.training.checkpoint import save_tensors
from models.nets.encoder import AudioEncoder
from models.nets.readout import Readout
from models.nets.stretch import random_nets

__all__ = ["write_training"]


def write_training(
    folder: Path, *, vocoder: bool = True, student: bool = True, method: str = "secants"
) -> Path:
    """Write `final.safetensors` of the stages that scoring needs."""
    nets = random_nets("tiny", seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        encoder, judge, readout = AudioEncoder(), AudioEncoder(), Readout(13, 5)
    stages: dict[str, dict[str, nn.Module]] = {
        "codec": {"codec": nets.codec},
        "encoder": {"audio": encoder},
        "judge": {"audio": judge, "readout": readout},
        "generator": {"denoiser": nets.denoiser},
    }
    if vocoder:
        stages["vocoder"] = {"vocoder": nets.vocoder}
    if student:
        stages["distill"] = {"denoiser": nets.denoiser}
    for stage, modules in stages.items():
        tensors = {
            f"{key}.{name}": value
            for key, module in modules.items()
            for name, value in module.state_dict().items()
        }
        note = {"settings": {"method": method}} if stage == "distill" else {}
        save_tensors(folder / stage / "final.safetensors", tensors, note)
    return folder
