"""What a session came to: the object that `--json` prints and `summary.json` keeps."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from stream.json_lines import finite
from stream.monitor import Monitor

if TYPE_CHECKING:
    from stream.playback import PlaybackStatistics

__all__ = ["Summary", "software_versions", "summarise"]


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts and times of one session; None where a number cannot be known."""

    # What came in.
    sent: int | None  # samples by the stream's own count
    delivered: int
    lost: int
    gaps: int
    # What was made of it.
    windows: int
    skipped_windows: int  # made, but not decoded
    age_ms: dict[str, float | None]  # p50, p99: newest brain sample -> first of its sound heard
    stage_ms: dict[str, dict[str, float | None]]
    # What was heard.
    underruns: int
    seconds_played: float
    peak_dbfs: float
    # More.
    aborted: bool = False
    ended_because: str = ""
    duplicates: int = 0
    late: int = 0
    invalid: int = 0
    decoded: int = 0
    skipped: dict[str, int] = field(default_factory=dict)  # reason -> windows
    unheard: dict[str, int] = field(default_factory=dict)  # decoded, but no room in the sound
    stage_errors: dict[str, int] = field(default_factory=dict)
    age_handed_over_ms: dict[str, float | None] = field(default_factory=dict)
    age_max_ms: float | None = None
    renderer_delay_ms: float = 0.0  # by which a vocoder's sound is behind its windows, not in age
    stretch_ms: dict[str, float | None] = field(default_factory=dict)  # p50, p99: a generator's
    stretches: int = 0  # that it made
    stretches_invalid: int = 0  # of these not finite: silence, and it began anew
    trace_mismatched: int = 0  # windows whose stages do not sum to the end-to-end time
    n_filled: int = 0  # samples put on a line across short gaps
    n_restarts: int = 0  # of the extractor, after longer gaps
    features_sha256: str = ""
    decisions_sha256: str = ""
    dropped_s: float = 0.0  # of sound, too old
    seconds: float = 0.0  # the whole session, by the wall clock
    realtime_factor: float | None = None  # offline: recording time / computing time
    device: str = ""  # of the decoder
    providers: dict[str, list[str]] = field(
        default_factory=dict
    )  # part of the chain -> what runs it
    sink: str = ""
    sink_failure: str = ""
    sink_stalls: int = 0  # times the device ran dry, or the sink stood still, with sound or without
    sink_missed_s: float = 0.0  # time that passed in these without a block, where it is known
    bundle: str = ""  # sha256 of the manifest
    stream: str = ""
    out: str | None = None
    recording: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the object to print: strict JSON, null where a number is not known."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        result: dict[str, Any] = finite(values)
        return result


def summarise(monitor: Monitor, player: PlaybackStatistics, **more: Any) -> Summary:
    """Return the summary of a session from its counts; `more` are fields of `Summary`."""
    tracer = monitor.tracer
    values: dict[str, Any] = {
        "windows": monitor.windows,
        "skipped_windows": monitor.skipped_windows,
        "age_ms": tracer.age.summary(),
        "stage_ms": tracer.stage_ms(),
        "underruns": player.underruns,
        "seconds_played": round(player.seconds_played, 6),
        "peak_dbfs": round(player.peak_dbfs, 3),
        "decoded": monitor.decoded,
        "skipped": dict(monitor.skipped),
        "unheard": dict(monitor.silent),
        "stage_errors": dict(monitor.errors),
        "age_handed_over_ms": tracer.handed_over.summary(),
        "age_max_ms": tracer.age.largest if tracer.age.n else None,
        "trace_mismatched": tracer.mismatched,
        "features_sha256": monitor.features_sha256,
        "decisions_sha256": monitor.decisions_sha256,
        "dropped_s": round(player.dropped_s, 6),
        "versions": software_versions(),
    }
    return Summary(**(values | more))


def software_versions() -> dict[str, str]:
    """Return the versions of what the live path runs on."""
    versions = {"python": platform.python_version(), "system": platform.system()}
    for name in ("hearback", "numpy", "scipy", "pylsl", "onnxruntime", "onnxruntime-gpu"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
