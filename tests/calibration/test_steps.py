"""Steps are kept whole, found again, and calculated anew when what they depend on changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.steps import StepResult, Steps, array_digest
from models.errors import FileError


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> StepResult:
        self.calls += 1
        return {"values": np.arange(5.0), "names": ["a", "b"], "n": 3}


def test_a_step_is_calculated_once_and_found_by_a_later_process(tmp_path: Path) -> None:
    work = Counted()
    first = Steps(tmp_path).run("lag", {"seed": 1}, work)
    again = Steps(tmp_path)
    second = again.run("lag", {"seed": 1}, work)
    assert work.calls == 1
    assert again.found == ["lag"]
    np.testing.assert_array_equal(first["values"], second["values"])
    assert second["names"] == ["a", "b"]
    assert second["n"] == 3


def test_another_setting_is_another_step(tmp_path: Path) -> None:
    work = Counted()
    steps = Steps(tmp_path)
    steps.run("lag", {"seed": 1}, work)
    steps.run("lag", {"seed": 2}, work)
    assert work.calls == 2


def test_a_damaged_step_is_calculated_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = Counted()
    Steps(tmp_path).run("lag", {}, work)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    result = Steps(tmp_path).run("lag", {}, work)
    assert work.calls == 2
    assert result["n"] == 3
    assert "damaged" in caplog.text


def test_an_interrupted_step_leaves_nothing_and_those_before_it_stay(tmp_path: Path) -> None:
    def interrupted() -> StepResult:
        raise KeyboardInterrupt

    steps = Steps(tmp_path)
    steps.run("lag", {}, Counted())
    with pytest.raises(KeyboardInterrupt):
        steps.run("fit", {}, interrupted)
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == ["lag"]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(FileError, match="Cannot write lag"):
        Steps(tmp_path / "file").run("lag", {}, Counted())


def test_the_digest_of_arrays_knows_their_values_types_and_shapes() -> None:
    values = np.arange(6, dtype=np.float32)
    same = array_digest(values.copy())
    assert array_digest(values) == same
    others: list[NDArray[Any]] = [
        values.astype(np.float64),
        values.reshape(2, 3),
        values + 1,
        values[:5],
    ]
    assert len({same, *(array_digest(other) for other in others)}) == 5
