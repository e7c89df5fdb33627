"""Ridge side by side: ours, himalaya, scikit-learn and others on the same data, one process each.

    python -m benchmarks.ridge --size S --rounds 5

Contestants take turns (A, B, C, A, B, C, ...), so that a busy machine troubles all of them alike.
`--python "NAME=/path/to/python"` runs a contestant in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ridge_contestants import CONTESTANTS
from benchmarks.ridge_workload import ALPHAS, SIZES, workload
from benchmarks.rig import machine, write_results

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("numpy", "scipy", "himalaya", "scikit-learn", "torch")
_LONGEST_S = 3600


def main() -> None:
    """Run the rounds and write benchmarks/results/ridge-SIZE.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alphas", type=int, default=len(ALPHAS), help="over the same 5 decades")
    parser.add_argument("--only", nargs="*", choices=CONTESTANTS, help="these contestants only")
    parser.add_argument("--python", nargs="*", default=[], metavar="NAME=PATH")
    parser.add_argument("--dry", action="store_true", help="print the table, write no file")
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    names = [
        name
        for name, contestant in CONTESTANTS.items()
        if arguments.size in contestant.sizes and name in (arguments.only or CONTESTANTS)
    ]
    pythons = dict(item.split("=", 1) for item in arguments.python)
    before = {**machine(), "packages": _versions()}
    alphas = np.logspace(2, 7, arguments.alphas)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    results: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="ridge-bench-") as place:
        folder = Path(place)
        x, y = workload(size)
        for name, values in (("x", x), ("y", y), ("alphas", alphas)):
            np.save(folder / f"{name}.npy", values)
        del x, y
        for number in range(arguments.rounds):
            for name in list(runs):
                run = _run(
                    name,
                    folder,
                    python=pythons.get(name, sys.executable),
                    threads=arguments.threads,
                    n_selected=size.n_selected,
                )
                if run is None:
                    del runs[name]
                    continue
                runs[name].append(run)
                print(f"round {number + 1}: {name}: {run}", flush=True)
                results.setdefault(
                    name, (np.load(folder / "weights.npy"), np.load(folder / "chosen.npy"))
                )
    rows = [_row(name, runs, results) for name in runs]
    settings = {
        "size": arguments.size,
        "samples": size.n,
        "features": size.n_features,
        "targets": size.n_targets,
        "alphas": arguments.alphas,
        "rounds": arguments.rounds,
        "threads": arguments.threads,
    }
    if arguments.dry:
        print(json.dumps(rows, indent=1))
        return
    suffix = "" if arguments.alphas == len(ALPHAS) else f"-{arguments.alphas}"
    write_results(
        f"ridge-{arguments.size}{suffix}",
        title=f"Ridge at {size.n:,} x {size.n_features:,} x {size.n_targets}",
        settings=settings,
        before=before,
        rows=rows,
    )


def _run(
    name: str, folder: Path, *, python: str, threads: int, n_selected: int
) -> dict[str, float] | None:
    """Run one contestant once; None if it failed."""
    kinds = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    environment = {**os.environ, **{f"{kind}_NUM_THREADS": str(threads) for kind in kinds}}
    command = [python, "-m", "benchmarks.ridge_contestants", name, str(folder)]
    command += [f"--n-selected={n_selected}"]
    done = subprocess.run(
        command,
        cwd=_ROOT,
        env=environment,
        text=True,
        capture_output=True,
        timeout=_LONGEST_S,
        check=False,
    )
    if done.returncode != 0:
        print(f"{name} is left out: {done.stderr.strip()[-500:]}", flush=True)
        return None
    run: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return run


def _row(
    name: str,
    runs: dict[str, list[dict[str, float]]],
    results: dict[str, tuple[NDArray[Any], NDArray[Any]]],
) -> dict[str, Any]:
    """Return the medians of one contestant, and how it agrees with whom it is held against."""
    contestant = CONTESTANTS[name]
    row: dict[str, Any] = {"contestant": name, "does": contestant.does}
    for key in ("wall_s", "cpu_s", "peak_mb"):
        row[key] = float(median(run[key] for run in runs[name]))
    row["wall_s, all"] = " ".join(f"{run['wall_s']:.3g}" for run in runs[name])
    other = contestant.held_against
    row["held against"] = other if other in runs else "-"
    row["times as fast"], row["same alpha"], row["max|dw|/max|w|"] = "-", "-", "-"
    if runs.get(other):
        mine, theirs = results[name], results[other]
        same = np.isclose(mine[1], theirs[1], rtol=1e-4)
        row["same alpha"] = f"{same.sum()}/{same.size}"
        row["times as fast"] = float(median(run["wall_s"] for run in runs[other])) / row["wall_s"]
        if same.any():
            difference = np.abs(mine[0][:, same] - theirs[0][:, same]).max()
            row["max|dw|/max|w|"] = f"{difference / np.abs(theirs[0][:, same]).max():.1e}"
    return row


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


if __name__ == "__main__":
    main()
