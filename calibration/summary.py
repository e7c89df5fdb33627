"""Put together what the report shows, from a fit and its scores."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Dataset
from calibration.decoders import weight_energy
from calibration.generated.scores import GeneratedScores
from calibration.outer import Fit
from calibration.plan import Plan
from calibration.report.result import Curve, Family, Region, Result
from calibration.scoring import Scored
from models.features import make_extractor

__all__ = ["make_result", "peak_mb", "told_target", "versions"]


def make_result(
    *,
    dataset: Dataset,
    plan: Plan,
    fit: Fit,
    scored: Scored,
    alpha: Curve | None,
    families: Sequence[Family],
    facts: dict[str, Any],
    settings: dict[str, Any],
    sound: GeneratedScores | None = None,
) -> Result:
    """Return the record of a calibration."""
    energy = weight_energy(fit.decoder)
    regions, what, volume = _where(dataset, plan, fit, energy)
    kind = settings["target"]["kind"]
    # Those that leak by their name are shown for comparison; no score of the report rests on them.
    flagged = [
        family.told
        for family in families
        if family.leaky and family.name not in ("segment", "random-chunk")
    ]
    return Result(
        participant=plan.participant,
        dataset=dataset.path.name,
        format=dataset.format,
        modality=dataset.modality,
        target=told_target(plan.target),
        split=plan.split,
        leaky=plan.evaluation.family in ("segment", "random-chunk"),
        decodable=scored.decodable,
        verdict=scored.verdict,
        scores=scored.values,
        by_label=scored.by_label,
        similarity=scored.similarity,
        lag=fit.lag,
        alpha=alpha,
        regions=regions,
        region_score=what,
        map=volume,
        families=tuple(families),
        facts=facts,
        settings={
            **settings,
            "target": {**settings["target"], "kind": kind and told_target(kind)},
            "generator": {
                **settings["generator"],
                **{
                    name: settings["generator"][name] and told_target(settings["generator"][name])
                    for name in ("judge", "tokens")  # embedders by the folder of their weights
                },
            },
            "chosen": {**plan.to_json(), "target": told_target(plan.target)},
        },
        software=versions(),
        warnings=(*dataset.warnings, *scored.warnings),
        notes=(*plan.notes, *flagged, *(() if sound is None else sound.notes)),
        sound=sound,
    )


def told_target(target: str) -> str:
    """Return a target without the folder that its weights lay in; a hub id stays whole."""
    kind, colon, place = target.partition(":")
    return f"{kind}{colon}{Path(place).name if Path(place).is_absolute() else place}"


def versions() -> dict[str, str]:
    """Return the versions of what was calculated with."""
    import scipy

    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }


def _where(
    dataset: Dataset, plan: Plan, fit: Fit, energy: NDArray[np.float64]
) -> tuple[tuple[Region, ...], str, NDArray[np.float32] | None]:
    """Return what the decoder rests on: regions or channels, and a map of voxels."""
    what = "share of the decoder's weights"
    space = dataset.space_of(plan.participant)
    if dataset.modality == "bold":
        volume = None
        if space is not None and space.mask.any() and len(energy) % int(space.mask.sum()) == 0:
            voxels = energy.reshape(-1, int(space.mask.sum())).sum(axis=0)
            volume = np.full(space.shape, np.nan, np.float32)
            volume[space.mask] = np.sqrt(voxels / max(float(voxels.max()), 1e-300))
            rois = space.rois
            chosen = getattr(fit.decoder, "chosen_", None)
            scores = getattr(fit.decoder, "roi_scores_", None)
            if scores is not None:
                what = "held-out correlation of the region alone, training data"
            regions = tuple(
                Region(
                    name,
                    len(columns),
                    float(scores[name] if scores is not None else voxels[columns].sum()),
                    chosen is None or name in chosen,
                )
                for name, columns in rois.items()
            )
            return regions, what, volume
        return (), what, volume
    n_channels = len(dataset.channels)
    extractor = make_extractor(
        plan.features, sfreq_hz=dataset.of(plan.participant)[0].sfreq_hz, n_channels=n_channels
    )
    if len(extractor.shape) != 2 or extractor.shape[1] != n_channels:
        return (), what, None
    share = energy.reshape(extractor.shape).sum(axis=0)
    each = extractor.shape[0]
    return (
        tuple(Region(n, each, float(v)) for n, v in zip(dataset.channels, share, strict=True)),
        what,
        None,
    )


def peak_mb() -> float:
    """Return the largest memory of this process so far, MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
