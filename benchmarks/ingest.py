"""From push to visible: ours against mne-lsl's StreamLSL and a bare pylsl inlet, side by side.

64 channels and a counter at 1 kHz in chunks of 10, float64. Each row is one receiver at a time in a
process of its own, all of a round one after another, so that load from elsewhere hits all alike.

    python -m benchmarks.ingest --rounds 5 --seconds 60
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import Any

import numpy as np

from benchmarks.rig import Receiver, machine, private_lsl, write_results
from tests.integration.lsl_rig import Sender


def _measure(kind: str, history_s: float, *, seconds: float, wide: bool) -> dict[str, float]:
    size = {"channels": 256, "sfreq": 2000, "chunk": 20} if wide else {"channels": 64}
    with Sender(counter=True, format="double64", **size) as sender:
        receiver = Receiver(
            kind,
            name=sender.name,
            source_id=sender.source_id,
            seconds=seconds,
            history=history_s,
            # mne-lsl's roll costs the same full or empty, ours the same always; no need to fill.
            warm_up=2.0,
        )
        receiver.wait_ready()
        got = receiver.result()
        keep = got["at"] > got["warm_from"]
        pushed = sender.t0 + got["rows"][keep, 0]
        counts = got["rows"][keep, -1]
    newest = np.flatnonzero(np.diff(pushed, append=np.inf) > 1e-6)  # one of each pushed chunk
    latency = (got["at"][keep] - pushed)[newest] * 1e3
    expected = counts.max() - counts.min() + 1
    return {
        "p50_ms": float(np.median(latency)),
        "p99_ms": float(np.percentile(latency, 99)),
        "max_ms": float(latency.max()),
        "cpu_percent": float(got["cpu"]) * 100,
        "unseen_percent": float(100 * (1 - len(np.unique(counts)) / expected)),
    }


def main() -> None:
    """Run all rounds and write benchmarks/results/ingest.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="1 round of 4 s: shows that it runs")
    parser.add_argument("--name", default="ingest", help="of the result files")
    options = parser.parse_args()
    seconds, rounds = (4.0, 1) if options.quick else (options.seconds, options.rounds)
    private_lsl()
    before = machine()
    cases = [("hearback", float(h), False) for h in (4, 30, 120, 600)]
    cases += [("mne-lsl", float(h), False) for h in (4, 30, 120, 600)]
    cases += [("pylsl", 0.0, False), ("hearback", 30.0, True), ("mne-lsl", 30.0, True)]
    cases += [("pylsl", 0.0, True)]
    found: dict[tuple[str, float, bool], list[dict[str, float]]] = defaultdict(list)
    for number in range(rounds):
        for case in cases:
            kind, history_s, wide = case
            found[case].append(_measure(kind, history_s, seconds=seconds, wide=wide))
            print(
                number + 1, case, {k: round(v, 3) for k, v in found[case][-1].items()}, flush=True
            )
    rows: list[dict[str, Any]] = []
    for (kind, history_s, wide), results in found.items():
        row: dict[str, Any] = {
            "receiver": kind,
            "stream": "256 ch x 2 kHz" if wide else "64 ch x 1 kHz",
            "history_s": history_s or "-",
        }
        for key in results[0]:
            row[key] = float(np.median([item[key] for item in results]))
        rows.append(row)
    write_results(
        options.name,
        title="Ingest: push to visible (medians over rounds)",
        settings={"seconds": seconds, "rounds": rounds, "quick": options.quick},
        before=before,
        rows=rows,
    )


if __name__ == "__main__":
    main()
