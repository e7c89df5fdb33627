"""Samples of simulated listeners, with their truth, as the methods take them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.data.samples import Samples
from calibration.run_features import run_features, standardise_runs, training_statistics
from calibration.scores import correlations, identification
from calibration.simulate import SimulationSettings, simulate_runs, simulated_truth
from calibration.windows import WindowChoice, make_samples
from models.spec import StandardiseSpec, TrMeanSpec


class TrueTargets:
    """The embedding that drove the simulated brain."""

    def __init__(self, settings: SimulationSettings) -> None:
        self.dim = settings.n_features
        self._truth = simulated_truth(settings)

    def targets(
        self, stimuli: Sequence[str], starts_s: ArrayLike, stops_s: ArrayLike
    ) -> NDArray[np.float64]:
        """Return the mean embedding of stretches: (n, dim)."""
        rows = zip(stimuli, np.asarray(starts_s), np.asarray(stops_s), strict=True)
        return np.array([self._truth.target(name, a, b) for name, a, b in rows])


@lru_cache(maxsize=16)
def person_samples(settings: SimulationSettings, person: int = 0) -> tuple[Samples, Samples]:
    """Return one window for each clip of a person's training and test runs."""
    runs = simulate_runs(settings, people=[person]).runs
    features = run_features(runs, features=TrMeanSpec(window_s=settings.clip_duration_s))
    spec = StandardiseSpec(mode="offline")
    parts = []
    for part in ("train", "test"):
        some = [run for run in features if run.run.part == part]
        mean, std = training_statistics(some, spec)
        ready = standardise_runs(some, spec, mean=mean, std=std)
        choice = WindowChoice(choose="clip")
        targets = TrueTargets(settings)
        parts.append(make_samples(ready, lag_s=4.5, targets=targets, choice=choice))
    return parts[0], parts[1]


def identified(predicted: NDArray[np.floating], targets: NDArray[np.float64]) -> float:
    """Return identification, ties at one half."""
    return identification(correlations(predicted, targets)).ties_half
