"""How old the sound is with a decoder twice as slow as its windows come.

One replay over LSL, and two listeners to it at the same time, each in a process of its own: a live
session of hearback, and what most online code does: pull from the inlet, make the windows, decode
each in order. Both have the same features and the same decoder, made slow by waiting.

    python -m benchmarks.freshness --seconds 60
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rig import machine, private_lsl, write_results
from stream.messages import Condition, FeatureWindow
from stream.stages import Decoder
from tests.integration.sessions import HOP_S, SFREQ_HZ, replayed, write_bundle, write_recording

DECODER_S = 2 * HOP_S
ALLOWED_S = HOP_S + DECODER_S + 0.050
_SETTLED_S = 5.0  # memory is compared from here on


class SlowDecoder:
    """The decoder of the bundle, and then a wait; for this benchmark only."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def decode(self, window: FeatureWindow) -> Condition:
        """Decode in twice the hop."""
        start = time.perf_counter()
        condition = self._decoder.decode(window)
        time.sleep(max(0.0, DECODER_S - (time.perf_counter() - start)))
        return condition


class Memory(threading.Thread):
    """Looks at the resident memory of this process twice a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_s = time.monotonic()
        self.seen: list[tuple[float, float]] = []
        self.start()

    def run(self) -> None:
        """Look until the process ends."""
        import psutil

        process = psutil.Process()
        while True:
            self.seen.append((time.monotonic() - self.start_s, process.memory_info().rss / 2**20))
            time.sleep(0.5)

    def growth_mb(self, began: float) -> float:
        """Return the most that was held, above what was held soon after the first output."""
        # The first outputs come some seconds after the process; `time.monotonic` is the LSL clock.
        from_s = began - self.start_s + _SETTLED_S
        settled = [mb for at, mb in self.seen if at >= from_s] or [self.seen[-1][1]]
        return max(settled) - settled[0]


def ours(bundle: Path, stream: str, seconds: float, out: Path) -> dict[str, Any]:
    """Run a live session; return when each output was heard, and how old it was then."""
    from stream.config import LiveSettings
    from stream.live import run_live

    memory = Memory()
    settings = LiveSettings(
        bundle,
        stream,
        sink="null",
        seconds=seconds,
        out=out,
        find_s=30.0,
        outlets=False,
        keyboard=False,
        display=False,
    )
    summary = run_live(settings, wrap_decoder=SlowDecoder)
    rows = [json.loads(line) for line in (out / "trace.jsonl").read_text().splitlines()]
    heard = [row for row in rows if row["outcome"] == "heard"]
    growth = memory.growth_mb(heard[0]["at"]["heard"])
    mismatch = [abs(row["sum_ms"] - row["end_to_end_ms"]) for row in heard]
    decoder = [row["stage_ms"]["decode"] for row in heard]
    return {
        "at": [row["at"]["heard"] for row in heard],
        "age_s": [row["end_to_end_ms"] / 1e3 for row in heard],
        "handed_over_s": [row["at"]["sound_out"] - row["at"]["taken"] for row in heard],
        "windows": summary.windows,
        "decoded": summary.decoded,
        "skipped": summary.skipped_windows,
        "underruns": summary.underruns,
        "lost": summary.lost,
        "growth_mb": growth,
        "decoder_max_ms": max(decoder),
        "over_own_limit": sum(
            row["end_to_end_ms"] > 1e3 * (HOP_S + 0.050) + row["stage_ms"]["decode"]
            for row in heard
        ),
        "within_1_ms": float(np.mean(np.array(mismatch) <= 1.0)),
    }


def peer(bundle: Path, stream: str, seconds: float, out: Path) -> dict[str, Any]:
    """Pull, make windows, decode each in order: a plain FIFO loop on pylsl."""
    import pylsl

    from export.bundle import load_bundle
    from stream.chain import open_chain
    from stream.messages import Chunk
    from stream.windows import open_windower

    opened = load_bundle(bundle)
    decoder = SlowDecoder(open_chain(opened))
    windower = open_windower(opened)
    memory = Memory()
    (info,) = pylsl.resolve_byprop("name", stream, 1, 30.0)[:1]
    inlet = pylsl.StreamInlet(info, processing_flags=0, as_numpy=True)
    n = opened.manifest.input.n_channels
    at, ages, windows, first = [], [], 0, 0
    until = float("inf")
    while pylsl.local_clock() < until:
        values, stamps = inlet.pull_chunk(timeout=1.0, max_samples=int(SFREQ_HZ), min_samples=1)
        if not len(stamps):
            continue
        until = min(until, pylsl.local_clock() + seconds)
        stamps = np.asarray(stamps, np.float64)
        chunk = Chunk(values[:, :n], stamps, stamps, first, 0, pylsl.local_clock())
        first += len(stamps)
        for window in windower.push(chunk)[0]:
            windows += 1
            decoder.decode(window)
            at.append(pylsl.local_clock())
            ages.append(at[-1] - (window.t_stop - 1 / SFREQ_HZ))
            if at[-1] >= until:
                break
    return {
        "at": at,
        "age_s": ages,
        "handed_over_s": ages,
        "windows": windows,
        "decoded": windows,
        "skipped": 0,
        "underruns": -1,
        "lost": -1,
        "growth_mb": memory.growth_mb(at[0]),
    }


def _row(name: str, found: dict[str, Any], seconds: float) -> dict[str, Any]:
    age = np.array(found["age_s"])
    at = np.array(found["at"])
    slope = float(np.polyfit(at - at[0], age, 1)[0]) if len(at) > 2 else float("nan")
    # Each second's oldest output, every tenth of the run.
    steps = np.linspace(0, seconds, 11)
    course = [
        round(float(age[(at - at[0] >= a) & (at - at[0] < b)].max(initial=0.0)), 3)
        for a, b in pairwise(steps)
    ]
    return {
        "who": name,
        "outputs": len(age),
        "age p50 s": float(np.median(age)),
        "age p99 s": float(np.percentile(age, 99)),
        "age max s": float(age.max()),
        "over the limit": int((age > ALLOWED_S).sum()),
        "growth s/s": slope,
        "windows": found["windows"],
        "skipped, counted": found["skipped"],
        "underruns": found["underruns"] if found["underruns"] >= 0 else "-",
        "memory growth MiB": found["growth_mb"],
        "oldest per tenth s": course,
    }


def main() -> None:
    """Run both and write benchmarks/results/freshness.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--role", choices=["both", "hearback", "pylsl"], default="both")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--stream", default="")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--name", default="freshness", help="of the result files")
    options = parser.parse_args()
    if options.role != "both":
        run = ours if options.role == "hearback" else peer
        found = run(options.bundle, options.stream, options.seconds, options.out)
        sys.stdout.write(json.dumps(found))
        return
    private_lsl()
    before = machine()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="freshness-") as temporary:
        folder = Path(temporary)
        bundle = write_bundle(folder / "bundle")
        recording = write_recording(folder / "noise.csv", seconds=options.seconds + 15.0)
        with replayed(recording) as replay:
            running = {}
            for role in ("hearback", "pylsl"):
                command = [sys.executable, "-m", "benchmarks.freshness", "--role", role]
                command += ["--seconds", str(options.seconds), "--bundle", str(bundle)]
                command += ["--stream", replay.stream, "--out", str(folder / role)]
                running[role] = subprocess.Popen(
                    command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
                )
            for role, process in running.items():
                said, _ = process.communicate()
                if process.returncode != 0:
                    raise RuntimeError(f"{role} failed")
                results[role] = json.loads(said)
    rows = [
        _row("hearback", results["hearback"], options.seconds),
        _row("pylsl FIFO loop", results["pylsl"], options.seconds),
    ]
    write_results(
        options.name,
        title="Freshness with a decoder of twice the hop",
        settings={
            "seconds": options.seconds,
            "hop_s": HOP_S,
            "decoder_s": DECODER_S,
            "limit_s": ALLOWED_S,
            "decoder_max_ms": results["hearback"]["decoder_max_ms"],
            "hearback outputs over hop + their own decoder time + 50 ms": results["hearback"][
                "over_own_limit"
            ],
            "stages sum to end-to-end within 1 ms": results["hearback"]["within_1_ms"],
            "handed over, max s": max(results["hearback"]["handed_over_s"]),
        },
        before=before,
        rows=rows,
    )


if __name__ == "__main__":
    main()
