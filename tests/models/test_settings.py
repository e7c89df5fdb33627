from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from models.errors import FileError, SettingError
from models.settings import load_settings, settings_from_dict


@dataclass(frozen=True)
class Lsl:
    window_s: float
    name: str = "EEG"


@dataclass(frozen=True)
class Session:
    lsl: Lsl
    sink: Literal["null", "device"] = "null"
    seconds: float | None = None
    out: Path | None = None
    markers: tuple[str, ...] = ()
    limits: tuple[float, float] = (0.0, 1.0)
    loud: bool = False
    steps: int = 2
    extra: Lsl = field(default_factory=lambda: Lsl(window_s=1.0))


def load(tmp_path: Path, text: str) -> Session:
    path = tmp_path / "session.toml"
    path.write_text(text)
    return load_settings(path, Session)


def test_a_file_becomes_the_dataclass_with_its_tables(tmp_path: Path) -> None:
    text = """
    sink = "device"
    seconds = 3
    out = "here"
    markers = ["a", "b"]
    limits = [0, 2.5]
    loud = true
    [lsl]
    window_s = 4
    """
    assert load(tmp_path, text) == Session(
        lsl=Lsl(window_s=4.0),
        sink="device",
        seconds=3.0,
        out=Path("here"),
        markers=("a", "b"),
        limits=(0.0, 2.5),
        loud=True,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lsl = {windows_s = 4.0}", r"'lsl\.windows_s'.*mean 'window_s'"),
        ("sinc = 'null'\nlsl = {window_s = 4.0}", r"'sinc'.*mean 'sink'"),
        ("zzz = 1\nlsl = {window_s = 4.0}", r"'zzz'.*Known"),
        ("lsl = {}", r"'lsl\.window_s' is missing"),
        ("lsl = {window_s = '4'}", r"'lsl\.window_s' must be float, got '4'"),
        ("lsl = {window_s = true}", r"must be float, got True"),
        ("sink = 'loud'\nlsl = {window_s = 4.0}", r"one of \['null', 'device'\], got 'loud'"),
        ("steps = 2.5\nlsl = {window_s = 4.0}", r"'steps' must be int"),
        ("limits = [1.0]\nlsl = {window_s = 4.0}", r"'limits' must be 2 values"),
        ("markers = [1]\nlsl = {window_s = 4.0}", r"'markers\[0\]' must be str"),
        ("lsl = 4", r"'lsl' must be a table, got 4"),
    ],
)
def test_a_wrong_setting_says_where_what_and_the_nearest(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        load(tmp_path, text)


def test_a_file_that_is_missing_or_not_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.toml"):
        load_settings(tmp_path / "none.toml", Session)
    with pytest.raises(FileError, match="not TOML"):
        load(tmp_path, "sink = ")


def test_what_is_given_elsewhere_wins_and_fills_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "session.toml"
    path.write_text("sink = 'device'\nloud = true")
    given = {"lsl": Lsl(2.0), "sink": "null"}
    assert load_settings(path, Session, given=given) == Session(Lsl(2.0), sink="null", loud=True)


def test_only_a_dataclass_can_be_filled() -> None:
    with pytest.raises(TypeError):
        settings_from_dict(dict, {})
