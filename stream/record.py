"""Record LSL streams, by name, for a while: the body of `hearback record`."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import SettingError, SourceError
from stream.any_source import any_source
from stream.lsl import clock, configure, find_streams
from stream.lsl_source import LslSource
from stream.recorder import Recorder, RecorderStatistics
from stream.source_info import SourceInfo
from stream.stopping import stop_on_signals
from stream.text_source import TextSource

__all__ = ["RecordSettings", "RecordSummary", "StreamSummary", "run_record"]

logger = logging.getLogger(__name__)

_HISTORY_S = 30.0  # how long the recorder may be held up; it needs milliseconds
_SETTLE_S = 1.0  # after the end: longest wait for what was sent before it
_QUIET_S = 0.3  # and this long without anything new means that nothing more is on its way
_PROGRESS_S = 0.1


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """What to record.

    Raises
    ------
    SettingError
        If no stream is named or the length is not a positive number.
    """

    streams: tuple[str, ...]  # names; all streams of a name are recorded
    seconds: float
    out: Path
    lan: bool = False
    timeout_s: float = 5.0  # for finding the streams
    on_progress: Callable[[float, float], None] | None = None  # (seconds done, seconds in all)
    on_message: Callable[[str], None] | None = None  # a sentence for the operator, from any thread

    def __post_init__(self) -> None:
        if not self.streams:
            raise SettingError("Name at least one stream: --stream NAME.")
        if not 0 < self.seconds < float("inf"):
            raise SettingError(f"--seconds must be above 0, got {self.seconds:g}.")


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """What became of one stream."""

    name: str
    type: str
    sent: int | None  # by the stream's own count; None: it does not count
    delivered: int
    lost: int  # listed in gaps
    gaps: int
    written: int  # samples in the file


@dataclass(frozen=True, slots=True)
class RecordSummary:
    """What was recorded."""

    path: Path
    events_path: Path
    seconds: float
    stopped: bool  # by a signal, before the time was up
    streams: tuple[StreamSummary, ...]
    failures: tuple[str, ...] = field(default=())  # what the recorder had to say, in order

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        signals = [stream for stream in self.streams if stream.type != "Markers"]
        counted = [stream.sent for stream in signals]
        return {
            "sent": None if None in counted else sum(sent for sent in counted if sent is not None),
            "delivered": sum(stream.delivered for stream in signals),
            "lost": sum(stream.lost for stream in signals),
            "gaps": sum(stream.gaps for stream in signals),
            # Nothing is decoded or played; the keys are those of every session.
            "windows": 0,
            "skipped_windows": 0,
            "age_ms": {"p50": None, "p99": None},
            "stage_ms": {},
            "underruns": 0,
            "seconds_played": 0.0,
            "peak_dbfs": None,
            "written": sum(stream.written for stream in signals),
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped,
            "path": str(self.path),
            "events": str(self.events_path),
            "streams": [
                {name: getattr(stream, name) for name in StreamSummary.__slots__}
                for stream in self.streams
            ],
            "failures": list(self.failures),
        }


def run_record(settings: RecordSettings) -> RecordSummary:
    """Record until the time is up or SIGINT or SIGTERM comes; nothing that was sent is left out.

    Writes `recording.xdf`, and `events.jsonl` with gaps and changes of state for people to read.

    Raises
    ------
    SourceError
        If a stream is not there; says what is.
    FileError
        If nothing can be written into the folder.
    """
    configure(lan=settings.lan)
    wanted = _find(settings.streams, timeout_s=settings.timeout_s)
    failures: list[str] = []
    say = settings.on_message or logger.warning

    def on_failure(sentence: str) -> None:
        failures.append(sentence)
        say(sentence)

    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        sources = []
        for info in wanted:
            source = any_source(info, history_s=_HISTORY_S, timeout_s=settings.timeout_s)
            source.start()
            stack.callback(source.stop)
            sources.append(source)
        recorder = Recorder(settings.out, on_failure=on_failure)
        stack.callback(recorder.close)
        _warn_if_it_will_not_fit(wanted, settings, say)
        numbers = [
            recorder.add_source(
                source.info, source.timeline.reader("recorder"), clock_offsets=source.clock_offsets
            )
            for source in sources
        ]
        recorder.event({"kind": "recorder", "text": "started"})
        recorder.start()
        began = time.monotonic()
        stopped = _wait(settings, stop)
        seconds = time.monotonic() - began
        _settle(sources, clock())
        for source in sources:
            source.stop()
        recorder.event({"kind": "recorder", "text": "stopped"})
        statistics = recorder.close()
    return RecordSummary(
        path=statistics.path,
        events_path=statistics.events_path,
        seconds=seconds,
        stopped=stopped,
        streams=tuple(
            _summary(source, statistics, number)
            for source, number in zip(sources, numbers, strict=True)
        ),
        failures=tuple(failures),
    )


def _find(names: tuple[str, ...], *, timeout_s: float) -> list[SourceInfo]:
    """Return every stream that has one of these names, in the order of the names."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = find_streams()
        missing = [name for name in names if name not in {info.name for info in found}]
        if not missing:
            break
        if time.monotonic() >= deadline:
            listed = ", ".join(info.described for info in found) or "no streams at all"
            raise SourceError(
                f"No LSL stream named '{missing[0]}' after {timeout_s:.1f} s. Found: {listed}. "
                "Start the sender, or correct --stream."
            )
    # A sender that was started again is announced twice for a moment.
    by_key = {
        (info.name, info.type, info.source_id): info
        for name in dict.fromkeys(names)
        for info in found
        if info.name == name
    }
    return list(by_key.values())


