"""The tokens of a window by a few numbers: principal components, fitted on training tokens alone.

In two steps, since the components of all 8 m x 768 values would be larger than everything else in a
bundle: first the directions in which single tokens vary, then components of whole windows in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["TokenBasis", "fit_basis"]

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class TokenBasis:
    """Mean tokens, directions of single tokens, components of windows."""

    mean: Array  # (places, dim)
    directions: Array  # (dim, q), orthonormal columns
    components: Array  # (r, places * q), orthonormal rows

    @property
    def shape(self) -> tuple[int, int]:
        """Of the tokens of a window."""
        return self.mean.shape[0], self.mean.shape[1]

    def encode(self, tokens: NDArray[Any]) -> Array:
        """Return the numbers of windows: (n, r) of (n, places, dim)."""
        turned = (np.asarray(tokens, np.float32) - self.mean) @ self.directions
        return np.asarray(turned.reshape(len(turned), -1) @ self.components.T)

    def decode(self, values: NDArray[Any]) -> Array:
        """Return the tokens that numbers (n, r) stand for: (n, places, dim)."""
        turned = np.asarray(values, np.float32) @ self.components
        q = self.directions.shape[1]
        whole = turned.reshape(len(turned), -1, q) @ self.directions.T
        return np.asarray(whole + self.mean, np.float32)


def fit_basis(tokens: NDArray[Any], *, rank: int, token_rank: int) -> TokenBasis:
    """Fit a basis to the tokens of training windows.

    Parameters
    ----------
    tokens : array of shape (n, places, dim)
    rank : int
        Components of windows; at most n - 1 are found.
    token_rank : int
        Directions of single tokens, at most dim.

    Raises
    ------
    SettingError
        If there are fewer than two windows.
    """
    values = np.asarray(tokens, np.float32)
    if values.ndim != 3 or len(values) < 2:
        raise SettingError(
            f"Components of tokens need 2 windows or more of shape (places, dim), got "
            f"{values.shape}."
        )
    n, places, dim = values.shape
    mean = values.mean(axis=0)
    centred = values - mean
    flat = centred.reshape(-1, dim)
    scatter = np.asarray(flat.T @ flat, np.float64)
    q = min(token_rank, dim)
    directions = np.asarray(np.linalg.eigh(scatter)[1][:, ::-1][:, :q], np.float32)
    turned = (centred @ directions).reshape(n, places * q)
    # There are fewer windows than values: the Gram matrix of windows is the smaller one.
    powers, vectors = np.linalg.eigh(np.asarray(turned @ turned.T, np.float64))
    r = min(rank, n - 1, places * q)
    powers, vectors = powers[::-1][:r], vectors[:, ::-1][:, :r]
    there = powers > 1e-9 * max(float(powers[0]), 1e-30)
    if not there.any():
        raise SettingError(
            "The tokens of all training windows are the same; nothing can be decoded. Check that "
            "the windows hold different sounds."
        )
    scaled = vectors[:, there] / np.sqrt(powers[there])
    components = np.asarray(scaled.T.astype(np.float32) @ turned, np.float32)
    return TokenBasis(mean, directions, components)
