"""Calibration with other people: aligned inside each training part, from files to a bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.config import (
    CalibrationSettings,
    DecoderSettings,
    EvaluationSettings,
    LagSettings,
    PeopleSettings,
)
from calibration.methods.others import OtherPeople, other_people
from calibration.outer import fit_part
from calibration.pipeline import CalibrationJob, calibrate
from calibration.plan import Plan
from calibration.run_features import run_features
from calibration.simulate import (
    SimulationSettings,
    default_regions,
    simulate_dataset,
    simulate_runs,
)
from calibration.windows import WindowChoice
from export.bundle import load_bundle
from models.errors import SettingError
from models.spec import StandardiseSpec, TrMeanSpec
from tests.calibration.methods.people import TrueTargets

PEOPLE = SimulationSettings(
    embedding="latent",
    timetable="short",
    n_people=3,
    n_runs=(4, 1),
    clips_per_run=10,
    n_test_clips=6,
    repetitions=2,
    snr=1.0,
    regions=default_regions(n_informative=2, n_uninformative=1, n_voxels=10),
    n_other_voxels=10,
)
PLAN = Plan(
    participant="sub-01",
    features=TrMeanSpec(window_s=6.0),
    standardise=StandardiseSpec(),
    choice=WindowChoice(choose="clip"),
    lags_s=(4.5,),
    target="embedding",
    stretch="clip",
    closed=False,
    decoder=DecoderSettings(kind="ridge", alphas=(1.0, 100.0)),
    evaluation=EvaluationSettings(test="dataset", family="run"),
)


def others(settings: SimulationSettings, plan: Plan = PLAN) -> OtherPeople:
    everybody = [simulate_runs(settings, people=[k]) for k in range(settings.n_people)]
    return other_people(everybody[1:], everybody[0].runs, plan, how="stack")


def test_nothing_that_others_heard_of_a_test_clip_reaches_the_decoder() -> None:
    people = others(PEOPLE)
    features = run_features(simulate_runs(PEOPLE, people=[0]).runs, features=PLAN.features)
    train = [run for run in features if run.run.part == "train"]
    targets = TrueTargets(PEOPLE)
    fit = fit_part(train, targets, PLAN, others=people)
    # The same decoder, where everybody's answers to the test clips are noise a thousand times
    # as large: nothing of them went in.
    loud = []
    for runs in people.people:
        louder = []
        for run in runs:
            values = run.values.copy()
            if run.run.part == "test":
                values += np.random.default_rng(0).normal(0, 1e3, values.shape).astype(np.float32)
            louder.append(replace(run, values=values))
        loud.append(tuple(louder))
    again = fit_part(train, targets, PLAN, others=replace(people, people=tuple(loud)))
    np.testing.assert_array_equal(fit.decoder.weights()[0], again.decoder.weights()[0])
    alone = fit_part(train, targets, PLAN)
    assert not np.allclose(fit.decoder.weights()[0], alone.decoder.weights()[0])
    assert len(fit.train) == len(alone.train)  # the person's own


def test_designs_without_clips_to_align_by_are_told() -> None:
    with pytest.raises(SettingError, match="same sounds come in training and test"):
        others(PEOPLE, replace(PLAN, closed=True))


@pytest.mark.slow
def test_a_bundle_is_made_with_the_help_of_another_person(tmp_path: Path) -> None:
    folder = simulate_dataset(
        tmp_path / "data",
        replace(PEOPLE, embedding="mel-statistics", n_people=2, n_runs=(3, 1), clip_s=4.0),
    )
    settings = CalibrationSettings(
        decoder=DecoderSettings(kind="ridge", alphas=(10.0, 1e3)),
        lag=LagSettings(fixed_s=4.5),
        evaluation=EvaluationSettings(
            n_permutations=50, n_bootstrap=50, n_shuffled=1, families=False
        ),
        people=PeopleSettings(align=("sub-01", "sub-02"), pooling="average", n_dims=16),
    )
    out = tmp_path / "with" / "bundle"
    result = calibrate(CalibrationJob(folder, "sub-01", out, settings))
    assert "sub-02 were aligned to sub-01 inside the training part." in result.notes
    assert load_bundle(out).manifest.participant == "sub-01"
    alone = replace(settings, people=PeopleSettings())
    other = calibrate(CalibrationJob(folder, "sub-01", tmp_path / "with" / "alone", alone))
    assert other.scores != result.scores
    again = calibrate(CalibrationJob(folder, "sub-01", out, settings))
    assert again.facts["steps_found"]
    assert again.line()["identification"] == result.line()["identification"]
