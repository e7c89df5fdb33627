"""Every way to search gives what a comparison of everything in float64 gives."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from export.search import CosineSearch, FaissScan, FlatScan, PrunedScan, Scan, choose_scan

Vectors = NDArray[np.float32]


def unit(rows: NDArray[np.floating]) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def library(kind: str, n: int = 6000, dim: int = 128) -> Vectors:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((n, dim))
    if kind == "directions":  # as embeddings of networks are: a mean, classes, a falling spectrum
        spread = np.arange(1, dim + 1) ** -0.9
        rows = rows * spread + 2 * rng.standard_normal((20, dim))[rng.integers(0, 20, n)] * spread
        rows += 0.5 * spread
    elif kind == "copies":
        rows = rows[rng.integers(0, 300, n)]
    return unit(rows)


LIBRARIES = {kind: library(kind) for kind in ("directions", "even", "copies")}
SCANS: dict[str, Callable[[Vectors], Scan]] = {
    "flat": lambda vectors: FlatScan(),
    "pruned": PrunedScan,
    "faiss": FaissScan,
    "faiss in 3 parts": lambda vectors: FaissScan(vectors, n_threads=3),
}


@pytest.fixture(scope="module", params=SCANS)
def searches(request: pytest.FixtureRequest) -> dict[str, CosineSearch]:
    if request.param.startswith("faiss"):
        pytest.importorskip("faiss")
    make = SCANS[request.param]
    return {kind: CosineSearch(rows, make(rows)) for kind, rows in LIBRARIES.items()}


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(sorted(LIBRARIES)),
    seed=st.integers(0, 2**32 - 1),
    noise=st.sampled_from([0.0, 1e-3, 0.3, 1.0, 10.0]),
    k=st.sampled_from([1, 2, 7, 40]),
)
def test_the_nearest_are_those_of_a_full_comparison(
    searches: dict[str, CosineSearch], kind: str, seed: int, noise: float, k: int
) -> None:
    vectors = LIBRARIES[kind]
    rng = np.random.default_rng(seed)
    query = vectors[rng.integers(len(vectors))] + noise * vectors.std(axis=0) * rng.standard_normal(
        vectors.shape[1]
    )
    query = query.astype(np.float64) * 3.0
    indices, cosines = searches[kind].nearest(query, k=k)
    every = (vectors.astype(np.float64) * (query / np.linalg.norm(query))).sum(axis=1)
    np.testing.assert_array_equal(indices, np.argsort(-every, kind="stable")[:k])
    np.testing.assert_allclose(cosines, np.sort(every)[::-1][:k], atol=1e-6)


@pytest.mark.parametrize("name", ["pruned", "faiss"])
def test_a_scan_leaves_few_to_compare_where_vectors_have_preferred_directions(name: str) -> None:
    if name == "faiss":
        pytest.importorskip("faiss")
    vectors = LIBRARIES["directions"]
    scan = SCANS[name](vectors)
    rng = np.random.default_rng(1)
    for row in rng.integers(0, len(vectors), 20):
        query = vectors[row] + 0.3 * vectors.std(axis=0) * rng.standard_normal(vectors.shape[1])
        left = scan.candidates(unit(query[np.newaxis])[0], 1)
        assert left is not None
        assert len(left) < len(vectors) / 8


def test_faiss_leaves_few_also_where_they_have_none() -> None:
    pytest.importorskip("faiss")
    vectors = LIBRARIES["even"]
    query = unit((vectors[9] + 0.05 * np.random.default_rng(0).standard_normal(128))[np.newaxis])[0]
    left = FaissScan(vectors).candidates(query, 1)
    assert left is not None
    assert 9 in left


def test_the_library_and_what_is_installed_decide_how_it_is_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directed, even = library("directions", n=40_000), library("even", n=40_000)
    assert choose_scan(directed[:1000]).name == "flat"
    assert choose_scan(directed).name == "pruned"
    pytest.importorskip("faiss")
    assert choose_scan(even).name == "faiss"
    monkeypatch.setitem(sys.modules, "faiss", None)
    search = CosineSearch(even)
    assert search.how == "pruned"
    assert search.nearest(even[17])[0][0] == 17
