"""The small generator's networks to a folder that runs without torch.

Needs the extra `train`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.checkpoint import TrainedNetworks
from export.generator_files import GeneratorCard, GraphEntry, StateEntry
from export.generator_folder import Checks, Precision, finish_folder, replaced_folder
from export.onnx_store import save_alone
from export.stage_parity import module_figure
from export.stretch_models import graph_file, save_stretches
from export.to_onnx import to_onnx
from models.mel import MelSpec, log_mel
from models.nets.codec import N_MELS, Codec
from models.nets.encoder import AudioEncoder
from models.nets.readout import Readout
from models.nets.stretch import STRETCHES, StretchGraph, TorchGenerator

__all__ = ["export_generator"]

_MEL_FRAMES = 256  # 2.56 s: what the encoders read at once


def export_generator(
    trained: TrainedNetworks,
    out: str | Path,
    *,
    steps: int | None = None,
    stretches: Sequence[int] = STRETCHES,
    held: int = 4,
    precision: Precision = "fp32",
    overwrite: bool = False,
    checks: Checks | None = None,
) -> GeneratorCard:
    """Write a small generator as a folder.

    Parameters
    ----------
    trained : TrainedNetworks
    out : str or Path
        Folder to make; its parent must exist.
    steps : int, optional
        Network evaluations of a stretch; default as the denoiser was trained for.
    stretches : sequence of int
        Lengths that it will make, latent frames of 40 ms.
    held : int
        Frames held back and blended with the next stretch.
    precision : {"fp32", "fp16"}
        Of products and weights of the generator; encoders stay in single precision.
    overwrite : bool
        Replace a generator that is there; anything else is never replaced.
    checks : Checks, optional

    Returns
    -------
    card : GeneratorCard
        With the figures of parity.

    Raises
    ------
    SettingError
        If an option is out of range, or onnx is missing.
    StageError
        If the networks cannot be exported, or a bound is not kept.
    FileError
        If the folder is there and is not to be replaced, or cannot be written.
    """
    checks = checks or Checks()
    steps = trained.steps if steps is None else steps
    reference = TorchGenerator(
        trained.nets,
        steps=steps,
        stretches=stretches,
        held=held,
        sampler=trained.sampler,
        guidance=trained.guidance,
    )
    spec = reference.spec

    def make(n_frames: int) -> StretchGraph:
        return StretchGraph(
            trained.nets,
            n_frames=n_frames,
            steps=steps,
            held=held,
            sampler=trained.sampler,
            guidance=trained.guidance,
            probes=True,
        ).eval()

    with replaced_folder(Path(out), overwrite=overwrite) as folder:
        figures = save_stretches(make, spec.stretches, folder, precision=precision, checks=checks)
        networks = _encoders(trained)
        for number, (name, network) in enumerate(networks.items()):
            checks.progress("encoders", number, len(networks))
            figures |= _save_encoder(network, folder / f"{name}.onnx")
        first = reference.initial_state()
        card = GeneratorCard(
            spec=spec,
            sampler=trained.sampler,
            guidance=trained.guidance,
            precision=precision,
            graphs=tuple(
                GraphEntry(n, graph_file(n), reference.noise_shape(n)) for n in spec.stretches
            ),
            state=tuple(StateEntry(name, tuple(value.shape)) for name, value in first.items()),
            silence=tuple(float(value) for value in reference.silence),
            licence=trained.licence,
            about=dict(trained.about),
        )
        return finish_folder(
            folder,
            card,
            list(first.values()),
            figures,
            reference=reference,
            encode=_encode_with(trained.encoder),
            scores=[f"{name}.onnx" for name in networks],
            checks=checks,
        )


class _CodecEncoder(nn.Module):
    """Log mel frames to standardised latents."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, mel: Tensor) -> Tensor:
        """Return (1, n, 32) of (1, 4 n, 64)."""
        return self.codec.encode(mel)


class _Judge(nn.Module):
    """Log mel frames to a unit vector, and what is read off it."""

    def __init__(self, encoder: AudioEncoder, readout: Readout) -> None:
        super().__init__()
        self.encoder, self.readout = encoder, readout

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return vector (1, 512), class logits (1, classes), factors (1, factors)."""
        vector = self.encoder(mel)
        classes, factors = self.readout(vector)
        return vector, classes, factors


def _encoders(trained: TrainedNetworks) -> dict[str, tuple[nn.Module, list[str]]]:
    """Return the networks that read mel frames, by file name, and what each gives."""
    judge = _Judge(trained.judge, trained.readout)
    return {
        "encoder": (trained.encoder, ["vector"]),
        "judge": (judge, ["vector", "classes", "factors"]),
        "codec_encoder": (_CodecEncoder(trained.nets.codec), ["latents"]),
        "tokens": (trained.tokens, ["tokens"]),
    }


def _save_encoder(network: tuple[nn.Module, list[str]], path: Path) -> dict[str, float]:
    module, names = network
    source = torch.Generator().manual_seed(0)
    mel = torch.randn((1, _MEL_FRAMES, N_MELS), generator=source) * 2.0 - 6.0
    model = to_onnx(module.eval(), (mel,), input_names=["mel"], output_names=names)
    save_alone(model, path)
    error = module_figure(module, model, {"mel": mel})
    return {f"single.{path.stem}.relative_l2": error}


def _encode_with(encoder: AudioEncoder) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return what takes a sound to the encoder's unit vector."""

    @torch.no_grad()
    def encode(sound: NDArray[np.float32]) -> NDArray[np.float32]:
        mel = torch.from_numpy(log_mel(sound, MelSpec()))
        whole = len(mel) // 8 * 8  # what the encoder halves three times
        vector: NDArray[np.float32] = encoder(mel[None, :whole])[0].numpy()
        return vector

    return encode
