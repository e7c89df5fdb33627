"""When each chunk and each marker of a recording goes out: one absolute schedule for all streams.

Nothing here sends or waits, so a schedule can be looked at without a clock. Times are on the LSL
clock; a chunk is due when its newest sample could have been had, never before.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.faults import FaultPlan, signal_runs
from stream.recordings import RecordedMarkers, RecordedSignal, Recording

__all__ = ["Push", "Timetable", "loop_s", "outlet_names", "schedule"]


@dataclass(frozen=True, slots=True, eq=False)
class Push:
    """One chunk, or one marker, and when it is due."""

    due: float  # s, LSL clock
    stream: int  # index among the signals, then among the markers
    stamps: NDArray[np.float64]  # (n,) s, LSL clock
    first: int = 0  # index of the first sample; 0 for a marker
    samples: NDArray[np.float32] | None = None  # (n, n_channels); None: a marker
    text: str = ""
    kind: str = "new"  # or "again"


@dataclass(frozen=True, slots=True)
class Timetable:
    """How the recording's clock maps to the LSL clock."""

    t0: float  # s, LSL clock, when the recording begins
    start: float  # s, the recording's clock, its first sample or marker
    speed: float = 1.0
    clock_rate: float = 1.0  # of the device: 1.0001 makes 100 millionths more samples a second

    def to_lsl(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return LSL times for times of the recording, both in seconds."""
        moved: NDArray[np.float64] = self.t0 + (times - self.start) / (self.speed * self.clock_rate)
        return moved

    def at(self, seconds: float) -> float:
        """Return the LSL time of a fault at so many seconds of the recording."""
        return self.t0 + seconds / self.speed


def loop_s(recording: Recording) -> float:
    """Return how long one pass takes, in seconds of the recording.

    It is the length of the signals, so that one pass follows the other without a pause; of the
    markers only where there is no signal.
    """
    start, stop = _extent(recording)
    return stop - start


def _extent(recording: Recording) -> tuple[float, float]:
    """Return from when to when a pass of a loop is, s, on the clock of the recording."""
    signals = [s for s in recording.signals if len(s.stamps)]
    if signals:
        starts = [float(s.stamps[0]) for s in signals]
        return min(starts), max(float(s.stamps[-1]) + s.period_s for s in signals)
    return recording.start, max(float(m.stamps[-1]) for m in recording.markers if len(m.stamps))


def schedule(
    recording: Recording,
    timetable: Timetable,
    *,
    plan: FaultPlan | None = None,
    chunk_s: float = 0.01,
    loop: bool = False,
) -> Iterator[Push]:
    """Yield all that is to be sent, in the order in which it is due.

    Parameters
    ----------
    recording : Recording
    timetable : Timetable
    plan : FaultPlan, optional
        `drop`, `duplicate` and `late` happen in the first pass only.
    chunk_s : float
        Length of a chunk in seconds as they pass in the room; at least one sample is sent.
    loop : bool
        Begin again at the end, for ever; time and count go on.
    """
    plan = plan or FaultPlan()
    streams: list[Iterator[Push]] = [
        _signal(recording, number, timetable, plan, chunk_s, loop=loop)
        for number in range(len(recording.signals))
    ]
    base = len(recording.signals)
    streams += [
        _markers(recording, base + number, markers, timetable, plan, loop=loop)
        for number, markers in enumerate(recording.markers)
    ]
    return heapq.merge(*streams, key=lambda push: push.due)


def _signal(
    recording: Recording,
    number: int,
    timetable: Timetable,
    plan: FaultPlan,
    chunk_s: float,
    *,
    loop: bool,
) -> Iterator[Push]:
    signal = recording.signals[number]
    whole = loop_s(recording)
    span = _span(signal, whole)
    size = max(1, round(chunk_s * signal.sfreq_hz * timetable.speed)) if signal.sfreq_hz else 1
    ready = signal.ready_after_s / timetable.speed
    turn, before = 0, -np.inf
    while True:
        faults = plan if turn == 0 else FaultPlan()
        lates = [(float(signal.stamps[0]) + late.at_s, late.by_s) for late in faults.lates()]
        for run in signal_runs(signal, faults):
            for start in range(run.start, run.stop, size):
                stop = min(start + size, run.stop)
                recorded = signal.stamps[start:stop]
                first = run.first + start - run.start + turn * span
                stamps = timetable.to_lsl(recorded + turn * whole)
                if plan.jitter_sd_s > 0:
                    # Seeded by place, so that a sender that comes back goes on as it would have.
                    noise = np.random.default_rng([plan.seed, number, first])
                    stamps = stamps + noise.normal(0.0, plan.jitter_sd_s, len(stamps))
                due = float(stamps.max()) + ready
                while lates and lates[0][0] <= recorded[-1]:
                    due += lates.pop(0)[1]
                due = before = max(_after_stalls(due, timetable, plan), before)
                yield Push(due, number, stamps, first, signal.samples[start:stop], kind=run.kind)
        if not loop:
            return
        turn += 1


def _markers(
    recording: Recording,
    number: int,
    markers: RecordedMarkers,
    timetable: Timetable,
    plan: FaultPlan,
    *,
    loop: bool,
) -> Iterator[Push]:
    whole = loop_s(recording)
    rows: Sequence[int] = range(len(markers.texts))
    if loop:  # between two passes there is no time for what came before or after the signals
        start, stop = _extent(recording)
        rows = [row for row in rows if start <= markers.stamps[row] <= stop]
    turn = 0
    while True:
        stamps = timetable.to_lsl(markers.stamps + turn * whole)
        for row in rows:
            due = _after_stalls(float(stamps[row]), timetable, plan)
            yield Push(due, number, stamps[row : row + 1], text=markers.texts[row])
        if not loop or not rows:
            return
        turn += 1


def _after_stalls(due: float, timetable: Timetable, plan: FaultPlan) -> float:
    for stall in plan.stalls():
        begin = timetable.at(stall.at_s)
        if begin <= due < begin + stall.for_s:
            due = begin + stall.for_s
    return due


def _span(signal: RecordedSignal, whole: float) -> int:
    """Return by how much the count goes up in one pass."""
    length = float(signal.stamps[-1] - signal.stamps[0])
    if length <= 0:
        return signal.n_sent
    return max(signal.n_sent, round(whole * (signal.n_sent - 1) / length))


def outlet_names(recording: Recording, name: str | None) -> tuple[list[str], list[str]]:
    """Return a name for each signal and each marker series, no two the same.

    Parameters
    ----------
    recording : Recording
    name : str, optional
        Of the main signal (the first EEG or BOLD one); the others are named after it.
    """
    signals = recording.signals
    main = next((i for i, s in enumerate(signals) if s.type.upper() in ("EEG", "BOLD")), 0)
    names: list[str] = []
    for number, signal in enumerate(signals):
        if name is None:
            shared = sum(other.name == signal.name for other in signals) > 1
            names.append(f"{signal.name}-{signal.type}" if shared else signal.name)
        else:
            names.append(name if number == main else f"{name}-{signal.type}")
    series = [m.name for m in recording.markers]
    if name is not None:
        series = [f"{name}-markers" for _ in recording.markers]
    return _distinct(names, []), _distinct(series, names)


def _distinct(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    used, distinct = set(taken), []
    for name in names:
        unused, number = name, 2
        while unused in used:
            unused, number = f"{name}-{number}", number + 1
        used.add(unused)
        distinct.append(unused)
    return distinct
