"""Results as calibrations leave them, of any size, without a calibration."""

from __future__ import annotations

from typing import Any

import numpy as np

from calibration.report.result import Curve, Family, Region, Result, Similarity

__all__ = ["made_result"]


def made_result(n: int = 12, *, classes: bool = False, **other: Any) -> Result:
    """Return the result of `n` clips (or classes); `other` replaces what is named."""
    rng = np.random.default_rng(n)
    labels = tuple(f"class {k * min(n, 6) // n}" for k in range(n))
    names = labels if classes else tuple(f"clip {k}" for k in range(n))
    scores: dict[str, Any] = {
        "identification": 0.79,
        "identification_ties_half": 0.8,
        "chance": 0.5,
        "permutation_p": 0.0004997501,
        "n_permutations": 2000,
        "floor_shuffled": 0.502,
        "floor_mean": 0.5,
        "floor_previous_clip": None,
        "confidence_interval": [0.71, 0.88],
        "ceiling": None if classes else 0.97,
        "n_clips": 64 if classes else n,
    }
    if classes:
        scores |= {"accuracy": 0.61, "accuracy_chance": 1 / n, "auc": 0.9}
    volume = np.full((9, 8, 5), np.nan, np.float32)
    volume[2:7, 2:6, 1:4] = rng.random((5, 4, 3))
    values: dict[str, Any] = {
        "participant": "sub-01",
        "dataset": "some",
        "format": "bids-func",
        "modality": "bold",
        "target": "class" if classes else "mel-statistics",
        "split": "leave one run out",
        "leaky": False,
        "decodable": True,
        "verdict": "sub-01 can be decoded.",
        "scores": scores,
        "by_label": {name: float(rng.random()) for name in dict.fromkeys(labels)},
        "similarity": Similarity(rng.standard_normal((n, n)), names, labels),
        "lag": Curve((-1.5, 0.0, 1.5, 3.0), (0.0, 0.1, 0.3, 0.2), 1.5, "held-out r, training data"),
        "alpha": Curve((1.0, 10.0, 1e5), (0.1, 0.2, 0.0), 10.0, "held-out R2, training data"),
        "regions": (Region("heschl", 10, 0.4), Region("stg", 20, 0.1, chosen=False)),
        "region_score": "held-out correlation of the region alone, training data",
        "map": volume,
        "families": (
            Family("run", 0.7, 0.5, False, "Runs: no sign."),
            Family("random-chunk", 0.99, 0.5, True, "Random chunks: recognised."),
        ),
        "facts": {"test_openings": 1, "lag_s": 1.5, "fit_s": 0.25, "peak_mb": 512.5},
        "settings": {"seed": 0},
        "software": {"numpy": "2"},
    }
    return Result(**(values | other))
