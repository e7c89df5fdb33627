"""A fit that was kept on disk is the fit that was made, whichever decoder it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.config import DecoderSettings, EvaluationSettings
from calibration.decoders import alpha_curve
from calibration.kept_fit import fit_from_step, fit_to_step
from calibration.outer import Fit, decode, fit_part
from calibration.plan import Plan
from calibration.run_features import RunFeatures, run_features
from calibration.steps import Steps
from calibration.windows import WindowChoice
from models.spec import StandardiseSpec, TrMeanSpec
from tests.calibration.tiny_runs import TinyBrain

_ROIS = {"left": np.arange(30), "right": np.arange(30, 60)}


def _made(kind: Any, **other: Any) -> tuple[Plan, TinyBrain, tuple[RunFeatures, ...]]:
    brain = TinyBrain(0, snr=1.0)
    values: dict[str, Any] = {
        "participant": "sub-01",
        "features": TrMeanSpec(window_s=7.5),
        "standardise": StandardiseSpec(prior_n=5.0, learn="mean"),
        "choice": WindowChoice(),
        "lags_s": (3.0, 4.5, 6.0),
        "target": "latent",
        "stretch": "window",
        "closed": False,
        "decoder": DecoderSettings(
            kind=kind, alphas=(10.0, 100.0, 1000.0), n_folds=3, n_selected=8, n_rois=1
        ),
        "evaluation": EvaluationSettings(test="folds", family="run"),
    }
    plan = Plan(**(values | other))
    runs = brain.runs(3, 6)
    return plan, brain, run_features(runs, features=plan.features, shortest=0.5)


def _again(fit: Fit, plan: Plan, brain: TinyBrain, train: Any, folder: Path, **options: Any) -> Fit:
    for _ in range(2):
        kept = Steps(folder).run("fit", {"a": 1}, lambda: fit_to_step(fit))
    return fit_from_step(kept, train, brain.targets, plan, **options)


@pytest.mark.parametrize("kind", ["ridge", "selected", "roi-ensemble"])
def test_it_decodes_and_reports_the_same(kind: str, tmp_path: Path) -> None:
    plan, brain, runs = _made(kind)
    fit = fit_part(runs[:2], brain.targets, plan, rois=_ROIS)
    again = _again(fit, plan, brain, runs[:2], tmp_path)
    ours, theirs = (decode(f, runs[2:], brain.targets, plan) for f in (fit, again))
    np.testing.assert_allclose(theirs.raw, ours.raw, rtol=1e-5, atol=1e-7)
    for name, rows in ours.floors.items():
        np.testing.assert_array_equal(theirs.floors[name], rows)
    assert (again.lag_s, again.lag, again.held_out_r) == (fit.lag_s, fit.lag, fit.held_out_r)
    curves = alpha_curve(fit.decoder), alpha_curve(again.decoder)
    assert curves[0] is not None
    assert curves[1] is not None
    assert curves[0].chosen == curves[1].chosen
    np.testing.assert_allclose(curves[0].y, curves[1].y)
    assert getattr(again.decoder, "chosen_", None) == getattr(fit.decoder, "chosen_", None)
    for name in ("clip", "y", "order", "start_s", "run", "previous_clip"):
        np.testing.assert_array_equal(getattr(again.train, name), getattr(fit.train, name))


def test_the_training_windows_come_back_with_their_features_if_they_are_wanted(
    tmp_path: Path,
) -> None:
    plan, brain, runs = _made("ridge")
    fit = fit_part(runs[:2], brain.targets, plan, keep_features=True)
    again = _again(fit, plan, brain, runs[:2], tmp_path, keep_features=True)
    np.testing.assert_array_equal(again.train.x, fit.train.x)
    thin = _again(fit, plan, brain, runs[:2], tmp_path)
    assert thin.train.x.shape[2] == 1


def test_windows_that_are_left_out_are_left_out_again(tmp_path: Path) -> None:
    plan, brain, runs = _made("ridge", standardise=StandardiseSpec(mode="none"))
    values = runs[0].values.copy()
    values[3:6, 2] = np.nan
    runs = (replace(runs[0], values=values), *runs[1:])
    fit = fit_part(runs[:2], brain.targets, replace(plan, lags_s=(4.5,)))
    again = _again(fit, plan, brain, runs[:2], tmp_path)
    np.testing.assert_array_equal(again.train.order, fit.train.order)
