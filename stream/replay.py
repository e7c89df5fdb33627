"""A recording as live LSL streams: at its own speed or faster, with its markers, and with faults.

Every sample and every marker keeps its time relative to all others, exactly; the schedule is
absolute, so nothing drifts; no stamp is ahead of the push that carries it. A volume goes out when
its acquisition ends, one TR after its stamp.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from stream.recordings import Recording
from stream.replay_schedule import outlet_names
from stream.replay_sending import open_senders, replay_here
from stream.replay_settings import ReplayProgress, ReplaySettings, load, source_ids

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
]


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

    def to_json(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return {"sent": self.sent, **asdict(self)}


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
    configure(lan=settings.lan)
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
