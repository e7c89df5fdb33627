"""When silence is a stall, and when we only did not look."""

from __future__ import annotations

import pytest

from stream.stall_watch import StallWatch


@pytest.mark.parametrize(
    ("sfreq_hz", "chunk", "longest_s"),
    [(1000.0, 10, 0.25), (1000.0, 100, 0.5), (250.0, 1, 0.25), (1 / 1.5, 1, 7.5)],
)
def test_a_stall_is_flagged_within_250_ms_or_five_chunks(
    sfreq_hz: float, chunk: int, longest_s: float
) -> None:
    watch = StallWatch(sfreq_hz, 0.0)
    interval = chunk / sfreq_hz
    for k in range(500):
        assert watch.pulled(chunk, k * interval, asked_s=2.0) == 0.0
        assert not watch.stalled(k * interval)
    last = watch.last_arrival
    assert 1.5 * interval < watch.limit_s <= longest_s
    watch.pulled(0, last + longest_s + 0.01, asked_s=longest_s)
    assert watch.stalled(last + longest_s + 0.01)


def test_our_own_pause_is_no_stall_of_the_source() -> None:
    watch = StallWatch(1000.0, 0.0)
    watch.pulled(10, 0.01, asked_s=0.1)
    assert watch.pulled(0, 6.01, asked_s=0.1) == pytest.approx(5.9)
    assert not watch.stalled(6.01)
    watch.pulled(0, 6.11, asked_s=0.1)
    assert watch.stalled(6.11)


def test_an_irregular_stream_never_stalls() -> None:
    watch = StallWatch(0.0, 0.0)
    watch.pulled(1, 1.0, asked_s=0.1)
    watch.pulled(0, 1.1, asked_s=0.1)
    assert not watch.stalled(1e9)
