"""Full-size layouts from a checkpoint to sound: exported, calibrated with, run on a recording.

The weights are random and the networks narrow; every part of the path is the true one.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from calibration.config import (
    CalibrationSettings,
    EvaluationSettings,
    GeneratorChoice,
    LagSettings,
    TargetSettings,
)
from calibration.pipeline import CalibrationJob, calibrate
from calibration.simulate import SimulationSettings, simulate_dataset
from export.bundle import load_bundle
from export.chains import CoarseToFineChain, SemanticChain
from export.tuned_checkpoint import TunedCheckpoint, read_tuned_checkpoint
from models.errors import SettingError
from models.nets.full.published import FamilyName
from stream.offline import OfflineSettings, run_offline
from tests.calibration.generated.mel_networks import write_whole

if TYPE_CHECKING:
    from models.nets.full.generator import FullGenerator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("diffusers", "onnxscript")),
        reason="full-size checkpoints are exported with diffusers and onnxscript",
    ),
]

_RATE_HZ = 16_000


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SimulationSettings(timetable="short", snr=1.0, n_runs=(3, 2))
    return simulate_dataset(tmp_path_factory.mktemp("simulated") / "sim", settings)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small generator, whose encoder and tokens stand for CLAP's and AudioMAE's."""
    return write_whole(tmp_path_factory.mktemp("small") / "plain")


_TEXT = np.random.default_rng(0).standard_normal((3, 1024)).astype(np.float32)


def _exported(family: FamilyName, folder: Path) -> Path:
    from tests.models.nets.full.tiny import shallow_generator, with_room

    return _export(with_room(shallow_generator(family), heard=0.3), folder)


def _export(
    generator: FullGenerator, folder: Path, *, tuned: TunedCheckpoint | None = None
) -> Path:
    from export.full_export import export_full
    from export.generator_folder import Checks

    card = export_full(
        generator,
        folder,
        name="shallow",
        licence="for tests",
        steps=1,
        stretches=(16,),
        prefix=8,
        text=_TEXT[None] if generator.family.name == "audioldm2" else None,
        tuned=tuned,
        checks=Checks(conditions=1, streams=1),
    )
    assert card.parity["failed"] == []
    return folder


def _settings(target: str | None, **choice: object) -> CalibrationSettings:
    few = {"scored_clips": 3, "scored_s": 1.0, **choice}
    quick = EvaluationSettings(n_permutations=20, n_bootstrap=20, n_shuffled=1, families=False)
    return replace(
        CalibrationSettings(),
        target=TargetSettings(kind=target),
        evaluation=quick,
        lag=LagSettings(fixed_s=4.5),
        generator=GeneratorChoice(**few),  # type: ignore[arg-type]
    )


def _ways(bundle: Path) -> list[str]:
    report = json.loads((bundle / "report.json").read_text("utf-8"))
    return [row["way"] for row in report["sound"]["rows"]]


def _sounds(bundle: Path, dataset: Path, out: Path) -> None:
    """Run a recording and look at what was played."""
    read = {"subject": "01", "task": "Test", "run": "01"}
    summary = run_offline(OfflineSettings(bundle, dataset, out, read=read))
    sound, rate_hz = soundfile.read(out / "played.wav", dtype="float32")
    assert rate_hz == _RATE_HZ
    assert np.isfinite(sound).all()
    assert float(np.sqrt(np.mean(np.square(sound)))) > 1e-3
    assert summary.stretches_invalid == 0
    assert summary.decoded > 10
    hop_s = load_bundle(bundle).manifest.sound.block_s
    # A window of silence comes before the first that is decoded.
    assert len(sound) / _RATE_HZ == pytest.approx((summary.decoded + 1) * hop_s, abs=0.5 * hop_s)


def test_a_musicldm_is_exported_calibrated_with_and_heard(
    dataset: Path, small: Path, tmp_path: Path
) -> None:
    exported = _exported("musicldm", tmp_path / "exported")
    made = tmp_path / "made"

    def run(target: str | None, **choice: object) -> None:
        settings = _settings(target, folder=exported, **choice)
        calibrate(CalibrationJob(dataset, None, made, settings))

    with pytest.raises(SettingError, match=r"brings no encoder of sounds.*--target clap:FOLDER"):
        run(None)
    with pytest.raises(SettingError, match="brings no encoder of sounds"):
        run("mel-statistics")
    with pytest.raises(SettingError, match="takes no acoustic tokens"):
        run("clap-small-random", chain="coarse-to-fine")
    assert not made.exists()
    run("clap-small-random", judge=f"generator-judge:{small}")
    chain = load_bundle(made).manifest.chain
    assert isinstance(chain, SemanticChain)
    assert _ways(made) == ["embedding", "direct", "shuffled", "true"]
    _sounds(made, dataset, tmp_path / "out")


