"""Even stamps and gaps out of jittered ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import FileError
from stream.readers.counted import counted_segments, unwrap_count
from stream.readers.timing import regular_clock
from stream.recordings import Segment

_SFREQ = 250.0


def stamps_with(gaps: dict[int, int], n: int, *, sfreq_hz: float = _SFREQ) -> NDArray[np.float64]:
    index = np.arange(n)
    for row, lost in gaps.items():
        index[row:] += lost
    return 1e6 + index / sfreq_hz


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.lists(st.integers(2, 18), unique=True, max_size=3),
    lost=st.integers(40, 5000),
    skew=st.floats(-2e-4, 2e-4),
)
@example(seed=755, rows=[], lost=40, skew=0.0)  # the first stamp of all is far off
def test_gaps_are_found_to_the_sample_under_jitter(
    seed: int, rows: list[int], lost: int, skew: float
) -> None:
    rng = np.random.default_rng(seed)
    gaps = {row * 250 + int(rng.integers(0, 100)): lost + k for k, row in enumerate(sorted(rows))}
    true = stamps_with(gaps, 5000)
    true = true[0] + (true - true[0]) * (1 + skew)
    regular = regular_clock(true + rng.normal(0, 0.003, 5000), _SFREQ, what="x")
    starts = [(s.start, s.first) for s in regular.segments]
    expected, total = [(0, 0)], 0
    for row, count in sorted(gaps.items()):
        total += count
        expected.append((row, row + total))
    assert starts == pytest.approx(np.array(expected), abs=1)
    assert [s.start for s in regular.segments] == pytest.approx([row for row, _ in expected], abs=0)
    assert np.abs(regular.stamps - true).max() < 2.5e-3
    assert (np.diff(regular.stamps) > 0).all()


def test_exact_stamps_lose_single_samples_exactly() -> None:
    regular = regular_clock(stamps_with({700: 1, 1500: 2}, 3000), _SFREQ, what="x")
    assert regular.segments == (
        Segment(0, 700, 0),
        Segment(700, 1500, 701),
        Segment(1500, 3000, 1503),
    )


@pytest.mark.parametrize("row", [1, 2, 2998, 2999])
def test_exact_stamps_lose_samples_next_to_either_end(row: int) -> None:
    regular = regular_clock(stamps_with({row: 3}, 3000), _SFREQ, what="x")
    assert regular.segments == (Segment(0, row, 0), Segment(row, 3000, row + 3))


def test_stamps_written_a_block_at_a_time_are_no_gaps() -> None:
    rng = np.random.default_rng(3)
    blocks = np.repeat(np.arange(300) * 12, 12) / _SFREQ + 0.05
    late = np.repeat(np.abs(rng.normal(0, 0.01, 300)), 12)
    regular = regular_clock(blocks + late, _SFREQ, what="x")
    assert len(regular.segments) == 1
    assert 1.0 / regular.period_s == pytest.approx(_SFREQ, rel=1e-3)
    assert "jitter" in regular.warnings[0]


def test_without_gaps_it_is_the_least_squares_line() -> None:
    rng = np.random.default_rng(4)
    stamps = stamps_with({}, 4000) + rng.normal(0, 0.002, 4000)
    slope, offset = np.polyfit(np.arange(4000.0), stamps - stamps[0], 1)
    fitted = stamps[0] + offset + slope * np.arange(4000)
    assert regular_clock(stamps, _SFREQ, what="x").stamps == pytest.approx(fitted, abs=1e-8)


def test_a_few_stray_stamps_do_not_move_the_others() -> None:
    stamps = stamps_with({}, 2000)
    damaged = stamps.copy()
    damaged[[300, 1200]] = [0.0, 1e12]
    regular = regular_clock(damaged, _SFREQ, what="x")
    assert regular.stamps == pytest.approx(stamps, abs=1e-6)
    assert "2 time stamps stray" in regular.warnings[0]


@pytest.mark.parametrize(
    ("stamps", "said"),
    [
        (np.concatenate([np.arange(500.0), np.arange(500.0)]), "goes back by 500"),
        (np.array([0.0, np.nan, 2.0]), "1 of 3 time stamps are not numbers"),
        (np.zeros(50), "do not go forward"),
        (-np.arange(50.0), "do not go forward"),
    ],
)
def test_time_that_is_no_time_is_refused(stamps: NDArray[np.float64], said: str) -> None:
    with pytest.raises(FileError, match=said):
        regular_clock(stamps, 1.0, what="x")


def test_a_rate_that_is_not_the_claimed_one_is_said() -> None:
    regular = regular_clock(stamps_with({}, 2000, sfreq_hz=240.0), 250.0, what="x")
    assert "run at 240.000 Hz, the recording claims 250 Hz" in regular.warnings[0]


@pytest.mark.parametrize("n", [1, 2])
def test_one_and_two_samples_are_a_recording_too(n: int) -> None:
    regular = regular_clock(np.arange(n, dtype=np.float64) * 0.1, 10.0, what="x")
    assert regular.segments == (Segment(0, n, 0),)
    assert regular.stamps == pytest.approx(np.arange(n) * 0.1)


def test_a_count_tells_losses_and_duplicates_exactly_across_its_wrap() -> None:
    count = np.array([13, 14, 15, 0, 1, 0, 1, 2, 5, 6])
    stamps = np.array([0, 1, 2, 3, 4, 3, 4, 5, 8, 9]) / 10.0
    counted = counted_segments(count, stamps, 16, what="x")
    assert counted.rows.tolist() == [0, 1, 2, 3, 4, 7, 8, 9]
    assert counted.segments == (Segment(0, 6, 0), Segment(6, 8, 8))
    assert counted.stamps == pytest.approx(np.array([0, 1, 2, 3, 4, 5, 8, 9]) / 10.0)
    assert "2 samples came twice" in counted.warnings[0]


@given(st.lists(st.integers(-3, 400), min_size=1, max_size=50))
def test_a_count_is_unwrapped(steps: list[int]) -> None:
    whole = np.cumsum([700, *steps])
    assert np.array_equal(unwrap_count(whole % 1024, 1024), whole - whole[0] + whole[0] % 1024)


def test_a_counter_that_holds_no_counts_is_refused() -> None:
    with pytest.raises(FileError, match="holds no counts"):
        counted_segments(np.array([0.5, 1.5]), np.array([0.0, 0.1]), 16, what="x")
