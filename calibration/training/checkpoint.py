"""One file per checkpoint: tensors as safetensors, the rest as JSON in its header. No pickle.

A checkpoint is written beside the old one and takes its place in one step, so a run that is cut off
at any moment leaves a whole one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import FileError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

__all__ = [
    "FINAL",
    "START",
    "load_optimiser",
    "load_tensors",
    "load_weights",
    "optimiser_tensors",
    "read_note",
    "save_tensors",
    "weights_digest",
]

FINAL = "final.safetensors"  # what a finished stage leaves in its folder
START = "start.safetensors"  # weights that it begins with, in place of random ones

_NOTE = "hearback"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    """Write tensors and a note that JSON can hold, replacing what is there in one step.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    from safetensors.torch import save_file

    part = path.with_suffix(".part")
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(held, part, metadata={_NOTE: json.dumps(note)})
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise FileError(f"Cannot write {path}: {error.strerror or error}.") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the note of a file, on the CPU.

    Raises
    ------
    FileError
        If the file is missing, damaged, or was not written by `save_tensors`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {})[_NOTE])
            return {name: file.get_tensor(name) for name in file.keys()}, note
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise FileError(
            f"{path} is no checkpoint of hearback ({error}). Train the stage that makes it."
        ) from error


def read_note(path: Path) -> dict[str, Any]:
    """Return the note of a file alone.

    Raises
    ------
    FileError
        As `load_tensors`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(json.loads((file.metadata() or {})[_NOTE]))
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise FileError(
            f"{path} is no checkpoint of hearback ({error}). Train the stage that makes it."
        ) from error


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of the names and values of tensors on the CPU."""
    import torch

    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        held = tensors[name].detach().contiguous().reshape(-1)
        digest.update(held.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Put the tensors named PREFIX.* into a network; every name and shape must be right.

    Raises
    ------
    FileError
        If the tensors are those of another network.
    """
    start = f"{prefix}."
    own = {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        raise FileError(
            f"The weights '{prefix}' are of another network: {str(error).splitlines()[1].strip()}"
        ) from error


def optimiser_tensors(optimiser: Optimizer, prefix: str) -> dict[str, Tensor]:
    """Return the state of an optimiser as flat tensors."""
    return {
        f"{prefix}.{number}.{name}": value
        for number, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }


def load_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Give an optimiser the state that `optimiser_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(f"{prefix}."):
            number, kind = name[len(prefix) + 1 :].split(".")
            state.setdefault(int(number), {})[kind] = value
    now = optimiser.state_dict()
    optimiser.load_state_dict({"state": state, "param_groups": now["param_groups"]})
