from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from calibration.training.card import card_fields, model_card
from calibration.training.checkpoint import save_tensors
from calibration.training.made_with import made_with
from models.errors import FileError


def _stage(folder: Path, name: str, **note: object) -> None:
    save_tensors(folder / name / "final.safetensors", {"x": torch.zeros(1)}, note)


def test_a_card_tells_recipe_time_machine_scores_and_licence(tmp_path: Path) -> None:
    recipe = {"size": "tiny", "seed": 7, "sounds": {"clips": 40}, "codec": {"steps": 12}}
    (tmp_path / "run.json").write_text(json.dumps(recipe))
    made = made_with("cpu", threads=1, processes=2)
    _stage(tmp_path, "codec", step=12, seconds=90.0, scores={"mel_pcc": 0.987654}, made_with=made)
    page = model_card(tmp_path)
    for words in ("Apache-2.0", "Seed 7", "40 clips", "12 steps", "2 min", "0.9877", '"steps": 12'):
        assert words in page
    assert made["machine"] in page
    assert f"torch {torch.__version__}" in page
    assert "no diagnosis" in page
    assert json.loads(json.dumps(card_fields(tmp_path)))["stages"]["codec"]["seconds"] == 90.0


def test_a_stage_without_a_clock_is_timed_by_its_log(tmp_path: Path) -> None:
    _stage(tmp_path, "codec", step=30, scores={"mel_pcc": float("nan")})
    rows = [{"step": 10, "steps_per_s": 2.0}, {"step": 30, "steps_per_s": 4.0}, {"scores": {}}]
    (tmp_path / "codec" / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    fields = card_fields(tmp_path)
    assert fields["stages"]["codec"]["seconds"] == pytest.approx(10.0)
    assert fields["stages"]["codec"]["scores"]["mel_pcc"] is None
    assert fields["made_with"] is None


def test_a_folder_without_a_stage_has_no_card(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no finished stage"):
        model_card(tmp_path)
