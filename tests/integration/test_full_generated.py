"""Full-size layouts from a checkpoint to sound: exported, calibrated with, run on a recording.

The weights are random and the networks narrow; every part of the path is the true one.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

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
from models.errors import SettingError
from models.nets.full.published import FamilyName
from stream.offline import OfflineSettings, run_offline
from tests.calibration.generated.mel_networks import write_whole

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


def _exported(family: FamilyName, folder: Path) -> Path:
    from export.full_export import export_full
    from export.generator_folder import Checks
    from tests.models.nets.full.tiny import shallow_generator, with_room

    text = np.random.default_rng(0).standard_normal((1, 3, 1024)).astype(np.float32)
    card = export_full(
        with_room(shallow_generator(family), heard=0.3),
        folder,
        name="shallow",
        licence="for tests",
        steps=1,
        stretches=(16,),
        prefix=8,
        text=text if family == "audioldm2" else None,
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