def test_an_audioldm2_is_exported_calibrated_with_and_heard(
    dataset: Path, small: Path, tmp_path: Path
) -> None:
    exported = _exported("audioldm2", tmp_path / "exported")
    made, target = tmp_path / "made", f"generator:{small}"

    def run(**choice: object) -> None:
        settings = _settings(target, folder=exported, **choice)
        calibrate(CalibrationJob(dataset, None, made, settings))

    with pytest.raises(SettingError, match="takes acoustic tokens, not an embedding"):
        run(chain="semantic")
    with pytest.raises(SettingError, match="--tokens audiomae:FILE"):
        run(chain="coarse-to-fine")
    with pytest.raises(SettingError, match="makes no acoustic tokens"):
        run(chain="coarse-to-fine", tokens="clap-small-random")
    assert not made.exists()
    run(chain="coarse-to-fine", tokens=target)
    bundle = load_bundle(made)
    chain = bundle.manifest.chain
    assert isinstance(chain, CoarseToFineChain)
    assert chain.tokens.shape == (8, 768)
    assert _ways(made) == ["embedding", "direct", "shuffled", "true"]
    assert str(small) not in (made / "report.json").read_text("utf-8")
    _sounds(made, dataset, tmp_path / "out")


_TUNING = """
[full]
checkpoint = "{checkpoint}"
family = "audioldm2"
published = false
lora_rank = 2
prefix = 8
pooling = "mean-max"
clap = "generator:{small}"
tokens = "generator:{small}"
text = "{text}"
"""


def test_a_tuned_audioldm2_brings_its_acoustic_decoder_into_a_bundle(
    small: Path, tmp_path: Path
) -> None:
    from calibration.finetune.bundle import bundle_tuned, check_bundle
    from calibration.finetune.run import train_brain
    from calibration.finetune.settings import BrainTraining
    from models.nets.full.loaders import load_full_generator
    from models.nets.full.random_weights import save_checkpoint
    from models.settings import load_settings
    from tests.calibration.finetune.training import OPTIONS, SCORING, write_recordings
    from tests.models.nets.full.tiny import shallow_generator

    recordings, out = write_recordings(tmp_path / "brain"), tmp_path / "tuned"
    checkpoint, text = tmp_path / "checkpoint", tmp_path / "text.npy"
    save_checkpoint(shallow_generator("audioldm2"), checkpoint)
    np.save(text, _TEXT)
    config = tmp_path / "brain.toml"
    options = OPTIONS.format(what="", recordings=recordings, method="transformer") + SCORING
    config.write_text(options + _TUNING.format(checkpoint=checkpoint, small=small, text=text))
    settings, made = load_settings(config, BrainTraining), tmp_path / "made"
    check_bundle(settings, made)
    report = train_brain(settings, out)
    assert report is not None
    assert report.parity is not None
    assert report.parity <= 1e-5
    # One length of stretch and one step: each costs seconds to export.
    loaded = load_full_generator(str(out / "checkpoint"), "audioldm2", published=False)
    note = read_tuned_checkpoint(out / "checkpoint")
    exported = _export(loaded.generator, out / "tuned-exported", tuned=note)
    result = bundle_tuned(settings, out, made)
    bundle = load_bundle(made)
    assert isinstance(bundle.manifest.chain, CoarseToFineChain)
    assert bundle.manifest.chain.tokens.shape == (8, 768)
    assert (made / "acoustic.onnx").read_bytes() == (out / "acoustic.onnx").read_bytes()
    assert (made / "generator-16.onnx").read_bytes() == (
        exported / "generator-16.onnx"
    ).read_bytes()
    assert result.sound is not None
    assert _ways(made) == ["embedding", "direct", "shuffled", "true"]
    _sounds(made, recordings, tmp_path / "out")
    # Tokens enter a tuned checkpoint as they did then, whoever makes the decoder.
    other = _settings(f"generator:{small}", folder=exported, chain="coarse-to-fine", tuned=out)
    with pytest.raises(SettingError, match=r"tuned with pooling = 'mean-max'"):
        calibrate(CalibrationJob(recordings, None, tmp_path / "other", other))
