"""A recording as live LSL streams: at its own speed or faster, with its markers, and with faults.

Every sample and every marker keeps its time relative to all others, exactly; the schedule is
absolute, so nothing drifts; no stamp is ahead of the push that carries it. A volume goes out when
its acquisition ends, one TR after its stamp.
"""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from models.errors import SettingError
from stream.faults import FaultPlan, Kill, Late, Stall, parse_faults, signal_runs
from stream.recordings import Recording, read_recording
from stream.replay_schedule import Timetable, loop_s, outlet_names, schedule
from stream.sender import MarkerSender, Sender, StreamDescription, linger

__all__ = [
    "ReplayProgress",
    "ReplaySettings",
    "ReplaySummary",
    "StreamSummary",
    "load",
    "open_senders",
    "replay_here",
    "run_replay",
    "source_ids",
    "wait_for_consumers",
]

_LEAD_S = 0.1  # from the decision to begin to the first sample
_SETTLE_S = 1.0  # after the first consumer, for others to connect to the other streams
_PROGRESS_S = 0.25


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """What is replayed, and how."""

    path: str | Path
    speed: float = 1.0
    loop: bool = False
    fault: str = ""  # see `stream.faults`
    name: str | None = None  # of the outlet; the other streams are named after it
    select: str | None = None  # which of several signals, by the name in the recording
    kind: str | None = None  # by type
    index: int | None = None  # by number
    channels: tuple[str, ...] | None = None
    unit: str | None = None
    mask: str | Path | None = None
    tr_s: float | None = None
    events: str | Path | None = None
    subject: str | None = None
    session: str | None = None
    task: str | None = None
    run: str | None = None
    chunk_s: float = 0.01
    wait_s: float = 60.0  # for a consumer before the first sample; 0: do not wait
    linger_s: float = 2.0  # after the last sample, for consumers to take it
    source_id: str = ""  # empty: a new one


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """Where a replay is."""

    state: str  # "waiting", "playing", "dead" (killed by a fault), "ending"
    position_s: float  # of the recording
    total_s: float  # inf for a loop
    sent: int


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """What went out on one stream."""

    name: str
    type: str
    source_id: str
    sent: int  # samples or markers, a duplicate counted twice


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """What a replay did."""

    streams: tuple[StreamSummary, ...]
    seconds: float  # as they passed in the room, from the first sample due to the end
    speed: float
    ended: str  # "end" or "interrupted"
    kills: int = 0
    lateness_ms: dict[str, float] = field(default_factory=dict)  # p50, p99, max behind schedule
    warnings: tuple[str, ...] = ()

    @property
    def sent(self) -> int:
        """Samples that went out on all signals."""
        return sum(s.sent for s in self.streams if s.type != "Markers")


class Counter(Protocol):
    """Where the number sent on each stream is kept; shared memory outlives a killed sender."""

    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...


def load(settings: ReplaySettings) -> tuple[Recording, FaultPlan]:
    """Read the recording and the faults.

    Raises
    ------
    FileError
        If the recording cannot be read.
    SettingError
        If a setting or a fault is not usable.
    """
    if not (math.isfinite(settings.speed) and 0.01 <= settings.speed <= 1000):
        raise SettingError(f"--speed is {settings.speed:g}; expected 0.01 to 1000.")
    if not 0.0005 <= settings.chunk_s <= 10:
        raise SettingError(f"chunk_s is {settings.chunk_s:g}; expected 0.0005 to 10 s.")
    plan = parse_faults(settings.fault)
    recording = read_recording(
        settings.path,
        name=settings.select,
        kind=settings.kind,
        index=settings.index,
        channels=settings.channels,
        unit=settings.unit,
        mask=settings.mask,
        tr_s=settings.tr_s,
        events=settings.events,
        subject=settings.subject,
        session=settings.session,
        task=settings.task,
        run=settings.run,
    )
    _check_plan(recording, plan)
    return recording, plan


