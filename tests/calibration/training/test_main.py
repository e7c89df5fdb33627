from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from calibration.training.__main__ import main
from calibration.training.checkpoint import load_tensors

_CONFIG = """
[sounds]
clips = 26
blends = 16
held_out = 13

[codec]
steps = 5000
batch = 4
"""
_SHORT = """
[sounds]
clips = 13
blends = 4
held_out = 2

[codec]
steps = 1
batch = 2
"""


def test_a_wrong_setting_is_named_and_leaves_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.toml"
    config.write_text("[codec]\nstep = 3\n")
    assert main(["small", "--out", str(tmp_path / "out"), "--config", str(config)]) == 2
    assert "'codec.step'. Did you mean 'steps'" in capsys.readouterr().err


def test_an_unknown_stage_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["codex", "--out", str(tmp_path)]) == 2
    assert "codex" in capsys.readouterr().err


def test_a_stage_ends_with_0_and_json_is_refused_a_second_time_and_stops_with_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.toml"
    config.write_text(_SHORT)
    out = str(tmp_path / "out")
    command = ["codec", "--out", out, "--config", str(config), "--json"]
    assert main([*command, "--budget", "0"]) == 4
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "done": False,
        "folder": out,
        "seconds": 0.0,
        "stages": {},
    }
    assert main([*command, "--resume"]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out.splitlines()[-1])
    assert result["done"]
    assert result["stages"]["codec"]["steps"] == 1
    assert "clips_mel_pcc" in result["stages"]["codec"]["scores"]
    assert "codec 1/1" in said.err
    assert "**codec**" in (tmp_path / "out" / "card.md").read_text()
    assert main(command) == 3
    assert "is trained" in capsys.readouterr().err
    assert main(["generator", "--out", out, "--config", str(config)]) == 3
    assert "Run the stage before this one" in capsys.readouterr().err
    assert main(["codec", "--out", out, "--sounds", "folder:none", "--resume"]) == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_cleanly(tmp_path: Path, kind: signal.Signals) -> None:
    config = tmp_path / "run.toml"
    config.write_text(_CONFIG)
    command = [sys.executable, "-m", "calibration.training", "codec", "--out"]
    command += [str(tmp_path / "out"), "--config", str(config), "--resume"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "codec 1" in line or "5000 steps" in line:
                process.send_signal(kind)
                break
        said += process.stderr.readlines()
        assert process.wait(60) == 4, "".join(said)
    assert "go on with --resume" in said[-1]
    checkpoint = tmp_path / "out" / "codec" / "checkpoint.safetensors"
    if checkpoint.exists():  # not if the signal came before the first step
        assert load_tensors(checkpoint)[1]["step"] >= 1
