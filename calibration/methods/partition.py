"""What audio and text embeddings explain of voxels, each alone and both: region by region.

Brain2Music (Denk et al. 2023, arXiv:2307.11078): unique = R^2(both) - R^2(other), by banded ridge.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.variance import Subset, VariancePartition, variance_partition
from models.errors import SettingError
from models.ridge.estimator import DEFAULT_ALPHAS

__all__ = ["EmbeddingPartition", "partition_embeddings"]

logger = logging.getLogger(__name__)

_VOXELS = 4096  # fitted at once; bounds memory, not results


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingPartition:
    """Held-out shares of variance of each voxel, and their means over regions."""

    names: tuple[str, ...]
    union: NDArray[np.float64]  # (n_voxels,) R^2 of all embeddings together
    r2: dict[Subset, NDArray[np.float64]]  # of each subset, (n_voxels,)
    shares: dict[Subset, NDArray[np.float64]]  # common to exactly these; they sum to the union
    rois: dict[str, NDArray[np.intp]]

    def unique(self, name: str) -> NDArray[np.float64]:
        """Return what an embedding adds to all others: (n_voxels,)."""
        return self.shares[(name,)]

    def to_json(self) -> dict[str, Any]:
        """Return means over all voxels and over each region."""
        everything = {"all voxels": np.arange(len(self.union)), **self.rois}
        return {
            where: {
                "n_voxels": len(of),
                "union": float(self.union[of].mean()),
                "r2": {" + ".join(k): float(v[of].mean()) for k, v in self.r2.items()},
                "shares": {" + ".join(k): float(v[of].mean()) for k, v in self.shares.items()},
            }
            for where, of in everything.items()
        }


def partition_embeddings(
    embeddings: Mapping[str, ArrayLike],
    responses: ArrayLike,
    *,
    rois: Mapping[str, ArrayLike] | None = None,
    groups: ArrayLike | None = None,
    cv: int | Any = 5,
    inner_cv: int = 5,
    alphas: Sequence[float] | NDArray[np.floating] = DEFAULT_ALPHAS,
    n_candidates: int = 50,
    random_state: int = 0,
) -> EmbeddingPartition:
    """Divide the variance of voxels among embeddings of what was heard.

    Parameters
    ----------
    embeddings : mapping of name to array of shape (n, n_dims)
        For example "audio" and "text"; each is brought to columns of mean square 1 on the whole.
    responses : array of shape (n, n_voxels)
    rois : mapping of name to columns, optional
    groups : array of shape (n,), optional
        Clip or run; never divided, in outer and inner folds.
    cv, inner_cv, alphas, n_candidates, random_state
        See `calibration.variance.variance_partition`.

    Raises
    ------
    SettingError
        If embeddings differ in length, or there are fewer than 2.
    """
    blocks = {name: np.asarray(values, np.float64) for name, values in embeddings.items()}
    y = np.asarray(responses)
    if len(blocks) < 2 or any(b.ndim != 2 or len(b) != len(y) for b in blocks.values()):
        raise SettingError(
            "Expected 2 or more embeddings (n, n_dims) of the rows of the responses, got "
            f"{ ({name: b.shape for name, b in blocks.items()}) } and {y.shape}."
        )
    bands, start = {}, 0
    for name, block in blocks.items():
        bands[name] = np.arange(start, start + block.shape[1])
        start += block.shape[1]
    x = np.concatenate([_scaled(block) for block in blocks.values()], axis=1)
    parts: list[VariancePartition] = []
    for first in range(0, y.shape[1], _VOXELS):
        parts.append(
            variance_partition(
                x.astype(y.dtype, copy=False),
                y[:, first : first + _VOXELS],
                bands=bands,
                groups=groups,
                cv=cv,
                inner_cv=inner_cv,
                alphas=alphas,
                n_candidates=n_candidates,
                random_state=random_state,
            )
        )
        logger.info("variance of %d of %d voxels", first + _VOXELS, y.shape[1])
    found = {
        name: np.flatnonzero(given) if np.asarray(given).dtype == np.bool_ else np.asarray(given)
        for name, given in (rois or {}).items()
    }
    return EmbeddingPartition(
        names=tuple(blocks),
        union=np.concatenate([part.union for part in parts]),
        r2={k: np.concatenate([part.r2[k] for part in parts]) for k in parts[0].r2},
        shares={k: np.concatenate([part.shares[k] for part in parts]) for k in parts[0].shares},
        rois={name: of.astype(np.intp) for name, of in found.items() if len(of)},
    )


def _scaled(block: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a block of mean 0 with one size for all its columns; its geometry stays.

    A number for the whole block, from all rows, tells no fold anything: penalties undo it.
    """
    centred = block - block.mean(axis=0)
    size = float(np.sqrt(np.mean(centred**2)))
    return np.asarray(centred / size if size > 0 else centred)
