"""The schedule of a replay: what is due when, with and without faults."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.faults import parse_faults
from stream.messages import Chunk
from stream.recordings import (
    RecordedMarkers,
    RecordedSignal,
    Recording,
    Segment,
    recording_events,
)
from stream.replay_schedule import Push, Timetable, loop_s, outlet_names, schedule
from stream.source_info import BoldInfo

_T0 = 12_345.678


def a_signal(
    n: int, sfreq_hz: float, start: float, lost: int = 0, **other: object
) -> RecordedSignal:
    index = np.arange(n)
    half = n // 2
    index[half:] += lost
    segments = [Segment(0, n, 0)]
    if lost:
        segments = [Segment(0, half, 0), Segment(half, n, half + lost)]
    signal = RecordedSignal(
        "eeg",
        "EEG",
        ("a", "b"),
        "V",
        1.0,
        sfreq_hz,
        np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32),
        start + index / sfreq_hz,
        tuple(segments),
    )
    return replace(signal, **other)  # type: ignore[arg-type]


def a_recording() -> Recording:
    eeg = a_signal(1000, 250.0, 10.0, lost=100)
    aux = a_signal(200, 52.0, 10.1, name="aux", type="ACC")
    markers = RecordedMarkers("m", np.array([9.9, 10.0, 11.004, 11.004, 13.0]), tuple("abcde"))
    return Recording(Path("x"), "XDF", (eeg, aux), (markers,))


def pushes(recording: Recording, faults: str = "", *, speed: float = 1.0) -> list[Push]:
    plan = parse_faults(faults)
    timetable = Timetable(_T0, recording.start, speed, plan.clock_rate)
    return list(schedule(recording, timetable, plan=plan))


@settings(max_examples=30, deadline=None)
@given(
    speed=st.floats(0.1, 50),
    faults=st.lists(
        st.sampled_from(
            [
                "drop:at=1,n=30",
                "duplicate:at=0.5,n=9",
                "late:at=2,by=0.3",
                "stall:at=1.5,for=1",
                "jitter:sd=0.01",
                "skew:ppm=500",
            ]
        ),
        unique=True,
    ),
)
def test_nothing_is_due_before_its_stamp_and_all_is_in_order(
    speed: float, faults: list[str]
) -> None:
    made = pushes(a_recording(), ";".join(faults), speed=speed)
    assert all(push.due >= push.stamps.max() for push in made)
    assert all(after.due >= before.due for before, after in pairwise(made))
    firsts = [p.first for p in made if p.stream == 0 and p.kind == "new"]
    assert all(after > before for before, after in pairwise(firsts))


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_all_times_are_those_of_the_recording(speed: float) -> None:
    recording = a_recording()
    made = pushes(recording, speed=speed)
    for number, signal in enumerate(recording.signals):
        mine = [p for p in made if p.stream == number]
        stamps = np.concatenate([p.stamps for p in mine])
        assert stamps == pytest.approx(_T0 + (signal.stamps - 9.9) / speed, abs=1e-9)
        samples = np.concatenate([p.samples for p in mine if p.samples is not None])
        assert np.array_equal(samples, signal.samples)
    texts = [p.text for p in made if p.stream == 2]
    assert texts == list("abcde")
    stamps = np.concatenate([p.stamps for p in made if p.stream == 2])
    assert stamps == pytest.approx(_T0 + (recording.markers[0].stamps - 9.9) / speed, abs=1e-9)


@pytest.mark.parametrize("faults", ["", "drop:at=1,n=30;duplicate:at=0.5,n=9"])
def test_the_same_samples_and_indices_as_the_offline_run(faults: str) -> None:
    recording = a_recording()
    made = [p for p in pushes(recording, faults) if p.stream == 0 and p.kind == "new"]
    live = np.concatenate([np.arange(p.first, p.first + len(p.stamps)) for p in made])
    events = recording_events(recording.signals[0], 7, faults=parse_faults(faults))
    chunks = [e for e in events if isinstance(e, Chunk)]
    assert np.array_equal(live, np.concatenate([np.arange(c.first, c.stop) for c in chunks]))
    samples = np.concatenate([p.samples for p in made if p.samples is not None])
    assert samples.tobytes() == np.concatenate([c.samples for c in chunks]).tobytes()


def test_a_stall_holds_all_back_and_then_everything_is_due() -> None:
    made = pushes(a_recording(), "stall:at=1,for=0.5")
    held = [p for p in made if _T0 + 1 <= p.stamps.max() < _T0 + 1.5]
    assert {p.due for p in held} == {_T0 + 1.5}
    assert {p.stream for p in held} >= {0, 1, 2}


def test_late_holds_one_chunk_back_and_what_follows_queues_behind_it() -> None:
    calm, late = pushes(a_recording()), pushes(a_recording(), "late:at=1,by=0.2")
    delays = [
        b.due - a.due
        for a, b in zip(
            (p for p in calm if p.stream == 0), (p for p in late if p.stream == 0), strict=True
        )
    ]
    assert max(delays) == pytest.approx(0.2)
    assert delays[0] == delays[-1] == 0
    first = next(i for i, delay in enumerate(delays) if delay > 0)
    held = [p for p in late if p.stream == 0][first]
    assert held.stamps[0] <= _T0 + 0.1 + 1.0 <= held.stamps[-1] + 1e-9


def test_skew_makes_the_device_fast_by_so_many_millionths() -> None:
    calm, fast = pushes(a_recording()), pushes(a_recording(), "skew:ppm=1000")
    ratio = (calm[-1].stamps[-1] - _T0) / (fast[-1].stamps[-1] - _T0)
    assert ratio == pytest.approx(1.001)


def test_jitter_is_the_same_for_a_sender_that_comes_back() -> None:
    one, two = (
        pushes(a_recording(), "jitter:sd=0.005;seed=3"),
        pushes(a_recording(), "jitter:sd=0.005;seed=3"),
    )
    assert all(np.array_equal(a.stamps, b.stamps) for a, b in zip(one, two, strict=True))
    calm = np.concatenate([p.stamps for p in pushes(a_recording()) if p.stream == 0])
    off = np.sort(np.concatenate([p.stamps for p in one if p.stream == 0])) - np.sort(calm)
    assert 0 < np.abs(off).max() < 0.05


def test_a_volume_goes_out_when_its_acquisition_ends() -> None:
    bold = BoldInfo((2, 1, 1), np.eye(4), 2.0)
    signal = a_signal(5, 0.5, 0.0, type="BOLD", bold=bold)
    recording = Recording(Path("x"), "NIfTI", (signal,))
    assert [p.due - p.stamps[0] for p in pushes(recording)] == pytest.approx([2.0] * 5)
    assert [p.due - p.stamps[0] for p in pushes(recording, speed=4)] == pytest.approx([0.5] * 5)


def test_a_loop_has_no_pause_for_markers_before_or_after_the_signal() -> None:
    signal = a_signal(500, 250.0, 10.0)
    outside = RecordedMarkers("late", np.array([15.0]), ("end",))
    cues = RecordedMarkers("cues", np.array([9.0, 10.5, 15.0]), ("a", "b", "c"))
    recording = Recording(Path("x"), "XDF", (signal,), (outside, cues))
    made = list(islice(schedule(recording, Timetable(_T0, recording.start), loop=True), 1000))
    mine = [p for p in made if p.stream == 0]
    assert all(b.first == a.first + len(a.stamps) for a, b in pairwise(mine))
    assert {p.text for p in made if p.samples is None} == {"b"}


def test_a_loop_goes_on_with_time_and_count() -> None:
    signal = a_signal(1000, 250.0, 10.0)
    markers = RecordedMarkers("m", np.array([10.5]), ("x",))
    recording = Recording(Path("x"), "XDF", (signal,), (markers,))
    timetable = Timetable(_T0, recording.start)
    made = list(islice(schedule(recording, timetable, loop=True), 1200))
    mine = [p for p in made if p.stream == 0]
    stamps = np.concatenate([p.stamps for p in mine])
    assert np.diff(stamps) == pytest.approx(np.full(len(stamps) - 1, 1 / 250), abs=1e-6)
    assert all(b.first == a.first + len(a.stamps) for a, b in pairwise(mine))
    assert [float(p.stamps[0] - _T0) for p in made if p.stream == 1][:2] == pytest.approx(
        [0.5, 4.5]
    )
    assert loop_s(recording) == pytest.approx(4.0)


def test_names_of_outlets_are_distinct_and_can_be_chosen() -> None:
    eeg = a_signal(10, 250.0, 0.0, name="Muse")
    acc = a_signal(10, 52.0, 0.0, name="Muse", type="ACC")
    markers = RecordedMarkers("m", np.array([0.0]), ("x",))
    recording = Recording(Path("x"), "XDF", (acc, eeg), (markers, markers))
    assert outlet_names(recording, None) == (["Muse-ACC", "Muse-EEG"], ["m", "m-2"])
    assert outlet_names(recording, "cap") == (
        ["cap-ACC", "cap"],
        ["cap-markers", "cap-markers-2"],
    )
