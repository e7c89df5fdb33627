from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import FileError, SettingError
from stream.json_lines import JsonLines, finite
from stream.messages import FeatureWindow, Played
from stream.quantiles import Quantiles
from stream.trace import BOUNDARIES, STAGES, Tracer


def window(seq: int, t_stop: float) -> FeatureWindow:
    return FeatureWindow(np.zeros(1, np.float32), seq, 0, 1, t_stop - 1.0, t_stop)


@given(st.lists(st.floats(0.01, 1e5), min_size=1, max_size=200), st.sampled_from([0, 50, 99, 100]))
def test_few_values_have_numpys_percentiles(values: list[float], percent: int) -> None:
    quantiles = Quantiles()
    for value in values:
        quantiles.add(value)
    assert quantiles.percentile(percent) == pytest.approx(np.percentile(values, percent))


def test_many_values_stay_within_half_a_percent() -> None:
    values = np.random.default_rng(1).lognormal(2.0, 1.5, 30_000)
    quantiles = Quantiles()
    for value in values:
        quantiles.add(float(value))
    for percent in (1, 50, 90, 99, 99.9):
        expected = np.percentile(values, percent)
        assert quantiles.percentile(percent) == pytest.approx(expected, rel=0.005)
    assert quantiles.percentile(0) == values.min()
    assert quantiles.percentile(100) == pytest.approx(values.max(), rel=0.005)


def test_values_that_are_not_finite_are_left_out_and_negative_ones_kept() -> None:
    quantiles = Quantiles()
    assert quantiles.percentile(50) is None
    for value in (float("nan"), float("inf"), -3.0):
        quantiles.add(value)
    assert (quantiles.n, quantiles.percentile(50)) == (1, -3.0)
    for _ in range(5000):
        quantiles.add(-3.0)
    assert quantiles.percentile(50) == -3.0


@given(st.lists(st.floats(0.0, 1.0), min_size=8, max_size=8), st.floats(0.0, 1e6))
def test_stages_sum_to_the_time_that_the_player_reports(steps: list[float], start: float) -> None:
    tracer = Tracer()
    at = start + np.cumsum([0.0, *steps])
    tracer.open(window(0, float(at[0])), arrived=float(at[1]))
    for boundary, t in zip(BOUNDARIES[2:-1], at[2:-1], strict=True):
        tracer.mark(0, boundary, float(t))
    age = tracer.played(Played(0, float(at[-1]), 10, 0, brain_stop=float(at[0])))
    stages = tracer.stage_ms()
    assert list(stages) == list(STAGES)
    total = sum(float(stage["p50"] or 0.0) for stage in stages.values())
    assert total == pytest.approx(age, abs=1e-3)
    assert tracer.mismatched == 0
    assert tracer.age.summary()["p50"] == pytest.approx(age, abs=1e-5)


def test_a_missing_stage_shows_as_a_mismatch() -> None:
    tracer = Tracer()
    tracer.open(window(0, 1.0), arrived=1.1)
    tracer.played(Played(0, 2.0, 10, 0, brain_stop=1.0))
    assert tracer.mismatched == 1


def test_each_window_is_written_once_with_its_outcome(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "trace.jsonl")
    tracer = Tracer(lines)
    for seq in range(3):
        tracer.open(window(seq, float(seq)), arrived=seq + 0.1)
    tracer.close(0, "stale")
    tracer.close(0, "error")
    assert tracer.played(Played(1, 3.0, 5, 0, brain_stop=1.0)) == pytest.approx(2000.0)
    assert tracer.played(Played(1, 3.1, 5, 5, brain_stop=1.0)) is None
    assert tracer.played(Played(-1, 3.2, 5, 0)) is None
    tracer.close_all("session ended")
    lines.flush()
    rows = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert [(row["seq"], row["outcome"]) for row in rows] == [
        (0, "stale"),
        (1, "heard"),
        (2, "session ended"),
    ]
    assert dict(tracer.outcomes) == {"stale": 1, "heard": 1, "session ended": 1}
    assert tracer.n_open == 0


def test_windows_that_nobody_closes_do_not_pile_up() -> None:
    tracer = Tracer()
    for seq in range(10_000):
        tracer.open(window(seq, float(seq)), arrived=float(seq))
    assert tracer.n_open <= 8192
    assert tracer.outcomes["forgotten"] == 10_000 - tracer.n_open


def test_an_unknown_boundary_is_refused() -> None:
    with pytest.raises(SettingError, match="decoded"):
        Tracer().mark(0, "decoded", 1.0)


def test_lines_hold_no_nan_and_survive_a_folder_that_goes_away(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    folder.mkdir()
    lines = JsonLines(folder / "a.jsonl")
    lines.add({"x": float("nan"), "y": [np.float32(1.5), Path("p")]})
    lines.flush()
    assert json.loads((folder / "a.jsonl").read_text()) == {"x": None, "y": [1.5, "p"]}
    (folder / "a.jsonl").unlink()
    folder.rmdir()
    lines.add({"z": 1})
    lines.flush()
    assert lines.error is not None
    folder.mkdir()
    lines.flush()
    assert lines.error is None
    assert json.loads((folder / "a.jsonl").read_text()) == {"z": 1}


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("mine")
    with pytest.raises(FileError, match="does not exist yet"):
        JsonLines(tmp_path / "a.jsonl")


def test_finite_turns_numpy_scalars_into_plain_numbers() -> None:
    assert finite({"n": np.int64(3), "x": np.float64("inf")}) == {"n": 3, "x": None}
