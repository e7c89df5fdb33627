"""What faults do to samples, stamps and time: ours, mne-lsl's StreamLSL and pylsl side by side.

    death    the sender is killed and started again 3 s later; its count goes on with the clock
    stall    our own process stands still for 6 s, with a queue of 4 s
    freeze   the sender is stopped for 5 s (SIGSTOP) and then sends what it has missed

8 channels at 1 kHz in chunks of 10, each sample stamped with the time at which it was taken and
counted. The peers run with all of liblsl's processing (clock, dejitter, monotone), as is usual.

    python -m benchmarks.recovery --trials 20
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rig import Receiver, machine, private_lsl, write_results
from stream.lsl import clock
from tests.integration.lsl_rig import Sender

_LEAD_S = 6.0  # before the fault: clock measured, dejitter settled as far as it goes
_QUEUE_S = 4


def _run(kind: str, fault: str, *, after_s: float, unlucky_s: float) -> dict[str, Any]:
    """Put one receiver through one fault; return what it did."""
    away_s = {"death": 3.0, "stall": 6.0, "freeze": 5.0}[fault]
    with Sender(counter=True, format="double64", channels=8) as sender:
        receiver = Receiver(
            kind,
            name=sender.name,
            source_id=sender.source_id,
            seconds=_LEAD_S + away_s + after_s,
            warm_up=0.0,
            history=_QUEUE_S if kind == "mne-lsl" else 60,
            queue=_QUEUE_S,
            flags="all",
            careful=1,
            stall_at=_LEAD_S if fault == "stall" else "inf",
            stall_for=away_s,
        )
        receiver.wait_ready()
        time.sleep(_LEAD_S + unlucky_s)
        began = clock()
        if fault == "death":
            sender.kill()
            time.sleep(away_s)
            back = sender.start(resume="clock")
        elif fault == "freeze":
            sender.freeze()
            time.sleep(away_s)
            sender.thaw()
            back = clock()
        got = receiver.result()
        events = json.loads(str(got["events"]))
        if fault == "stall":
            (began,) = (item["at"] for item in events if item["event"] == "our stall")
            (back,) = (item["at"] for item in events if item["event"] == "our stall ended")
        return _judge(got, events, began=began, back=back, t0=sender.t0)


def _judge(
    got: dict[str, NDArray[Any]],
    events: list[dict[str, Any]],
    *,
    began: float,
    back: float,
    t0: float,
) -> dict[str, Any]:
    at, counts = got["at"], got["rows"][:, -1].astype(np.int64)
    wrong = np.abs(got["stamps"] - t0 - got["rows"][:, 1]) * 1e3
    if counts[0] != round(got["rows"][0, 1] * 1000):  # ours: an index, from where we came in
        raise RuntimeError("the count and the truth disagree")
    missing = int((np.diff(np.unique(counts)) - 1).sum())
    listed = sum(int(item.get("n_lost", 0)) for item in events)
    flags = [
        item["at"] - began
        for item in events
        if item["event"] in ("lost", "stalled") and item["at"] > began - 1
    ]
    after = at > back

    def worst(start: float, stop: float) -> float:
        part = wrong[(at > back + start) & (at <= back + stop)]
        return float(part.max()) if len(part) else float("nan")

    return {
        "missing": missing,
        "listed": listed,
        "repeated": len(counts) - len(np.unique(counts)),
        "flagged_after_s": min(flags) if flags else float("inf"),
        "first_sample_after_s": float(at[after].min() - back) if after.any() else float("inf"),
        "backwards": int((np.diff(got["stamps"]) < 0).sum()),
        "error_ms_0_to_1_s": worst(0, 1),
        "error_ms_1_to_5_s": worst(1, 5),
        "error_ms_5_to_30_s": worst(5, 30),
        "error_ms_30_to_60_s": worst(30, 60),
    }


def main() -> None:
    """Run all trials and write benchmarks/results/recovery.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20, help="of ours; the peers get a quarter")
    parser.add_argument("--after", type=float, default=60.0, help="s watched after one fault each")
    parser.add_argument(
        "--quick", action="store_true", help="1 trial each, 6 s: shows that it runs"
    )
    faults = ("death", "stall", "freeze")
    parser.add_argument("--faults", nargs="+", choices=faults, default=faults)
    parser.add_argument("--name", default="recovery", help="of the result files")
    options = parser.parse_args()
    trials, long_s = (1, 6.0) if options.quick else (options.trials, options.after)
    private_lsl()
    before = machine()
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for fault in options.faults:
        found: dict[str, list[dict[str, Any]]] = {}
        for trial in range(trials):
            for kind in ("hearback", "mne-lsl", "pylsl"):
                if trial % 4 and kind != "hearback":
                    continue
                result = _run(
                    kind,
                    fault,
                    after_s=long_s if trial == 0 else 6.0,  # one long look, many short ones
                    unlucky_s=float(rng.uniform(0, 0.5)),
                )
                found.setdefault(kind, []).append(result)
                print(fault, trial + 1, kind, result, flush=True)
        for kind, results in found.items():
            row: dict[str, Any] = {"fault": fault, "receiver": kind, "trials": len(results)}
            for key in results[0]:
                values = np.array([item[key] for item in results], dtype=float)
                # The worst of all trials; samples are added up.
                total = key in ("missing", "listed", "repeated", "backwards")
                worst = values.sum() if total else np.nanmax([*values, -1.0])
                row[key] = int(worst) if total else float(worst) if worst >= 0 else "-"
                if not np.isfinite(worst):
                    row[key] = "never"
            if fault in ("death", "freeze"):
                row["flagged_0.5_s"] = sum(item["flagged_after_s"] <= 0.5 for item in results)
                row["back_1_s"] = sum(item["first_sample_after_s"] <= 1.0 for item in results)
            else:
                row["flagged_0.5_s"] = row["back_1_s"] = "-"
            rows.append(row)
    write_results(
        options.name,
        title="Recovery from faults (worst of all trials; samples added up)",
        settings={"trials": trials, "after_s": long_s, "quick": options.quick},
        before=before,
        rows=rows,
    )


if __name__ == "__main__":
    main()
