"""How a live session is doing: for the operator's table, for MQTT, and in the end."""

from __future__ import annotations

from typing import Any

from stream.display import Snapshot
from stream.lsl_source import LslSource
from stream.monitor import Monitor
from stream.playback import Player
from stream.summary import Summary, summarise

__all__ = ["live_counts", "live_summary", "snapshot"]


def snapshot(
    monitor: Monitor, player: Player, source: LslSource, *, seconds: float, message: str
) -> Snapshot:
    """Return what the operator sees now; called from the display's thread."""
    counts = source.timeline.accounting()
    return Snapshot(
        state=f"{player.state}, source {source.state}",
        seconds=seconds,
        age_ms=monitor.tracer.age.summary(),
        stage_ms=monitor.tracer.stage_ms(),
        windows=monitor.windows,
        skipped=monitor.skipped_windows,
        delivered=counts.delivered,
        lost=counts.lost,
        gaps=counts.gaps,
        underruns=player.statistics().underruns,
        message=message,
    )


def live_counts(monitor: Monitor, player: Player, source: LslSource) -> dict[str, int]:
    """Return the counts that are published beside the latencies."""
    counts = source.timeline.accounting()
    return {
        "delivered": counts.delivered,
        "lost": counts.lost,
        "gaps": counts.gaps,
        "windows": monitor.windows,
        "skipped_windows": monitor.skipped_windows,
        "underruns": player.statistics().underruns,
    }


def live_summary(monitor: Monitor, player: Player, source: LslSource, **more: Any) -> Summary:
    """Return the summary; `more` are those of its fields that only the session knows."""
    counts = source.timeline.accounting()
    return summarise(
        monitor,
        player.statistics(),
        sent=counts.sent,
        delivered=counts.delivered,
        lost=counts.lost,
        gaps=counts.gaps,
        duplicates=counts.duplicates,
        late=counts.late,
        invalid=counts.invalid,
        **more,
    )
