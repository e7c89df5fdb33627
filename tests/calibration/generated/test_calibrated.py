"""Calibrations that end in a generator, from recordings to bundle, report and evaluation.

The networks have learnt nothing, so nothing is asked of the sound but that it is scored.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from calibration.acoustic.settings import AcousticSettings
from calibration.config import (
    CalibrationSettings,
    EvaluationSettings,
    GeneratorChoice,
    LagSettings,
    TargetSettings,
)
from calibration.evaluate import EvaluationJob, evaluate
from calibration.pipeline import CalibrationJob, calibrate
from calibration.report.result import Result
from calibration.simulate import SimulationSettings, simulate_dataset
from export.bundle import load_bundle
from export.chains import CoarseToFineChain, SemanticChain
from models.errors import FileError, SettingError
from tests.calibration.generated.mel_networks import write_networks

_FEW_STEPS = AcousticSettings(steps=20, batch=8, width=32, check_every=10)
_QUICK = EvaluationSettings(n_permutations=50, n_bootstrap=50, n_shuffled=1, families=False)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SimulationSettings(timetable="short", snr=1.0, n_runs=(3, 2))
    return simulate_dataset(tmp_path_factory.mktemp("simulated") / "sim", settings)


def _settings(generator: Path, **choice: object) -> CalibrationSettings:
    few = {"scored_clips": 4, "scored_s": 3.0, "scored_strengths": (0.5,), **choice}
    return replace(
        CalibrationSettings(),
        evaluation=_QUICK,
        lag=LagSettings(fixed_s=4.5),
        generator=GeneratorChoice(folder=generator, **few),  # type: ignore[arg-type]
    )


def _calibrated(dataset: Path, out: Path, settings: CalibrationSettings) -> Result:
    return calibrate(CalibrationJob(dataset, None, out, settings))


@pytest.mark.slow
def test_a_semantic_bundle_begun_from_retrieved_sounds_is_scored_alike_when_evaluated(
    dataset: Path, generator: Path, tmp_path: Path
) -> None:
    settings = _settings(generator, start="retrieval", strength=0.5, seed=7)
    result = _calibrated(dataset, tmp_path / "made", settings)
    assert result.sound is not None
    ways = [row.way for row in result.sound.rows]
    assert ways == [
        "embedding", "direct", "started", "retrieved", "shuffled", "shuffled", "true",
    ]  # fmt: skip
    assert all(0 <= row.identification <= 1 and row.n_clips == 4 for row in result.sound.rows)
    assert result.target == f"generator:{generator.name}"
    bundle = load_bundle(tmp_path / "made")
    chain = bundle.manifest.chain
    assert isinstance(chain, SemanticChain)
    assert chain.start is not None
    assert (chain.start.strength, chain.seed) == (0.5, 7)
    assert chain.embedding.name.startswith("generator-encoder-")
    assert bundle.manifest.scores["sound_identification"] == result.line()["sound_identification"]
    report = json.loads((tmp_path / "made" / "report.json").read_text())
    assert [row["way"] for row in report["sound"]["rows"]] == ways
    page = (tmp_path / "made" / "report.html").read_text()
    assert "What the generated sound tells" in page
    assert str(generator) not in page
    assert str(generator.parent) not in json.dumps(report)
    # The folder that it was made of is not needed any more.
    moved = generator.rename(generator.with_name("elsewhere"))
    try:
        again = evaluate(EvaluationJob(tmp_path / "made", dataset, None, settings))
    finally:
        moved.rename(generator)
    assert again.sound is not None
    assert again.line()["identification"] == pytest.approx(
        result.line()["identification"], abs=0.02
    )
    mine, theirs = result.sound.row("direct"), again.sound.row("direct")
    assert mine is not None
    assert theirs is not None
    assert mine.identification == pytest.approx(theirs.identification, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("acoustic", ["ridge", "transformer"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_coarse_to_fine_bundle_decodes_tokens_too(
    acoustic: str, dataset: Path, generator: Path, tmp_path: Path
) -> None:
    settings = _settings(
        generator, chain="coarse-to-fine", acoustic=acoustic, acoustic_options=_FEW_STEPS
    )
    result = _calibrated(dataset, tmp_path / "made", settings)
    assert result.sound is not None
    assert result.sound.chain == "coarse-to-fine"
    bundle = load_bundle(tmp_path / "made")
    assert isinstance(bundle.manifest.chain, CoarseToFineChain)
    assert bundle.manifest.chain.start is None
    # The network's own nodes are in the file; the closed form is two products.
    made = (tmp_path / "made" / "acoustic.onnx").read_bytes()
    assert (b"Softmax" in made) == (acoustic == "transformer")
    again = evaluate(EvaluationJob(tmp_path / "made", dataset, None, _settings(generator)))
    assert again.sound is not None
    assert [row.way for row in again.sound.rows] == ["embedding", "direct", "shuffled", "true"]


def test_what_does_not_go_together_is_refused_before_any_work(
    dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileError, match="holds no generator"):
        _calibrated(dataset, tmp_path / "made", _settings(tmp_path))
    folder = write_networks(tmp_path / "generator")
    for kind in ("class", "mel"):
        settings = replace(_settings(folder), target=TargetSettings(kind=kind))
        with pytest.raises(SettingError, match="takes an embedding of sounds"):
            _calibrated(dataset, tmp_path / "made", settings)
    assert not (tmp_path / "made").exists()


def test_the_space_that_is_decoded_to_never_judges(generator: Path, tmp_path: Path) -> None:
    from calibration.generated.calibrated import GeneratorEnd

    target = f"generator:{generator}"
    with pytest.raises(SettingError, match="always pleases it"):
        GeneratorEnd(GeneratorChoice(folder=generator, judge=target), target)
    other = write_networks(tmp_path / "other")
    (other / "encoder.onnx").write_bytes((other / "judge.onnx").read_bytes())
    with pytest.raises(SettingError, match="the encoder of another generator"):
        GeneratorEnd(GeneratorChoice(folder=generator), f"generator:{other}")
    judge = f"generator:{generator.parent / '..' / generator.parent.name}"
    judge = f"{judge}/{generator.name}"  # the same folder by another name
    with pytest.raises(SettingError, match="always pleases it"):
        GeneratorEnd(GeneratorChoice(folder=generator, judge=judge), target)
    with pytest.raises(SettingError, match="was exported with 2 steps"):
        GeneratorEnd(GeneratorChoice(folder=generator, steps=4), target)
    with pytest.raises(SettingError, match="is steered by the embedding 'generator'"):
        GeneratorEnd(GeneratorChoice(folder=generator), "mel-statistics")
