"""From a fine-tuning to a bundle that plays: both tuned parts, scored on what they never heard."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from calibration.evaluate import EvaluationJob, evaluate
from calibration.finetune.bundle import bundle_settings, bundle_tuned, check_bundle
from calibration.finetune.run import train_brain
from calibration.finetune.settings import BrainTraining
from calibration.pipeline import CalibrationJob, calibrate
from export.bundle import load_bundle
from export.chains import CoarseToFineChain
from export.checkpoint import read_training
from export.generator_export import export_generator
from export.generator_folder import Checks
from models.errors import FileError, SettingError
from models.settings import load_settings
from stream.offline import OfflineSettings, run_offline
from tests.calibration.finetune.training import (
    OPTIONS,
    SCORING,
    write_recordings,
    write_training,
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_both_tuned_parts_reach_a_bundle_that_plays_and_is_scored_on_test_runs_only(
    tmp_path: Path,
) -> None:
    recordings = write_recordings(tmp_path / "brain")
    training = write_training(tmp_path / "training")
    config = tmp_path / "brain.toml"
    config.write_text(
        OPTIONS.format(
            what=f'generator = "{training}"', recordings=recordings, method="transformer"
        )
        + SCORING
        + "scored_strengths = [0.5]\n",
        "utf-8",
    )
    settings = load_settings(config, BrainTraining)
    out, made = tmp_path / "tuned", tmp_path / "bundle"
    check_bundle(settings, made)
    assert train_brain(settings, out) is not None
    # One length of stretch and one step: each costs seconds to export.
    checks = Checks(conditions=2, streams=1)
    exported = out / "tuned-exported"
    export_generator(read_training(out), exported, steps=1, stretches=(16,), checks=checks)
    result = bundle_tuned(settings, out, made)
    bundle = load_bundle(made)
    assert isinstance(bundle.manifest.chain, CoarseToFineChain)
    said = json.loads((out / "tuned.json").read_text("utf-8"))
    assert bundle.manifest.files["acoustic.onnx"].sha256 == said["files"]["acoustic.onnx"]
    graph = "generator-16.onnx"
    assert (made / graph).read_bytes() == (exported / graph).read_bytes()
    assert result.sound is not None
    assert result.sound.chain == "coarse-to-fine"
    assert bundle.manifest.chain.tokens.steps == said["steps"]
    about = json.loads((made / "calibration.json").read_text("utf-8"))
    assert about["plan"]["stretch"] == "window"
    again = evaluate(EvaluationJob(made, recordings, None, settings.calibration))
    assert again.sound is not None

    read = {"subject": "01", "task": "Test", "run": "01"}
    run_offline(OfflineSettings(made, recordings, tmp_path / "played", read=read))
    pcm, _ = soundfile.read(tmp_path / "played" / "played.wav", dtype="float32")
    assert np.isfinite(pcm).all()
    assert np.abs(pcm).max() > 0

    # All runs held out in turn: the generator learnt from them.
    chosen = bundle_settings(settings, out, exported)
    folds = replace(chosen, evaluation=replace(chosen.evaluation, test="folds"))
    with pytest.raises(SettingError, match="learnt from 2 recordings, the bundle would from 3"):
        calibrate(CalibrationJob(recordings, None, tmp_path / "other", folds))
    plain = replace(folds, generator=replace(folds.generator, tuned=None, chain="semantic"))
    unscored = calibrate(CalibrationJob(recordings, None, tmp_path / "other", plain))
    assert unscored.sound is None
    assert any("what the generator was tuned on" in note for note in unscored.notes)


def test_what_cannot_become_a_bundle_is_refused_before_the_training(tmp_path: Path) -> None:
    settings = BrainTraining(recordings=tmp_path, generator=tmp_path / "training")
    with pytest.raises(FileError, match="needs the trained stage 'encoder'"):
        check_bundle(settings, tmp_path / "bundle")
