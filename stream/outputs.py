"""What a live session tells the world while it runs: LSL outlets, MQTT, and the feedback value."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from stream.messages import Condition, Gap, SourceState, StateChange
from stream.monitor import Monitor, Observer
from stream.recorder_streams import event_record

if TYPE_CHECKING:
    from export.library import Library
    from stream.feedback import FeedbackValue
    from stream.outlets import Outlets
    from stream.recorder import Recorder
    from stream.telemetry import Telemetry

__all__ = ["Outputs"]

_SKIPS_EVERY_S = 1.0


class Outputs(Observer):
    """Sends each decoded window, its feedback value and what happens to whoever is there.

    A decoder slower than the hop leaves out several windows a second: of these one event a second
    tells, with counts. Each of them is in the trace.

    Parameters
    ----------
    feedback : FeedbackValue
    stream : str
        Name of the source, for gaps.
    clock : callable
        The LSL clock, s.
    outlets, telemetry, recorder : optional
        Where it goes; none of them ever waits.
    library : Library, optional
        For the label of the sound that was chosen.
    """

    def __init__(
        self,
        feedback: FeedbackValue,
        *,
        stream: str,
        clock: Callable[[], float],
        outlets: Outlets | None = None,
        telemetry: Telemetry | None = None,
        recorder: Recorder | None = None,
        library: Library | None = None,
    ) -> None:
        self._feedback = feedback
        self._stream = stream
        self._clock = clock
        self._outlets = outlets
        self._telemetry = telemetry
        self._recorder = recorder
        self._library = library
        self._paused = self._aborted = False
        self._source_state = SourceState.CONNECTED
        self._skipped: Counter[str] = Counter()  # reason -> windows that were not told of yet
        self._skipped_seqs: list[int] = []  # first and last of these
        self._told_skips_at = -math.inf
        self._recorded = -1
        if recorder is not None:
            self._recorded = recorder.add_stream(
                "hearback feedback", "Feedback", 1, labels=("feedback",)
            )

    def on_condition(self, condition: Condition) -> None:
        """Send what was decoded, and the feedback value."""
        window = condition.window
        value = self._feedback(condition)
        if self._outlets is not None:
            self._outlets.condition(condition)
            self._outlets.feedback(value, window.t_stop)
        if self._recorder is not None:
            self._recorder.write(self._recorded, [window.t_stop], np.array([[value]], np.float32))
        if self._telemetry is not None:
            label = ""
            if self._library is not None and condition.item >= 0:
                item = self._library.items[condition.item]
                label = item.label or item.name
            self._telemetry.feedback(
                value,
                seq=window.seq,
                t_brain=window.t_stop,
                age_ms=1e3 * (self._clock() - window.t_stop),
                label=label,
            )

    def on_gap(self, gap: Gap) -> None:
        """Tell of a gap; its marker stands where the gap began."""
        at = gap.t_start if math.isfinite(gap.t_start) else None
        self._event("gap", event_record(self._stream, gap), at=at)

    def on_state(self, change: StateChange) -> None:
        """Tell how the source is."""
        self._source_state = change.state
        self._event("source", event_record(self._stream, change))
        if change.state is not SourceState.ENDED:
            self._publish_state(source=str(change.state))

    def on_event(self, kind: str, details: dict[str, Any]) -> None:
        """Tell of anything else."""
        if kind == "skipped":
            self._skipped[details["reason"]] += 1
            self._skipped_seqs = [*self._skipped_seqs[:1], details["seq"]]
            self.tell_skipped()
            return
        self._event(kind, details)
        if kind == "command" and details["name"] in ("pause", "resume", "abort"):
            self._aborted = self._aborted or details["name"] == "abort"
            self._paused = details["name"] == "pause"
            self._publish_state(origin=details["origin"])

    def tell_skipped(self, *, now: bool = False) -> None:
        """Tell of the windows that were left out, if a second has passed since the last time.

        Called when there is one more, and now and then, so that the last ones are told too.

        Parameters
        ----------
        now : bool
            However little time has passed: at the end.
        """
        t = self._clock()
        if not self._skipped or (t < self._told_skips_at + _SKIPS_EVERY_S and not now):
            return
        self._told_skips_at = t
        self._event(
            "skipped",
            {
                "n": self._skipped.total(),
                "reasons": dict(self._skipped),
                "first_seq": self._skipped_seqs[0],
                "last_seq": self._skipped_seqs[-1],
            },
        )
        self._skipped.clear()
        self._skipped_seqs = []

    def latency(self, monitor: Monitor, counts: dict[str, int]) -> None:
        """Publish the percentiles; called once a second."""
        if self._telemetry is not None:
            tracer = monitor.tracer
            self._telemetry.latency(
                age_ms=_known(tracer.age.summary()),
                stage_ms={name: _known(stage) for name, stage in tracer.stage_ms().items()},
                counts=counts,
            )

    def _publish_state(self, **detail: str) -> None:
        """Publish one state: what the operator did counts before what the source does."""
        if self._telemetry is None:
            return
        if self._aborted:
            state = "aborted"
        elif self._paused:
            state = "paused"
        else:
            well = self._source_state is SourceState.CONNECTED
            state = "running" if well else "source lost"
        self._telemetry.state(state, **detail)

    def _event(self, kind: str, details: dict[str, Any], *, at: float | None = None) -> None:
        details = {key: value for key, value in details.items() if key != "kind"}
        if self._outlets is not None:
            self._outlets.marker(kind, self._clock() if at is None else at, details)
        if self._telemetry is not None:
            self._telemetry.event(kind, details)


def _known(values: dict[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in values.items()}
