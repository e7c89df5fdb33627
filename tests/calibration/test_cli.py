"""The commands of calibration as a person at a terminal meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_HEARBACK = [sys.executable, str(Path(__file__).resolve().parents[2] / "hearback.py")]
_KEYS = {
    "identification",
    "identification_ties_half",
    "chance",
    "floor_shuffled",
    "ceiling",
    "permutation_p",
    "n_clips",
    "split",
    "leaky",
    "test_openings",
    "lag_s",
    "decodable",
    "fit_s",
    "peak_mb",
}


def hearback(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_HEARBACK, *arguments], cwd=folder, capture_output=True, text=True, timeout=300
    )


def _last(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    values: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("commands")
    (place / "quick.toml").write_text(
        "[evaluation]\nn_permutations = 100\nn_bootstrap = 100\nn_shuffled = 1\n"
    )
    simulated = _last(
        hearback(
            *"simulate --out sim --timetable short --people 2 --snr 1 --seed 4 --json".split(),
            folder=place,
        )
    )
    assert simulated["participants"] == ["sub-01", "sub-02"]
    return place


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_participant_is_calibrated_and_evaluated(folder: Path) -> None:
    line = _last(
        hearback(
            *"calibrate sim --participant 01 --config quick.toml --out made/one --json".split(),
            folder=folder,
        )
    )
    assert set(line) >= _KEYS
    assert line["decodable"] is True
    assert line["leaky"] is False
    again = _last(hearback("evaluate", "made/one", "sim", "--json", folder=folder))
    assert set(again) >= _KEYS
    assert again["identification"] == line["identification"]
    assert (folder / "made/one/report.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scheduler", [(), ("--scheduler", "local")])
def test_several_people_at_once_or_one_after_the_other_come_out_the_same(
    folder: Path, scheduler: tuple[str, ...]
) -> None:
    name = "cluster" if scheduler else "here"
    line = _last(
        hearback(
            *f"calibrate sim --participant all --config quick.toml --out {name} --json".split(),
            *scheduler,
            folder=folder,
        )
    )
    scores = [one["identification"] for one in line["participants"]]
    assert len(scores) == 2
    kept = folder / "scores.json"
    if kept.exists():
        assert json.loads(kept.read_text()) == scores
    kept.write_text(json.dumps(scores))
    assert (folder / name / "sub-02" / "manifest.json").is_file()


@pytest.mark.slow
def test_several_settings_make_a_bundle_each(folder: Path) -> None:
    (folder / "few.toml").write_text(
        "[decoder]\nkind = 'selected'\nn_selected = 50\n"
        "[evaluation]\nn_permutations = 100\nn_bootstrap = 100\nn_shuffled = 1\n"
    )
    line = _last(
        hearback(
            *"calibrate sim --participant 01 --config quick.toml --config few.toml".split(),
            *"--out settings --json".split(),
            folder=folder,
        )
    )
    assert len(line["participants"]) == 2
    assert (folder / "settings/quick/report.html").is_file()
    assert (folder / "settings/few/report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("calibrate no-such-folder --out x", 3, "no-such-folder"),
        ("calibrate --out x", 2, "Name the data set"),
        ("calibrate . --out x --config no-such.toml", 3, "no-such.toml"),
        ("calibrate . --out x --config wrong.toml", 2, "Did you mean 'n_folds'"),
        ("calibrate . --out x", 3, "no data set that can be read"),
        ("calibrate --live --stream Cap --out x", 2, "--stimuli"),
        ("calibrate . --out x --config a.toml --config b/a.toml", 2, "different names"),
        ("evaluate no-such-bundle .", 3, "no-such-bundle"),
        ("simulate --out full", 3, "full"),
        ("simulate --out y --snr -1", 2, "snr"),
        ("simulate --out y --people 0", 2, "people"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_an_exit_code(
    arguments: str, code: int, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "wrong.toml").write_text("[decoder]\nn_fold = 3\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("in the way")
    result = hearback(*arguments.split(), folder=tmp_path)
    assert result.returncode == code, result.stderr
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
