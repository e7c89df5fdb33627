"""What a fine-tuning leaves, and what a calibration must be like to take it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.acoustic.fit import fit_acoustic
from calibration.acoustic.settings import AcousticSettings
from calibration.config import CalibrationSettings, GeneratorChoice, LagSettings
from calibration.data.dataset import Run
from calibration.generated.tuned import Tuned
from calibration.generated.tuned_record import TunedRecord, read_tuned, write_tuned
from calibration.outer import Fit
from calibration.plan import Plan, make_plan
from calibration.readers import read_dataset
from calibration.simulate import RegionSettings, SimulationSettings, simulate_dataset
from calibration.steps import array_digest
from export.generator_files import GeneratorCard
from models.errors import FileError, SettingError
from tests.calibration.acoustic.brain import make_windows
from tests.calibration.generated.mel_networks import network_card

_N = 40  # features


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, tuple[Run, ...]]:
    folder = tmp_path_factory.mktemp("simulated") / "sim"
    settings = SimulationSettings(
        timetable="short", n_runs=(2, 1), clips_per_run=4, n_test_clips=3, repetitions=1,
        regions=(RegionSettings("heschl", 10),), n_other_voxels=2, latent_dim=4,
    )  # fmt: skip
    dataset = read_dataset(simulate_dataset(folder, settings))
    name = dataset.participants[0]
    chosen = replace(CalibrationSettings(), lag=LagSettings(fixed_s=4.5))
    return replace(make_plan(dataset, name, chosen), stretch="window"), dataset.of(name)


@pytest.fixture
def fit() -> Fit:
    rng = np.random.default_rng(2)
    return Fit(
        decoder=None,  # type: ignore[arg-type]  # nothing is decoded here
        mean=rng.normal(100.0, 5.0, _N),
        std=rng.uniform(1.0, 2.0, _N),
        lag_s=4.5,
        lag=None,
        centre=rng.standard_normal(512),
        held_out_r=None,
        train=make_windows(n_features=_N).samples,
    )


def _record(plan: Plan, runs: tuple[Run, ...]) -> TunedRecord:
    import json

    values: dict[str, Any] = json.loads(json.dumps(plan.to_json()))
    trained = tuple(array_digest(run.signal) for run in runs if run.part == "train")
    return TunedRecord(plan.participant, "abc", trained, values, 0.3, 4.5, "ridge", 2)


def _card(record: TunedRecord, **told: Any) -> GeneratorCard:
    tuned = {"weights": record.weights, "trained_on": list(record.trained_on), **told}
    return replace(network_card(), about={"recipe": {"tuned": tuned}})


@pytest.fixture
def folder(tmp_path: Path, heard: tuple[Plan, tuple[Run, ...]], fit: Fit) -> Path:
    windows = make_windows(n_features=_N)
    decoder = fit_acoustic(
        windows.samples,
        windows.tokens,
        windows.decoded,
        windows.samples.clip,
        AcousticSettings(method="ridge", rank=4, token_rank=8),
    )
    out = tmp_path / "tuned"
    out.mkdir()
    decoder.export_onnx(out / "acoustic.onnx")
    record = write_tuned(out, _record(*heard), fit, tokens=decoder.mean)
    assert read_tuned(out) == record
    x, s = windows.samples.mean_x()[:3], windows.decoded[:3]
    tuned = Tuned(GeneratorChoice(tuned=out), _card(record)).decoder(fit, hop_s=0.3)
    np.testing.assert_allclose(tuned.predict(x, s), decoder.predict(x, s), atol=1e-4)
    assert tuned.predict(x[:0], s[:0]).shape == (0, 16, 768)
    np.testing.assert_allclose(tuned.mean, decoder.mean)
    return out


def test_what_fits_is_taken_and_the_stretch_that_was_embedded_with_it(
    folder: Path, heard: tuple[Plan, tuple[Run, ...]]
) -> None:
    plan, runs = heard
    tuned = Tuned(GeneratorChoice(tuned=folder), _card(_record(plan, runs)))
    made = tuned.planned(replace(plan, stretch="clip"), runs)
    assert made.stretch == "window"
    assert "each window's stretch" in made.notes[-1]
    assert not tuned.unscored
    assert tuned.planned(plan, runs) == plan


def test_another_participant_other_recordings_or_features_are_refused(
    folder: Path, heard: tuple[Plan, tuple[Run, ...]]
) -> None:
    plan, runs = heard
    tuned = Tuned(GeneratorChoice(tuned=folder), _card(_record(plan, runs)))
    last = [run for run in runs if run.part == "train"][-1]
    fewer = tuple(run for run in runs if run is not last)
    for other, taken, alone, said in (
        (replace(plan, participant="sub-77"), runs, True, "one brain says nothing of another"),
        (plan, fewer, True, "learnt from 2 recordings, the bundle would from 1, and 1 are"),
        (plan, runs, False, "one participant alone"),
        (replace(plan, lags_s=(3.0,)), runs, True, r"with lags_s \[4.5\], here they are \[3.0\]"),
    ):
        with pytest.raises(SettingError, match=said):
            tuned.planned(other, taken, alone=alone)


def test_other_statistics_embeddings_or_windows_are_refused(
    folder: Path, heard: tuple[Plan, tuple[Run, ...]], fit: Fit
) -> None:
    tuned = Tuned(GeneratorChoice(tuned=folder), _card(_record(*heard)))
    with pytest.raises(SettingError, match=r"every 0.3 s and a lag of 4.5 s, here they are 0.5 s"):
        tuned.decoder(fit, hop_s=0.5)
    for other, what in (
        (replace(fit, mean=fit.mean + 1.0), "features"),
        (replace(fit, std=fit.std[:-1]), "features"),
        (replace(fit, centre=-fit.centre), "embeddings"),
    ):
        with pytest.raises(SettingError, match=f"The {what} are not those of the fine-tuning"):
            tuned.decoder(other, hop_s=0.3)


def test_the_generator_must_be_the_one_that_was_tuned(
    folder: Path, heard: tuple[Plan, tuple[Run, ...]]
) -> None:
    choice, record = GeneratorChoice(tuned=folder), _record(*heard)
    for other in (network_card(), _card(record, weights="other")):
        with pytest.raises(SettingError, match="not the one that was tuned"):
            Tuned(choice, other)
    (folder / "checkpoint").mkdir()  # a full-size one is exported from there
    with pytest.raises(SettingError, match=r"hearback export \S+/tuned/checkpoint --out"):
        Tuned(choice, network_card())


def test_what_a_generator_was_tuned_on_is_never_scored(
    heard: tuple[Plan, tuple[Run, ...]],
) -> None:
    plan, runs = heard
    folds = replace(plan, evaluation=replace(plan.evaluation, test="folds"))
    tuned = Tuned(GeneratorChoice(), _card(_record(plan, runs)))
    assert tuned.planned(plan, runs) == plan
    made = tuned.planned(folds, runs)
    assert "2 of the 3 recordings that are scored" in tuned.unscored
    assert made.notes[-1] == tuned.unscored
    plain = Tuned(GeneratorChoice(), network_card())
    assert plain.planned(folds, runs) == folds
    assert not plain.unscored


def test_a_damaged_or_unfinished_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be used as a fine-tuning"):
        read_tuned(tmp_path / "nothing")
    (folder / "acoustic.onnx").write_bytes(b"other")
    with pytest.raises(FileError, match=r"holds another acoustic\.onnx"):
        read_tuned(folder)
    (folder / "tuned.json").write_text("{}")
    with pytest.raises(FileError, match="lacks the entry"):
        read_tuned(folder)
