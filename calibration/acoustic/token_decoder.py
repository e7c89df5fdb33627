"""What hears tokens for the losses: the decoding half of a masked autoencoder, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from calibration.training.checkpoint import load_tensors, load_weights
from models.errors import FileError
from models.nets.masked_autoencoder import MaskedAutoencoder

__all__ = ["Heard", "SmallTokenDecoder", "load_token_decoder"]


class Heard(NamedTuple):
    """What a token decoder makes of tokens."""

    layers: list[Tensor]  # features after each of its blocks, (batch, places, width)
    mel: Tensor  # (batch, 2 places, 64), on the scale of the networks: 0 is silence


class SmallTokenDecoder(nn.Module):
    """The decoder of the embedded masked autoencoder.

    AudioMAE's own decoder gives pixels normalised by patch, which are no mel, and is not among the
    networks here: with its tokens the losses on features and mel stay off.

    Parameters
    ----------
    autoencoder : MaskedAutoencoder
    """

    def __init__(self, autoencoder: MaskedAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, tokens: Tensor) -> Heard:
        """Return features after each block, and the mel."""
        layers: list[Tensor] = []
        hooks = [
            block.register_forward_hook(lambda _module, _given, made: layers.append(made))
            for block in self.autoencoder.decoder_blocks
        ]
        try:
            mel = self.autoencoder.decode(tokens)
        finally:
            for hook in hooks:
                hook.remove()
        return Heard(layers, mel)


def load_token_decoder(run_folder: Path) -> SmallTokenDecoder:
    """Return the decoder of a training folder's masked autoencoder, frozen.

    Raises
    ------
    FileError
        If the stage `tokens` has not been trained there, or was taken from an exported generator,
        which holds no such decoder.
    """
    path = run_folder / "tokens" / "final.safetensors"
    if not path.exists():
        raise FileError(
            f"{run_folder} has no trained tokens. Train the stage 'tokens', or turn the losses on "
            "features and mel off (perceptual_weight, mel_weight)."
        )
    network = MaskedAutoencoder()
    tensors, note = load_tensors(path)
    if note.get("begun_from") is not None:
        raise FileError(
            f"The tokens of {run_folder} were taken from an exported generator, which holds no "
            "decoder of tokens. Turn the losses on features and mel off (perceptual_weight, "
            "mel_weight), or train the stage 'tokens' in a folder of its own."
        )
    load_weights(network, tensors, "autoencoder")
    with torch.no_grad():
        return SmallTokenDecoder(network.eval().requires_grad_(False))
