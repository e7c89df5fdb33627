"""Where and with what something was measured; nothing that names the machine or its owner."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stream.priority import is_real_time

__all__ = ["describe_machine", "load_average", "resident_mb"]

_CPUINFO = Path("/proc/cpuinfo")
_STATM = Path("/proc/self/statm")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def describe_machine(packages: tuple[str, ...] = ("numpy", "onnxruntime")) -> dict[str, Any]:
    """Return date, processor, cores, system, versions; what cannot be found out is left out.

    Parameters
    ----------
    packages : tuple of str
        Whose versions matter.
    """
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": _processor(),
        "cores": _cores(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "realtime": is_real_time(),
        "packages": {},
    }
    try:
        found["governor"] = _GOVERNOR.read_text("utf-8").strip()
    except OSError:
        pass
    for name in packages:
        try:
            found["packages"][name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def load_average() -> list[float] | None:
    """Return the load of the last 1, 5 and 15 minutes, or None where the system has none."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except (AttributeError, OSError):
        return None


def resident_mb() -> float | None:
    """Return the memory that this process holds, MB, or None where it cannot be found out."""
    try:
        pages = int(_STATM.read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _processor() -> str:
    try:
        lines = _CPUINFO.read_text("utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
