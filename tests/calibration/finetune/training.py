"""Recordings of a small simulated listener, and a training folder whose networks learnt nothing."""

from __future__ import annotations

from pathlib import Path

import torch

from calibration.simulate import RegionSettings, SimulationSettings, simulate_dataset
from calibration.training.checkpoint import save_tensors
from export.checkpoint import random_trained

__all__ = ["OPTIONS", "SCORING", "write_recordings", "write_training"]

OPTIONS = """
{what}
recordings = "{recordings}"
precision = "fp32"

[calibration.features.tr_mean]
window_s = 3.0

[calibration.lag]
fixed_s = 4.5

[acoustic]
method = "{method}"
base = "ridge"
brain = "components"
steps = 6
batch = 8
width = 48
heads = 3
encoder_layers = 1
decoder_layers = 1
feedforward = 64
rank = 8
token_rank = 32
check_every = 3

[few_steps]
steps = 2
batch = 2
teacher_steps = 4

[finetune]
steps = 4
batch = 4
check_every = 2
check_windows = 8
error_share = 0.3
"""

# Of the bundle after it; ends in the table of the generator.
SCORING = """
[calibration.evaluation]
n_permutations = 20
n_bootstrap = 20
n_shuffled = 1
families = false

[calibration.generator]
scored_clips = 3
scored_s = 1.0
"""


def write_recordings(folder: Path) -> Path:
    settings = SimulationSettings(
        timetable="short",
        n_runs=(2, 1),
        clips_per_run=6,
        n_test_clips=3,
        repetitions=2,
        snr=4.0,
        regions=(RegionSettings("heschl", 40),),
        n_other_voxels=10,
        latent_dim=8,
    )
    return simulate_dataset(folder, settings)


def write_training(folder: Path) -> Path:
    made = random_trained("tiny", seed=0)
    nets = made.nets
    stages: dict[str, dict[str, torch.nn.Module]] = {
        "encoder": {"audio": made.encoder},
        "judge": {"audio": made.judge, "readout": made.readout},
        "codec": {"codec": nets.codec},
        "vocoder": {"vocoder": nets.vocoder},
        "tokens": {"autoencoder": made.tokens},
        "generator": {"denoiser": nets.denoiser},
        "distill": {"denoiser": nets.denoiser},
    }
    for stage, networks in stages.items():
        tensors: dict[str, torch.Tensor] = {}
        for key, network in networks.items():
            tensors |= {f"{key}.{name}": value for name, value in network.state_dict().items()}
        save_tensors(folder / stage / "final.safetensors", tensors, {})
    return folder
