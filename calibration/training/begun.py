"""A training run that begins from an exported generator in place of random weights.

Encoders, codec, tokens and vocoder are taken as they are, and give the run's own sounds their
vectors, latents and tokens; the denoiser learns on from where it was. The judge is taken too if
the sounds are of the classes that it knows, and else is trained.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.training.checkpoint import FINAL, START, load_weights, read_note, save_tensors
from calibration.training.material import Material
from calibration.training.settings import STAGES, StageName, TrainingSettings
from export.generator_files import CARD_FILE
from export.restored import read_exported
from models.errors import FileError, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from calibration.training.loop import Stage
    from export.checkpoint import TrainedNetworks

__all__ = ["begin_from"]

_log = logging.getLogger(__name__)


def begin_from(
    generator: Path,
    run: TrainingSettings,
    material: Material,
    out: Path,
    *,
    stage: Callable[[StageName], Stage],
) -> None:
    """Put the networks of an exported generator where stages of a run look for them.

    Parameters
    ----------
    generator : Path
        Folder of an exported generator of the run's size.
    run : TrainingSettings
    material : Material
        The run's sounds; derived arrays are made of them.
    out : Path
        Folder of the run.
    stage : callable
        Makes a stage of the run by name.

    Raises
    ------
    SettingError
        If the generator is of another size.
    FileError
        If the run has begun otherwise already.
    BundleError
        If the generator cannot be read; see `export.restored.read_exported`.
    """
    trained = read_exported(generator)
    if trained.nets.size != run.size:
        raise SettingError(
            f"{generator} is a {trained.nets.size} generator, the run's size is {run.size}. Give "
            f"--size {trained.nets.size}."
        )
    digest = hashlib.sha256((generator / CARD_FILE).read_bytes()).hexdigest()
    _check_same(out, digest)
    networks = _networks(trained)
    if list(trained.about.get("judge", {}).get("labels", ())) != list(material.labels):
        _log.info("The sounds are of other classes than the judge knows: it will be trained.")
        del networks["judge"]
    for name, parts in networks.items():
        path = out / name / FINAL
        if path.exists():
            continue
        _log.info("Stage '%s' is taken from %s.", name, generator)
        made = stage(name)
        tensors = _named(parts)
        for key in parts:
            load_weights(made.averages[key], tensors, key)
        made.derive()
        known = trained.about.get(name, {})
        kept = ("step", "seconds", "scores", "labels")
        note = {**{key: known[key] for key in kept if key in known}, "begun_from": digest}
        save_tensors(path, tensors, note)
    if not (out / "generator" / START).exists():
        start = _named({"denoiser": trained.nets.denoiser})
        save_tensors(out / "generator" / START, start, {"begun_from": digest})


def _networks(trained: TrainedNetworks) -> dict[StageName, dict[str, nn.Module]]:
    """Return what stages leave behind, by stage and by the name that they give it."""
    return {
        "encoder": {"audio": trained.encoder},
        "judge": {"audio": trained.judge, "readout": trained.readout},
        "codec": {"codec": trained.nets.codec},
        "tokens": {"autoencoder": trained.tokens},
        "vocoder": {"vocoder": trained.nets.vocoder},
    }


def _named(parts: Mapping[str, nn.Module]) -> dict[str, Any]:
    return {
        f"{key}.{name}": value
        for key, module in parts.items()
        for name, value in module.state_dict().items()
    }


def _check_same(out: Path, digest: str) -> None:
    """Check that nothing in the folder was trained before it began, or from another generator."""
    start = out / "generator" / START
    if start.exists():
        if read_note(start).get("begun_from") != digest:
            raise FileError(
                f"{out} was begun from another generator. Give that, or another folder."
            )
        return
    for name in STAGES:
        path = out / name / FINAL
        if path.exists() and read_note(path).get("begun_from") != digest:
            raise FileError(
                f"{out} holds a run that began from nothing (stage '{name}' is trained). Leave "
                "--from out, or give another folder."
            )
