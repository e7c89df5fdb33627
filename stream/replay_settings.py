"""What is replayed and how: the settings, checked, and the recording and faults they name."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from pathlib import Path

from models.errors import SettingError
from stream.faults import FaultPlan, Kill, Late, Stall, parse_faults, signal_runs
from stream.recordings import Recording, read_recording
from stream.replay_schedule import loop_s

__all__ = ["ReplayProgress", "ReplaySettings", "load", "source_ids"]


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
    lan: bool = False  # streams are seen on the network too, not on this machine only


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """Where a replay is."""

    state: str  # "waiting", "playing", "dead" (killed by a fault), "ending"
    position_s: float  # of the recording
    total_s: float  # inf for a loop
    sent: int


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
