"""A simulated listener through the parts that a calibration is made of, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.config import DecoderSettings, EvaluationSettings
from calibration.honest.score import ScoreSettings, score_everything
from calibration.honest.scores_record import Scores
from calibration.lag import default_lags_s, sweep_lags
from calibration.outer import Decoded, Fit, decode, fit_part
from calibration.plan import Plan
from calibration.preprocess import PreprocessSpec
from calibration.run_features import (
    RunFeatures,
    run_features,
    standardise_runs,
    training_statistics,
)
from calibration.simulate import (
    SimulatedTruth,
    SimulationSettings,
    default_regions,
    simulate_runs,
    simulated_truth,
)
from calibration.simulate.anatomy import head
from calibration.windows import WindowChoice
from models.spec import StandardiseSpec, TrMeanSpec

__all__ = [
    "CAUSAL",
    "KEPT",
    "LISTENER",
    "OFFLINE",
    "Chain",
    "TrueTargets",
    "calibrate",
    "swept_lag",
]

# The real timetable of ds003720: 480 training clips once, 60 test clips four times in one order.
LISTENER = SimulationSettings(
    embedding="latent", regions=default_regions(n_voxels=20), n_other_voxels=60
)
OFFLINE = StandardiseSpec(mode="offline")  # the median filter and z-score of each run
# As a calibration of BOLD chooses it: runs live, and follows baselines and drifts.
CAUSAL = StandardiseSpec(prior_n=5.0, forget_n=40.0, learn="mean")
KEPT = StandardiseSpec()  # the training runs' mean and deviation, for ever


class TrueTargets:
    """The embedding that drives the simulated brain, in the form that decoders are fitted to."""

    def __init__(self, truth: SimulatedTruth) -> None:
        self.dim = truth.settings.n_features
        self._truth = truth

    def targets(
        self, stimuli: Sequence[str], starts_s: ArrayLike, stops_s: ArrayLike
    ) -> NDArray[np.float64]:
        """Return the mean embedding of stretches: (n, dim)."""
        rows = zip(stimuli, np.asarray(starts_s), np.asarray(stops_s), strict=True)
        return np.array([self._truth.target(name, float(a), float(b)) for name, a, b in rows])


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """One calibration: what was fitted, what was decoded, how it scored."""

    truth: SimulatedTruth
    fit: Fit
    decoded: Decoded
    scores: Scores


@lru_cache(maxsize=4)
def _features(
    settings: SimulationSettings, features: TrMeanSpec, offline: bool
) -> tuple[RunFeatures, ...]:
    return run_features(
        simulate_runs(settings).runs,
        features=features,
        preprocess=PreprocessSpec() if offline else None,
        shortest=0.5,
    )


def calibrate(
    settings: SimulationSettings,
    *,
    lags_s: Sequence[float] | None = None,
    standardise: StandardiseSpec = OFFLINE,
    features: TrMeanSpec | None = None,
    choice: WindowChoice | None = None,
    decoder: DecoderSettings | None = None,
) -> Chain:
    """Fit on the training runs, decode the test runs, score by clips.

    Parameters
    ----------
    settings : SimulationSettings
    lags_s : sequence of float, optional
        One is taken, several are swept on training folds; by default the sweep of a calibration.
    standardise : StandardiseSpec
        "offline" takes the drift off each run with its median filter before; "causal" runs live.
    features, choice, decoder : optional
        One window as long as a clip for each clip, and a ridge regression from all voxels.
    """
    features = features or TrMeanSpec(window_s=settings.clip_duration_s)
    truth = simulated_truth(settings)
    plan = Plan(
        participant="sub-01",
        features=features,
        standardise=standardise,
        choice=choice or WindowChoice(choose="clip"),
        lags_s=tuple(lags_s or default_lags_s(settings.tr_s)),
        target="latent",
        stretch="window",
        closed=False,
        decoder=decoder or DecoderSettings(kind="ridge"),
        evaluation=EvaluationSettings(test="dataset", family="run"),
    )
    runs = _features(settings, features, standardise.mode == "offline")
    train, test = (tuple(r for r in runs if r.run.part == part) for part in ("train", "test"))
    targets = TrueTargets(truth)
    fit = fit_part(train, targets, plan, rois=head(settings).rois)
    decoded = decode(fit, test, targets, plan)
    scores = score_everything(
        decoded.predictions,
        decoded.samples,
        train=fit.train,
        settings=ScoreSettings(n_permutations=99, n_resamples=99),
    )
    return Chain(truth, fit, decoded, scores)


def swept_lag(settings: SimulationSettings, *, window_s: float) -> float:
    """Return the lag that all windows of a length tell, on the training runs."""
    runs = _features(settings, TrMeanSpec(window_s=window_s), False)
    train = [run for run in runs if run.run.part == "train"]
    mean, std = training_statistics(train)
    return sweep_lags(
        standardise_runs(train, KEPT, mean=mean, std=std),
        targets=TrueTargets(simulated_truth(settings)),
        lags_s=default_lags_s(settings.tr_s),
        max_rows=500,  # half as many as a calibration takes, an eighth of the time
    ).lag_s
