from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from models.features import Feature
from models.spec import StandardiseSpec
from models.standardise import Standardiser
from stream.messages import Chunk, FeatureWindow
from stream.windows import Windower, WindowFailure

PERIOD = 0.01


class Sums:
    """Sum of 4 samples every 2, in plain Python: what an extractor does, and nothing else."""

    n_features = 2
    shape = (2,)
    labels = ("a", "b")
    window_samples = 4
    hop_samples = 2

    def __init__(self) -> None:
        self.fail_at: int | None = None
        self.reset()

    def reset(self, *, first: int = 0) -> None:
        self.first = self.at = first
        self.rows: list[NDArray[np.float32]] = []

    def push(self, samples: ArrayLike) -> list[Feature]:
        made = []
        for row in np.asarray(samples, np.float32):
            self.rows.append(row)
            self.at += 1
            if self.at == self.fail_at:
                raise ValueError("planted")
            n = self.at - self.first
            if n >= 4 and n % 2 == 0:
                values = np.asarray(np.sum(self.rows[-4:], axis=0), np.float32)
                made.append(Feature(self.at - 4, self.at, values))
        return made


def windower(fill: int = 3) -> tuple[Windower, Sums]:
    sums = Sums()
    standardiser = Standardiser(StandardiseSpec(mode="none"), np.zeros(2), np.ones(2))
    return (
        Windower(sums, standardiser, n_channels=2, period_s=PERIOD, fill_max_samples=fill),
        sums,
    )


def signal(n: int) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(size=(n, 2)).astype(np.float32)


def chunk(samples: NDArray[np.float32], first: int) -> Chunk:
    stamps = np.asarray(100.0 + PERIOD * np.arange(first, first + len(samples)), np.float64)
    return Chunk(samples, stamps, stamps, first, 0, float(stamps[-1]) if len(stamps) else 0.0)


def run(cuts: list[Chunk], fill: int = 3) -> list[FeatureWindow]:
    maker, _ = windower(fill)
    made: list[FeatureWindow] = []
    for item in cuts:
        windows, failures = maker.push(item)
        assert not failures
        made += windows
    return made


def same(a: list[FeatureWindow], b: list[FeatureWindow]) -> bool:
    return [(w.seq, w.start, w.stop, w.n_filled, w.values.tobytes()) for w in a] == [
        (w.seq, w.start, w.stop, w.n_filled, w.values.tobytes()) for w in b
    ] and np.allclose([(w.t_start, w.t_stop) for w in a], [(w.t_start, w.t_stop) for w in b])


@settings(deadline=None)
@given(data=st.data(), missing=st.sets(st.integers(1, 58)), n=st.integers(1, 60))
def test_windows_depend_on_the_samples_and_not_on_the_chunks(
    data: st.DataObject, missing: set[int], n: int
) -> None:
    samples = signal(n)
    for index in missing:
        samples[index:][:1] = np.nan  # missing as NaN, in one chunk ...
    whole = run([chunk(samples, 0)])
    cuts = sorted(data.draw(st.sets(st.integers(0, n), max_size=12)) | {0, n})
    pieces = [chunk(samples[a:b], a) for a, b in pairwise(cuts)]
    assert same(run(pieces), whole)
    # ... or as a jump of the index.
    singles = [chunk(samples[i : i + 1], i) for i in range(n) if np.isfinite(samples[i]).all()]
    assert same(run(singles), whole)


def test_times_are_those_of_the_first_sample_and_one_past_the_last() -> None:
    windows = run([chunk(signal(10), 50)])
    assert [(w.start, w.stop) for w in windows] == [(50, 54), (52, 56), (54, 58), (56, 60)]
    for window in windows:
        assert window.t_start == pytest.approx(100.0 + PERIOD * window.start)
        assert window.t_stop == pytest.approx(100.0 + PERIOD * window.stop)


def test_a_short_gap_is_filled_by_a_line_and_the_windows_say_so() -> None:
    samples = np.repeat(np.arange(12, dtype=np.float32)[:, None], 2, axis=1)  # a line already
    windows = run([chunk(samples[:5], 0), chunk(samples[8:], 8)])
    assert same(
        [w for w in windows if not w.n_filled],
        [w for w in run([chunk(samples, 0)]) if w.stop <= 5 or w.start >= 8],
    )
    assert [(w.start, w.n_filled) for w in windows] == [(0, 0), (2, 1), (4, 3), (6, 2), (8, 0)]
    for window in windows:
        assert window.values[0] == samples[window.start : window.stop, 0].sum()
        assert window.t_stop == pytest.approx(100.0 + PERIOD * window.stop)


def test_no_window_spans_a_longer_gap() -> None:
    windows = run([chunk(signal(6), 0), chunk(signal(6), 10)])
    assert [(w.seq, w.start) for w in windows] == [(0, 0), (1, 2), (2, 10), (3, 12)]


def test_without_filling_one_missing_sample_starts_afresh() -> None:
    windows = run([chunk(signal(5), 0), chunk(signal(5), 6)], fill=0)
    assert [w.start for w in windows] == [0, 6]


def test_an_index_that_goes_back_starts_afresh() -> None:
    windows = run([chunk(signal(6), 100), chunk(signal(4), 0)])
    assert [w.start for w in windows] == [100, 102, 0]


def test_a_failure_of_the_extractor_costs_what_it_held_and_not_the_session() -> None:
    maker, sums = windower()
    sums.fail_at = 6
    windows, failures = maker.push(chunk(signal(6), 0))
    assert windows == []
    assert [type(f) for f in failures] == [WindowFailure]
    windows, failures = maker.push(chunk(signal(6), 6))
    assert [(w.seq, w.start) for w in windows] == [(1, 6), (2, 8)]
    assert not failures


def test_a_failure_of_the_standardiser_costs_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    maker, _ = windower()
    calls = iter([True, False, True])

    def push(self: Standardiser, values: ArrayLike) -> NDArray[np.float32]:
        if next(calls):
            return np.asarray(values, np.float32)
        raise FloatingPointError("planted")

    monkeypatch.setattr(Standardiser, "push", push)
    windows, failures = maker.push(chunk(signal(8), 0))
    assert [w.seq for w in windows] == [0, 2]
    assert [(f.seq, str(f.error)) for f in failures] == [(1, "planted")]


def test_a_stream_of_other_width_is_refused() -> None:
    maker, _ = windower()
    with pytest.raises(SettingError, match="Expected 2 channels, got 3"):
        maker.push(
            Chunk(np.zeros((1, 3), np.float32), np.zeros(1), np.zeros(1), 0, 0, 0.0),
        )


def test_memory_does_not_grow_with_the_session() -> None:
    maker, _ = windower()
    for i in range(2000):
        maker.push(chunk(signal(2), 3 * i))
    assert len(maker._stamps) <= 8
    assert len(maker._filled) <= 4
