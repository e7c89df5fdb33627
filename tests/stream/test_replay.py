"""Settings of a replay that cannot work are refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import FileError, HearbackError, SettingError
from stream.replay_settings import ReplaySettings, load


def a_table(path: Path) -> Path:
    rows = [f"{k / 200},{k % 7},{k % 5}" for k in range(400)]
    path.write_text("\n".join(["timestamps,A,B", *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"speed": 0.0}, SettingError, "expected 0.01 to 1000"),
        ({"speed": float("nan")}, SettingError, "expected 0.01 to 1000"),
        ({"chunk_s": 0.0}, SettingError, "chunk_s"),
        ({"fault": "boom"}, SettingError, "Unknown fault"),
        ({"fault": "kill:at=99,for=1"}, SettingError, "kill:at=99 lies behind the end"),
        ({"fault": "drop:at=99,n=1"}, SettingError, "drop:at=99 lies behind the end"),
        ({"kind": "BOLD"}, SettingError, "No signal with type"),
        ({"path": "nothing.xdf"}, FileError, "No recording at"),
    ],
)
def test_what_cannot_work_is_refused(
    tmp_path: Path, settings: dict[str, object], kind: type[HearbackError], said: str
) -> None:
    values = {"path": a_table(tmp_path / "x.csv"), **settings}
    with pytest.raises(kind, match=said):
        load(ReplaySettings(**values))  # type: ignore[arg-type]
