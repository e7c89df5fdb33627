"""One decode step of a whole cortex: 60,784 voxels to 512 numbers, dense weights against sparse.

Every runner opens the file that a bundle would hold, with one thread, as the live path does. The
two take turns in rounds, so that what else the machine does meets both.

    python benchmarks/decode.py --steps 2000 --json out.json
"""


from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from export.onnx_linear import linear_onnx, sparse_linear_onnx
from export.runtime import Runner, open_runner

_ROUND = 50


def _decoders(folder: Path, n_features: int, n_out: int, k: int, seed: int) -> dict[str, Path]:
    """Write the same decoder in both forms."""
    rng = np.random.default_rng(seed)
    indices = np.argpartition(rng.random((n_out, n_features)), k, axis=1)[:, :k]
    indices.sort(axis=1)
    values = rng.standard_normal((n_out, k)).astype(np.float32)
    bias = rng.standard_normal(n_out).astype(np.float32)
    weights = np.zeros((n_features, n_out), np.float32)
    np.put_along_axis(weights, indices.T, values.T, axis=0)
    paths = {"dense": folder / "dense.onnx", "sparse": folder / "sparse.onnx"}
    paths["dense"].write_bytes(linear_onnx(weights, bias, normalise=True))
    paths["sparse"].write_bytes(
        sparse_linear_onnx(indices, values, bias, n_features=n_features, normalise=True)
    )
    return paths


def _steps(runner: Runner, windows: np.ndarray[Any, Any], n: int) -> list[float]:
    """Return the seconds of n steps, each with another window."""
    seconds = []
    for i in range(n):
        window = windows[i % len(windows)][np.newaxis]
        start = time.perf_counter()
        runner.run({"features": window})
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--features", type=int, default=60_784)
    parser.add_argument("--outputs", type=int, default=512)
    parser.add_argument("--selected", type=int, default=500)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    windows = (
        np.random.default_rng(options.seed + 1)
        .standard_normal((16, options.features))
        .astype(np.float32)
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = _decoders(
            Path(folder), options.features, options.outputs, options.selected, options.seed
        )
        runners = {name: open_runner(path, threads=1) for name, path in paths.items()}
        sizes = {name: path.stat().st_size for name, path in paths.items()}
        outputs = [
            runner.run({"features": windows[:1]})["embedding"] for runner in runners.values()
        ]
        for runner in runners.values():
            _steps(runner, windows, 20)
        seconds: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(max(1, options.steps // _ROUND)):
            for name, runner in runners.items():
                seconds[name] += _steps(runner, windows, _ROUND)
    result: dict[str, Any] = {
        "features": options.features,
        "outputs": options.outputs,
        "selected": options.selected,
        "steps": options.steps,
        "largest_difference": float(np.abs(outputs[0] - outputs[1]).max()),
        "largest_output": float(np.abs(outputs[0]).max()),
        "load": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "forms": {
            name: {
                "file_bytes": sizes[name],
                "p50_ms": 1e3 * float(np.percentile(times, 50)),
                "p99_ms": 1e3 * float(np.percentile(times, 99)),
                "max_ms": 1e3 * max(times),
            }
            for name, times in seconds.items()
        },
    }
    print(f"{'form':8} {'file MB':>8} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for name, row in result["forms"].items():
        print(
            f"{name:8} {row['file_bytes'] / 1e6:8.2f} {row['p50_ms']:8.3f} {row['p99_ms']:8.3f} "
            f"{row['max_ms']:8.3f}"
        )
    print(f"largest difference {result['largest_difference']:.1e}, load {result['load']:.1f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


if __name__ == "__main__":
    main()
