"""A calibration from end to end, on simulated listeners and on real recordings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.config import CalibrationSettings, DataSettings, EvaluationSettings
from calibration.evaluate import EvaluationJob, evaluate
from calibration.pipeline import CalibrationJob, calibrate
from calibration.report.result import Result
from calibration.simulate import SimulationSettings, simulate_dataset
from export.bundle import load_bundle
from models.errors import BundleError, SettingError
from stream.offline import OfflineSettings, run_offline
from tests.data import shared

_QUICK = EvaluationSettings(n_permutations=200, n_bootstrap=200, n_shuffled=1)
_SETTINGS = replace(CalibrationSettings(), evaluation=_QUICK)
_SIMULATION = SimulationSettings(timetable="short", snr=1.0, n_runs=(3, 2))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_dataset(tmp_path_factory.mktemp("simulated") / "sim", _SIMULATION)


@pytest.fixture(scope="module")
def made(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("bundles") / "sub-01"
    return out, calibrate(CalibrationJob(dataset, None, out, _SETTINGS))


def test_a_clear_brain_is_decoded_and_everything_is_told(made: tuple[Path, Result]) -> None:
    out, result = made
    line = result.line()
    assert result.decodable
    assert line["identification"] > 0.7
    assert abs(line["floor_shuffled"] - 0.5) < 0.3
    assert line["permutation_p"] < 0.05
    assert line["n_clips"] == 12
    assert line["split"] == "the data set's own test runs"
    assert line["leaky"] is False
    assert line["test_openings"] == 1
    assert 1.5 <= line["lag_s"] <= 7.5
    assert line["ceiling"] is not None
    assert line["fit_s"] > 0
    assert line["peak_mb"] > 10
    bundle = load_bundle(out)
    assert json.loads((out / "report.json").read_text())["identification"] == line["identification"]
    assert bundle.manifest.scores["decodable"] is True
    page = (out / "report.html").read_text()
    assert "http" not in page.replace("http-equiv", "")  # nothing is fetched
    assert result.verdict in page
    names = {region.name for region in result.regions}
    assert len(names) >= 6  # those that the data set came with
    assert result.map is not None


def test_the_bundle_evaluated_gives_what_the_report_says(
    made: tuple[Path, Result], dataset: Path
) -> None:
    out, result = made
    again = evaluate(EvaluationJob(out, dataset, None, _SETTINGS))
    assert again.line()["identification"] == result.line()["identification"]
    assert again.leaky is False
    assert again.line()["test_openings"] == 2  # counted on


def test_a_run_without_lsl_gives_the_embedding_that_was_scored(
    made: tuple[Path, Result], dataset: Path, tmp_path: Path
) -> None:
    """Live and offline runs share their windows and decisions; here they meet the report's."""
    from calibration.outer import fit_part, unit
    from calibration.plan import make_plan
    from calibration.readers import read_dataset
    from calibration.run_features import run_features, standardise_runs
    from calibration.target_choice import choose_targets

    out, _ = made
    run_offline(OfflineSettings(out, dataset, tmp_path / "run", read={"task": "Test", "run": "01"}))
    played = np.load(tmp_path / "run" / "decoded.npy")
    data = read_dataset(dataset)
    plan = make_plan(data, "sub-01", _SETTINGS)
    features = run_features(data.runs, features=plan.features, shortest=plan.shortest)
    train = tuple(item for item in features if item.run.part == "train")
    fit = fit_part(train, choose_targets(data, plan), plan)
    (test,) = (item for item in features if item.run.run == "task-Test_run-01")
    (ready,) = standardise_runs([test], plan.standardise, mean=fit.mean, std=fit.std)
    scored = unit(fit.decoder.predict(ready.values))
    assert 0 <= len(scored) - len(played) <= 2  # offline counts windows that the end cut short
    np.testing.assert_allclose(played, scored[: len(played)], atol=1e-5)


