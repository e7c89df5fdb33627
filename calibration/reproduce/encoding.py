"""Encoding models for a reproduction: from the embedding of the sound to each voxel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.data.samples import Samples
from calibration.reproduce.options import ReproduceOptions
from calibration.reproduce.record import Row
from calibration.reproduce.tables import find
from calibration.targets import TargetSource

if TYPE_CHECKING:
    from calibration.methods.encoding import EncodingModel

__all__ = ["component_rows", "encoding_rows", "partition_rows"]

_PAPER = "brain2music"
_MAX_PERMUTATIONS = 1000  # of every voxel: p cannot fall below 1 / 1,001


def encoding_rows(
    train: Samples,
    test: Samples,
    *,
    rois: Mapping[str, NDArray[np.intp]],
    using: str,
    options: ReproduceOptions,
) -> tuple[list[Row], EncodingModel]:
    """Return how many voxels the embedding predicts, and how well; and the model itself.

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
    return rows, model


def component_rows(models: Mapping[str, EncodingModel], *, using: str) -> list[Row]:
    """Return the share of variance of the principal components of everybody's weights.

    Nothing for one person alone: the paper stacks people.
    """
    from calibration.methods.pca import weight_components

    if len(models) < 2:
        return []
    found = weight_components(
        {name: model.weights for name, model in models.items()},
        {name: model.r for name, model in models.items()},
    )
    metric = "share of variance"
    n = sum(len(rows) for rows in found.voxels.values())
    shared = np.mean(list(found.shared.values()), axis=0)
    return [
        Row(
            "encoding weights",
            f"PC{k + 1}",
            metric,
            published=find(_PAPER, "encoding weights", f"PC{k + 1}", metric),
            ours=float(value),
            using=using,
            comparable=False,
            controls={"in one person's own space": float(shared[k])},
            remark=f"{n:,} voxels of {len(models)} people, ranked by r on the test clips",
        )
        for k, value in enumerate(found.explained)
    ]


def partition_rows(
    train: Samples,
    words: TargetSource,
    *,
    rois: Mapping[str, NDArray[np.intp]],
    using: str,
    options: ReproduceOptions,
) -> list[Row]:
    """Return what the sound's embedding and the words' explain of the voxels, each alone.

    Parameters
    ----------
    train : Samples
        Scored by folds over clips, since banded ridge is costly and the test stays closed.
    words : TargetSource
    rois : mapping of str to columns
        Their voxels together; all voxels where there are none.
    using : str
    options : ReproduceOptions
    """
    from calibration.methods.partition import partition_embeddings

    columns = np.unique(np.concatenate(list(rois.values()))) if rois else None
    responses = train.x[:, 0] if columns is None else train.x[:, 0, columns]
    text = words.targets(train.clip.tolist(), train.start_s, train.stop_s)
    found = partition_embeddings(
        {"audio": train.y, "text": text},
        responses,
        groups=train.clip,
        cv=options.n_folds,
        random_state=options.seed,
    )
    paper = find(_PAPER, "encoding", "audio and text", "unique variance")
    both = float(found.union.mean())
    values = {
        "audio": float(found.unique("audio").mean()),
        "text": float(found.unique("text").mean()),
        "shared": float(found.shares[("audio", "text")].mean()),
    }
    return [
        Row(
            "encoding",
            "audio and text",
            "unique variance",
            published=paper,
            ours=values["audio"],
            using=using,
            comparable=False,
            controls={
                "both together": both,
                "text alone": values["text"],
                "shared": values["shared"],
            },
            remark="of the audio, mean over voxels, clips of the training part held out in turn",
        )
    ]
