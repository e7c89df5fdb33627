"""The grammar of faults, and what drops and duplicates make of a signal."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import SettingError
from stream.faults import (
    Drop,
    Duplicate,
    FaultPlan,
    Jitter,
    Kill,
    Late,
    Run,
    Skew,
    Stall,
    parse_faults,
    signal_runs,
)
from stream.recordings import RecordedSignal, Segment


def a_signal(n: int = 100, sfreq_hz: float = 10.0) -> RecordedSignal:
    """Two stretches with 7 samples missing between them."""
    half = n // 2
    index = np.concatenate([np.arange(half), np.arange(half, n) + 7])
    return RecordedSignal(
        "x",
        "EEG",
        ("a",),
        "V",
        1.0,
        sfreq_hz,
        np.arange(n, dtype=np.float32)[:, None],
        100.0 + index / sfreq_hz,
        (Segment(0, half, 0), Segment(half, n, half + 7)),
    )


def test_every_kind_of_fault_is_read() -> None:
    plan = parse_faults(
        "drop:at=10,n=50; stall:at=20,for=2;jitter:sd=0.005;skew:ppm=-100;"
        "duplicate:at=5,n=10;late:at=8,by=0.3;kill:at=12,for=3;seed=7"
    )
    assert plan == FaultPlan(
        (
            Drop(10, 50),
            Stall(20, 2),
            Jitter(0.005),
            Skew(-100),
            Duplicate(5, 10),
            Late(8, 0.3),
            Kill(12, 3),
        ),
        7,
    )
    assert plan.clock_rate == pytest.approx(1 - 1e-4)


def test_several_jitters_add_in_squares_and_faults_come_in_order() -> None:
    plan = parse_faults("jitter:sd=0.003;jitter:sd=0.004;kill:at=9,for=1;kill:at=3,for=1")
    assert plan.jitter_sd_s == pytest.approx(0.005)
    assert [kill.at_s for kill in plan.kills()] == [3, 9]


@pytest.mark.parametrize("text", ["", ";", "  "])
def test_no_fault_is_a_plan_too(text: str) -> None:
    assert parse_faults(text) == FaultPlan()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("explode:at=1", "drop:at=,n=; duplicate"),
        ("drop:at=1", "lacks n="),
        ("drop:at=1,n=2,m=3", "expected each of at=NUMBER, n=NUMBER once"),
        ("drop:at=1,n=2,n=3", "once"),
        ("drop:at=1,n=2.5", "a whole number"),
        ("drop:at=1,n=0", "at least 1"),
        ("drop:at=-1,n=2", "not negative"),
        ("stall:at=x,for=2", "a number"),
        ("late:at=nan,by=1", "finite"),
        ("skew:ppm=1e9", "at most 100000"),
        ("seed=x", "a whole number"),
        ("kill:at=3,for=1;kill:at=3,for=2", "a time of its own"),
    ],
)
def test_a_wrong_specification_says_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(SettingError, match=said.replace("(", r"\(")):
        parse_faults(text)


def test_a_drop_leaves_a_hole_in_rows_and_count() -> None:
    runs = signal_runs(a_signal(), parse_faults("drop:at=2,n=5"))
    assert runs == [Run(0, 20, 0), Run(25, 50, 25), Run(50, 100, 57)]


def test_a_drop_may_reach_over_a_gap_of_the_recording() -> None:
    runs = signal_runs(a_signal(), parse_faults("drop:at=4.8,n=4"))
    assert runs == [Run(0, 48, 0), Run(52, 100, 59)]


def test_a_duplicate_comes_right_after_the_first() -> None:
    runs = signal_runs(a_signal(), parse_faults("duplicate:at=1,n=3"))
    assert runs == [Run(0, 13, 0), Run(10, 13, 10, "again"), Run(13, 50, 13), Run(50, 100, 57)]


def test_a_fault_behind_the_end_is_refused() -> None:
    with pytest.raises(SettingError, match="behind the end"):
        signal_runs(a_signal(), parse_faults("drop:at=99,n=1"))


def test_drops_that_leave_nothing_are_refused() -> None:
    with pytest.raises(SettingError, match="leave no sample"):
        signal_runs(a_signal(), parse_faults("drop:at=0,n=100"))