def _check_plan(recording: Recording, plan: FaultPlan) -> None:
    for signal in recording.signals:
        signal_runs(signal, plan)
    total = loop_s(recording)
    timed: list[Late | Stall | Kill] = [*plan.lates(), *plan.stalls(), *plan.kills()]
    for fault in timed:
        if fault.at_s >= total:
            raise SettingError(
                f"Fault {type(fault).__name__.lower()}:at={fault.at_s:g} lies behind the end of "
                f"the recording ({total:.3f} s); give an earlier time."
            )


def source_ids(recording: Recording, settings: ReplaySettings) -> list[str]:
    """Return a source id for each signal and marker series: the same after a restart."""
    base = settings.source_id or str(uuid.uuid4())
    n = len(recording.signals) + len(recording.markers)
    return [base if i == 0 else f"{base}-{i}" for i in range(n)]


def open_senders(
    recording: Recording,
    settings: ReplaySettings,
    ids: Sequence[str],
) -> list[Sender | MarkerSender]:
    """Open an outlet for each signal, then for each marker series."""
    names, series = outlet_names(recording, settings.name)
    senders: list[Sender | MarkerSender] = []
    for signal, name, source_id in zip(recording.signals, names, ids, strict=False):
        description = StreamDescription(
            name,
            signal.type,
            signal.labels,
            # What a device with a skewed clock believes, not what it does.
            sfreq_hz=signal.sfreq_hz * settings.speed,
            source_id=source_id,
            unit=signal.unit,
            units=signal.units,
            speed=settings.speed,
            recorded_sfreq_hz=signal.sfreq_hz,
            first_index=signal.segments[0].first,
            bold=signal.bold,
        )
        senders.append(Sender(description))
    for name, source_id in zip(series, ids[len(names) :], strict=True):
        senders.append(MarkerSender(name, source_id=source_id))
    return senders


def wait_for_consumers(
    senders: Sequence[Sender | MarkerSender], wait_s: float, stop: threading.Event
) -> None:
    """Wait until someone is connected, and a little longer for the other streams."""
    from stream.lsl import clock

    deadline = clock() + wait_s
    while clock() < deadline and not any(s.has_consumer() for s in senders):
        if stop.wait(0.02):
            return
    deadline = min(clock() + _SETTLE_S, deadline)
    while clock() < deadline and not all(s.has_consumer() for s in senders):
        if stop.wait(0.02):
            return


def replay_here(
    recording: Recording,
    plan: FaultPlan,
    settings: ReplaySettings,
    ids: Sequence[str],
    *,
    counts: Counter,
    stop: threading.Event,
    t0: float | None = None,
    resume_at: float = -math.inf,
    on_begin: Callable[[float], None] = lambda t0: None,
    on_progress: Callable[[ReplayProgress], None] | None = None,
) -> list[float]:
    """Send a recording from this process, until its end or until `stop` is set.

    Parameters
    ----------
    counts : indexable
        Numbers sent are added here, one entry a stream.
    t0 : float, optional
        LSL time of the recording's beginning; without it, soon after a consumer has come.
    resume_at : float
        LSL time; what was due before is not sent.
    on_begin : callable
        Told `t0` when it is known.

    Returns
    -------
    lateness : list of float
        Seconds that each push came after it was due.
    """
    from stream.lsl import clock

    total = math.inf if settings.loop else loop_s(recording)
    senders = open_senders(recording, settings, ids)
    n_signals = len(recording.signals)
    lateness: list[float] = []

    def tell(state: str, now: float) -> None:
        if on_progress is not None:
            position = (now - t0) * settings.speed if t0 is not None else 0.0
            sent = sum(counts[i] for i in range(n_signals))
            on_progress(ReplayProgress(state, min(max(position, 0.0), total), total, sent))

    try:
        if t0 is None:
            tell("waiting", clock())
            wait_for_consumers(senders, settings.wait_s, stop)
            t0 = clock() + _LEAD_S
        on_begin(t0)
        timetable = Timetable(t0, recording.start, settings.speed, plan.clock_rate)
        told = -math.inf
        for push in schedule(
            recording, timetable, plan=plan, chunk_s=settings.chunk_s, loop=settings.loop
        ):
            if push.due < resume_at:
                continue
            while (wait := push.due - clock()) > 0:
                if stop.wait(min(wait, 0.2)):
                    return lateness
            if stop.is_set():
                return lateness
            sender = senders[push.stream]
            if isinstance(sender, Sender) and push.samples is not None:
                sender.push(push.samples, push.stamps, first=push.first)
                counts[push.stream] += len(push.stamps)
            elif isinstance(sender, MarkerSender):
                sender.push(push.text, float(push.stamps[0]))
                counts[push.stream] += 1
            now = clock()
            lateness.append(now - push.due)
            if now - told > _PROGRESS_S:
                told = now
                tell("playing", now)
        tell("ending", clock())
        linger(senders, linger_s=settings.linger_s)
        return lateness
    finally:
        for sender in senders:
            sender.close(linger_s=0.0)


