"""One receiving process of a benchmark: ours, mne-lsl's StreamLSL or a bare pylsl inlet.

The stream is that of `tests/integration/lsl_rig.py`: channel 0 holds when a sample was pushed,
channel 1 when it was taken, the last one counts. Prints "ready" when connected, and writes arrays.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pylsl
from numpy.typing import NDArray

Pull = tuple[float, NDArray[Any], NDArray[np.float64]]  # seen at, (n, channels), stamps

_POLL_S = 0.0005  # mne-lsl has no way to wait for samples


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=["hearback", "mne-lsl", "pylsl"], required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--source-id", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--warm-up", type=float, default=1.0)
    parser.add_argument("--history", type=float, default=4.0)
    parser.add_argument("--queue", type=int, default=360)
    parser.add_argument("--flags", choices=["none", "all"], default="none")
    parser.add_argument("--careful", type=int, default=0, help="mne-lsl: never miss a sample")
    parser.add_argument("--stall-at", type=float, default=float("inf"))
    parser.add_argument("--stall-for", type=float, default=6.0)
    parser.add_argument("--out", required=True)
    return parser.parse_args()


class _Ours:
    def __init__(self, options: argparse.Namespace) -> None:
        from stream.lsl import StreamQuery
        from stream.lsl_source import LslSource

        self.source = LslSource(
            StreamQuery(options.name, source_id=options.source_id),
            history_s=options.history,
            max_buflen_s=options.queue,
            timeout_s=30,
        ).start()
        self.reader = self.source.timeline.reader("benchmark")
        self.events: list[dict[str, Any]] = []

    def pull(self) -> Iterator[Pull]:
        from stream.messages import Chunk, Gap

        self.reader.wait(0.1)
        for event in self.reader.read():
            if isinstance(event, Chunk):
                # The counter is taken out by the source; the index stands for it.
                index = np.arange(event.first, event.stop)
                yield pylsl.local_clock(), np.c_[event.samples[:, :2], index], event.stamps
            elif isinstance(event, Gap):
                self.events.append(
                    {"event": event.reason.value, "n_lost": event.n_lost, "at": event.raised}
                )
            else:
                self.events.append({"event": event.state.value, "at": event.raised})

    def close(self) -> None:
        self.source.stop()


class _Bare:
    def __init__(self, options: argparse.Namespace) -> None:
        (info,) = pylsl.resolve_byprop("source_id", options.source_id, 1, 30)[:1]
        self.inlet = pylsl.StreamInlet(
            info,
            max_buflen=options.queue,
            processing_flags=pylsl.proc_ALL if options.flags == "all" else 0,
            as_numpy=True,
        )
        self.inlet.open_stream(30)
        self.block = np.empty((4096, info.channel_count()))
        self.events: list[dict[str, Any]] = []

    def pull(self) -> Iterator[Pull]:
        rows, stamps = self.inlet.pull_chunk(
            0.1, len(self.block), dest_obj=self.block, min_samples=1, as_numpy=True
        )
        if len(stamps):
            yield pylsl.local_clock(), rows.copy(), stamps

    def close(self) -> None:
        self.inlet.close_stream()


class _MneLsl:
    def __init__(self, options: argparse.Namespace) -> None:
        from mne_lsl.stream import StreamLSL

        self.stream = StreamLSL(
            options.history, name=options.name, source_id=options.source_id
        ).connect(
            acquisition_delay=0.001,
            processing_flags="all" if options.flags == "all" else None,
            timeout=10,
        )
        self.careful = bool(options.careful)
        self.newest = -1.0
        self.events: list[dict[str, Any]] = []

    def pull(self) -> Iterator[Pull]:
        n = self.stream.n_new_samples
        if not n:
            time.sleep(_POLL_S)
            return
        if self.careful:  # all that is there, less what was seen before: none falls through
            data, stamps = self.stream.get_data()
        else:
            data, stamps = self.stream.get_data(n / self.stream.info["sfreq"])
        now, rows = pylsl.local_clock(), data.T
        fresh = (rows[:, -1] > self.newest) & (stamps > 0)
        if fresh.any():
            self.newest = rows[fresh, -1].max()
            yield now, rows[fresh], stamps[fresh]

    def close(self) -> None:
        self.stream.disconnect()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Receive for a while."""
    options = _arguments()
    kinds: dict[str, Callable[[argparse.Namespace], Any]]
    kinds = {"hearback": _Ours, "mne-lsl": _MneLsl, "pylsl": _Bare}
    receiver = kinds[options.kind](options)
    print("ready", flush=True)
    start = pylsl.local_clock()
    seen: list[tuple[float, NDArray[Any], NDArray[np.float64]]] = []
    warm = stalled = False
    cpu_from = wall_from = 0.0
    while (now := pylsl.local_clock()) < start + options.warm_up + options.seconds:
        if not warm and now > start + options.warm_up:
            warm, cpu_from, wall_from = True, _cpu_s(), now
        if not stalled and now > start + options.stall_at:
            stalled = True
            receiver.events.append({"event": "our stall", "at": now})
            ctypes.PyDLL(None).usleep(int(options.stall_for * 1e6))  # holds the interpreter
            receiver.events.append({"event": "our stall ended", "at": pylsl.local_clock()})
        for at, rows, stamps in receiver.pull():
            seen.append((at, rows[:, [0, 1, -1]].astype(float), stamps))
    cpu = (_cpu_s() - cpu_from) / (pylsl.local_clock() - wall_from)
    np.savez(
        options.out,
        at=np.repeat([item[0] for item in seen], [len(item[2]) for item in seen]),
        rows=np.concatenate([item[1] for item in seen]),
        stamps=np.concatenate([item[2] for item in seen]),
        warm_from=wall_from,
        cpu=cpu,
        events=json.dumps(receiver.events),
    )
    receiver.close()


if __name__ == "__main__":
    main()
