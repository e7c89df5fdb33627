"""The folder of a training run to networks, each checked by the names and shapes of its weights.

Needs the extra `train`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import FileError, SettingError
from models.nets.encoder import AudioEncoder
from models.nets.masked_autoencoder import MaskedAutoencoder
from models.nets.readout import Readout
from models.nets.samplers import FEW_STEP_SAMPLERS, SamplerName
from models.nets.sizes import SIZES, SizeName, make_codec, make_denoiser, make_vocoder
from models.nets.stretch import GeneratorNets, random_nets

__all__ = ["TrainedNetworks", "few_step_sampler", "random_trained", "read_training"]

TEACHER_STEPS = 32
FEW_STEPS = 4
_GUIDANCE = 1.5  # of the teacher; what the student is taught with by default
_TOLD = ("step", "seconds", "scores", "labels", "begun_from")  # of a stage's note, in the card
LICENCE = "Apache-2.0; trained on sounds that hearback renders itself"


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetworks:
    """All networks of a training run, and how the denoiser is to be sampled."""

    nets: GeneratorNets
    encoder: AudioEncoder
    judge: AudioEncoder
    readout: Readout  # of the judge
    tokens: MaskedAutoencoder
    sampler: SamplerName = "secants"
    steps: int = FEW_STEPS
    guidance: float = 1.0
    licence: str = LICENCE
    about: Mapping[str, Any] = field(default_factory=dict)  # recipe, times, machine, scores

    @property
    def distilled(self) -> bool:
        """Whether the denoiser needs few steps: it has its guidance built in."""
        return self.guidance == 1.0


def read_training(folder: Path, *, teacher: bool = False) -> TrainedNetworks:
    """Return the networks of a finished training run.

    Parameters
    ----------
    folder : Path
        Holds a folder for each stage, with `final.safetensors`.
    teacher : bool
        Take the many-step denoiser of stage `generator` though there is a distilled one.

    Raises
    ------
    FileError
        If a stage is missing, damaged, or of another size than the others.
    """
    last = "generator" if teacher or not _final(folder, "distill").is_file() else "distill"
    needed = ("encoder", "judge", "codec", "tokens", "vocoder", last)
    missing = [stage for stage in needed if not _final(folder, stage).is_file()]
    if missing:
        raise FileError(
            f"{folder} lacks the trained {_words(missing)}. Train what is missing with: hearback "
            f"train small --out {folder} --resume"
        )
    stages = {stage: _read(_final(folder, stage)) for stage in needed}
    notes = {stage: note for stage, (_, note) in stages.items()}
    if last == "distill" and _final(folder, "generator").is_file():  # what it was taught by
        notes["generator"] = _read(_final(folder, "generator"))[1]
    size = _size(stages[last][0], folder / last)
    few = last == "distill"
    nets = GeneratorNets(size, make_codec(size), make_denoiser(size), make_vocoder(size))
    readout_tensors = _own(stages["judge"][0], "readout")
    trained = TrainedNetworks(
        nets=nets,
        encoder=AudioEncoder(),
        judge=AudioEncoder(),
        readout=_readout(readout_tensors, folder / "judge"),
        tokens=MaskedAutoencoder(),
        sampler=few_step_sampler(notes[last], folder / last) if few else "euler",
        steps=FEW_STEPS if few else TEACHER_STEPS,
        guidance=1.0 if few else _GUIDANCE,
        about=_about(folder, notes),
    )
    for module, stage, key in (
        (nets.codec, "codec", "codec"),
        (nets.denoiser, last, "denoiser"),
        (nets.vocoder, "vocoder", "vocoder"),
        (trained.encoder, "encoder", "audio"),
        (trained.judge, "judge", "audio"),
        (trained.readout, "judge", "readout"),
        (trained.tokens, "tokens", _key(stages["tokens"][0])),
    ):
        _fill(module, _own(stages[stage][0], key), folder / stage)
    return trained


def random_trained(size: SizeName = "tiny", *, seed: int = 0) -> TrainedNetworks:
    """Return networks that have learnt nothing, with outputs of the order of 1.

    For latency, export and parity.

    Parameters
    ----------
    size : {"tiny", "small"}
    seed : int
    """
    nets = random_nets(size, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        others = AudioEncoder(), AudioEncoder(), Readout(13, 5), MaskedAutoencoder()
    for module in others:
        module.eval().requires_grad_(False)
    return TrainedNetworks(nets, *others, about={"weights": "random"})


def few_step_sampler(note: Mapping[str, Any], where: Path) -> SamplerName:
    """Return how the steps of a distilled denoiser follow one another.

    Parameters
    ----------
    note : mapping
        Of its weights; `settings` says the method that it was distilled by, `arc` if not.
    where : Path
        What messages name.

    Raises
    ------
    FileError
        If the method is unknown.
    """
    method = note.get("settings", {}).get("method", "secants")
    try:
        return FEW_STEP_SAMPLERS[method]
    except (KeyError, TypeError):
        raise FileError(
            f"{where} was distilled by {method!r}; expected one of {list(FEW_STEP_SAMPLERS)}. "
            "Train that stage again."
        ) from None


def _final(folder: Path, stage: str) -> Path:
    return folder / stage / "final.safetensors"


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a stage and the note in its header."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise SettingError(
            "Reading weights needs safetensors. Install it with: pip install 'hearback[train]'"
        ) from error
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {}).get("hearback", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, dict(note)
    except (OSError, ValueError, SafetensorError) as error:
        raise FileError(
            f"{path} cannot be read as weights ({error}). Train that stage again."
        ) from error


def _own(tensors: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    return {k[len(key) + 1 :]: v for k, v in tensors.items() if k.startswith(f"{key}.")}


def _key(tensors: Mapping[str, Tensor]) -> str:
    """Return under which name the one network of a stage stands."""
    return next(iter(tensors), "tokens.").split(".")[0]


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise FileError(f"The weights in {where} are of another network: {reason}") from error
    module.eval().requires_grad_(False)


def _readout(tensors: Mapping[str, Tensor], where: Path) -> Readout:
    try:
        classes = len(tensors["classes.weight"])
        factors = len(tensors["factors.2.weight"])
    except KeyError as error:
        raise FileError(f"{where} lacks the weights {error} of its readout.") from error
    return Readout(classes, factors)


def _size(tensors: Mapping[str, Tensor], where: Path) -> SizeName:
    """Return the size whose denoiser has this width."""
    width = len(tensors.get("denoiser.enter.bias", ()))
    for name, size in SIZES.items():
        if size.denoiser[0] == width:
            return name
    raise FileError(
        f"{where} holds a denoiser {width} channels wide; expected one of "
        f"{[size.denoiser[0] for size in SIZES.values()]}."
    )


def _about(folder: Path, notes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the card says of a training: each stage, its machine, its recipe."""
    about: dict[str, Any] = {
        stage: {name: _plain(note[name]) for name in _TOLD if name in note}
        for stage, note in notes.items()
    }
    machines = [_plain(note["made_with"]) for note in notes.values() if "made_with" in note]
    if machines:
        about["made_with"] = machines[-1]
    try:
        about["recipe"] = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        about["recipe"] = {}
    return about


def _plain(value: Any) -> Any:
    """Return JSON values with null for what is not finite."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _words(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
