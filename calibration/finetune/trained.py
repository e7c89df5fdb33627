"""What of a training folder a fine-tuning needs: its encoder, codec and tokens, all frozen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.embedders.base import WindowEmbedder, even_starts
from calibration.generated.networks import MelNetwork, generator_mel
from calibration.training.checkpoint import load_tensors, load_weights, weights_digest
from export.generator_files import CARD_FILE
from models.errors import FileError
from models.nets.codec import FRAMES_PER_LATENT, Codec
from models.nets.dit import Denoiser
from models.nets.encoder import AudioEncoder
from models.nets.masked_autoencoder import MaskedAutoencoder
from models.nets.sizes import SIZES, SizeName, make_codec, make_denoiser

__all__ = ["RunEmbedder", "RunTokens", "TrainedParts"]

_WINDOW = 256  # mel frames that encoder and tokens were trained on


class TrainedParts:
    """The networks of a training folder that a fine-tuning uses.

    Parameters
    ----------
    folder : Path
        Of a training run with the stages encoder, codec, tokens and generator.

    Raises
    ------
    FileError
        If a stage is missing, damaged or of another network.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tensors = {stage: _final(folder, stage) for stage in _STAGES}
        self.size = _size(tensors["generator"], folder)
        self.encoder, self.tokens = AudioEncoder(), MaskedAutoencoder()
        self.codec: Codec = make_codec(self.size)
        self.denoiser: Denoiser = make_denoiser(self.size)
        self.digest = weights_digest(tensors["encoder"])
        for network, stage, key in (
            (self.encoder, "encoder", "audio"),
            (self.codec, "codec", "codec"),
            (self.tokens, "tokens", "autoencoder"),
            (self.denoiser, "generator", "denoiser"),
        ):
            load_weights(network, tensors[stage], key)
            network.eval().requires_grad_(False)

    def distilled(self) -> Denoiser | None:
        """Return the few-step denoiser of the folder; None where it has none."""
        if not (self.folder / "distill" / "final.safetensors").is_file():
            return None
        network: Denoiser = make_denoiser(self.size)
        load_weights(network, _final(self.folder, "distill"), "denoiser")
        return network.eval()

    def latents(self, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the latents of a sound at 16 kHz: (frames of 40 ms, 32)."""
        mel = generator_mel(pcm, 16_000)
        short = -len(mel) % FRAMES_PER_LATENT
        mel = np.pad(mel, ((0, short), (0, 0)), mode="edge")
        with torch.inference_mode():
            made = self.codec.encode(torch.from_numpy(mel[None]))[0]
        return np.asarray(made.numpy(), np.float32)

    @property
    def silence(self) -> NDArray[np.float32]:
        """Latent of silence: (32,)."""
        return np.asarray(self.codec.silence.numpy(), np.float32)


_STAGES = ("encoder", "codec", "tokens", "generator")


class RunTokens(MelNetwork):
    """The masked autoencoder of a training folder, as `calibration.acoustic.targets` wants it.

    Read window by window exactly as the exported one is.

    Parameters
    ----------
    network : MaskedAutoencoder
    """

    def __init__(self, network: MaskedAutoencoder) -> None:
        self._network = network
        self.sha256 = weights_digest(network.state_dict())
        self.n_frames = _WINDOW
        self.outputs = ("tokens",)

    def run(self, mel: NDArray[np.float32], output: str | None = None) -> NDArray[np.float32]:
        """Return the tokens (128, 768) of 256 mel frames."""
        with torch.inference_mode():
            return np.asarray(self._network(torch.from_numpy(mel[None]))[0].numpy(), np.float32)

    def tokens(self, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the tokens of a sound."""
        return self.whole(pcm, 16_000, per_step=16)


class RunEmbedder(WindowEmbedder):
    """The encoder of a training folder: the space that its generator is steered in.

    Reads 2.56 s at once, longer sounds in even windows whose vectors are averaged, as the exported
    one is read by `calibration.embedders.generator`.

    Parameters
    ----------
    parts : TrainedParts
    """

    sample_rate_hz = 16_000
    dim = 512
    licence = "as the card of the generator says"

    def __init__(self, parts: TrainedParts) -> None:
        super().__init__()
        self._encoder = parts.encoder
        self.name = f"generator-encoder-{parts.digest[:8]}"
        self.source = f"training folder {parts.folder.name}"
        self._digest = parts.digest

    def settings(self) -> dict[str, Any]:
        """Return all that the vectors depend on."""
        return {"embedder": "generator-encoder", "weights": self._digest, "version": 1}

    def _embed_batch(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        return np.stack([self._one(window) for window in windows])

    def _one(self, window: NDArray[np.float32]) -> NDArray[np.float64]:
        mel = generator_mel(window, self.sample_rate_hz)
        if len(mel) < _WINDOW:
            mel = np.tile(mel, (-(-_WINDOW // len(mel)), 1))[:_WINDOW]
        starts = even_starts(len(mel), _WINDOW).tolist()
        stack = torch.from_numpy(np.stack([mel[start : start + _WINDOW] for start in starts]))
        with torch.inference_mode():
            return np.asarray(self._encoder(stack).double().mean(0).numpy())


def _final(folder: Path, stage: str) -> dict[str, Any]:
    path = folder / stage / "final.safetensors"
    if (folder / CARD_FILE).is_file():
        raise FileError(
            f"{folder} is an exported generator, expected the folder of a training run. Begin one "
            f"from it: hearback train generator --from {folder} --out trained"
        )
    if not path.is_file():
        raise FileError(
            f"{folder} lacks the trained stage '{stage}'. Give the folder of a training run, or "
            f"train it: hearback train small --out {folder} --resume"
        )
    return load_tensors(path)[0]


def _size(tensors: dict[str, Any], folder: Path) -> SizeName:
    width = len(tensors.get("denoiser.enter.bias", ()))
    for name, size in SIZES.items():
        if size.denoiser[0] == width:
            return name
    raise FileError(
        f"{folder} holds a denoiser {width} channels wide; expected one of "
        f"{[size.denoiser[0] for size in SIZES.values()]}."
    )
