"""A fit as a kept step: its numbers on disk, and the fit made of them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from calibration.decoders import LinearDecoder, alpha_curve
from calibration.outer import Fit
from calibration.plan import Plan
from calibration.report.result import Curve
from calibration.run_features import RunFeatures, standardise_runs
from calibration.steps import StepResult
from calibration.targets import TargetSource
from calibration.windows import make_samples

__all__ = ["fit_from_step", "fit_to_step"]


def fit_to_step(fit: Fit) -> StepResult:
    """Return what of a fit has to be kept; the training windows can be made again."""
    indices, values = getattr(fit.decoder, "indices_", None), getattr(fit.decoder, "values_", None)
    kept: StepResult = {
        "mean": fit.mean,
        "std": fit.std,
        "centre": fit.centre,
        "lag_s": fit.lag_s,
        "lag": asdict(fit.lag) if fit.lag else None,
        "held_out_r": fit.held_out_r,
    }
    if indices is None or values is None:
        kept["dense"], kept["bias"] = fit.decoder.weights()
    else:
        bias = np.atleast_1d(getattr(fit.decoder, "intercept_"))  # noqa: B009 - not in the protocol
        kept |= {"indices": indices, "values": values, "bias": bias}
    scores = getattr(fit.decoder, "roi_scores_", None)
    if scores is not None:
        kept["rois"] = {"scores": scores, "chosen": list(getattr(fit.decoder, "chosen_"))}  # noqa: B009
    curve = alpha_curve(fit.decoder)
    if curve is not None:
        kept |= {
            "alphas": np.array(curve.x),
            "alpha_scores": np.array(curve.y),
            "alpha": np.atleast_1d(getattr(fit.decoder, "alpha_")),  # noqa: B009
        }
    return kept


def fit_from_step(
    kept: StepResult,
    train: Sequence[RunFeatures],
    targets: TargetSource,
    plan: Plan,
    *,
    keep_features: bool = False,
) -> Fit:
    """Return the fit that was kept; its training windows with their features if they are wanted."""
    if keep_features:
        ready = standardise_runs(train, plan.standardise, mean=kept["mean"], std=kept["std"])
    else:
        ready = tuple(_thin(run, plan) for run in train)
    samples = make_samples(
        ready,
        lag_s=kept["lag_s"],
        targets=targets,
        choice=plan.choice,
    ).separate()
    decoder = LinearDecoder(
        bias=np.asarray(kept["bias"], np.float64),
        dense=kept.get("dense"),
        indices=kept.get("indices"),
        values=kept.get("values"),
        n_features=len(kept["mean"]),
    )
    if "alphas" in kept:
        decoder.alphas_ = kept["alphas"]
        decoder.cv_scores_ = kept["alpha_scores"][:, None]
        decoder.alpha_ = kept["alpha"]
    if "rois" in kept:
        decoder.roi_scores_ = kept["rois"]["scores"]
        decoder.chosen_ = tuple(kept["rois"]["chosen"])
    lag = kept["lag"]
    return Fit(
        decoder=decoder,
        mean=kept["mean"],
        std=kept["std"],
        lag_s=float(kept["lag_s"]),
        lag=Curve(tuple(lag["x"]), tuple(lag["y"]), lag["chosen"], lag["score"]) if lag else None,
        centre=kept["centre"],
        held_out_r=kept["held_out_r"],
        train=replace(samples, y=samples.y - kept["centre"]),
    )


def _thin(run: RunFeatures, plan: Plan) -> RunFeatures:
    """Return a run with one feature that is finite where all of a window's are once standardised.

    Which windows were trained on is all that is asked, and a brain need not be standardised again.
    """
    bad = np.zeros(len(run.values), bool)
    if plan.standardise.mode == "none":  # else what is not finite comes out as 0
        bad = ~np.isfinite(run.values.sum(axis=1, dtype=np.float64))
    return replace(run, values=np.where(bad, np.nan, 0.0).astype(np.float32)[:, np.newaxis])
