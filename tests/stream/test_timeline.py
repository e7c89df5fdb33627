"""The ring and its readers: exactly once, in order, whatever the chunk sizes and the wraps."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import SettingError
from stream.messages import Chunk, Gap, GapReason, SourceState, StateChange, TimelineEvent
from stream.timeline import Timeline


def _append(timeline: Timeline, first: int, n: int, *, segment: int = 0) -> None:
    """Append samples that hold their own index."""
    index = np.arange(first, first + n)
    samples = np.stack([index, -index], axis=1).astype(np.float32)
    timeline.append(
        samples, index / 100, index / 100 + 5, first, segment=segment, arrived=first / 100
    )


def _gap(first: int, n: int) -> Gap:
    return Gap(GapReason.DROPPED, first, n, first / 100, (first + n) / 100, 0.0)


def _indices(events: list[TimelineEvent]) -> NDArray[np.int64]:
    """Check that chunks are consistent; return the index of each sample."""
    found = [np.zeros(0, np.int64)]
    for event in events:
        if isinstance(event, Chunk):
            index = np.arange(event.first, event.stop)
            np.testing.assert_array_equal(event.samples, np.stack([index, -index], axis=1))
            np.testing.assert_allclose(event.stamps, index / 100)
            np.testing.assert_allclose(event.raw_stamps, index / 100 + 5)
            assert not event.samples.flags.writeable
            found.append(index)
    return np.concatenate(found)


_STEPS = st.lists(
    st.tuples(st.sampled_from(["append", "gap", "read a", "read b"]), st.integers(1, 40)),
    max_size=120,
)


@given(steps=_STEPS)
def test_readers_get_everything_once_and_in_order_or_are_told_what_they_missed(
    steps: list[tuple[str, int]],
) -> None:
    timeline = Timeline(2, sfreq_hz=100.0, history_s=0.64)  # 64 samples: wraps often
    readers = {"read a": timeline.reader("a"), "read b": timeline.reader("b")}
    got: dict[str, list[TimelineEvent]] = {name: [] for name in readers}
    following = segment = 0
    for what, size in [*steps, ("read a", 0), ("read b", 0)]:
        if what == "append":
            _append(timeline, following, size, segment=segment)
            following += size
        elif what == "gap":
            timeline.gap(_gap(following, size))
            following += size
            segment += 1
        else:
            got[what] += readers[what].read()
    for events in got.values():
        where = 0
        for event in events:
            assert not isinstance(event, StateChange)
            assert event.first == where
            where += event.n_lost if isinstance(event, Gap) else len(event.stamps)
        assert where == following
        _indices(events)
    accounting = timeline.accounting()
    assert accounting.delivered + accounting.lost == following


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=40), data=st.data())
def test_a_reader_that_keeps_up_gets_every_sample_whatever_the_chunk_sizes(
    sizes: list[int], data: st.DataObject
) -> None:
    timeline = Timeline(2, sfreq_hz=100.0, history_s=0.64)
    reader = timeline.reader("a")
    events: list[TimelineEvent] = []
    first = 0
    for size in sizes:
        _append(timeline, first, size)
        first += size
        events += reader.read()
        if data.draw(st.booleans()):
            assert reader.read() == []
    np.testing.assert_array_equal(_indices(events), np.arange(first))
    assert reader.overruns == 0


def test_events_stand_between_the_samples_where_they_happened() -> None:
    timeline = Timeline(2, sfreq_hz=100.0, history_s=10.0)
    reader = timeline.reader("a")
    _append(timeline, 5, 10)
    gap = _gap(15, 3)
    lost = StateChange(SourceState.LOST, 0.0, 0.0)
    timeline.state(lost)
    timeline.gap(gap)
    _append(timeline, 18, 4, segment=1)
    one, two, three, four = reader.read()
    assert isinstance(one, Chunk)
    assert isinstance(four, Chunk)
    assert (one.first, one.stop, one.segment) == (5, 15, 0)
    assert two is lost
    assert three is gap
    assert (four.first, four.stop, four.segment) == (18, 22, 1)
    assert four.arrived == 0.18


def test_rewind_gives_back_what_a_failing_stage_had_read() -> None:
    timeline = Timeline(2, sfreq_hz=100.0, history_s=10.0)
    reader = timeline.reader("a")
    _append(timeline, 0, 10)
    reader.read()
    _append(timeline, 10, 10)
    reader.read()
    reader.rewind()
    _append(timeline, 20, 5)
    np.testing.assert_array_equal(_indices(reader.read()), np.arange(10, 25))


def test_a_reader_since_now_sees_only_what_follows() -> None:
    timeline = Timeline(2, sfreq_hz=100.0, history_s=10.0)
    _append(timeline, 0, 10)
    timeline.gap(_gap(10, 7))
    _append(timeline, 17, 3, segment=1)
    reader = timeline.reader("a", since="now")
    assert reader.read() == []
    _append(timeline, 20, 3, segment=1)
    (chunk,) = reader.read()
    assert isinstance(chunk, Chunk)
    assert (chunk.first, chunk.segment) == (20, 1)


def test_integers_are_scaled_to_volts_for_each_channel() -> None:
    timeline = Timeline(2, sfreq_hz=100.0, history_s=1.0)
    reader = timeline.reader("a")
    samples = np.array([[1, 2], [3, 4]], np.int16)
    timeline.append(samples, np.zeros(2), np.zeros(2), 0, arrived=0.0, scale=np.array([1e-6, 1.0]))
    (chunk,) = reader.read()
    assert isinstance(chunk, Chunk)
    np.testing.assert_allclose(chunk.samples, [[1e-6, 2], [3e-6, 4]])


def test_a_block_longer_than_the_ring_is_delivered_as_far_as_it_fits() -> None:
    timeline = Timeline(2, sfreq_hz=100.0, history_s=0.64)
    reader = timeline.reader("a")
    _append(timeline, 0, 1000)
    gap, chunk = reader.read()
    assert isinstance(gap, Gap)
    assert isinstance(chunk, Chunk)
    assert gap.reason is GapReason.READER
    assert gap.n_lost + len(chunk.stamps) == 1000


def test_the_log_of_events_does_not_grow_for_ever() -> None:
    timeline = Timeline(2, sfreq_hz=100.0, history_s=0.64)
    reader = timeline.reader("a")
    late = timeline.reader("late")
    first = 0
    for segment in range(3000):
        _append(timeline, first, 1, segment=segment)
        timeline.gap(_gap(first + 1, 1))
        first += 2
        reader.read()
    assert len(timeline.view()[1].entries) < 1000
    events = late.read()
    assert isinstance(events[0], Gap)
    total = sum(
        event.n_lost if isinstance(event, Gap) else len(event.stamps)
        for event in events
        if not isinstance(event, StateChange)
    )
    assert total == first


def test_a_thread_is_woken_by_what_comes_and_not_before() -> None:
    timeline = Timeline(2, sfreq_hz=100.0, history_s=10.0)
    reader = timeline.reader("a")
    assert not reader.wait(0.0)
    got: list[TimelineEvent] = []

    def follow() -> None:
        while not reader.ended:
            assert reader.wait(60.0)
            got.extend(reader.read())

    thread = threading.Thread(target=follow)
    thread.start()
    for first in range(0, 2000, 10):
        _append(timeline, first, 10)
    timeline.state(StateChange(SourceState.ENDED, 0.0, 0.0))
    thread.join(60.0)
    assert not thread.is_alive()
    np.testing.assert_array_equal(
        _indices([item for item in got if isinstance(item, Chunk)])[-1:], [1999]
    )


def test_tasks_are_woken_and_can_be_cancelled() -> None:
    timeline = Timeline(2, sfreq_hz=100.0, history_s=100.0)

    async def follow(name: str) -> NDArray[np.int64]:
        reader = timeline.reader(name)
        got: list[TimelineEvent] = []
        while not reader.ended:
            await reader.wait_async()
            got += reader.read()
        return _indices(got)

    def write() -> None:
        for first in range(0, 2000, 10):
            _append(timeline, first, 10)
        timeline.state(StateChange(SourceState.ENDED, 0.0, 0.0))

    async def main() -> None:
        never = asyncio.create_task(
            Timeline(2, sfreq_hz=1.0, history_s=1.0).reader("x").wait_async()
        )
        tasks = [asyncio.create_task(follow(name)) for name in "ab"]
        await asyncio.sleep(0)
        thread = threading.Thread(target=write)
        thread.start()
        for task in tasks:
            np.testing.assert_array_equal(await task, np.arange(2000))
        thread.join()
        never.cancel()
        with pytest.raises(asyncio.CancelledError):
            await never

    asyncio.run(main())


def test_threads_that_read_while_another_writes_see_no_torn_sample() -> None:
    timeline = Timeline(2, sfreq_hz=100.0, history_s=0.64)
    results: list[list[TimelineEvent]] = [[], []]
    readers = [timeline.reader("a"), timeline.reader("b")]

    def follow(k: int) -> None:
        while not readers[k].ended:
            readers[k].wait(60.0)
            results[k].extend(readers[k].read())

    threads = [threading.Thread(target=follow, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    rng = np.random.default_rng(0)
    first = 0
    while first < 20_000:
        n = int(rng.integers(1, 33))
        _append(timeline, first, n)
        first += n
    timeline.state(StateChange(SourceState.ENDED, 0.0, 0.0))
    for thread, events in zip(threads, results, strict=True):
        thread.join(60.0)
        _indices(events)
        total = sum(
            event.n_lost if isinstance(event, Gap) else len(event.stamps)
            for event in events
            if not isinstance(event, StateChange)
        )
        assert total == first


@pytest.mark.parametrize(
    ("n_channels", "sfreq_hz", "history_s"),
    [(0, 100.0, 1.0), (2, -1.0, 1.0), (2, 100.0, 0.0), (2, 100.0, np.inf), (10**6, 1e4, 3600.0)],
)
def test_a_ring_that_cannot_be_is_refused(
    n_channels: int, sfreq_hz: float, history_s: float
) -> None:
    with pytest.raises(SettingError):
        Timeline(n_channels, sfreq_hz=sfreq_hz, history_s=history_s)
