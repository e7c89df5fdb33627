"""A sender of known truth in a process of its own, which can be killed, stopped and started again.

Sample i is taken at `t0 + i / sfreq * (1 + skew)`. Its first channel holds when it was pushed, its
second when it was taken (both s since t0), the others noise; the last counts, if wanted. How far
it has come stands in a small shared file, which survives a SIGKILL.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from stream.lsl import COUNTER_MODULO, clock, configure

__all__ = ["Sender", "unique"]

_ROOT = Path(__file__).resolve().parents[2]


def unique(word: str = "rig") -> str:
    """Return a name that no other stream has."""
    return f"{word}-{uuid.uuid4()}"


class Sender:
    """The sending process as its parent sees it."""

    def __init__(self, **options: Any) -> None:
        self.name = options.setdefault("name", unique())
        self.source_id = options.setdefault("source_id", str(uuid.uuid4()))
        self.options = options
        self._folder = tempfile.TemporaryDirectory(prefix="lsl-rig-")
        self._progress = Path(self._folder.name) / "progress"
        self._progress.write_bytes(bytes(16))
        self.process: subprocess.Popen[str] | None = None

    def start(self, **changes: Any) -> float:
        """Start the process (again); return the LSL time at which its outlet was there."""
        options = {**self.options, **changes, "progress": str(self._progress)}
        arguments = []
        for key, value in options.items():
            flag = "--" + key.replace("_", "-")
            arguments += (
                [flag] if value is True else [] if value in (False, None) else [flag, str(value)]
            )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.lsl_rig", *arguments],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready = self.heard()
        return float(ready["t"])

    def heard(self) -> dict[str, Any]:
        """Wait for the next line that the process says."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the sender ended with {self.process.wait()}")
        said: dict[str, Any] = json.loads(line)
        return said

    @property
    def pushed(self) -> int:
        """Index one past the last sample that was surely handed to liblsl."""
        done: int = struct.unpack("q", self._progress.read_bytes()[:8])[0]
        return done

    @property
    def t0(self) -> float:
        """When sample 0 was taken, LSL time, s; with `wait` known once something was pushed."""
        t0: float = struct.unpack("d", self._progress.read_bytes()[8:16])[0]
        return t0

    def kill(self) -> None:
        """End the process as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def freeze(self) -> None:
        """Stop the process as SIGSTOP does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the process run on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self._folder.cleanup()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--source-id", required=True)
    parser.add_argument("--type", default="EEG")
    parser.add_argument("--channels", type=int, default=8, help="without the counter")
    parser.add_argument("--sfreq", type=float, default=1000.0)
    parser.add_argument("--chunk", type=int, default=10)
    parser.add_argument("--format", default="float32")
    parser.add_argument("--unit", default="V")
    parser.add_argument("--counter", action="store_true")
    parser.add_argument("--modulo", type=int, default=COUNTER_MODULO)
    parser.add_argument("--implicit", action="store_true", help="stamped by liblsl when pushed")
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--skew-ppm", type=float, default=0.0)
    parser.add_argument("--total", type=int, default=0, help="samples; 0: for ever")
    parser.add_argument("--progress", required=True)
    parser.add_argument("--resume", choices=["count", "clock"], help="go on where it was killed")
    parser.add_argument("--t0", type=float, default=float("nan"))
    parser.add_argument("--wait", action="store_true", help="push nothing until someone listens")
    parser.add_argument("--skip", default="", help="samples left out, as 100:110,300:310")
    parser.add_argument("--twice", default="", help="samples sent twice")
    parser.add_argument("--bold-shape", default="", help="e.g. 40x20x1: describe the volumes")
    parser.add_argument("--default-config", action="store_true", help="as any other LSL program")
    return parser.parse_args()


