"""TensorRT engines, kept on disk for exactly the machine that they were built on.

An engine belongs to one GPU, driver and version of each library (TensorRT#70, #756, #3829), and a
wrong one may run without an error. So each has a folder of its own, named by a digest of all that
it depends on, which stands beside it as `engine.json`. The sound of a fixed input is kept there
when it is built, and compared each time that it is opened.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.generator_files import GeneratorCard, GraphEntry
from export.npy import read_npy, write_npy
from export.parity import relative_error
from export.runtime import Device, has_provider
from models.errors import DeviceError, FileError

__all__ = ["check_engine_golden", "device_facts", "engine_folder", "engine_key", "need_device"]

_FACTS = "engine.json"
_GOLDEN = "golden.npy"
_CLOSE = 1e-3  # the same engine on the same GPU: sums in another order at most
_QUERY = "name,driver_version,compute_cap"
_PACKAGES = {
    "tensorrt": ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    "cuda": ("nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime-cu13", "nvidia-cuda-runtime"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
}


def need_device(device: Device) -> None:
    """Refuse a device that cannot be had, before work is spent on it.

    Raises
    ------
    DeviceError
        If there is no NVIDIA GPU, or a library is missing.
    """
    if device == "cpu":
        return
    if not has_provider(device):
        raise DeviceError(
            f"This ONNX Runtime has no support for {device}. Install it with pip install "
            "'hearback[gpu]' on a machine with an NVIDIA GPU, or choose --device cpu."
        )
    if device == "tensorrt":
        device_facts()


def device_facts() -> dict[str, str]:
    """Return the GPU, its driver and architecture, and the versions of the libraries.

    Raises
    ------
    DeviceError
        If there is no NVIDIA GPU, or TensorRT is not installed.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        raise DeviceError(
            "TensorRT was asked for, but there is no nvidia-smi here. Use a machine with an NVIDIA "
            "GPU and its driver, or choose --device cpu."
        )
    try:
        said = subprocess.run(
            [program, f"--query-gpu={_QUERY}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout.splitlines()
        name, driver, architecture = (part.strip() for part in said[0].split(","))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError) as error:
        raise DeviceError(
            f"nvidia-smi does not tell of a GPU ({error}). Check the driver, or choose --device "
            "cpu."
        ) from error
    facts = {"gpu": name, "driver": driver, "sm": architecture}
    for library, packages in _PACKAGES.items():
        facts[library] = next((v for p in packages if (v := _version(p))), "")
    if not facts["tensorrt"]:
        raise DeviceError(
            "TensorRT is not installed. Install it with pip install 'hearback[gpu]', or choose "
            "--device cuda."
        )
    return facts


def engine_key(card: GeneratorCard, entry: GraphEntry, facts: dict[str, str]) -> dict[str, str]:
    """Return all that the engine of a graph depends on.

    Parameters
    ----------
    card : GeneratorCard
    entry : GraphEntry
    facts : dict of str to str
        From `device_facts`.
    """
    weights = {name: file.sha256 for name, file in card.files.items() if name.endswith(".data")}
    return {
        "onnx": card.files[entry.file].sha256,
        "weights": " ".join(weights[name] for name in sorted(weights)),
        "precision": card.precision,
        "shape": f"{entry.n_frames} frames, noise {'x'.join(map(str, entry.noise))}",
        **facts,
    }


def engine_folder(
    cache_dir: Path, card: GeneratorCard, entry: GraphEntry, facts: dict[str, str] | None = None
) -> Path:
    """Return the folder for the engine of a graph on this machine; it is made where missing.

    Parameters
    ----------
    cache_dir : Path
        Holds the engines of all generators.
    card : GeneratorCard
    entry : GraphEntry
    facts : dict of str to str, optional
        Default: those of this machine.

    Raises
    ------
    DeviceError
        See `device_facts`.
    FileError
        If it cannot be written, or holds something else.
    """
    key = engine_key(card, entry, device_facts() if facts is None else facts)
    text = json.dumps(key, indent=1, sort_keys=True)
    folder = cache_dir / f"{Path(entry.file).stem}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        facts_file = folder / _FACTS
        if not facts_file.exists():
            _write(facts_file, (text + "\n").encode())
        elif facts_file.read_text("utf-8").strip() != text:
            raise FileError(
                f"{folder} holds an engine of another machine or generator. Remove that folder."
            )
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(
            f"Engines cannot be kept in {cache_dir}: {error}. Choose a folder that can be written."
        ) from error
    return folder


def check_engine_golden(folder: Path, sound: NDArray[np.float32]) -> float:
    """Compare an engine's sound of the fixed input with that of its first run, or keep it.

    Parameters
    ----------
    folder : Path
        From `engine_folder`.
    sound : array of shape (n,)

    Returns
    -------
    error : float
        Relative, Euclidean.

    Raises
    ------
    DeviceError
        If it is not finite, or another sound than before.
    """
    if not np.isfinite(sound).all():
        raise DeviceError(
            f"The engine in {folder} gives values that are not finite. Remove that folder and let "
            "it be built again, or export with --precision fp32."
        )
    path = folder / _GOLDEN
    if not path.is_file():
        _write(path, write_npy(np.asarray(sound, np.float32)))
        return 0.0
    try:
        before = read_npy(path.read_bytes(), dtype=np.dtype(np.float32), ndim=1)
        if before.shape != sound.shape:
            raise ValueError(f"{before.shape} samples")
    except (OSError, ValueError) as error:
        raise DeviceError(
            f"The engine in {folder} has a damaged golden sound ({error}). Remove that folder."
        ) from error
    off = relative_error(sound, before)
    if not off <= _CLOSE:
        raise DeviceError(
            f"The engine in {folder} computes something else than when it was built (relative "
            f"error {off:.2g}, at most {_CLOSE:g}). Remove that folder and let it be built again."
        )
    return off


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _write(path: Path, content: bytes) -> None:
    """Write a file whole: two starts may do so at once."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    os.replace(part, path)
