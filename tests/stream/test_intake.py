"""What becomes of every sample, and of its time, under every fault that a sender can have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.intake import Intake
from stream.messages import Chunk, Gap, GapReason
from stream.source_info import SourceInfo
from stream.timeline import Timeline

_HZ = 1000.0


class _NoCorrection:
    def at(self, now: float) -> float:
        return 0.0


class _Rig:
    """A sender whose sample i is taken at 100 + i / 1000 s and holds i in both its channels."""

    def __init__(
        self, *, counts: bool = True, modulo: int = 2**24, buflen_s: float = 360.0
    ) -> None:
        self.info = SourceInfo(
            name="sim",
            type="EEG",
            n_channels=2,
            labels=("a", "b"),
            unit="V",
            scale=1.0,
            sfreq_hz=_HZ,
            format="double64",
            counter_channel=2 if counts else None,
            counter_modulo=modulo,
        )
        self.counts = counts
        self.modulo = modulo
        self.timeline = Timeline(2, sfreq_hz=_HZ, history_s=600.0)
        self.intake = Intake(self.info, self.timeline, max_buflen_s=buflen_s)
        self.reader = self.timeline.reader("test")
        self.chunks: list[Chunk] = []
        self.gaps: list[Gap] = []
        self.now = 100.0

    def send(
        self,
        index: NDArray[np.int64],
        *,
        stamps: NDArray[np.float64] | None = None,
        now: float | None = None,
        base: int = 0,
        values: NDArray[np.float64] | None = None,
    ) -> None:
        """Hand over what one pull gave; `base` is the index at which the sender began to count."""
        raw = 100 + index / _HZ if stamps is None else stamps
        self.now = max(self.now, float(raw[-1]) if now is None else now)
        content = np.stack([index, index], axis=1).astype(float) if values is None else values
        if self.counts:
            counter = ((index - base) % self.modulo).astype(float)
            content = np.concatenate([content, counter[:, None]], axis=1)
        self.intake.feed(content, raw, now=self.now, correction=_NoCorrection())
        self.collect()

    def steady(self, start: int, stop: int, *, chunk: int = 10, **kwargs: Any) -> None:
        for first in range(start, stop, chunk):
            self.send(np.arange(first, min(first + chunk, stop)), **kwargs)

    def collect(self) -> None:
        for event in self.reader.read():
            if isinstance(event, Chunk):
                self.chunks.append(event)
            elif isinstance(event, Gap):
                self.gaps.append(event)

    @property
    def content(self) -> NDArray[np.float64]:
        return np.concatenate([chunk.samples[:, 0] for chunk in self.chunks])

    @property
    def index(self) -> NDArray[np.int64]:
        return np.concatenate([np.arange(chunk.first, chunk.stop) for chunk in self.chunks])

    @property
    def stamps(self) -> NDArray[np.float64]:
        return np.concatenate([chunk.stamps for chunk in self.chunks])

    def lost(self) -> int:
        return sum(gap.n_lost for gap in self.gaps)

    def check(self, *, exact_s: float = 2e-3) -> None:
        """Everything that must hold when each sample has the time of its index."""
        np.testing.assert_array_equal(self.content, self.index)
        assert (np.diff(self.stamps) >= 0).all()
        assert np.abs(self.stamps - 100 - self.index / _HZ).max() <= exact_s
        accounting = self.timeline.accounting()
        assert accounting.delivered + accounting.lost == accounting.sent
        assert accounting.lost == self.lost()


_FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "drop", "again", "late", "restart", "overlap"]),
        st.integers(1, 25),
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None)
@given(faults=_FAULTS, modulo=st.sampled_from([256, 2**24]), start=st.integers(0, 300))
def test_sent_is_delivered_plus_lost_under_any_series_of_faults(
    faults: list[tuple[str, int]], modulo: int, start: int
) -> None:
    rig = _Rig(modulo=modulo)
    index = start % modulo
    rig.send(np.arange(index, index + 5))
    first, index, again = index, index + 5, 0
    for what, n in faults:
        if what == "send":
            rig.send(np.arange(index, index + n))
        elif what == "drop":
            rig.send(np.arange(index + n, index + n + 3))
            n += 3
        elif what == "again":
            n = min(n, index - first)
            rig.send(np.arange(index - n, index))
            again += n
            n = 0
        elif what == "late":  # two chunks change places
            rig.send(np.arange(index + n, index + 2 * n))
            rig.send(np.arange(index, index + n))
            again += n
            n *= 2
        else:  # a new sender takes up the count, some of it twice
            back = min(n, index - first) if what == "overlap" else 0
            rig.intake.connected(rig.info)
            rig.send(np.arange(index - back + (what == "restart") * n, index + n + 4))
            again += back
            n += 4
        index += n
    rig.send(np.arange(index, index + 1))
    rig.check()
    accounting = rig.timeline.accounting()
    assert accounting.sent == index + 1 - first
    assert accounting.duplicates + accounting.late == again


@settings(deadline=None)
@given(edges=st.sets(st.integers(1, 399), max_size=60))
def test_the_account_does_not_depend_on_how_the_pulls_are_cut(edges: set[int]) -> None:
    index = np.concatenate(
        [np.arange(100), np.arange(130, 200), np.arange(190, 300), np.arange(290, 410)]
    )
    rig = _Rig()
    for part in np.split(index, sorted(edges)):
        rig.send(part)
    rig.check()
    assert rig.timeline.accounting().duplicates == 20
    assert [gap.n_lost for gap in rig.gaps if gap.n_lost] == [30]
    (gap,) = [gap for gap in rig.gaps if gap.n_lost]
    assert gap.reason is GapReason.DROPPED
    assert gap.first == 100
    assert gap.t_start == pytest.approx(100.1, abs=1e-3)
    assert gap.t_stop == pytest.approx(100.13, abs=1e-3)


def test_gap_starts_a_segment_and_invalid_values_do_not() -> None:
    rig = _Rig()
    rig.steady(0, 50)
    values = np.ones((10, 2))
    values[3, 1], values[7, 0] = np.nan, np.inf
    rig.send(np.arange(50, 60), values=values)
    rig.send(np.arange(70, 80))
    assert [chunk.segment for chunk in rig.chunks] == [0] * 6 + [1]
    invalid, dropped = rig.gaps
    assert (invalid.reason, invalid.first, invalid.n_lost, invalid.n_extra) == (
        GapReason.INVALID,
        53,
        0,
        2,
    )
    assert (invalid.t_start, invalid.t_stop) == pytest.approx((100.053, 100.058), abs=1e-6)
    assert dropped.n_lost == 10
    assert np.isnan(rig.chunks[5].samples[3, 1])
    assert rig.timeline.accounting().invalid == 2


def test_a_count_that_starts_again_goes_on_in_ours_and_says_that_it_does_not_know() -> None:
    rig = _Rig()
    rig.steady(5000, 6000)
    rig.intake.connected(rig.info)
    stamps = 108 + np.arange(10) / _HZ
    rig.send(np.arange(0, 10), stamps=stamps)
    (gap,) = rig.gaps
    assert (gap.reason, gap.n_lost, gap.counted) == (GapReason.SOURCE_LOST, 0, False)
    assert gap.first == 6000
    assert gap.t_stop == pytest.approx(108.0)
    assert rig.chunks[-1].first == 6000
    assert rig.chunks[-1].segment == 1


def test_a_sender_that_says_it_began_anew_lost_what_came_before_its_first_sample_here() -> None:
    rig = _Rig()
    info = replace(rig.info, first_index=0)
    rig.intake = Intake(info, rig.timeline, max_buflen_s=360)
    rig.steady(0, 400)
    rig.intake.connected(info)
    rig.send(np.arange(40, 50), stamps=101 + np.arange(10) / _HZ)
    (gap,) = rig.gaps
    assert (gap.n_lost, gap.counted) == (40, False)
    assert rig.chunks[-1].first == 440


def test_a_recording_that_is_replayed_in_a_loop_loses_nothing() -> None:
    rig = _Rig()
    rig.steady(0, 5000)
    rig.send(np.arange(0, 10), stamps=105 + np.arange(10) / _HZ)
    accounting = rig.timeline.accounting()
    assert (accounting.delivered, accounting.lost, accounting.sent) == (5010, 0, 5010)
    assert rig.chunks[-1].first == 5000


def test_a_damaged_counter_value_costs_no_sample() -> None:
    rig = _Rig()
    rig.steady(0, 100)
    content = np.ones((10, 3))
    content[:, 2] = np.arange(100, 110)
    content[0, 2], content[4, 2], content[7, 2] = np.nan, 3.5, -1.0
    rig.intake.feed(content, 100.1 + np.arange(10) / _HZ, now=100.2, correction=_NoCorrection())
    rig.steady(110, 150)
    assert rig.timeline.accounting().delivered == 150
    assert rig.gaps == []


def test_a_queue_that_overflowed_is_named_as_the_reason() -> None:
    rig = _Rig(buflen_s=4.0)
    rig.steady(0, 1000)
    rig.intake.paused(6.0, now=107.0)
    rig.steady(3000, 7000, chunk=500, now=107.0)
    rig.steady(7000, 8000)
    rig.check()
    (gap,) = rig.gaps
    assert (gap.reason, gap.first, gap.n_lost) == (GapReason.OVERFLOW, 1000, 2000)


def test_stamps_derived_from_one_that_was_dropped_are_not_believed() -> None:
    """liblsl sends a chunk with one stamp; drop its head and the rest is stamped too early."""
    rig = _Rig(buflen_s=4.0)
    rig.steady(0, 1000)
    wrong = 101 + np.arange(4) / _HZ
    stamps = np.concatenate([wrong, 100 + np.arange(3010, 3020) / _HZ])
    rig.send(np.arange(3006, 3020), stamps=stamps)
    rig.steady(3020, 4000)
    rig.check()
    assert rig.lost() == 2006


def test_a_backlog_stamped_when_it_left_gets_the_times_of_its_samples() -> None:
    for counts in (True, False):
        rig = _Rig(counts=counts)
        rig.steady(0, 2000)
        for first in range(2000, 7000, 10):  # all sent within 20 ms, 5 s late
            now = 107 + (first - 2000) * 4e-6
            rig.send(np.arange(first, first + 10), stamps=now - np.arange(9, -1, -1) / _HZ, now=now)
        rig.steady(7000, 9000)
        rig.intake.flush(now=rig.now, correction=_NoCorrection())
        rig.collect()
        np.testing.assert_array_equal(rig.content, np.arange(9000))
        assert rig.lost() == 0
        wrong = np.abs(rig.stamps - 100 - np.arange(9000) / _HZ)
        assert wrong[8000:].max() < 2e-3
        assert wrong.max() < 20e-3


def test_a_sender_that_was_stopped_and_sends_nothing_for_it_starts_a_new_segment() -> None:
    rig = _Rig()
    rig.steady(0, 2000)
    for first in range(2000, 3000, 10):
        rig.send(np.arange(first, first + 10), stamps=105 + np.arange(first, first + 10) / _HZ)
    assert (np.diff(rig.stamps) >= 0).all()
    (gap,) = rig.gaps
    assert (gap.n_lost, gap.first) == (0, 2000)
    assert (gap.t_start, gap.t_stop) == pytest.approx((102.0, 107.0), abs=1e-3)
    assert np.abs(rig.stamps[2000:] - 105 - np.arange(2000, 3000) / _HZ).max() < 2e-3


def test_losses_without_a_counter_are_told_from_exact_stamps() -> None:
    rig = _Rig(counts=False)
    rig.steady(0, 2000)
    rig.steady(2001, 3000)
    rig.steady(3250, 5000, chunk=25)
    rig.send(np.concatenate([np.arange(5000, 5100), np.arange(5400, 5500)]))
    rig.steady(5500, 6000)
    np.testing.assert_array_equal(rig.content, rig.index)
    assert [(gap.first, gap.n_lost, gap.counted) for gap in rig.gaps] == [
        (2000, 1, False),
        (3000, 250, False),
        (5100, 300, False),
    ]
    assert np.abs(rig.stamps - 100 - rig.index / _HZ).max() < 1e-4
    assert rig.timeline.accounting().sent is None


def test_samples_sent_twice_without_a_counter_are_known_by_their_stamps() -> None:
    rig = _Rig(counts=False)
    rig.steady(0, 1000)
    rig.send(np.arange(980, 1000))
    rig.send(np.arange(995, 1010))
    rig.steady(1010, 2000)
    np.testing.assert_array_equal(rig.content, np.arange(2000))
    assert [(gap.reason, gap.n_extra, gap.counted) for gap in rig.gaps] == [
        (GapReason.DUPLICATE, 20, False),
        (GapReason.DUPLICATE, 5, False),
    ]
    assert rig.gaps[0].t_start == pytest.approx(100.98, abs=1e-4)


def test_a_sender_whose_stamps_stand_still_loses_nothing() -> None:
    rig = _Rig(counts=False)
    for first in range(0, 3000, 10):
        rig.send(np.arange(first, first + 10), stamps=np.full(10, 100.0), now=100 + first / _HZ)
    rig.intake.flush(now=rig.now, correction=_NoCorrection())
    rig.collect()
    np.testing.assert_array_equal(rig.content, np.arange(3000))
    assert rig.lost() == 0
    assert (np.diff(rig.stamps) >= 0).all()


@pytest.mark.parametrize("per_chunk", [True, False])
@pytest.mark.parametrize("skew", [-1e-4, 0.0, 1e-4])
def test_losses_without_a_counter_are_told_in_spite_of_jitter(per_chunk: bool, skew: float) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rig = _Rig(counts=False)
        for first in [*range(0, 10_000, 10), *range(10_500, 30_000, 10)]:
            index = np.arange(first, first + 10)
            noise = rng.normal(0, 5e-3) if per_chunk else rng.normal(0, 5e-3, 10)
            rig.send(index, stamps=100 + index / _HZ * (1 + skew) + noise)
        (gap,) = rig.gaps
        assert gap.first == 10_000
        assert abs(gap.n_lost - 500) <= 20  # a sample is 1 ms, the jitter 5 ms
        assert (np.diff(rig.stamps) >= 0).all()
        assert gap.raised - 110.5 < 0.2
        wrong = np.abs(rig.stamps - 100 - rig.content / _HZ * (1 + skew))
        assert wrong[11_000:].max() < (4e-3 if per_chunk else 2e-3)


def test_single_late_packets_are_not_taken_for_losses() -> None:
    rng = np.random.default_rng(0)
    rig = _Rig(counts=False)
    for first in range(0, 30_000, 10):
        index = np.arange(first, first + 10)
        late = 0.03 if rng.random() < 0.02 else 0.0
        rig.send(index, stamps=100 + index / _HZ + late + rng.normal(0, 0.2e-3))
    assert rig.gaps == []
    assert np.abs(rig.stamps[5000:] - 100 - np.arange(5000, 30_000) / _HZ).max() < 1e-3


def test_stamps_that_are_no_numbers_are_mended() -> None:
    rig = _Rig()
    rig.steady(0, 1000)
    stamps = 101 + np.arange(10) / _HZ
    stamps[2:5] = np.nan
    rig.send(np.arange(1000, 1010), stamps=stamps, now=101.01)
    rig.send(np.arange(1010, 1020), stamps=np.full(10, np.nan), now=101.02)
    rig.steady(1020, 1100)
    rig.check(exact_s=1e-4)


def test_an_irregular_stream_keeps_its_own_stamps_but_never_goes_back() -> None:
    info = replace(_Rig(counts=False).info, sfreq_hz=0.0)
    timeline = Timeline(2, sfreq_hz=0.0, history_s=10.0)
    intake = Intake(info, timeline, max_buflen_s=360)
    raw = np.array([1.0, 1.5, 1.25, 7.0])
    intake.feed(np.ones((4, 2)), raw, now=7.0, correction=_NoCorrection())
    (chunk,) = timeline.reader("a").read()
    assert isinstance(chunk, Chunk)
    np.testing.assert_array_equal(chunk.stamps, [1.0, 1.5, 1.5, 7.0])
    np.testing.assert_array_equal(chunk.raw_stamps, raw)