def _info(options: argparse.Namespace) -> Any:
    import pylsl

    n = options.channels + options.counter
    info = pylsl.StreamInfo(
        options.name, options.type, n, options.sfreq, options.format, options.source_id
    )
    desc = info.desc()
    if options.type != "BOLD" or options.counter:
        channels = desc.append_child("channels")
        for k in range(n):
            counter = options.counter and k == n - 1
            channel = channels.append_child("channel")
            channel.append_child_value("label", "counter" if counter else f"E{k + 1}")
            channel.append_child_value("unit", "count" if counter else options.unit)
            channel.append_child_value("type", "Counter" if counter else options.type)
    if options.counter:
        ours = desc.append_child("hearback")
        ours.append_child_value("version", "1")
        ours.append_child_value("counts_samples", "true")
        ours.append_child_value("counter_modulo", str(options.modulo))
    if options.bold_shape:
        bold = desc.append_child("bold")
        bold.append_child_value("shape", options.bold_shape.replace("x", " "))
        bold.append_child_value("affine", "3 0 0 -60 0 3 0 -60 0 0 3 -60 0 0 0 1")
        bold.append_child_value("tr_s", repr(1 / options.sfreq))
        bold.append_child_value("n_voxels", str(options.channels))
        bold.append_child_value("order", "C")
    return info


def _pairs(text: str) -> list[tuple[int, int]]:
    pairs = [part.split(":") for part in text.split(",") if part]
    return [(int(start), int(stop)) for start, stop in pairs]


def _send(options: argparse.Namespace) -> None:
    import pylsl

    if not options.default_config:
        configure()
    with open(options.progress, "r+b") as file:
        shared = mmap.mmap(file.fileno(), 16)
    done, t0 = struct.unpack("qd", shared[:16])
    rng = np.random.default_rng(os.getpid())
    outlet = pylsl.StreamOutlet(_info(options))
    now = clock()
    if options.resume is None:
        done, t0 = 0, options.t0 if np.isfinite(options.t0) else now
    elif options.resume == "clock":
        done = max(done, int((now - t0) * options.sfreq) // options.chunk * options.chunk)
    base = done  # of the schedule: a count that goes on has lost no sample while it was dead
    start = t0 + base / options.sfreq if options.resume != "count" else now
    sys.stdout.write(json.dumps({"event": "ready", "t": now}) + "\n")
    sys.stdout.flush()
    if options.wait:
        outlet.wait_for_consumers(600)
        start += clock() - now
        if options.resume is None:
            t0 = start
    shared[8:16] = struct.pack("d", t0)
    skips, twice = _pairs(options.skip), _pairs(options.twice)
    dtype = np.dtype({"double64": "f8", "float32": "f4"}.get(options.format, options.format))
    block = np.zeros((options.chunk, options.channels + options.counter), dtype)
    rows = np.arange(options.chunk)
    noise = rng.normal(size=(options.chunk, options.channels)) * (10 if dtype.kind == "i" else 1e-5)
    block[:, : options.channels] = noise.astype(dtype)
    period = (1 + options.skew_ppm * 1e-6) / options.sfreq
    index = base
    while not options.total or index < options.total:
        n = min(options.chunk, options.total - index) if options.total else options.chunk
        truth = start + (index - base + rows[:n]) * period
        wait = truth[-1] - clock()
        if wait > 0:
            time.sleep(wait)
        if dtype.kind == "f":
            block[:n, 0] = clock() - t0
            if options.channels > 1:
                block[:n, 1] = truth - t0
        if options.counter:
            block[:n, -1] = (index + rows[:n]) % options.modulo
        keep = np.ones(n, bool)
        for first, stop in skips:
            keep &= (index + rows[:n] < first) | (index + rows[:n] >= stop)
        stamp = 0.0 if options.implicit else truth[-1] + rng.normal(0, options.jitter_ms * 1e-3)
        if keep.all():
            outlet.push_chunk(block[:n], stamp)
        elif keep.any():
            outlet.push_chunk(block[:n][keep], truth[keep].tolist())
        if any(first <= index < stop for first, stop in twice):
            outlet.push_chunk(block[:n], stamp)
        index += n
        shared[:8] = struct.pack("q", index)
    sys.stdout.write(json.dumps({"event": "done", "pushed": index, "t": clock()}) + "\n")
    sys.stdout.flush()
    threading.Event().wait()


def _die_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _send(_arguments())
