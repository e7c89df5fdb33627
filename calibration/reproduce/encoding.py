"""Encoding models for a reproduction: from the embedding of the sound to each voxel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.reproduce.options import ReproduceOptions
from calibration.reproduce.record import Row
from calibration.reproduce.tables import find

__all__ = ["encoding_rows"]

_PAPER = "brain2music"
_MAX_PERMUTATIONS = 1000  # of every voxel: p cannot fall below 1 / 1,001


def encoding_rows(
    train: Samples,
    test: Samples,
    *,
    rois: Mapping[str, NDArray[np.intp]],
    using: str,
    options: ReproduceOptions,
) -> list[Row]:
    """Return how many voxels the embedding predicts, and how well.

    Parameters
    ----------
    train, test : Samples
        Of one person; the repetitions of the test are a dimension.
    rois : mapping of str to columns
        Regions to report one by one.
    using : str
        The embedding, and the lag.
    options : ReproduceOptions
    """
    from calibration.methods.encoding import encode_samples

    model = encode_samples(
        train,
        test,
        rng=np.random.default_rng(options.seed),
        cv=options.n_folds,
        n_permutations=min(options.n_permutations, _MAX_PERMUTATIONS),
    )
    found = model.to_json()
    ceiling = {} if model.ceiling is None else {"ceiling": model.ceiling.pooled()}
    metric = "voxels with FDR P < .05"
    rows = [
        Row(
            "encoding",
            "MuLan-music",
            metric,
            published=find(_PAPER, "encoding", "MuLan-music", metric),
            ours=float(found["n_significant"]),
            using=using,
            comparable=False,
            controls={"voxels": float(found["n_voxels"]), "false, at most": 0.05},
            remark="null: whole clips change places, not single scans, which would be too narrow",
        ),
        Row(
            "encoding",
            "all voxels",
            "mean r",
            ours=float(found["mean_r"]),
            using=using,
            controls={"chance": 0.0, **ceiling},
        ),
    ]
    for name, columns in rois.items():
        of_region = {} if model.ceiling is None else {"ceiling": model.ceiling.pooled(columns)}
        rows.append(
            Row(
                "encoding by region",
                name,
                "mean r",
                ours=float(np.mean(model.r[columns])),
                using=using,
                controls={"chance": 0.0, **of_region},
                remark=f"{int(model.significant[columns].sum())} of {len(columns)} voxels",
            )
        )
    return rows
