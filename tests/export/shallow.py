"""A small generator that is exported in seconds: the true networks, one block deep."""

from __future__ import annotations

import torch

from export.checkpoint import TrainedNetworks
from models.nets.codec import Codec
from models.nets.dit import Denoiser
from models.nets.encoder import AudioEncoder
from models.nets.masked_autoencoder import MaskedAutoencoder
from models.nets.readout import Readout
from models.nets.samplers import SamplerName
from models.nets.stretch import GeneratorNets, randomise
from models.nets.vocoder import Vocoder

__all__ = ["shallow_nets", "shallow_trained"]


def shallow_nets(*, seed: int = 0) -> GeneratorNets:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        nets = GeneratorNets(
            "tiny",
            Codec(width=32, depth=1),
            Denoiser(width=32, depth=1),
            Vocoder(width=32, depth=1),
        )
    randomise(nets, seed=seed)
    return nets


def shallow_trained(*, sampler: SamplerName = "secants", steps: int = 2) -> TrainedNetworks:
    nets = shallow_nets()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        sizes = {"widths": (16, 16, 16), "depths": (1, 1, 1)}
        networks = (
            AudioEncoder(**sizes),
            AudioEncoder(**sizes),
            Readout(13, 5),
            MaskedAutoencoder(width=48, depth=1, decoder_depth=1),
        )
    for network in networks:
        network.eval().requires_grad_(False)
    return TrainedNetworks(nets, *networks, sampler=sampler, steps=steps)
