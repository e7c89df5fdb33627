"""The `kill` fault: a sender in a process of its own that really dies, and another that goes on.

The next sender is started early and reads the recording before the first begins, later ones while
the one before still sends, so that it is back after exactly as long as the fault says. Nothing
tells liblsl that the first one is to die.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from models.errors import SourceError
from stream.faults import FaultPlan
from stream.recordings import Recording
from stream.replay_schedule import loop_s
from stream.replay_sending import replay_here
from stream.replay_settings import ReplayProgress, ReplaySettings, load

__all__ = ["Outcome", "replay_killed"]

_READY_S = 120.0  # to import the readers and read the recording


@dataclass(slots=True)
class Outcome:
    """What all senders together did."""

    counts: list[int]
    lateness: list[float] = field(default_factory=list)
    kills: int = 0
    interrupted: bool = False


@dataclass(slots=True)
class _Child:
    process: Any
    pipe: Connection
    is_ready: bool = False  # has said so


def replay_killed(
    recording: Recording,
    plan: FaultPlan,
    settings: ReplaySettings,
    ids: Sequence[str],
    *,
    stop: threading.Event,
    on_begin: Callable[[float], None],
    on_progress: Callable[[ReplayProgress], None] | None,
) -> Outcome:
    """Replay with senders that are killed on schedule.

    Raises
    ------
    SourceError
        If a sender ends for a reason that is not in the plan.
    """
    from stream.lsl import clock

    context = multiprocessing.get_context("spawn")
    counts = context.RawArray("q", len(ids))
    outcome = Outcome([0] * len(ids))
    total = loop_s(recording)
    children = [_start(context, settings, ids, counts)]
    t0: float | None = None
    resume_at: float | None = None
    is_done = False
    try:
        for kill in [*plan.kills(), None]:
            child = children[-1]
            _wait_ready(child, stop)
            if t0 is None and kill is not None:  # nothing is sent yet: there is time
                children.append(_start(context, settings, ids, counts))
                _wait_ready(children[-1], stop)
            child.pipe.send((t0, resume_at))
            if t0 is not None and kill is not None:
                children.append(_start(context, settings, ids, counts))
            while True:
                deadline = None if kill is None or t0 is None else t0 + kill.at_s / settings.speed
                message = _receive(child, stop, None if deadline is None else deadline - clock())
                if message is None:
                    break
                word, value = message
                if word == "began" and t0 is None:
                    t0 = float(value)
                    on_begin(t0)
                elif word == "progress" and on_progress is not None:
                    on_progress(value)
                elif word == "done":
                    outcome.lateness += value
                    is_done = True
                    break
            if stop.is_set() or is_done or kill is None:
                break
            os.kill(child.process.pid, signal.SIGKILL)
            child.process.join()
            died = clock()
            outcome.kills += 1
            if on_progress is not None:
                on_progress(ReplayProgress("dead", kill.at_s, total, sum(counts)))
            if stop.wait(max(0.0, died + kill.for_s - clock())):
                break
            resume_at = clock()
    except KeyboardInterrupt:
        stop.set()
    finally:
        outcome.interrupted = stop.is_set()
        for child in children:
            _end(child)
        outcome.counts = list(counts)
    return outcome


def _start(context: Any, settings: ReplaySettings, ids: Sequence[str], counts: Any) -> _Child:
    here, there = context.Pipe()
    process = context.Process(target=_send, args=(settings, list(ids), counts, there), daemon=True)
    process.start()
    there.close()
    return _Child(process, here)


def _receive(
    child: _Child, stop: threading.Event, timeout_s: float | None
) -> tuple[str, Any] | None:
    """Return the next message; None at `timeout_s`, at `stop`, or when there is none to come."""
    from stream.lsl import clock

    deadline = None if timeout_s is None else clock() + timeout_s
    while not stop.is_set():
        left = 0.2 if deadline is None else min(0.2, deadline - clock())
        if left <= 0:
            return None
        try:
            if child.pipe.poll(left):
                message: tuple[str, Any] = child.pipe.recv()
                if message[0] == "error":
                    raise SourceError(f"The sender failed: {message[1]}")
                return message
        except (EOFError, ConnectionError) as error:
            raise SourceError("The sender ended by itself. Start the replay again.") from error
    return None


def _wait_ready(child: _Child, stop: threading.Event) -> None:
    if child.is_ready:
        return
    message = _receive(child, stop, _READY_S)
    if not stop.is_set() and (message is None or message[0] != "ready"):
        raise SourceError(f"The sender was not ready within {_READY_S:g} s. Start it again.")
    child.is_ready = True


def _end(child: _Child) -> None:
    child.pipe.close()  # which tells it to stop
    child.process.join(timeout=5.0)
    if child.process.is_alive():
        child.process.kill()
        child.process.join()
    child.process.close()


def _send(settings: ReplaySettings, ids: list[str], counts: Any, pipe: Connection) -> None:
    """Be a sender: read the recording, wait for the word, send."""
    from stream.lsl import configure

    # Ctrl-C reaches the whole group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = threading.Event()
    try:
        configure(lan=settings.lan)
        recording, plan = load(settings)
        pipe.send(("ready", None))
        t0, resume_at = pipe.recv()
        threading.Thread(target=_watch, args=(pipe, stop), daemon=True).start()
        lateness = replay_here(
            recording,
            plan,
            settings,
            ids,
            counts=counts,
            stop=stop,
            t0=t0,
            resume_at=float("-inf") if resume_at is None else resume_at,
            on_begin=lambda value: pipe.send(("began", value)),
            on_progress=lambda value: pipe.send(("progress", value)),
        )
        pipe.send(("done", lateness))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # told to the parent, which raises it
        pipe.send(("error", f"{type(error).__name__}: {error}"))


def _watch(pipe: Connection, stop: threading.Event) -> None:
    """Stop when the parent closes its end, or dies."""
    try:
        pipe.recv()
    except (EOFError, OSError):
        stop.set()
