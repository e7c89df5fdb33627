from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from export.cli import register
from export.generator import open_generator
from export.runtime import has_provider
from models.errors import BundleError, DeviceError, FileError, HearbackError, SettingError

app = typer.Typer()
register(app)


@app.callback()
def main() -> None:
    """One command stands beside others, as in the whole program."""


def _refused(kind: type[HearbackError], *arguments: str | Path) -> str:
    found = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert isinstance(found.exception, kind), found.exception
    return str(found.exception)


def test_an_exported_generator_is_exported_again_in_half_precision(
    plain: Path, tmp_path: Path
) -> None:
    out = tmp_path / "half"
    arguments = [str(plain), "--out", str(out), "--precision", "fp16", "--conditions", "5"]
    found = CliRunner().invoke(app, ["export", *arguments, "--json"])
    assert found.exit_code == 0, found.exception
    said = json.loads(found.stdout.splitlines()[-1])
    assert said["precision"] == "fp16"
    assert said["providers"] == ["CPUExecutionProvider"]
    assert said["failed"] == []
    assert said["figures"]["random.conditions"] == 5.0
    assert said["live_bytes"] <= said["bytes"]
    assert open_generator(out).card.precision == "fp16"


def test_what_cannot_be_exported_is_refused_in_a_sentence(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "cannot be exported" in _refused(FileError, tmp_path, "--out", out)
    stage = tmp_path / "run" / "codec"
    stage.mkdir(parents=True)
    (stage / "final.safetensors").write_bytes(b"")
    said = _refused(FileError, tmp_path / "run", "--out", out)
    assert "lacks the trained encoder, judge, tokens, vocoder and generator" in said
    assert "is exported already" in _refused(SettingError, plain, "--out", out, "--teacher")
    anew = plain, "--out", out, "--steps", "2"
    assert "holds one denoiser" in _refused(SettingError, *anew, "--teacher")
    assert "not all of its networks are here" in _refused(BundleError, *anew)
    assert not out.exists()


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    plain: Path, tmp_path: Path
) -> None:
    if has_provider("cuda"):
        pytest.skip("this ONNX Runtime knows CUDA")
    for device in ("cuda", "tensorrt"):
        said = _refused(DeviceError, plain, "--out", tmp_path / "o", "--device", device)
        assert f"no support for {device}" in said
    assert list(tmp_path.iterdir()) == []
