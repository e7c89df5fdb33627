"""What a live session tells the world while it runs: LSL outlets, MQTT, and the feedback value."""

from __future__ import annotations

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


class Outputs(Observer):
    """Sends each decoded window, its feedback value and every event to whoever is there.

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
        """Tell of a gap."""
        self._event("gap", event_record(self._stream, gap))

    def on_state(self, change: StateChange) -> None:
        """Tell how the source is."""
        self._event("source", event_record(self._stream, change))
        if self._telemetry is not None and change.state is not SourceState.ENDED:
            well = change.state is SourceState.CONNECTED
            self._telemetry.state("running" if well else "source lost", source=str(change.state))

    def on_event(self, kind: str, details: dict[str, Any]) -> None:
        """Tell of anything else."""
        self._event(kind, details)
        if kind == "command" and self._telemetry is not None:
            state = {"pause": "paused", "resume": "running", "abort": "aborted"}
            if details["name"] in state:
                self._telemetry.state(state[details["name"]], origin=details["origin"])

    def latency(self, monitor: Monitor, counts: dict[str, int]) -> None:
        """Publish the percentiles; called once a second."""
        if self._telemetry is not None:
            tracer = monitor.tracer
            self._telemetry.latency(
                age_ms=_known(tracer.age.summary()),
                stage_ms={name: _known(stage) for name, stage in tracer.stage_ms().items()},
                counts=counts,
            )

    def _event(self, kind: str, details: dict[str, Any]) -> None:
        details = {key: value for key, value in details.items() if key != "kind"}
        if self._outlets is not None:
            self._outlets.marker(kind, self._clock(), details)
        if self._telemetry is not None:
            self._telemetry.event(kind, details)


def _known(values: dict[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in values.items()}
