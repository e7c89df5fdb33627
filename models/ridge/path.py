"""Many penalties for the price of some: solutions interpolated between well-placed penalties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from models.ridge.gram import Array

__all__ = ["AlphaPath"]


@dataclass(frozen=True, slots=True, eq=False)
class AlphaPath:
    """The penalties to solve for, and how predictions at those asked for follow from them.

    Notes
    -----
    A prediction is a sum over eigenvalues l >= 0 of terms in 1 / (l + alpha). In u = ln alpha each
    has its nearest singularities at distance pi from the real axis, wherever l lies. Interpolation
    at Chebyshev points in u therefore converges at a known rate (Trefethen 2013, "Approximation
    Theory and Approximation Practice", theorem 8.2), whatever the data: for 5 decades, 40 solutions
    give any number of penalties up to the rounding of float32.
    """

    nodes: NDArray[np.float64]  # (n_nodes,) penalties to solve for
    mix: NDArray[np.float64] | None  # (n_alphas, n_nodes); None: the nodes are the penalties
    alphas: NDArray[np.float64]  # (n_alphas,) penalties asked for

    @property
    def size(self) -> int:
        """The larger number of penalties, for memory."""
        return max(len(self.nodes), len(self.alphas))

    @classmethod
    def of(cls, alphas: NDArray[np.float64], dtype: DTypeLike) -> Self:
        """Return the path for distinct penalties of 0 or more, exact to the rounding of `dtype`."""
        positive = alphas[alphas > 0]
        if len(positive) < 3:
            return cls(alphas, None, alphas)
        u = np.log(positive)
        middle, half = (u.max() + u.min()) / 2.0, (u.max() - u.min()) / 2.0
        rate = np.pi / half + np.sqrt(1.0 + (np.pi / half) ** 2)
        n_nodes = int(np.ceil((4.0 - np.log(np.finfo(dtype).eps)) / np.log(rate))) + 1
        if n_nodes >= len(positive):
            return cls(alphas, None, alphas)
        angles = np.pi * (np.arange(n_nodes) + 0.5) / n_nodes
        nodes = np.exp(middle + half * np.cos(angles))
        # Barycentric formula for Chebyshev points of the first kind (theorem 5.2 there).
        difference = ((u - middle) / half)[:, np.newaxis] - np.cos(angles)
        exact = np.abs(difference) < 1e-14
        terms = (-1.0) ** np.arange(n_nodes) * np.sin(angles) / np.where(exact, 1.0, difference)
        mix = terms / terms.sum(axis=1, keepdims=True)
        mix[exact.any(axis=1)] = exact[exact.any(axis=1)]
        if len(positive) == len(alphas):
            return cls(nodes, mix, alphas)
        # 0 has no logarithm: it is solved for as it is.
        full = np.zeros((len(alphas), n_nodes + 1))
        full[np.ix_(alphas > 0, np.arange(n_nodes))] = mix
        full[alphas == 0, n_nodes] = 1.0
        return cls(np.append(nodes, 0.0), full, alphas)

    def interpolate(self, at_nodes: Array, *, scale: float) -> Array:
        """Return predictions at the penalties from those at the nodes, without their intercept.

        Parameters
        ----------
        at_nodes : array of shape (n_nodes, ...)
        scale : float
            A typical eigenvalue c > 0: what is interpolated is (c + alpha) times the prediction,
            which keeps all digits of the small predictions at large penalties.

        Returns
        -------
        predictions : array of shape (n_alphas, ...)
        """
        if self.mix is None:
            return at_nodes
        scale = scale if scale > 0 else 1.0
        weights = self.mix * (scale + self.nodes) / (scale + self.alphas)[:, np.newaxis]
        flat = weights.astype(at_nodes.dtype) @ at_nodes.reshape(len(at_nodes), -1)
        return np.asarray(flat.reshape(len(self.alphas), *at_nodes.shape[1:]))
