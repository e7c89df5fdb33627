from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.data.dataset import Event, Run
from calibration.readers.pieces import Piece, signal_pieces, split_run
from models.errors import FileError
from stream.recordings import RecordedSignal, Segment


def signal(lengths: list[int], lost: list[int], *, bad: set[int] = frozenset()) -> RecordedSignal:  # type: ignore[assignment]
    """Return a ramp of which samples between stretches are missing; `bad` rows are NaN."""
    count, segments, row = 0, [], 0
    values: list[int] = []
    for length, gap in zip(lengths, [*lost, 0], strict=True):
        segments.append(Segment(row, row + length, count))
        values += range(count, count + length)
        row, count = row + length, count + length + gap
    samples = np.array(values, np.float32)[:, None] * np.array([1.0, -2.0], np.float32)
    samples[sorted(bad)] = np.nan
    return RecordedSignal(
        name="s",
        type="EEG",
        labels=("a", "b"),
        unit="V",
        scale=1.0,
        sfreq_hz=10.0,
        samples=samples,
        stamps=5.0 + np.array(values) / 10.0,
        segments=tuple(segments),
    )


@given(
    lengths=st.lists(st.integers(3, 8), min_size=1, max_size=5),
    data=st.data(),
)
def test_filled_and_cut_pieces_are_the_ramp_that_was_sampled(
    lengths: list[int], data: st.DataObject
) -> None:
    lost = data.draw(
        st.lists(st.integers(1, 6), min_size=len(lengths) - 1, max_size=len(lengths) - 1)
    )
    pieces = signal_pieces(signal(lengths, lost), fill_max_s=0.3, what="r")
    assert len(pieces) == 1 + sum(gap > 3 for gap in lost)
    for piece in pieces:
        # The ramp is linear, so what is filled in is what was lost.
        number = np.rint((piece.stamps_s - 5.0) * 10.0)
        np.testing.assert_allclose(np.diff(piece.stamps_s), 0.1, atol=1e-9)
        np.testing.assert_allclose(piece.samples[:, 0], number, atol=1e-4)
        np.testing.assert_allclose(piece.samples[:, 1], -2 * number, atol=1e-4)
    total = sum(len(piece.samples) for piece in pieces)
    assert total == sum(lengths) + sum(gap for gap in lost if gap <= 3)


def test_rows_that_are_not_finite_are_gaps() -> None:
    pieces = signal_pieces(
        signal([20], [], bad={0, 4, 9, 10, 11, 12, 13}), fill_max_s=0.1, what="r"
    )
    assert [len(piece.samples) for piece in pieces] == [8, 6]
    assert np.isfinite(pieces[0].samples).all()
    assert pieces[0].samples[3, 0] == pytest.approx(4.0)
    with pytest.raises(FileError, match="r has no two good samples"):
        signal_pieces(signal([3], [], bad={0, 1, 2}), fill_max_s=0.1, what="r")


def test_events_go_to_the_pieces_that_they_reach_into() -> None:
    pieces = [
        Piece(np.zeros((10, 1), np.float32), 50.0 + np.arange(10) / 10),
        Piece(np.zeros((10, 1), np.float32), 52.0 + np.arange(10) / 10),
    ]
    empty = np.zeros((0, 1), np.float32)
    run = Run("p", "", "r", "train", empty, 10.0, np.zeros(0), ())
    events = [
        Event(50.5, 0.2, "a"),
        Event(50.8, 1.5, "b"),
        Event(51.2, 0.5, "c"),
        Event(53.0, 1, "d"),
    ]
    first, second = split_run(run, pieces, events)
    assert [(e.stimulus, round(e.onset_s, 6)) for e in first.events] == [("a", 0.5), ("b", 0.8)]
    assert [(e.stimulus, round(e.onset_s, 6)) for e in second.events] == [("b", -1.2)]
    assert (first.run, second.run, second.part) == ("r.1", "r.2", "train")
    assert second.stamps_s[0] == 0.0
