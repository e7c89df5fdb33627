"""The command line as a person at a terminal meets it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_HEARBACK = [sys.executable, str(Path(__file__).resolve().parents[1] / "hearback.py")]
_COMMANDS = (
    "streams",
    "record",
    "replay",
    "live",
    "run",
    "demo",
    "simulate",
    "calibrate",
    "evaluate",
    "reproduce",
    "test",
)


def hearback(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_HEARBACK, *arguments], cwd=folder, capture_output=True, text=True, timeout=110
    )


def test_help_names_every_command() -> None:
    result = hearback("--help")
    assert result.returncode == 0
    for name in _COMMANDS:
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("name", _COMMANDS)
def test_help_of_a_command_ends_with_a_command_to_paste(name: str) -> None:
    result = hearback(name, "--help")
    assert result.returncode == 0
    last = result.stdout.rstrip().splitlines()[-1]
    assert last.strip().startswith(f"Try it:  hearback {name}")


def test_help_loads_nothing_heavy() -> None:
    """Instant help: what a command needs is imported when it runs."""
    code = (
        "import sys, hearback\n"
        "heavy = {'numpy', 'scipy', 'mne', 'onnxruntime', 'pylsl', 'rich', 'torch'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nonsense"], 2, "nonsense"),
        (["live"], 2, "Missing argument"),
        (["record", "--stream", "EEG"], 2, "Missing option"),
        (["live", "no-such-bundle", "--stream", "EEG"], 3, "no-such-bundle"),
        (["run", "no-such-bundle", "no-such-file.edf", "--out", "x"], 3, "no-such-bundle"),
        (["replay", "no-such-file.edf"], 3, "no-such-file.edf"),
        (["replay", "no-such-file.edf", "--fault", "explode:at=1"], 2, "explode"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_an_exit_code(
    arguments: list[str], code: int, sentence: str, tmp_path: Path
) -> None:
    result = hearback(*arguments, folder=tmp_path)
    assert result.returncode == code, result.stderr
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == [], "a refused command leaves nothing behind"


@pytest.mark.lsl
def test_a_stream_that_is_missing_is_named_with_what_was_found(tmp_path: Path) -> None:
    result = hearback("record", "--stream", "no-such-cap", "--seconds", "1", "--out", str(tmp_path))
    assert result.returncode == 3
    assert "no-such-cap" in result.stderr
    assert "Traceback" not in result.stderr
