"""Sends what the stages report to those who watch: over MQTT, and as LSL streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from models.errors import SettingError
from stream.feedback import FeedbackValue
from stream.messages import Condition, FeatureWindow, Gap, Played, SourceState, StateChange
from stream.monitor import Observer
from stream.outlets import Outlets
from stream.telemetry import Telemetry

__all__ = ["Percentiles", "ReportingObserver"]

_EVERY_S = 1.0
# One for each late window would bury the rest; `latency` carries their number.
_COUNTED_ONLY = frozenset({"skipped"})


@dataclass(frozen=True, slots=True)
class Percentiles:
    """How the session keeps up, as it is published once a second."""

    age_ms: Mapping[str, float | None] = field(default_factory=dict)
    stage_ms: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


class ReportingObserver(Observer):
    """An observer that publishes; the owner starts and closes `telemetry` and `outlets`.

    Parameters
    ----------
    feedback : FeedbackValue
        Its target follows the command `prompt`.
    clock : callable
        The LSL clock, s.
    look : callable
        Returns the percentiles of the moment; called once a second.
    telemetry : Telemetry, optional
    outlets : Outlets, optional
    """

    def __init__(
        self,
        feedback: FeedbackValue,
        *,
        clock: Callable[[], float],
        look: Callable[[], Percentiles],
        telemetry: Telemetry | None = None,
        outlets: Outlets | None = None,
    ) -> None:
        self.feedback = feedback
        self._clock = clock
        self._look = look
        self._telemetry = telemetry
        self._outlets = outlets
        self._looked = clock()
        self._paused = self._aborted = False
        self._source = SourceState.CONNECTED

    def begin(self, **detail: Any) -> None:
        """Say that the session runs; `detail` may name bundle, stream and participant."""
        self._say_state(**detail)
        self._mark("start", self._clock(), detail)

    def end(self, reason: str) -> None:
        """Say that the session is over; `Telemetry.close` publishes the last state."""
        self._mark("end", self._clock(), {"reason": reason})

    def on_gap(self, gap: Gap) -> None:
        """Publish a gap; its marker stands where it began."""
        detail = {
            "reason": gap.reason.value,
            "first": gap.first,
            "n_lost": gap.n_lost,
            "n_extra": gap.n_extra,
            "t_start": gap.t_start,
            "t_stop": gap.t_stop,
            "counted": gap.counted,
        }
        self._event("gap", detail)
        self._mark("gap", gap.t_start, detail)

    def on_state(self, change: StateChange) -> None:
        """Publish how the source is, and with it the session."""
        self._source = change.state
        detail = {"state": change.state.value, "since": change.since, "detail": change.detail}
        self._event("source", detail)
        self._mark("source", change.raised, detail)
        self._say_state()

    def on_window(self, window: FeatureWindow) -> None:
        """Look whether the second is over."""
        self._tick()

    def on_condition(self, condition: Condition) -> None:
        """Publish what a window was decoded to, and its feedback value."""
        window = condition.window
        value = self.feedback(condition)
        if self._outlets is not None:
            self._outlets.condition(condition)
            self._outlets.feedback(value, window.t_stop)
        if self._telemetry is not None:
            age_ms = 1e3 * (self._clock() - window.t_stop)
            self._telemetry.feedback(
                value,
                seq=window.seq,
                t_brain=window.t_stop,
                age_ms=age_ms,
                label=self.feedback.target,
            )

    def on_played(self, played: Played) -> None:
        """Look whether the second is over, also while no window comes."""
        self._tick()

    def on_event(self, kind: str, details: dict[str, Any]) -> None:
        """Publish anything else; follow commands."""
        if kind in _COUNTED_ONLY:
            return
        self._event(kind, details)
        self._mark(kind, self._clock(), details)
        if kind == "command":
            self._follow(str(details.get("name", "")), str(details.get("argument", "")))

    def _follow(self, name: str, argument: str) -> None:
        if name == "prompt":
            with suppress(SettingError):  # the chain has told the operator
                self.feedback.set_target(argument)
            return
        self._paused = name == "pause" or (self._paused and name != "resume")
        self._aborted = self._aborted or name == "abort"
        self._say_state()

    def _say_state(self, **detail: Any) -> None:
        if self._telemetry is None:
            return
        if self._aborted:
            state = "aborted"
        elif self._source in (SourceState.LOST, SourceState.STALLED):
            state = "source lost"
        else:
            state = "paused" if self._paused else "running"
        self._telemetry.state(state, **detail)

    def _event(self, kind: str, detail: Mapping[str, Any]) -> None:
        if self._telemetry is not None:
            self._telemetry.event(kind, detail)

    def _mark(self, kind: str, t: float, detail: Mapping[str, Any]) -> None:
        if self._outlets is not None:
            self._outlets.marker(kind, t, detail)

    def _tick(self) -> None:
        now = self._clock()
        if self._telemetry is None or now - self._looked < _EVERY_S:
            return
        self._looked = now
        seen = self._look()
        self._telemetry.latency(age_ms=seen.age_ms, stage_ms=seen.stage_ms, counts=seen.counts)
