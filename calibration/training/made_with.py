"""On what a stage was trained, in general words: kind of processor, versions; no names."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["made_with"]

_PACKAGES = ("hearback", "torch", "numpy", "scipy", "safetensors")


def made_with(device: str, *, threads: int, processes: int) -> dict[str, Any]:
    """Return machine, threads, processes and versions, as JSON holds them.

    Parameters
    ----------
    device : "cpu" or "cuda"
    threads : int
        Of a process.
    processes : int
        That trained together.
    """
    return {
        "machine": _gpu() if device == "cuda" else _cpu(),
        "threads": threads,
        "processes": processes,
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _cpu() -> str:
    import torch

    words = [f"{os.cpu_count() or 1} cores", platform.machine() or "unknown"]
    words.append(torch.backends.cpu.get_cpu_capability())
    if torch.cpu.get_capabilities().get("amx_bf16", False):
        words.append("AMX bfloat16")
    return ", ".join(words)


def _gpu() -> str:
    import torch

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    memory = properties.total_memory / 2**30
    return f"CUDA GPU of compute capability {properties.major}.{properties.minor}, {memory:.0f} GiB"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if name in sys.modules:
                found[name] = "not installed as a package"
    return found