def run_replay(
    settings: ReplaySettings,
    *,
    on_progress: Callable[[ReplayProgress], None] | None = None,
    on_open: Callable[[Recording, Sequence[StreamSummary]], None] | None = None,
    stop: threading.Event | None = None,
) -> ReplaySummary:
    """Replay a recording as LSL streams; the whole of `hearback replay`.

    Returns at the end of the recording, when `stop` is set, or at Ctrl-C.

    Parameters
    ----------
    settings : ReplaySettings
    on_progress : callable, optional
        Told a few times a second where the replay is.
    on_open : callable, optional
        Told what was read and how the streams are named, before the first sample.
    stop : Event, optional

    Raises
    ------
    FileError
        If the recording cannot be read.
    SettingError
        If a setting or a fault is not usable.
    """
    from stream.lsl import clock, configure

    recording, plan = load(settings)
    configure()
    ids = source_ids(recording, settings)
    stop = stop or threading.Event()
    names, series = outlet_names(recording, settings.name)
    kinds = [s.type for s in recording.signals] + ["Markers"] * len(series)

    def summaries(counts: Sequence[int]) -> tuple[StreamSummary, ...]:
        each = zip(names + series, kinds, ids, counts, strict=True)
        return tuple(StreamSummary(*values) for values in each)

    if on_open is not None:
        on_open(recording, summaries([0] * len(ids)))
    began = clock()
    ended, lateness, kills = "end", [], 0

    def begin(t0: float) -> None:
        nonlocal began
        began = t0

    if plan.kills():
        from stream.replay_supervisor import replay_killed

        outcome = replay_killed(
            recording, plan, settings, ids, stop=stop, on_begin=begin, on_progress=on_progress
        )
        counts, lateness, kills = outcome.counts, outcome.lateness, outcome.kills
        ended = "interrupted" if outcome.interrupted else "end"
    else:
        counts = [0] * len(ids)
        try:
            lateness = replay_here(
                recording,
                plan,
                settings,
                ids,
                counts=counts,
                stop=stop,
                on_begin=begin,
                on_progress=on_progress,
            )
        except KeyboardInterrupt:
            stop.set()
        ended = "interrupted" if stop.is_set() else "end"
    return ReplaySummary(
        streams=summaries(counts),
        seconds=max(0.0, clock() - began),
        speed=settings.speed,
        ended=ended,
        kills=kills,
        lateness_ms=_percentiles(lateness),
        warnings=recording.warnings,
    )


def _percentiles(lateness: Sequence[float]) -> dict[str, float]:
    if not lateness:
        return {}
    values = 1e3 * np.asarray(lateness)
    p50, p99 = np.percentile(values, [50, 99])
    return {
        "p50": round(float(p50), 3),
        "p99": round(float(p99), 3),
        "max": round(float(values.max()), 3),
    }
