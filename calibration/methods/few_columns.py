"""A linear map from a few of many columns: what a choice of voxels or regions leaves to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError

__all__ = ["FewColumns"]

_SPARSE = 0.25  # with fewer columns than this share in use, the others are not written down


@dataclass(frozen=True, slots=True, eq=False)
class FewColumns:
    """y = x[:, used] @ weights + bias."""

    used: NDArray[np.intp]  # (k,) rising
    values: NDArray[Any]  # (k, n_targets)
    bias: NDArray[Any]  # (n_targets,)
    n_features: int

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return predictions (n, n_targets).

        Raises
        ------
        SettingError
            If the number of features is wrong.
        """
        x = np.asarray(X)
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise SettingError(f"Expected {self.n_features} features, got shape {x.shape}.")
        return np.asarray(x[:, self.used] @ self.values + self.bias)

    def weights(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return dense weights (n_features, n_targets) and bias (n_targets,)."""
        dense = np.zeros((self.n_features, len(self.bias)), self.values.dtype)
        dense[self.used] = self.values
        return dense, self.bias

    def write_sparse(self, decoder: Any) -> None:
        """Set `indices_`, `values_` (n_targets, k) and `intercept_`, or take them away.

        They are the sparse form that bundles and kept steps look for; a map that uses most columns
        is smaller dense.
        """
        for name in ("indices_", "values_", "intercept_"):
            if hasattr(decoder, name):
                delattr(decoder, name)
        if len(self.used) < _SPARSE * self.n_features:
            decoder.indices_ = np.tile(self.used, (len(self.bias), 1))
            decoder.values_ = np.ascontiguousarray(self.values.T)
            decoder.intercept_ = self.bias
