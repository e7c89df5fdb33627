"""One process that sends a recording over LSL, chunk by chunk as each comes due."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from stream.faults import FaultPlan
from stream.recordings import Recording
from stream.replay_schedule import Push, Timetable, loop_s, outlet_names, schedule
from stream.replay_settings import ReplayProgress, ReplaySettings
from stream.sender import MarkerSender, Sender, StreamDescription, linger

__all__ = ["open_senders", "replay_here", "wait_for_consumers"]

_LEAD_S = 0.1  # from the decision to begin to the first sample
_SETTLE_S = 1.0  # after the first consumer, for others to connect to the other streams
_PROGRESS_S = 0.25


class Counter(Protocol):
    """Where the number sent on each stream is kept; shared memory outlives a killed sender."""

    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...


def open_senders(
    recording: Recording,
    settings: ReplaySettings,
    ids: Sequence[str],
    firsts: Sequence[int],
) -> list[Sender | MarkerSender]:
    """Open an outlet for each signal, then for each marker series.

    `firsts` are the indices of the first sample that each signal's outlet will send: a receiver
    tells by them how many it missed while a killed sender was away.
    """
    names, series = outlet_names(recording, settings.name)
    senders: list[Sender | MarkerSender] = []
    for signal, name, source_id, first in zip(recording.signals, names, ids, firsts, strict=False):
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
            first_index=first,
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
    firsts = [signal.segments[0].first for signal in recording.signals]
    if t0 is not None:
        firsts = _firsts_from(recording, plan, settings, t0=t0, resume_at=resume_at)
    senders = open_senders(recording, settings, ids, firsts)
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
        told = -math.inf
        for push in _pushes(recording, plan, settings, t0):
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


def _pushes(
    recording: Recording, plan: FaultPlan, settings: ReplaySettings, t0: float
) -> Iterator[Push]:
    """Yield all that is to be sent when the recording begins at `t0`."""
    timetable = Timetable(t0, recording.start, settings.speed, plan.clock_rate)
    return schedule(recording, timetable, plan=plan, chunk_s=settings.chunk_s, loop=settings.loop)


def _firsts_from(
    recording: Recording,
    plan: FaultPlan,
    settings: ReplaySettings,
    *,
    t0: float,
    resume_at: float,
) -> list[int]:
    """Return for each signal the index of the first sample that is due at `resume_at` or later."""
    firsts: dict[int, int] = {}
    n_signals = len(recording.signals)
    for push in _pushes(recording, plan, settings, t0):
        if push.due >= resume_at and push.stream < n_signals:
            firsts.setdefault(push.stream, push.first)
            if len(firsts) == n_signals:
                break
    # A signal that is over sends nothing any more: its count is where it ended.
    ends = [signal.segments[0].first + signal.n_sent for signal in recording.signals]
    return [firsts.get(number, end) for number, end in enumerate(ends)]
