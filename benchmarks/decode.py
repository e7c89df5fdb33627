"""One decode step of a whole cortex: 60,784 voxels to 512 numbers, dense weights against sparse.

Every runner opens the file that a bundle would hold, with one thread, as the live path does. The
two take turns in rounds, so that what else the machine does meets both.

    python -m benchmarks.decode --steps 2000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.rig import machine, write_results
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


def _steps(runner: Runner, windows: NDArray[np.float32], n: int) -> list[float]:
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
    options = parser.parse_args()
    before = machine()
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
    rows = [
        {
            "form": name,
            "file, MB": round(sizes[name] / 1e6, 2),
            "p50, ms": round(1e3 * float(np.percentile(times, 50)), 3),
            "p99, ms": round(1e3 * float(np.percentile(times, 99)), 3),
            "max, ms": round(1e3 * max(times), 3),
            "largest difference": f"{float(np.abs(outputs[0] - outputs[1]).max()):.1e}",
        }
        for name, times in seconds.items()
    ]
    write_results(
        "decode",
        title="One decode step of a whole cortex, one thread",
        settings={
            name: vars(options)[name] for name in ("features", "outputs", "selected", "steps")
        },
        before=before,
        rows=rows,
    )


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


if __name__ == "__main__":
    main()
