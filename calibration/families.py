"""Ways to divide the training part, side by side, in the form that the report shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration.honest.leaks import detect_leaks
from calibration.outer import Fit
from calibration.plan import Plan
from calibration.report.result import Family
from calibration.run_features import RunFeatures, standardise_runs
from calibration.targets import TargetSource
from calibration.windows import make_samples
from models.errors import SettingError

__all__ = ["compare_families"]

_MAX_WINDOWS = 2_000  # quick decoders need no more to recognise a recording


def compare_families(
    runs: Sequence[RunFeatures], targets: TargetSource, plan: Plan, fit: Fit
) -> tuple[Family, ...]:
    """Score quick decoders under every way to hold something out that the recordings allow.

    Parameters
    ----------
    runs : sequence of RunFeatures
        Of the training part, not standardised.
    targets : TargetSource
    plan : Plan
    fit : Fit
        The decoder for the bundle; its lag and statistics are taken.
    """
    if plan.closed:
        return ()  # classes come in every run: the split by run or session is the one that counts
    ready = standardise_runs(runs, plan.standardise, mean=fit.mean, std=fit.std)
    samples = make_samples(ready, lag_s=fit.lag_s, targets=targets, choice=plan.choice)
    del ready  # as large as all runs
    try:
        report = detect_leaks(samples, max_windows=_MAX_WINDOWS, seed=plan.evaluation.seed)
    except SettingError:
        return ()  # too few clips or recordings for any comparison
    return tuple(
        Family(
            name=row.family,
            score=float(row.score),
            chance=report.chance,
            leaky=row.flagged or row.family in ("segment", "random-chunk"),
            told=row.sentence,
        )
        for row in report.families
        if row.score is not None and np.isfinite(row.score)
    )
