"""What the ingest benchmarks share: a private LSL, receivers as processes, results as files."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.lsl import config_text

__all__ = ["Receiver", "machine", "private_lsl", "table", "write_results"]

_ROOT = Path(__file__).resolve().parents[1]
_ATTEMPTS = 4
_RESULTS = _ROOT / "benchmarks" / "results"


def private_lsl() -> None:
    """Give all processes of this benchmark, those of the peers too, one loopback configuration."""
    file = Path(tempfile.mkdtemp(prefix="lsl-bench-")) / "lsl.cfg"
    file.write_text(config_text(f"bench-{uuid.uuid4()}"))
    os.environ["LSLAPICFG"] = str(file)


class Receiver:
    """One receiving process: `benchmarks.receivers` with one kind of inlet."""

    def __init__(self, kind: str, **options: Any) -> None:
        self.kind = kind
        self._folder = tempfile.TemporaryDirectory(prefix="lsl-bench-")
        out = Path(self._folder.name) / "out.npz"
        arguments = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        self._out = out
        command = [sys.executable, "-m", "benchmarks.receivers", f"--kind={kind}", f"--out={out}"]
        self._command = [*command, *arguments]
        self._spawn()

    def _spawn(self) -> None:
        self.process = subprocess.Popen(
            self._command, cwd=_ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def wait_ready(self) -> None:
        """Wait until it is connected."""
        for attempt in range(_ATTEMPTS):
            assert self.process.stdout is not None
            if self.process.stdout.readline().strip() == "ready":
                return
            _, said = self.process.communicate()
            # mne-lsl's liblsl does not find a stream that is there, one time in ten.
            print(f"{self.kind} did not connect (attempt {attempt + 1})", flush=True)
            self._spawn()
        raise RuntimeError(f"the receiver {self.kind} failed: {said[-2000:]}")

    def result(self, timeout_s: float = 600.0) -> dict[str, NDArray[Any]]:
        """Wait until it is done; return its arrays."""
        _, said = self.process.communicate(timeout=timeout_s)
        if self.process.returncode != 0:
            raise RuntimeError(f"the receiver {self.kind} failed: {said[-2000:]}")
        with np.load(self._out) as stored:
            arrays = dict(stored)
        self._folder.cleanup()
        return arrays


def machine() -> dict[str, Any]:
    """Describe where and with what a benchmark ran; nothing that names the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    packages = {}
    for name in ("numpy", "pylsl", "mne-lsl"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": model,
        "cores": os.cpu_count(),
        "load_average": [round(item, 2) for item in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": packages,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows as a Markdown table; the keys of the first are its head."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [
            f"{row[key]:.3g}" if isinstance(row[key], float) else str(row[key]) for key in head
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_results(
    name: str,
    *,
    title: str,
    settings: dict[str, Any],
    before: dict[str, Any],
    rows: list[Any],
    sections: Mapping[str, list[dict[str, Any]]] | None = None,
    detail: Any = None,
) -> None:
    """Write benchmarks/results/NAME.json and NAME.md, and print the tables.

    `sections` are further tables by their titles; `detail` is what tables have no room for, it
    stands in the JSON file only.
    """
    load = machine()["load_average"]
    where = {**before, "load_average_after": load}
    record = {"benchmark": name, "machine": where, "settings": settings, "rows": rows}
    if sections:
        record["sections"] = dict(sections)
    if detail is not None:
        record["detail"] = detail
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    text = (
        f"# {title}\n\n{where['cpu']}, {where['cores']} cores, load {where['load_average'][0]} "
        f"before and {load[0]} after, {where['date']}; Python {where['python']}, "
        + ", ".join(f"{key} {value}" for key, value in where["packages"].items())
        + f".\nSettings: {json.dumps(settings)}.\n"
    )
    if rows:
        text += f"\n{table(rows)}\n"
    for heading, more in (sections or {}).items():
        text += f"\n## {heading}\n\n{table(more)}\n"
    (_RESULTS / f"{name}.md").write_text(text)
    print(text)
