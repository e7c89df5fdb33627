"""Ours against SciPy and MNE: a Welch PSD of 64 channels, 4 s at 1 kHz, whole and hop by hop.

Run it with `python benchmarks/psd.py`. The calls take turns, so that whatever else the machine
does falls on all of them alike; compare the ratios, and the times only beside the machine and its
load. Writes benchmarks/results/psd.json and psd.md.
"""

# ruff: noqa: E402 - the number of threads must be set before NumPy is imported
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from models.features import make_extractor
from models.spec import PsdSpec

__all__ = ["main", "measure"]

SFREQ_HZ, N_CHANNELS, WINDOW_S, SEGMENT_S = 1000.0, 64, 4.0, 1.0
RESULTS = Path(__file__).resolve().parent / "results"


def measure(rounds: int) -> dict[str, Any]:
    """Return times and errors of each way, each called once a round in turn."""
    import mne
    import scipy
    import scipy.signal

    rng = np.random.default_rng(1)
    n_window = int(WINDOW_S * SFREQ_HZ)
    # 1/f noise of EEG's scale on electrode offsets of up to 1e5 uV.
    walk = np.cumsum(rng.standard_normal((60_000, N_CHANNELS)), axis=0)
    offset = rng.uniform(-0.1, 0.1, N_CHANNELS)
    stream = (offset + 1e-6 * walk + 1e-5 * rng.standard_normal(walk.shape)).astype(np.float32)
    chunk = stream[:n_window]
    columns = np.ascontiguousarray(chunk.T).astype(np.float64)  # as the peers take it

    def full(spec: PsdSpec) -> Callable[[], Any]:
        """Return a call for a whole window from scratch: samples in, features out."""
        extractor = make_extractor(spec, sfreq_hz=SFREQ_HZ, n_channels=N_CHANNELS)

        def call() -> Any:
            extractor.reset()
            return extractor.push(chunk)

        return call

    def hop(spec: PsdSpec) -> Callable[[], Any]:
        """Return a call for one hop of a running stream."""
        extractor = make_extractor(spec, sfreq_hz=SFREQ_HZ, n_channels=N_CHANNELS)
        extractor.push(chunk)
        n, at = extractor.hop_samples, 0

        def call() -> Any:
            nonlocal at
            at = at + n if at + 2 * n <= len(stream) else 0
            return extractor.push(stream[at : at + n])

        return call

    linear = PsdSpec(window_s=WINDOW_S, segment_s=SEGMENT_S, hop_s=0.25, log10=False)
    short = PsdSpec(window_s=WINDOW_S, segment_s=SEGMENT_S, hop_s=0.1, log10=False)
    log = PsdSpec(window_s=WINDOW_S, segment_s=SEGMENT_S, hop_s=0.25)
    ways: dict[str, Callable[[], Any]] = {
        "hearback, full window": full(linear),
        "hearback, hop 0.25 s": hop(linear),
        "hearback, hop 0.1 s": hop(short),
        "hearback, hop 0.25 s, log10": hop(log),
        "scipy.signal.welch": lambda: scipy.signal.welch(
            columns, SFREQ_HZ, nperseg=1000, noverlap=500
        ),
        "mne psd_array_welch": lambda: mne.time_frequency.psd_array_welch(
            columns,
            SFREQ_HZ,
            n_fft=1000,
            n_per_seg=1000,
            n_overlap=500,
            window="hann",
            verbose="ERROR",
        ),
    }
    times: dict[str, list[tuple[int, int]]] = {name: [] for name in ways}
    load_before = os.getloadavg()
    for number in range(rounds + 3):  # the first three warm up
        for name, call in ways.items():
            wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
            call()
            took = (time.thread_time_ns() - cpu, time.perf_counter_ns() - wall)
            if number >= 3:
                times[name].append(took)
    _, reference = scipy.signal.welch(columns, SFREQ_HZ, nperseg=1000, noverlap=500)
    ours = full(linear)()[0].values.reshape(-1, N_CHANNELS).T
    floor = 1e-7 * reference.max(axis=1, keepdims=True)
    error = np.abs(ours - reference) / np.maximum(reference, floor)
    rows = {}
    for name, pairs in times.items():
        cpu_ms, wall_ms = np.array(pairs, dtype=np.float64).T / 1e6
        rows[name] = {
            "cpu_ms_median": round(float(np.median(cpu_ms)), 4),
            "cpu_ms_min": round(float(cpu_ms.min()), 4),
            "wall_ms_median": round(float(np.median(wall_ms)), 4),
            "wall_ms_p99": round(float(np.percentile(wall_ms, 99)), 4),
        }
    scipy_ms = rows["scipy.signal.welch"]["cpu_ms_median"]
    for row in rows.values():
        row["scipy_over_this"] = round(scipy_ms / row["cpu_ms_median"], 2)
    return {
        "task": f"Welch PSD, {N_CHANNELS} channels x {WINDOW_S:g} s at {SFREQ_HZ:g} Hz, "
        "nperseg 1000, noverlap 500, Hann, constant detrend",
        "rounds": rounds,
        "threads": 1,
        "largest_relative_error_against_scipy": float(error.max()),
        "rows": rows,
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "system": platform.system(),
            "load_average_before": [round(value, 2) for value in load_before],
            "load_average_after": [round(value, 2) for value in os.getloadavg()],
        },
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "mne": mne.__version__,
        },
    }


def _cpu() -> str:
    """Model of the processor, without the name of the machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _table(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    lines = [
        "# PSD: ours beside SciPy and MNE",
        "",
        f"{result['task']}. CPU and wall time in ms; medians of {result['rounds']} rounds in which "
        "the ways take turns, one thread. From `python benchmarks/psd.py`.",
        "",
        "| way | CPU median | CPU min | wall median | wall p99 | SciPy's CPU over this |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        lines.append(
            f"| {name} | {row['cpu_ms_median']:.3f} | {row['cpu_ms_min']:.3f} | "
            f"{row['wall_ms_median']:.3f} | {row['wall_ms_p99']:.3f} | "
            f"{row['scipy_over_this']:.1f} |"
        )
    lines += [
        "",
        "Largest difference from SciPy: "
        f"{result['largest_relative_error_against_scipy']:.1e} of the value, or of 1e-7 of "
        "the channel's largest where that is more.",
        "",
        "Ours take float32 samples (time x channels), as they come from a stream; the peers are "
        "given float64 (channels x time), which spares them the copy.",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; load average "
        f"{machine['load_average_before'][0]} before, {machine['load_average_after'][0]} after. "
        f"Python {versions['python']}, NumPy {versions['numpy']}, SciPy {versions['scipy']}, "
        f"MNE {versions['mne']}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    result = measure(arguments.rounds)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "psd.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    table = _table(result)
    (arguments.out / "psd.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
