"""What the README shows is what works: its commands are run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data import shared

_ROOT = Path(__file__).resolve().parents[1]
_README = (_ROOT / "README.md").read_text()
_BLOCKS = re.findall(r"```bash\n(.*?)```", _README, re.DOTALL)
# Commands that other tests, or CI itself, run: here it is only checked that they do.
_ELSEWHERE = {
    "python3 hearback.py test": (".ci/run", "python3 hearback.py test"),
    "python -m calibration.make_demo_bundles --out bundles": (
        "tests/calibration/test_fits.py",
        "make_demo_bundles",
    ),
}


def _shell(folder: Path) -> dict[str, str]:
    """Return an environment in which the README's commands are this clone's."""
    programs = folder / "programs"
    programs.mkdir()
    python = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
    ours = f'#!/bin/sh\nexec "{sys.executable}" "{_ROOT / "hearback.py"}" "$@"\n'
    for name, text in (("python3", python), ("python", python), ("hearback", ours)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(_ROOT)}


def _run(block: str, folder: Path, environment: dict[str, str]) -> None:
    result = subprocess.run(
        ["bash", "-eu", "-c", block],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1000,
    )
    said = f"$ {block}\n{result.stdout}\n{result.stderr}"
    assert result.returncode == 0, said
    assert "Traceback" not in said, said


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("hearback.py", "calibration"):
        (tmp_path / name).symlink_to(_ROOT / name)
    return tmp_path


@pytest.mark.lsl
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_every_command_block_runs_one_after_the_other(clone: Path) -> None:
    environment = _shell(clone)
    blocks = [block.strip() for block in _BLOCKS if block.strip() not in _ELSEWHERE]
    blocks = [block for block in blocks if "my-sessions" not in block]
    assert len(blocks) >= 6
    for block in blocks:
        _run(block, clone, environment)
    for code in re.findall(r"```python\n(.*?)```", _README, re.DOTALL):
        (clone / "example.py").write_text(code)
        _run("python example.py", clone, environment)
    assert (clone / "bundles/again/report.html").is_file()
    assert (clone / "bundles/me/manifest.json").is_file()
    assert (clone / "generator/generator.json").is_file()
    assert '"kind": "semantic"' in (clone / "bundles/generated/manifest.json").read_text()
    assert (clone / "sessions/live/summary.json").is_file()
    assert (clone / "sessions/faulty/recording.xdf").is_file()
    assert (clone / "sessions/offline/played.wav").is_file()


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_commands_for_real_eeg_run(clone: Path) -> None:
    (block,) = (block for block in _BLOCKS if "my-sessions" in block)
    (clone / "my-sessions").mkdir()
    for number, path in enumerate(sorted(shared("eeg_ssaep").glob("*.csv")), start=1):
        shutil.copy(path, clone / "my-sessions" / f"session-{number}.csv")
    (settings,) = re.findall(r"```toml\n(.*?)```", _README, re.DOTALL)
    (clone / "pulses.toml").write_text(settings)
    _run(block, clone, _shell(clone))
    assert (clone / "sessions/pulses/played.wav").is_file()


@pytest.mark.parametrize("command", _ELSEWHERE)
def test_the_other_commands_are_run_elsewhere(command: str) -> None:
    place, text = _ELSEWHERE[command]
    assert command in (block.strip() for block in _BLOCKS)
    assert text in (_ROOT / place).read_text()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"python -m benchmarks\.(\w+)", _README))))
def test_a_benchmark_of_the_readme_starts(name: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    results = _ROOT / "benchmarks" / "results"
    assert (results / f"{name}.md").is_file() or list(results.glob(f"{name}-*.md"))


def test_every_file_that_the_readme_links_to_is_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", _README)
    assert targets
    for target in targets:
        assert target.startswith("http") or (_ROOT / target).exists(), target
