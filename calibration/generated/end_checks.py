"""Whether a generator, the chain that ends in it and what is decoded go together."""

from __future__ import annotations

import logging
from pathlib import Path

from calibration.embedders import make_embedder
from calibration.generated.folder import generator_folder
from calibration.generated.judge import same_space
from calibration.summary import told_target
from models.errors import SettingError
from models.stretch import GeneratorSpec

__all__ = ["check_chain", "check_target"]

_log = logging.getLogger(__name__)


def check_chain(chain: str, spec: GeneratorSpec, name: str) -> None:
    """Refuse a chain that gives the generator nothing of what it takes.

    Parameters
    ----------
    chain : {"semantic", "coarse-to-fine"}
    spec : GeneratorSpec
    name : str
        Of the generator, to say.

    Raises
    ------
    SettingError
        If they do not go together.
    """
    takes = spec.conditions
    if chain == "semantic" and "vector" not in takes:
        raise SettingError(
            f"The generator {name!r} takes acoustic tokens, not an embedding. Say --chain "
            "coarse-to-fine (generator.chain), or name another generator."
        )
    if chain == "coarse-to-fine" and "tokens" not in takes:
        raise SettingError(
            f"The generator {name!r} takes no acoustic tokens. Set generator.chain "
            "to 'semantic', or name another generator."
        )


def check_target(target: str, family: str, folder: Path) -> None:
    """Refuse a target in another space than the generator's.

    Parameters
    ----------
    target : str
        What is decoded.
    family : str
        Of the generator.
    folder : Path
        Where it is.

    Raises
    ------
    SettingError
        If it is in another space.
    """
    kind, name = target.partition(":")[0], folder.name
    if family != "small":
        _check_full_target(target, family, name)
        return
    if kind != "generator":
        raise SettingError(
            f"The generator {name!r} is steered by the embedding 'generator', and the target "
            f"is {kind!r}. Leave target.kind out, or name another generator."
        )
    if not same_space(make_embedder(f"generator:{folder}"), target):
        raise SettingError(
            f"The target {told_target(target)!r} is the encoder of another generator than "
            f"{name!r}: their spaces have nothing to do with each other. Leave target.kind out."
        )


def _check_full_target(target: str, family: str, name: str) -> None:
    """Ask for the space of a full-size checkpoint, which brings no encoder of sounds."""
    kind, _, place = target.partition(":")
    own = kind == "generator" and not (generator_folder(place) / "encoder.onnx").is_file()
    if own or not (kind == "generator" or kind.startswith("clap")):
        raise SettingError(
            f"The generator {name!r} is a checkpoint of {family}, which brings no encoder of "
            "sounds: say in which space they are embedded, --target clap:FOLDER (CLAP's "
            "weights), or --target generator:FOLDER (a small generator, whose encoder is taken)"
            + (", which MusicLDM must have been tuned to." if family == "musicldm" else ".")
        )
    if kind == "generator" and family == "musicldm":
        _log.warning(
            "MusicLDM as it is published knows CLAP's space alone; %s answers to %s only if it "
            "was tuned to it (hearback train brain, full.clap).",
            name,
            told_target(target),
        )
