from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

import pytest

from export.manifest import EmbeddingSpec, RetrievalChain
from stream.feedback import FeedbackValue
from stream.messages import Gap, GapReason, SourceState, StateChange
from stream.outputs import Outputs


class Far:
    """Whoever listens at the other end, of outlets and of MQTT: keeps what it is told."""

    def __init__(self) -> None:
        self.markers: list[tuple[str, float, Mapping[str, Any]]] = []
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.states: list[str] = []

    def marker(self, kind: str, t: float, detail: Mapping[str, Any]) -> None:
        self.markers.append((kind, t, detail))

    def event(self, kind: str, detail: Mapping[str, Any]) -> None:
        self.events.append((kind, detail))

    def state(self, state: str, **detail: Any) -> None:
        self.states.append(state)


class Rig:
    def __init__(self) -> None:
        self.far = Far()
        self.now = 100.0
        self.outputs = Outputs(
            FeedbackValue(RetrievalChain(EmbeddingSpec("test", 4))),
            stream="EEG",
            clock=lambda: self.now,
            outlets=cast(Any, self.far),
            telemetry=cast(Any, self.far),
        )

    def command(self, name: str) -> None:
        self.outputs.on_event("command", {"name": name, "origin": "mqtt"})

    def source(self, state: SourceState) -> None:
        self.outputs.on_state(StateChange(state, self.now, self.now))

    def skip(self, seq: int, reason: str = "stale") -> None:
        self.outputs.on_event("skipped", {"seq": seq, "reason": reason})


LOST, BACK = SourceState.LOST, SourceState.CONNECTED


@pytest.mark.parametrize(
    ("steps", "states"),
    [
        (["pause", LOST, BACK, "resume"], ["paused", "paused", "paused", "running"]),
        ([LOST, "pause", "resume", BACK], ["source lost", "paused", "source lost", "running"]),
        (["pause", "abort", LOST, BACK, "resume"], ["paused", *["aborted"] * 4]),
        ([BACK, "prompt", SourceState.STALLED, BACK], ["running", "source lost", "running"]),
    ],
)
def test_the_state_says_what_is_so_now(steps: list[str | SourceState], states: list[str]) -> None:
    rig = Rig()
    for step in steps:
        if isinstance(step, SourceState):
            rig.source(step)
        else:
            rig.command(step)
    assert rig.far.states == states


def test_the_marker_of_a_gap_stands_where_the_gap_began() -> None:
    rig = Rig()
    rig.outputs.on_gap(Gap(GapReason.DROPPED, 5, 2, t_start=98.5, t_stop=98.7, raised=98.8))
    rig.outputs.on_gap(Gap(GapReason.READER, 5, 2, float("nan"), 98.7, 98.8))
    assert [(kind, t) for kind, t, _ in rig.far.markers] == [("gap", 98.5), ("gap", 100.0)]
    assert [kind for kind, _ in rig.far.events] == ["gap", "gap"]


def test_left_out_windows_are_told_of_once_a_second_with_counts() -> None:
    rig = Rig()
    for seq in range(50):  # 25 a second
        rig.skip(seq, "error" if seq == 30 else "stale")
        rig.now += 0.04
    rig.outputs.tell_skipped(now=True)
    rig.outputs.tell_skipped(now=True)
    told = [detail for kind, detail in rig.far.events if kind == "skipped"]
    assert len(told) == len(rig.far.events) == len(rig.far.markers) == 3
    assert sum(detail["n"] for detail in told) == 50
    assert told[0] == {"n": 1, "reasons": {"stale": 1}, "first_seq": 0, "last_seq": 0}
    assert {reason for detail in told for reason in detail["reasons"]} == {"stale", "error"}
    for before, after in pairwise(told):
        assert after["first_seq"] == before["last_seq"] + 1
    assert told[-1]["last_seq"] == 49
