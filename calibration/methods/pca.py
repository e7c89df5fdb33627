"""What the brains of several people have in common: principal components of encoding weights.

Brain2Music (Denk et al. 2023, arXiv:2307.11078): the weights of the 600 best voxels of each of five
people, one under the other; PC1 to 3 explain 25.8, 11.0 and 5.4 % there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["WeightComponents", "weight_components"]


@dataclass(frozen=True, slots=True, eq=False)
class WeightComponents:
    """Directions of the embedding that the voxels of all people differ along most."""

    components: NDArray[np.float64]  # (n_components, n_dims) of unit length
    explained: NDArray[np.float64]  # (n_components,) share of the variance
    voxels: dict[str, NDArray[np.intp]]  # of each person, best first
    scores: dict[str, NDArray[np.float64]]  # (n_top, n_components) of those voxels
    # Length of each component within the space of as many of one person's own: 1, where that
    # person alone would show it.
    shared: dict[str, NDArray[np.float64]]  # (n_components,)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, without the vectors."""
        return {
            "explained": [float(value) for value in self.explained],
            "n_voxels": {name: len(rows) for name, rows in self.voxels.items()},
            "shared": {name: [float(v) for v in values] for name, values in self.shared.items()},
        }


def weight_components(
    weights: Mapping[str, NDArray[np.floating]],
    r: Mapping[str, NDArray[np.float64]],
    *,
    n_top: int = 600,
    n_components: int = 3,
    normalise: bool = False,
) -> WeightComponents:
    """Return the principal components of the weights of everybody's best voxels.

    Parameters
    ----------
    weights : mapping of person to array of shape (n_dims, n_voxels)
        Of encoding models (`calibration.methods.encoding.encoding_model`).
    r : mapping of person to array of shape (n_voxels,)
        By which voxels are ranked: held-out correlation.
    n_top : int
        Voxels of each person; all, where there are fewer.
    n_components : int
    normalise : bool
        Bring each voxel's weights to unit length first, so that noisy voxels, whose weights are
        small, count as others do. Whether the paper does is not said.

    Raises
    ------
    SettingError
        If people differ between the two, or their embeddings do.
    """
    people = list(weights)
    dims = {np.shape(weights[name])[0] for name in people}
    same = set(people) == set(r) and all(
        np.shape(weights[name])[1:] == np.shape(r[name]) for name in people
    )
    if not people or len(dims) != 1 or not same or n_top < 1:
        raise SettingError(
            "Expected weights (n_dims, n_voxels) and r (n_voxels,) of the same people, with one "
            f"embedding for all and n_top of 1 or more, got people {people} and {list(r)}, "
            f"dimensions {sorted(dims)}, n_top {n_top}."
        )
    voxels = {
        name: np.argsort(-np.asarray(r[name]), kind="stable")[:n_top].astype(np.intp)
        for name in people
    }
    rows = {name: np.asarray(weights[name], np.float64).T[voxels[name]] for name in people}
    if normalise:
        rows = {
            name: values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-300)
            for name, values in rows.items()
        }
    stacked = np.concatenate(list(rows.values()))
    n_found = min(n_components, *stacked.shape)
    mean = stacked.mean(axis=0)
    _, s, vt = np.linalg.svd(stacked - mean, full_matrices=False)
    components = vt[:n_found]
    # The sign of a component is arbitrary: its largest entry is made positive.
    largest = np.argmax(np.abs(components), axis=1)
    components = components * np.sign(components[np.arange(n_found), largest])[:, None]
    total = float(np.sum(s**2))
    return WeightComponents(
        components=components,
        explained=s[:n_found] ** 2 / total if total > 0 else np.zeros(n_found),
        voxels=voxels,
        scores={name: (values - mean) @ components.T for name, values in rows.items()},
        shared={name: _within(values, components) for name, values in rows.items()},
    )


def _within(rows: NDArray[np.float64], components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the length of components within the space of as many of one person's own."""
    _, _, vt = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    return np.asarray(np.linalg.norm(components @ vt[: len(components)].T, axis=1))
