"""The nearest of 106,574 sounds: ours beside NumPy and FAISS's flat, HNSW and IVF indices.

Run it with `python benchmarks/library_search.py`. The ways take turns, query by query, so that
whatever else the machine does falls on all of them alike. Before each call a buffer larger than the
cache is written, as the rest of a live session would: one decoded window in 1.5 s finds nothing of
the library in the cache. Two libraries, both made up: "directions" has a mean, 161 classes and a
falling spectrum, as embeddings of networks have; "even" has no preferred directions, which is the
worst case. Queries are rows with noise, whose cosine to their row is in the table. Writes
benchmarks/results/library_search.json and .md.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rig import machine, write_results
from export.search import CosineSearch, FaissScan, FlatScan, PrunedScan

__all__ = ["main", "measure"]

Vectors = NDArray[np.float32]
N_CLASSES = 161  # genres of FMA large


def unit(rows: Vectors) -> Vectors:
    """Return rows at unit length."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def library(kind: str, n: int, dim: int, rng: np.random.Generator) -> Vectors:
    """Return the embeddings of a library."""
    rows = rng.standard_normal((n, dim), dtype=np.float32)
    if kind == "directions":
        spread = (np.arange(1, dim + 1) ** -0.75).astype(np.float32)
        classes = rng.standard_normal((N_CLASSES, dim), dtype=np.float32)
        rows += 1.5 * classes[rng.integers(0, N_CLASSES, n)]
        rows *= spread
    return unit(rows)


def ways(vectors: Vectors) -> dict[str, tuple[Callable[[Vectors], int], float]]:
    """Return what finds the nearest row, and how long each took to build, s."""
    import faiss

    dim = vectors.shape[1]
    made: dict[str, tuple[Callable[[Vectors], int], float]] = {}

    def add(name: str, build: Callable[[], Callable[[Vectors], int]]) -> None:
        start = time.perf_counter()
        made[name] = (build(), time.perf_counter() - start)

    def ours(scan: Callable[[Vectors], Any]) -> Callable[[], Callable[[Vectors], int]]:
        def build() -> Callable[[Vectors], int]:
            search = CosineSearch(vectors, scan(vectors))
            return lambda query: int(search.nearest(query)[0][0])

        return build

    def theirs(make: Callable[[], Any], **settings: int) -> Callable[[], Callable[[Vectors], int]]:
        def build() -> Callable[[Vectors], int]:
            index = make()
            if not index.is_trained:
                index.train(vectors)
            index.add(vectors)
            for key, value in settings.items():
                setattr(index.hnsw if key == "efSearch" else index, key, value)
            return lambda query: int(index.search(query[np.newaxis], 1)[1][0, 0])

        return build

    def hnsw() -> Any:
        index = faiss.IndexHNSWFlat(dim, 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 40
        return index

    def ivf() -> Any:
        quantiser = faiss.IndexFlatIP(dim)
        index = faiss.IndexIVFFlat(quantiser, dim, 512, faiss.METRIC_INNER_PRODUCT)
        index.cp.niter = 5
        return index

    add("NumPy, one product", lambda: lambda query: int(np.argmax(vectors @ query)))
    add("hearback flat", ours(lambda rows: FlatScan()))
    add("hearback pruned", ours(PrunedScan))
    add("hearback faiss (8 bits, then exact)", ours(FaissScan))
    add("FAISS flat", theirs(lambda: faiss.IndexFlatIP(dim)))
    add("FAISS HNSW16, efSearch 64", theirs(hnsw, efSearch=64))
    add("FAISS IVF512, nprobe 16", theirs(ivf, nprobe=16))
    return made


def measure(n: int, dim: int, n_queries: int, seed: int) -> list[dict[str, Any]]:
    """Return a row for each library, noise and way."""
    rows = []
    flush = np.zeros(1 << 24, np.float32)  # 64 MB
    for kind in ("directions", "even"):
        rng = np.random.default_rng(seed)
        vectors = library(kind, n, dim, rng)
        found = ways(vectors)
        for noise in (1.0, 3.0):
            own = rng.integers(0, n, n_queries)
            queries = unit(
                vectors[own]
                + noise * vectors.std(axis=0) * rng.standard_normal((n_queries, dim)).astype("<f4")
            )
            cosine = float(np.mean(np.sum(queries * vectors[own], axis=1)))
            truth = [int(np.argmax(vectors @ query)) for query in queries]
            wall: dict[str, list[float]] = {name: [] for name in found}
            cpu: dict[str, list[float]] = {name: [] for name in found}
            right = dict.fromkeys(found, 0)
            for query, expected in zip(queries, truth, strict=True):
                for name, (call, _) in found.items():
                    flush += 1.0
                    at, spent = time.perf_counter(), time.process_time()
                    answer = call(query)
                    wall[name].append(1e3 * (time.perf_counter() - at))
                    cpu[name].append(1e3 * (time.process_time() - spent))
                    right[name] += answer == expected
            rows += [
                {
                    "library": kind,
                    "cosine to own row": round(cosine, 2),
                    "way": name,
                    "wall median, ms": round(float(np.median(wall[name])), 2),
                    "wall min, ms": round(min(wall[name]), 2),
                    "wall p99, ms": round(float(np.quantile(wall[name], 0.99)), 2),
                    "CPU median, ms": round(float(np.median(cpu[name])), 2),
                    "recall@1": right[name] / n_queries,
                    "build, s": round(built_s, 1),
                }
                for name, (_, built_s) in found.items()
            ]
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Try it:  python benchmarks/library_search.py --n 20000 --queries 20",
    )
    parser.add_argument("--n", type=int, default=106_574)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    before = machine()
    before["packages"] = {name: version(name) for name in ("numpy", "faiss-cpu")}
    write_results(
        "library_search",
        title="Nearest of a library of sounds: ours beside NumPy and FAISS",
        settings=vars(chosen),
        before=before,
        rows=measure(chosen.n, chosen.dim, chosen.queries, chosen.seed),
    )


if __name__ == "__main__":
    main()
