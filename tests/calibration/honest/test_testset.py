from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.honest.testset import TestOpenings, TestSet, read_openings
from models.errors import FileError, SettingError
from tests.calibration.honest.toy import music


def _set(record: Path | None, participant: str = "p1") -> TestSet:
    return TestSet(
        music(n_clips=3, n_windows=2)[0], dataset="ds", participant=participant, record=record
    )


def _open_often(record: Path, n: int) -> None:
    for k in range(n):
        one = _set(record)
        one.freeze({"alpha": k, "process": os.getpid()})
        one.open()


def test_the_test_set_stays_closed_until_the_decoder_is_frozen(tmp_path: Path) -> None:
    one = _set(tmp_path / "test-openings.json")
    assert len(one) == 6
    assert one.n_clips == 3
    with pytest.raises(SettingError, match=r"closed until the decoder is finished.*freeze\(\)"):
        one.open()
    assert one.openings == TestOpenings(0, 0)
    assert one.openings.sentence == "The test set was not opened."
    assert not one.frozen
    one.freeze("decoder")
    assert one.frozen
    assert len(one.open()) == 6
    assert one.openings.sentence == "The test set was opened once."


def test_reopening_is_counted_across_runs_and_shown(tmp_path: Path) -> None:
    record = tmp_path / "test-openings.json"
    for decoder in ("first", "first", "second"):
        one = _set(record)
        one.freeze(decoder)
        one.open()
    assert read_openings(record, "ds/p1") == TestOpenings(3, 2)
    assert "3 times, for 2 different decoders" in one.openings.sentence
    assert "always for the same decoder" in TestOpenings(2, 1).sentence
    assert _set(record, "p2").openings.openings == 0  # another participant, another count
    assert sorted(json.loads(record.read_text())) == ["schema", "sets"]


def test_without_a_record_the_object_counts() -> None:
    one = _set(None)
    one.freeze("a")
    one.open()
    one.open()
    assert one.openings == TestOpenings(2, 1)


def test_a_decoder_that_changed_after_freeze_is_refused() -> None:
    one = _set(None)
    one.freeze({"weights": np.arange(3.0)})
    one.freeze({"weights": np.arange(3.0)})
    with pytest.raises(SettingError, match="has changed to"):
        one.freeze({"weights": np.arange(3.0) + 1e-9})


def test_processes_at_once_lose_no_opening(tmp_path: Path) -> None:
    record = tmp_path / "test-openings.json"
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_open_often, args=(record, 10)) for _ in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0]
    assert read_openings(record, "ds/p1") == TestOpenings(20, 20)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".new"] == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"schema": 1}',
        '{"schema": 2, "sets": {}}',
        '{"schema": 1, "sets": {"ds/p1": 3}}',
    ],
)
def test_a_damaged_record_is_not_taken_for_none(tmp_path: Path, content: str) -> None:
    record = tmp_path / "test-openings.json"
    record.write_text(content)
    one = _set(record)
    one.freeze("decoder")
    with pytest.raises(FileError, match="should count the openings"):
        one.open()
    assert record.read_text() == content


def test_what_cannot_be_recorded_cannot_be_opened(tmp_path: Path) -> None:
    one = _set(tmp_path / "missing" / "test-openings.json")
    one.freeze("decoder")
    with pytest.raises(FileError, match=r"could not be recorded.*No such file.*stays closed"):
        one.open()


def test_a_test_set_needs_windows_and_names() -> None:
    samples = music(n_clips=3)[0]
    with pytest.raises(SettingError, match="got 0 windows"):
        TestSet(samples.take(np.array([], int)), dataset="ds", participant="p")
    with pytest.raises(SettingError, match="name of its data set"):
        TestSet(samples, dataset="", participant="p")


@dataclass(frozen=True)
class _Decoder:
    weights: object
    alpha: float


@given(
    first=st.lists(st.text(max_size=3), max_size=3),
    second=st.lists(st.text(max_size=3), max_size=3),
)
@settings(max_examples=50, deadline=None)
def test_different_descriptions_have_different_digests(first: list[str], second: list[str]) -> None:
    one, two = _set(None), _set(None)
    assert (one.freeze({"a": first, "b": 1}) == two.freeze({"b": 1, "a": second})) == (
        first == second
    )


def test_descriptions_are_told_apart_by_kind_shape_and_value() -> None:
    described: list[object] = [
        1, 1.0, "1", True, None, b"1", [1], [[1]], {"1": 1}, np.ones(1), np.ones((1, 1)),
        np.ones(1, np.float32), _Decoder(np.ones(1), 1.0), _Decoder(np.ones(1), 2.0), Path("1"),
    ]  # fmt: skip
    assert len({_set(None).freeze(value) for value in described}) == len(described)
    with pytest.raises(SettingError, match="got object"):
        _set(None).freeze(object())
