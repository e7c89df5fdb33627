"""Tell two pulsing sounds apart in real EEG: `python -m benchmarks.ssaep`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks import rig
from calibration.ssaep import report_ssaep

_ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print the table and write it beside the other results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=_ROOT.parent / "shared/data/eeg_ssaep")
    parser.add_argument("--permutations", type=int, default=200)
    chosen = parser.parse_args()
    before = rig.machine()
    start = time.perf_counter()
    report = report_ssaep(chosen.data, n_permutations=chosen.permutations)
    rows = [
        {
            key: " ".join(map(str, value)) if isinstance(value, list) else value
            for key, value in row.items()
        }
        for row in report["windows"]
    ]
    rig.write_results(
        "ssaep",
        title="Which of two pulsing sounds is heard: AUC in sessions left out",
        settings={
            "features": report["features"],
            "sessions": len(report["sessions"]),
            "permutations": report["n_permutations"],
            "seconds": round(time.perf_counter() - start, 1),
        },
        before=before,
        rows=rows,
    )


if __name__ == "__main__":
    main()
