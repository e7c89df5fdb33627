"""New recordings taken into a bundle: as a fit on all of them with the same choices."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.config import (
    CalibrationSettings,
    DataSettings,
    DecoderSettings,
    EvaluationSettings,
)
from calibration.evaluate import EvaluationJob, evaluate
from calibration.pipeline import CalibrationJob, calibrate
from calibration.recalibrate import update_bundle
from calibration.simulate import SimulationSettings, simulate_dataset
from export.bundle import load_bundle
from export.runtime import open_runner
from models.errors import FileError, SettingError

_QUICK = EvaluationSettings(
    n_permutations=50, n_bootstrap=50, n_shuffled=0, families=False, test="folds"
)


def _settings(kind: str, *runs: str, updatable: bool = False) -> CalibrationSettings:
    decoder = DecoderSettings(kind=kind, n_selected=60)  # type: ignore[arg-type]
    data = DataSettings(tasks=("Training",), runs=runs)
    return replace(
        CalibrationSettings(),
        data=data,
        decoder=decoder,
        evaluation=_QUICK,
        updatable=updatable,
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SimulationSettings(timetable="short", snr=1.0, n_runs=(4, 1))
    return simulate_dataset(tmp_path_factory.mktemp("simulated") / "sim", settings)


@pytest.mark.parametrize("kind", ["ridge", "selected"])
def test_a_run_is_taken_in_and_the_test_still_decodes(
    kind: str, dataset: Path, tmp_path: Path
) -> None:
    before = _settings(kind, "01", "02", "03", updatable=True)
    out = tmp_path / "first"
    calibrate(CalibrationJob(dataset, None, out, before))
    values = update_bundle(
        out, dataset, tmp_path / "second", participant=None, settings=_settings(kind, "04")
    )
    assert values["windows_taken_in"] > 0
    first, second = load_bundle(out), load_bundle(tmp_path / "second")
    seen = [
        json.loads(b.file("calibration.json").read_text())["trained_on"] for b in (first, second)
    ]
    assert len(seen[1]) == len(seen[0]) + 1
    x = np.random.default_rng(0).normal(size=(1, first.n_features)).astype(np.float32)
    decoded = [
        open_runner(b.file("decoder.onnx")).run({"features": x})["embedding"]
        for b in (first, second)
    ]
    moved = float(np.abs(decoded[0] - decoded[1]).max())
    assert 1e-4 < moved < 0.5  # it learnt, and is still the same decoder
    test = replace(before, data=DataSettings(tasks=("Test",)))
    result = evaluate(EvaluationJob(tmp_path / "second", dataset, None, test))
    assert not result.leaky
    assert result.line()["identification_ties_half"] > 0.6
    # What it has seen by now is no news, neither for an update nor for a score.
    with pytest.raises(SettingError, match="new recordings"):
        update_bundle(
            tmp_path / "second",
            dataset,
            tmp_path / "third",
            participant=None,
            settings=_settings(kind, "04"),
        )


def test_a_bundle_without_what_an_update_needs_is_refused(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "plain"
    calibrate(CalibrationJob(dataset, None, out, _settings("ridge", "01", "02")))
    with pytest.raises(FileError, match="--updatable"):
        update_bundle(
            out, dataset, tmp_path / "new", participant=None, settings=_settings("ridge", "04")
        )
