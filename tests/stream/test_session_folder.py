from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import FileError
from stream.control import KEYS
from stream.display import Snapshot, table
from stream.messages import Condition
from stream.monitor import Monitor
from stream.npy_rows import NpyRows
from stream.playback import Player
from stream.session_folder import DECISION, SessionFolder
from stream.summary import summarise
from tests.stream.fakes import window


@given(sizes=st.lists(st.integers(0, 5), max_size=6))
def test_rows_can_be_loaded_at_any_moment(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.npy"
    rows = NpyRows(path, "<f4", (2,))
    rows.flush()
    expected: list[list[float]] = []
    for size in sizes:
        for _ in range(size):
            expected.append([float(len(expected)), 0.5])
            rows.add(np.array(expected[-1]))
        rows.flush()
        loaded = np.load(path, allow_pickle=False)
        assert loaded.shape == (len(expected), 2)
        assert loaded.tolist() == expected


def test_structured_rows_keep_their_names(tmp_path: Path) -> None:
    rows = NpyRows(tmp_path / "a.npy", DECISION)
    rows.add(np.array((3, 1, 0.5), DECISION))
    rows.flush()
    loaded = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert loaded.dtype == DECISION
    assert loaded["seq"].tolist() == [3]


def test_rows_wait_while_the_disk_is_away(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    rows = NpyRows(folder / "a.npy", "<i8")
    rows.add(np.array(1))
    rows.flush()
    assert rows.error is not None
    rows.add(np.array(2))
    folder.mkdir()
    rows.flush()
    assert rows.error is None
    assert np.load(folder / "a.npy").tolist() == [1, 2]


def test_a_folder_keeps_windows_and_decisions_and_is_never_used_twice(tmp_path: Path) -> None:
    folder = SessionFolder(tmp_path / "s")
    folder.write_json("settings.json", {"a": float("nan"), "b": Path("x")})
    for seq in range(3):
        folder.on_window(window(seq))
    folder.on_condition(Condition(np.ones((2, 4), np.float32), window(1), 2, 0.5))
    folder.flush()
    assert folder.failure == ""
    load = {name: np.load(tmp_path / "s" / f"{name}.npy") for name in ("windows", "decisions")}
    assert load["windows"]["seq"].tolist() == [0, 1, 2]
    assert load["decisions"]["item"].tolist() == [2]
    assert np.load(tmp_path / "s" / "features.npy").shape == (3, 1)
    assert np.load(tmp_path / "s" / "decoded.npy").shape == (1, 2, 4)
    assert json.loads((tmp_path / "s" / "settings.json").read_text()) == {"a": None, "b": "x"}
    with pytest.raises(FileError, match="holds a session already"):
        SessionFolder(tmp_path / "s")


def test_a_summary_is_strict_json_with_the_promised_names() -> None:
    player = Player(sample_rate_hz=8000)
    summary = summarise(
        Monitor(), player.statistics(), sent=None, delivered=0, lost=0, gaps=0, age_max_ms=np.nan
    )
    values = json.loads(json.dumps(summary.to_json(), allow_nan=False))
    promised = "sent delivered lost gaps windows skipped_windows age_ms stage_ms underruns"
    assert set(promised.split()) | {"seconds_played", "peak_dbfs"} <= set(values)
    assert values["sent"] is None
    assert values["age_ms"] == {"p50": None, "p99": None}


def test_the_table_shows_every_stage_and_what_was_lost() -> None:
    from rich.console import Console

    stages: dict[str, dict[str, float | None]] = {
        "ingest": {"p50": 1.25, "p99": 2.5},
        "sound": {"p50": None, "p99": None},
    }
    shown = Snapshot("playing", 3.0, {"p50": 40.0, "p99": 55.5}, stages, 10, 2, 1000, 7, 1, 0)
    console = Console(width=80, record=True, file=open("/dev/null", "w"))
    with console.capture() as captured:
        console.print(table(shown))
    text = captured.get()
    for part in ("ingest", "1.2", "2.5", "40.0", "55.5", "1000", "7", "10"):
        assert part in text
    for key, does in KEYS:
        assert f"{key}: {does}" in " ".join(text.split())
    console.file.close()
