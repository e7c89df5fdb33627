from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.errors import SettingError
from stream.config import LiveSettings, make_live_settings


def test_a_session_file_and_the_command_line_make_settings(tmp_path: Path) -> None:
    path = tmp_path / "session.toml"
    path.write_text('bundle = "b"\nstream = "EEG"\nsink = "null"\nlead_s = 0.05\nmarkers = ["M"]\n')
    made = make_live_settings(path, sink="a.wav", seconds=None, stream="other")
    assert made == LiveSettings(
        Path("b"), "other", sink="a.wav", lead_s=0.05, markers=("M",), seconds=None
    )


def test_the_command_line_alone_is_enough() -> None:
    made = make_live_settings(bundle=Path("b"), stream="EEG", out=None)
    assert made == LiveSettings(Path("b"), "EEG")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bundle": Path("b")}, "'stream' is missing"),
        ({"bundle": Path("b"), "stream": " "}, "hearback streams"),
        ({"bundle": Path("b"), "stream": "x", "ceiling_dbfs": 3.0}, "'ceiling_dbfs' must lie"),
        ({"bundle": Path("b"), "stream": "x", "lead_s": float("nan")}, "'lead_s' must lie"),
        ({"bundle": Path("b"), "stream": "x", "device": "tpu"}, "'device' must be one of"),
        ({"bundle": Path("b"), "stream": "x", "seconds": 0.0}, "'seconds' must lie"),
        ({"bundle": Path("b"), "stream": "x", "seed": -1}, "'seed' must lie"),
        ({"bundle": Path("b"), "stream": "x", "strength": 1.5}, "'strength' must lie"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        make_live_settings(**given)


def test_a_misspelt_setting_names_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "session.toml"
    path.write_text('bundle = "b"\nstream = "EEG"\nlead = 0.05\n')
    with pytest.raises(SettingError, match="Did you mean 'lead_s'"):
        make_live_settings(path)