def test_a_rerun_takes_up_what_was_done_and_counts_the_second_opening(
    dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    job = CalibrationJob(dataset, "sub-01", out, _SETTINGS)

    def stop(what: str, _done: float, _total: float) -> None:
        if what == "scoring":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(job, progress=stop)
    assert not out.exists()
    first = calibrate(job)
    assert {"final", "shuffled0-0"} <= set(first.facts["steps_found"])
    assert first.line()["test_openings"] == 1
    second = calibrate(job)
    assert second.line()["test_openings"] == 2
    assert second.line()["identification"] == first.line()["identification"]


def test_a_deaf_brain_is_called_so(tmp_path: Path) -> None:
    deaf = replace(_SIMULATION, snr=0.0, seed=3)
    path = simulate_dataset(tmp_path / "deaf", deaf)
    result = calibrate(CalibrationJob(path, None, tmp_path / "bundle", _SETTINGS))
    assert not result.decodable
    assert "cannot be decoded" in result.verdict


def test_recordings_that_were_trained_on_are_left_out_or_stamped(
    made: tuple[Path, Result], dataset: Path
) -> None:
    only_training = replace(_SETTINGS, data=DataSettings(tasks=("Training",)))
    result = evaluate(EvaluationJob(made[0], dataset, None, only_training))
    assert result.leaky
    assert not result.decodable


def test_a_leaky_split_is_made_by_its_name_only_and_never_counts(
    dataset: Path, tmp_path: Path
) -> None:
    leaky = replace(_QUICK, test="folds", family="random-chunk", families=False)
    settings = replace(_SETTINGS, evaluation=leaky)
    result = calibrate(CalibrationJob(dataset, None, tmp_path / "leaky", settings))
    assert result.leaky
    assert result.line()["leaky"] is True
    assert not result.decodable
    assert "LEAKY" in (tmp_path / "leaky" / "report.html").read_text()


def test_a_bundle_that_does_not_fit_the_recordings_is_refused(
    made: tuple[Path, Result], tmp_path: Path
) -> None:
    other = replace(_SIMULATION, n_other_voxels=10, n_runs=(1, 1))
    path = simulate_dataset(tmp_path / "other", other)
    with pytest.raises(BundleError, match="does not fit"):
        evaluate(EvaluationJob(made[0], path, None, _SETTINGS))


def test_several_people_must_be_named(tmp_path: Path) -> None:
    path = simulate_dataset(tmp_path / "two", replace(_SIMULATION, n_people=2, n_runs=(1, 1)))
    with pytest.raises(SettingError, match="--participant"):
        calibrate(CalibrationJob(path, None, tmp_path / "out", _SETTINGS))


@pytest.mark.data
@pytest.mark.slow
def test_eight_categories_of_haxby_are_told_apart_far_above_chance(tmp_path: Path) -> None:
    settings = replace(_SETTINGS, data=DataSettings(select="1slice"))
    result = calibrate(CalibrationJob(shared("fmri_haxby"), None, tmp_path / "haxby", settings))
    assert result.decodable
    assert result.scores["accuracy"] > 0.4  # chance 1/8
    assert result.line()["split"] == "leave one run out"


@pytest.mark.data
@pytest.mark.slow
def test_the_pulsing_sounds_are_told_apart_session_by_session(tmp_path: Path) -> None:
    settings = replace(_SETTINGS, data=DataSettings(event_duration_s=3.0))
    result = calibrate(CalibrationJob(shared("eeg_ssaep"), None, tmp_path / "ssaep", settings))
    assert result.decodable
    assert result.scores["auc"] > 0.8
    assert result.line()["split"] == "leave one session out"


@pytest.mark.data
@pytest.mark.slow
def test_the_oddball_is_called_weak(tmp_path: Path) -> None:
    settings = replace(_SETTINGS, data=DataSettings(event_duration_s=0.2, channels=("TP9", "TP10")))
    path = shared("eeg_auditory_oddball")
    result = calibrate(CalibrationJob(path, None, tmp_path / "oddball", settings))
    assert 0.5 < result.scores["auc"] < 0.65
    assert "weakly" in result.verdict or "cannot" in result.verdict
