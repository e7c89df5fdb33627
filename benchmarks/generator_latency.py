"""From a condition to sound: latencies of exported generators, by themselves and in a stream.

    python -m benchmarks.generator_latency [FOLDER ...] [--random tiny small] [--changes 1000]
        [--minutes M] [--busy] [--device cpu|cuda|tensorrt] [--stretch 0.08 0.16 0.64]

FOLDER is a bundle with a generator or what `hearback export` wrote. With --random, networks of
these sizes that have learnt nothing are exported first and kept in --work: times do not depend on
weights. Each length of stretch is a run of `hearback bench` of its own. Writes
benchmarks/results/generator_latency.json and .md.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.rig import machine, write_results
from stream.bench.run import BenchSettings, run_bench

__all__ = ["main"]

# Goals of the embedded generator: first sound p50 and p99, ms; RTF at .16 and .64 s.
_GOALS = {
    "tiny": (20.0, 40.0, {0.16: 0.10, 0.64: 0.03}),
    "small": (40.0, 80.0, {0.16: 0.20, 0.64: 0.06}),
}


def main() -> None:
    """Measure each folder and length, write."""
    args = _arguments()
    before = machine()
    before["packages"] = {name: version(name) for name in ("numpy", "onnxruntime")}
    folders = [*args.folder, *(_random(size, args) for size in args.random)]
    found: list[dict[str, Any]] = []
    for folder in folders:
        for stretch_s in args.stretch:
            settings = BenchSettings(
                folder,
                device=args.device,
                stretch_s=stretch_s,
                changes=args.changes,
                minutes=args.minutes,
                busy=args.busy,
                threads=args.threads,
                warm_up_s=args.warm_up,
            )
            print(f"{folder.name}, {stretch_s:g} s", flush=True)
            found.append(run_bench(settings).to_json())
    shown = {key: str(value) for key, value in vars(args).items() if key not in _PATHS}
    write_results(
        args.out,
        title="From a condition to sound; goals hold on idle cores, so mind the load",
        settings=shown,
        detail=found,
        before=before,
        rows=[row for values in found for row in _rows(values)],
    )


_PATHS = ("folder", "work", "out")  # they name this machine's folders


def _rows(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each way of measuring."""
    goal = _GOALS.get(values["size"])
    rows = [_row(values, "by itself", values["first_sound_ms"], rtf=values["rtf"], jitter=values)]
    rows[0]["CPU ms"] = values["stretch_processor_ms"]["p50"]
    if goal:
        rows[0]["goal"] = f"<= {goal[0]:g} / {goal[1]:g} ms"
        if values["stretch_s"] in goal[2]:
            rows[0]["goal"] += f", RTF <= {goal[2][values['stretch_s']]:g}"
    if "stream" in values:
        stream = values["stream"]
        for name, what in (
            ("first_sample", "in a stream"),
            ("first_changed_sample", "in a stream, first changed sample"),
        ):
            if name in stream["stamps_ms"]:
                row = _row(values, what, stream["stamps_ms"][name], jitter=stream)
                row["underruns"] = f"{stream['underruns']} in {stream['seconds']:g} s"
                row["goal"] = "p95 <= 250 ms" if values["stretch_s"] < 0.1 else ""
                rows.append(row)
    busy = values.get("busy")
    if busy:
        row = _row(values, f"beside {busy['jobs']} busy jobs", busy["first_sound_ms"], jitter=busy)
        row["goal"] = "jitter <= 4"
        rows.append(row)
        if "stream" in busy:
            stream = busy["stream"]
            row = _row(
                values, "in a stream, busy", stream["stamps_ms"]["first_sample"], jitter=stream
            )
            row["underruns"] = f"{stream['underruns']} in {stream['seconds']:g} s"
            rows.append(row)
    return rows


def _row(
    values: dict[str, Any],
    what: str,
    spread: dict[str, float],
    *,
    jitter: dict[str, Any],
    rtf: float | None = None,
) -> dict[str, Any]:
    return {
        "generator": f"{values['generator']} ({values['size']}, {values['steps']} steps)",
        "stretch, s": values["stretch_s"],
        "first sound": what,
        **{f"{name} ms": spread[name] for name in ("p50", "p95", "p99", "max")},
        "n": spread["n"],
        "CPU ms": "-",
        "RTF": "-" if rtf is None else rtf,
        "jitter p99/p50": jitter["jitter_p99_over_p50"],
        "underruns": "-",
        "goal": "",
    }


def _random(size: str, args: argparse.Namespace) -> Path:
    """Return an exported generator of this size that has learnt nothing; made once."""
    folder: Path = args.work / f"random-{size}"
    if not folder.is_dir():
        from export.checkpoint import random_trained
        from export.generator_export import export_generator
        from export.generator_folder import Checks

        print(f"exporting {folder.name} ...", flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        checks = Checks(conditions=1, streams=1, accept=True)
        export_generator(random_trained(size), folder, steps=args.steps, checks=checks)  # type: ignore[arg-type]
    return folder


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="*")
    parser.add_argument("--random", nargs="+", choices=["tiny", "small"], default=[])
    parser.add_argument("--steps", type=int, default=4, help="of the random ones")
    parser.add_argument("--stretch", type=float, nargs="+", default=[0.08, 0.16, 0.64], help="s")
    parser.add_argument("--changes", type=int, default=1_000)
    parser.add_argument("--minutes", type=float, default=None, help="of each stream; 0: none")
    parser.add_argument("--busy", action="store_true", help="also with a busy job on each core")
    parser.add_argument("--device", choices=["cpu", "cuda", "tensorrt"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warm-up", type=float, default=60.0, help="s, before each run")
    parser.add_argument("--work", type=Path, default=Path("../generator_latency"))
    parser.add_argument("--out", default="generator_latency", help="name of the results")
    args = parser.parse_args()
    if not args.folder and not args.random:
        parser.error("give a folder, or --random tiny")
    return args


if __name__ == "__main__":
    main()
