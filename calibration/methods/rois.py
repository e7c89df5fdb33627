"""Which features explain which region: mean encoding correlation, region by region.

Brain2Music (Denk et al. 2023, arXiv:2307.11078) compares embeddings within A1, LBelt ... A5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.methods.encoding import ENCODING_ALPHAS, EncodingModel, encoding_model
from models.errors import SettingError

__all__ = ["RoiComparison", "compare_rois"]


@dataclass(frozen=True, slots=True, eq=False)
class RoiComparison:
    """Held-out correlation of every feature space in every region."""

    spaces: tuple[str, ...]
    rois: tuple[str, ...]
    n_voxels: NDArray[np.int64]  # (n_rois,)
    mean_r: NDArray[np.float64]  # (n_spaces, n_rois)
    n_significant: NDArray[np.int64]  # (n_spaces, n_rois)
    ceiling: NDArray[np.float64] | None  # (n_rois,) of r, voxels pooled; None: heard once
    models: dict[str, EncodingModel]

    def best(self) -> dict[str, str]:
        """Return the feature space that predicts each region best."""
        return {
            roi: self.spaces[int(np.argmax(self.mean_r[:, k]))] for k, roi in enumerate(self.rois)
        }

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: a row for each space and region."""
        rows = [
            {
                "space": space,
                "roi": roi,
                "n_voxels": int(self.n_voxels[k]),
                "mean_r": float(self.mean_r[j, k]),
                "n_significant": int(self.n_significant[j, k]),
                "ceiling": None if self.ceiling is None else float(self.ceiling[k]),
            }
            for j, space in enumerate(self.spaces)
            for k, roi in enumerate(self.rois)
        ]
        return {"rows": rows, "best": self.best()}


def compare_rois(
    spaces: Mapping[str, tuple[ArrayLike, ArrayLike]],
    responses: ArrayLike,
    test_responses: ArrayLike,
    *,
    rois: Mapping[str, ArrayLike],
    rng: np.random.Generator,
    groups: ArrayLike | None = None,
    blocks: ArrayLike | None = None,
    alphas: Sequence[float] | NDArray[np.floating] = ENCODING_ALPHAS,
    cv: int | Any = 5,
    n_permutations: int = 1000,
    rate: float = 0.05,
) -> RoiComparison:
    """Fit an encoding model from each feature space, and average over the voxels of each region.

    Parameters
    ----------
    spaces : mapping of name to (training, test) features
        Arrays (n, n_dims) and (n_test, n_dims): embeddings, log-mel, hidden layers, one-hot
        classes; each with dimensions of its own.
    responses : array of shape (n, n_voxels)
    test_responses : array of shape (n_test, n_voxels) or (n_test, n_repetitions, n_voxels)
    rois : mapping of name to columns
        Indices or masks of voxels; empty regions are passed over. Voxels of no region are not
        fitted.
    rng, groups, blocks, alphas, cv, n_permutations, rate
        See `calibration.methods.encoding.encoding_model`; every space sees the same permutations.

    Raises
    ------
    SettingError
        If there is no feature space or no region with voxels.
    """
    y, y_test = np.asarray(responses), np.asarray(test_responses)
    columns = {name: _indices(given) for name, given in rois.items()}
    columns = {name: of for name, of in columns.items() if len(of)}
    if not spaces or not columns:
        raise SettingError(
            f"Expected a feature space and a region with voxels, got {list(spaces)} and "
            f"{list(rois)}."
        )
    used = np.unique(np.concatenate(list(columns.values())))
    if used[0] < 0 or used[-1] >= y.shape[1]:
        raise SettingError(
            f"The regions name voxels {used[0]} to {used[-1]}, but there are {y.shape[1]}."
        )
    place = {name: np.searchsorted(used, of) for name, of in columns.items()}
    seed = int(rng.integers(2**63))
    models = {
        name: encoding_model(
            train,
            y[:, used],
            test=(test, y_test[..., used]),
            rng=np.random.default_rng(seed),
            groups=groups,
            blocks=blocks,
            alphas=alphas,
            cv=cv,
            n_permutations=n_permutations,
            rate=rate,
        )
        for name, (train, test) in spaces.items()
    }
    ceiling = next(iter(models.values())).ceiling
    return RoiComparison(
        spaces=tuple(models),
        rois=tuple(columns),
        n_voxels=np.array([len(of) for of in columns.values()]),
        mean_r=np.array([[m.r[of].mean() for of in place.values()] for m in models.values()]),
        n_significant=np.array(
            [[m.significant[of].sum() for of in place.values()] for m in models.values()]
        ),
        ceiling=None
        if ceiling is None
        else np.array([ceiling.pooled(of) for of in place.values()]),
        models=models,
    )


def _indices(given: ArrayLike) -> NDArray[np.intp]:
    values = np.asarray(given)
    chosen = np.flatnonzero(values) if values.dtype == np.bool_ else values
    return np.unique(chosen).astype(np.intp)
