"""Opens the second decoder of a coarse-to-fine bundle: features and embedding to acoustic tokens.

Its file has the inputs `features` (1, n) and `embedding` (1, 512) and the one output `tokens`
(1, 8 steps, 768), all float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from export.bundle import Bundle
from export.chains import CoarseToFineChain
from export.runtime import Device, Runner, TensorInfo, open_runner
from models.errors import BundleError

__all__ = ["open_acoustic"]


def open_acoustic(
    bundle: Bundle,
    *,
    device: Device = "cpu",
    threads: int = 1,
    cache_dir: str | Path | None = None,
) -> Runner:
    """Open the acoustic decoder of a bundle and check that it is the one its manifest describes.

    Parameters are those of `export.runtime.open_decoder`.

    Raises
    ------
    BundleError
        If the chain has none, or its inputs or outputs have other names, shapes or types, or are
        not finite.
    DeviceError
        As `open_runner`.
    """
    chain = bundle.manifest.chain
    if not isinstance(chain, CoarseToFineChain):
        raise BundleError(
            f"Bundle {bundle.path.name!r} has a {chain.kind} chain; only coarse-to-fine ones have "
            "an acoustic decoder."
        )
    runner = open_runner(
        bundle.file(chain.acoustic), device=device, threads=threads, cache_dir=cache_dir
    )
    where = f"Bundle {bundle.path.name!r}: {chain.acoustic}"
    features, embedding = (1, bundle.n_features), (1, chain.embedding.dim)
    _check(where, "inputs", runner.inputs, {"features": features, "embedding": embedding})
    _check(where, "output", runner.outputs, {"tokens": (1, *chain.tokens.shape)})
    unit = np.full(embedding, chain.embedding.dim**-0.5, np.float32)
    tokens = runner.run({"features": np.ones(features, np.float32), "embedding": unit})["tokens"]
    if not np.isfinite(tokens).all():
        raise BundleError(
            f"{where} gives tokens that are not finite. Its weights are broken; export it again."
        )
    return runner


def _check(
    where: str, kind: str, tensors: tuple[TensorInfo, ...], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Check that a model has exactly these inputs or outputs, float32; any length fits any."""
    came = {item.name: (str(item.dtype), item.shape) for item in tensors}
    fits = came.keys() == expected.keys() and all(
        dtype == "float32"
        and len(shape) == len(expected[name])
        and all(n in (None, m) for n, m in zip(shape, expected[name], strict=True))
        for name, (dtype, shape) in came.items()
    )
    if not fits:
        raise BundleError(
            f"{where} should have the {kind} {dict(expected)}, float32, but has {came}. Export the "
            "bundle again."
        )