def _warn_if_it_will_not_fit(
    wanted: list[SourceInfo], settings: RecordSettings, say: Callable[[str], None]
) -> None:
    """Say at the start, not after an hour, that the disk is too small."""
    sizes = {"double64": 8, "int64": 8, "int16": 2, "int8": 1}
    rate = sum(info.sfreq_hz * (9 + info.n_sent * sizes.get(info.format, 4)) for info in wanted)
    needed = rate * settings.seconds
    try:
        free = shutil.disk_usage(settings.out).free
    except OSError:
        return
    if needed > free:
        say(
            f"{settings.seconds:g} s will take {needed / 1e6:.0f} MB, but {settings.out} has "
            f"{free / 1e6:.0f} MB left; make room meanwhile, or nothing more is written then."
        )


def _wait(settings: RecordSettings, stop: threading.Event) -> bool:
    """Wait until the time is up; return whether a signal came before."""
    began = time.monotonic()
    while (done := time.monotonic() - began) < settings.seconds:
        if settings.on_progress is not None:
            settings.on_progress(done, settings.seconds)
        if stop.wait(min(_PROGRESS_S, settings.seconds - done)):
            return True
    if settings.on_progress is not None:
        settings.on_progress(settings.seconds, settings.seconds)
    return False


def _settle(sources: list[LslSource | TextSource], end: float) -> None:
    """Wait until all that was sent before `end` has come.

    A stream arrives in order: once a sample stamped later is here, so are all earlier ones. One
    that has gone quiet, or sends no stamps of the present, is given a moment.
    """
    deadline = clock() + _SETTLE_S
    quiet_since = dict.fromkeys(range(len(sources)), clock())
    seen = [-1] * len(sources)
    while (now := clock()) < deadline:
        pending = False
        for index, source in enumerate(sources):
            delivered = source.timeline.accounting().delivered
            if delivered != seen[index]:
                seen[index], quiet_since[index] = delivered, now
            late = source.timeline.newest_stamp
            pending |= not (late >= end or now - quiet_since[index] > _QUIET_S)
        if not pending:
            return
        time.sleep(0.005)


def _summary(
    source: LslSource | TextSource, statistics: RecorderStatistics, number: int
) -> StreamSummary:
    account = source.timeline.accounting()
    return StreamSummary(
        name=source.info.name,
        type=source.info.type,
        sent=account.sent,
        delivered=account.delivered,
        lost=account.lost,
        gaps=account.gaps,
        written=statistics.streams[number - 1].written,
    )
