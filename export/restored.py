"""The networks of an exported generator, read back from its graphs: to train on, or export anew.

An exporter keeps the names of most weights; a matrix that it turned over to multiply from the other
side is found by the bias that is added after it. What live graphs do not hold is left at its
initial weights: of the masked autoencoder its decoder, of the readout the temperature.

Needs the extra `train`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from export.checkpoint import TrainedNetworks
from export.generator_files import check_generator_files, read_generator_card
from models.errors import BundleError
from models.nets.encoder import AudioEncoder
from models.nets.masked_autoencoder import MaskedAutoencoder
from models.nets.readout import Readout
from models.nets.samplers import SAMPLERS
from models.nets.sizes import SIZES, SizeName, make_codec, make_denoiser, make_vocoder
from models.nets.stretch import GeneratorNets

__all__ = ["read_exported"]

# What a graph that encodes and never fills in or learns has no use for.
_UNUSED = ("decoder_", "hidden", "log_scale")
_ENCODERS = ("encoder.onnx", "judge.onnx", "tokens.onnx", "codec_encoder.onnx")

Arrays = dict[str, NDArray[Any]]


def read_exported(folder: Path) -> TrainedNetworks:
    """Return the networks of a small generator that was exported in single precision.

    Parameters
    ----------
    folder : Path
        Holds `generator.json`, the graphs, and the encoders beside them.

    Returns
    -------
    trained : TrainedNetworks
        Equal to those that were exported, but for what the graphs do not hold (see above).

    Raises
    ------
    BundleError
        If a file is missing or was changed, the generator is no small one in single precision, or
        a weight is not found in its graph.
    """
    card = read_generator_card(folder)
    size = _size(card.spec.size) if card.spec.family == "small" else None
    sampler = next((name for name in SAMPLERS if name == card.sampler), None)
    if size is None or card.precision != "fp32" or sampler is None:
        raise BundleError(
            f"Generator {folder.name!r} is {card.spec.family} {card.spec.size} in "
            f"{card.precision} with the sampler {card.sampler}; networks are read back from small "
            f"ones in fp32 with one of {', '.join(SAMPLERS)}. Give such a one, or the training run "
            "or checkpoint that it was made of."
        )
    missing = [name for name in _ENCODERS if name not in card.files]
    if missing:
        raise BundleError(
            f"Generator {folder.name!r} lacks {' and '.join(missing)}, as one in a bundle may: "
            "not all of its networks are here. Give the folder that was exported."
        )
    check_generator_files(folder, card, role="live")
    check_generator_files(folder, card, role="scores")
    stretch = _arrays(folder / card.graphs[-1].file)
    judged = _arrays(folder / "judge.onnx")
    codec_encoder = _arrays(folder / "codec_encoder.onnx")
    nets = GeneratorNets(size, make_codec(size), make_denoiser(size), make_vocoder(size))
    readout = Readout(
        len(_found(judged, "readout.classes.bias", folder)),
        len(_found(judged, "readout.factors.2.bias", folder)),
    )
    trained = TrainedNetworks(
        nets=nets,
        encoder=AudioEncoder(),
        judge=AudioEncoder(),
        readout=readout,
        tokens=MaskedAutoencoder(),
        sampler=sampler,
        steps=card.spec.steps,
        guidance=card.guidance,
        licence=card.licence,
        about=card.about,
    )
    codec = stretch | codec_encoder | {"codec.silence": card.silent_latent}
    _fill(nets.codec, codec, "codec.", folder)
    _fill(nets.denoiser, stretch, "denoiser.", folder)
    _fill(nets.vocoder, stretch, "vocoder.", folder)
    _fill(trained.encoder, _arrays(folder / "encoder.onnx"), "", folder)
    _fill(trained.judge, judged, "encoder.", folder)
    _fill(readout, judged, "readout.", folder)
    tokens = _arrays(folder / "tokens.onnx")
    if "repeat" in tokens:  # the bands' places, for each step of time again
        tokens["bands"] = tokens["repeat"][: len(trained.tokens.bands)]
    _fill(trained.tokens, tokens, "", folder)
    return trained


def _size(name: str) -> SizeName | None:
    return next((size for size in SIZES if size == name), None)


def _arrays(path: Path) -> Arrays:
    """Return the weights of a graph by the names that they had in torch."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    arrays = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        for bias, other in (node.input, reversed(node.input)):
            product = made_by.get(other)
            if not bias.endswith(".bias") or product is None or product.op_type != "MatMul":
                continue
            if product.input[1] in arrays:
                arrays[f"{bias.removesuffix('bias')}weight"] = arrays[product.input[1]].T
    return arrays


def _fill(module: nn.Module, arrays: Arrays, prefix: str, folder: Path) -> None:
    """Put weights into a module, those under `prefix`; what no graph holds stays as it is."""
    own = module.state_dict()
    for name, before in own.items():
        if f"{prefix}{name}" not in arrays and name.startswith(_UNUSED):
            continue
        value = _found(arrays, f"{prefix}{name}", folder)
        if value.shape != tuple(before.shape):
            raise BundleError(
                f"Generator {folder.name!r}: {prefix}{name} has the shape {value.shape}, expected "
                f"{tuple(before.shape)}. It is of another hearback; train anew."
            )
        own[name] = torch.tensor(np.ascontiguousarray(value), dtype=before.dtype)
    module.load_state_dict(own)
    module.eval().requires_grad_(False)


def _found(arrays: Arrays, name: str, folder: Path) -> NDArray[Any]:
    try:
        return arrays[name]
    except KeyError as error:
        raise BundleError(
            f"Generator {folder.name!r}: its graphs hold no {name}. It is of another hearback; "
            "train anew."
        ) from error
