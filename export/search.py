"""The nearest of many unit vectors by cosine, exactly, within a few milliseconds.

One product over a large library reads all of it: 218 MB for 106,574 vectors of 512. What can be
left out is found by a bound that holds for every vector, and the rest is compared in full:

=======  =================================  =====================================================
name     for                                how
=======  =================================  =====================================================
flat     small libraries                    one product
pruned   large ones whose vectors have      scans the leading principal components; Cauchy and
         preferred directions, as those     Schwarz bound what the others can add
         of networks have
faiss    large ones without; FAISS has to   FAISS scans vectors rounded to 8 bits, a quarter of
         be installed, else pruned          the bytes; the rounding errors are known, so whatever
                                            may be nearest is compared in full
=======  =================================  =====================================================

All three give the same answer. Where a bound leaves too many, the whole library is compared.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import SettingError

__all__ = ["CosineSearch", "FaissScan", "FlatScan", "PrunedScan", "Scan", "choose_scan"]

# Vectors this close to the best are compared again in float64: BLAS may round equal ones apart.
_TIE = 1e-5
_SMALL = 1 << 22  # numbers (16 MB) that one product goes through in a millisecond or two
_BLOCK = 8192
_PREFIX = 64  # principal components that are scanned
_PROBES = 8


class Scan(Protocol):
    """Finds a few vectors, the k nearest among them."""

    @property
    def name(self) -> str:
        """What it is called; see the table of this module."""

    def candidates(self, query: NDArray[np.float32], k: int) -> NDArray[np.intp] | None:
        """Return rows that hold the k nearest and all ties; None: compare all."""


class FlatScan:
    """Every vector is a candidate."""

    name = "flat"

    def candidates(self, query: NDArray[np.float32], k: int) -> NDArray[np.intp] | None:
        """Return None: compare all."""
        return None


class PrunedScan:
    """Candidates by the leading principal components and a bound for what the others add.

    With x = (p, r) split into leading components and the rest, x . y <= p . p' + |r| |r'|.

    Parameters
    ----------
    vectors : array of shape (n, dim), float32
        Of unit length.
    n_components : int
        Leading components.
    """

    name = "pruned"

    def __init__(self, vectors: NDArray[np.float32], *, n_components: int = _PREFIX) -> None:
        self._vectors = vectors
        n_components = min(n_components, vectors.shape[1])
        # Any orthonormal basis keeps the bound; one of a sample is nearly as tight.
        sample = vectors[:: max(1, len(vectors) // 20_000)]
        _, basis = np.linalg.eigh((sample.T @ sample).astype(np.float64))
        self._basis = np.ascontiguousarray(basis[:, ::-1][:, :n_components], np.float32)
        # One more column: the length of the rest.
        self._table = np.empty((len(vectors), n_components + 1), np.float32)
        for at in range(0, len(vectors), _BLOCK):
            block = vectors[at : at + _BLOCK]
            lead = block @ self._basis
            rest = np.square(block, dtype=np.float64).sum(axis=1)
            rest -= np.square(lead, dtype=np.float64).sum(axis=1)
            self._table[at : at + _BLOCK, :-1] = lead
            self._table[at : at + _BLOCK, -1] = np.sqrt(np.maximum(rest, 0.0) + _TIE**2)

    def candidates(self, query: NDArray[np.float32], k: int) -> NDArray[np.intp] | None:
        """Return rows that hold the k nearest and all ties; None if the bound leaves too many."""
        lead = query @ self._basis
        rest = np.sqrt(max(0.0, float(query @ query) - float(lead @ lead)) + _TIE**2)
        bound = self._table @ np.append(lead, np.float32(rest)).astype(np.float32)
        n_first = min(len(bound), max(64, 4 * k))
        first = np.argpartition(bound, len(bound) - n_first)[len(bound) - n_first :]
        reached = np.partition(self._vectors[first] @ query, n_first - k)[n_first - k]
        # Twice, for the rounding of both sums.
        left = np.flatnonzero(bound >= reached - 2 * _TIE)
        return left if len(left) <= len(bound) // 8 else None


class FaissScan:
    """Candidates by FAISS, from vectors and a query that are rounded to 8 bits.

    Vectors are turned by a random rotation first, so that no dimension is larger than others and
    one step fits all. For unit vectors x, q with roundings x', q' the error of x' . q' is at most
    |x - x'| |q| + |x'| |q - q'|; the largest |x - x'| is measured once. FAISS returns the best;
    when the last of them lies further below the k-th nearest than that error, none is missing.

    Parameters
    ----------
    vectors : array of shape (n, dim), float32
        Of unit length.
    n_threads : int, optional
        Parts of the library that are scanned at once; by default the cores, at most 4.

    Raises
    ------
    ImportError
        If FAISS is not installed.
    """

    name = "faiss"

    def __init__(self, vectors: NDArray[np.float32], *, n_threads: int | None = None) -> None:
        import faiss

        n, dim = vectors.shape
        self._vectors = vectors
        turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((dim, dim)))
        self._rotation = turn.astype(np.float32)
        largest = max(
            float(np.abs(vectors[at : at + _BLOCK] @ self._rotation).max())
            for at in range(0, n, _BLOCK)
        )
        self._step = np.float32(127.0 / max(largest, 1e-6))
        n_parts = min(n, n_threads or min(4, os.cpu_count() or 1))
        shards: Any = faiss.IndexShards  # its types know one argument only
        self._index = shards(dim, n_parts > 1, True)
        self._parts: list[Any] = []  # the shards belong to Python
        self._error = 0.0
        for rows in np.array_split(np.arange(n), n_parts):
            part = faiss.IndexScalarQuantizer(
                dim, faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
            )
            for at in range(int(rows[0]), int(rows[-1]) + 1, _BLOCK):
                block = vectors[at : min(at + _BLOCK, int(rows[-1]) + 1)]
                turned = block @ self._rotation
                whole = np.rint(turned * self._step)
                error = np.linalg.norm((turned - whole / self._step).astype(np.float64), axis=1)
                self._error = max(self._error, float(error.max()))
                part.add(whole)
            self._parts.append(part)
            self._index.add_shard(part)

    def candidates(self, query: NDArray[np.float32], k: int) -> NDArray[np.intp] | None:
        """Return rows that hold the k nearest and all ties; None if the error leaves too many."""
        turned = query @ self._rotation
        step = np.float32(127.0 / max(float(np.abs(turned).max()), 1e-6))
        whole = np.rint(turned * step)
        off = float(np.linalg.norm((turned - whole / step).astype(np.float64)))
        error = self._error + (1.0 + self._error) * off + 2 * _TIE
        n = len(self._vectors)
        for n_found in (max(128, 4 * k), max(2048, 16 * k)):
            if n_found > n // 4:
                break
            scores, found = self._index.search(whole[np.newaxis], n_found)
            rows: NDArray[np.intp] = found[0].astype(np.intp)
            exact = self._vectors[rows] @ query
            reached = float(np.partition(exact, n_found - k)[n_found - k])
            if float(scores[0, -1]) / float(self._step * step) + error < reached:
                return np.sort(rows)
        return None


def choose_scan(vectors: NDArray[np.float32]) -> Scan:
    """Return the quickest way to search these vectors with what is installed.

    Whether the leading components tell enough is tried on rows of the library with noise.
    """
    if vectors.size <= _SMALL:
        return FlatScan()
    pruned = PrunedScan(vectors)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(vectors), _PROBES)
    spread = vectors[:: max(1, len(vectors) // 2_000)].std(axis=0)
    noise = 3.0 * spread * rng.standard_normal((_PROBES, vectors.shape[1]))
    left = [
        pruned.candidates((probe / np.linalg.norm(probe)).astype(np.float32), 1)
        for probe in vectors[rows] + noise
    ]
    if sum(found is not None and len(found) <= len(vectors) // 32 for found in left) > _PROBES // 2:
        return pruned
    try:
        return FaissScan(vectors)
    except ImportError:
        return pruned


class CosineSearch:
    """The nearest of unit vectors by cosine.

    Parameters
    ----------
    vectors : array of shape (n, dim), float32
        Of unit length.
    scan : Scan, optional
        By default what `choose_scan` chooses.
    """

    def __init__(self, vectors: NDArray[np.float32], scan: Scan | None = None) -> None:
        self._vectors = vectors
        self._scan = choose_scan(vectors) if scan is None else scan

    @property
    def how(self) -> str:
        """How it searches: flat, pruned or faiss."""
        return self._scan.name

    def nearest(
        self, embedding: NDArray[np.floating], *, k: int = 1
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return the vectors nearest to an embedding, exactly.

        Parameters
        ----------
        embedding : array of shape (dim,)
            Any length but zero.
        k : int
            How many; at most as many as there are vectors.

        Returns
        -------
        indices : array of shape (k,)
            Nearest first; of equal ones the lowest index first.
        cosines : array of shape (k,), float32

        Raises
        ------
        SettingError
            If the embedding has another shape, is zero or not finite, or k is out of range.
        """
        query = np.asarray(embedding, np.float64)
        norm = float(np.linalg.norm(query))
        if query.shape != self._vectors.shape[1:] or not np.isfinite(norm) or norm == 0.0:
            raise SettingError(
                f"Expected a finite embedding of shape {self._vectors.shape[1:]} that is not "
                f"zero, got shape {query.shape} with norm {norm:g}."
            )
        if not 1 <= k <= len(self._vectors):
            raise SettingError(f"k must lie in [1, {len(self._vectors)}], not {k}.")
        query = query / norm
        single = query.astype(np.float32)
        rows = self._scan.candidates(single, k)
        rough = (self._vectors if rows is None else self._vectors[rows]) @ single
        last = rough.max() if k == 1 else np.partition(rough, -k)[-k]
        close = np.flatnonzero(rough >= last - _TIE)
        if rows is not None:
            close = rows[close]
        exact = (self._vectors[close].astype(np.float64) * query).sum(axis=1)
        order = np.argsort(-exact, kind="stable")[:k]
        return close[order], exact[order].astype(np.float32)
