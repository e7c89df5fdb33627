"""The least time that a network can take on a GPU: arithmetic or memory, whichever is slower.

Counted by torch on tensors without storage, so that it costs no time and no memory.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["GPUS", "count_flops", "floor_ms", "half_bytes"]

# Dense half precision in FLOP/s, and bytes/s.
GPUS: Mapping[str, tuple[float, float]] = {"A100": (312e12, 2.0e12), "H200": (790e12, 4.3e12)}


def count_flops(module: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Return what one call computes, counted without computing it; a product is two operations."""
    memo: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, False) if isinstance(tensor, nn.Parameter) else empty
    hollow = copy.deepcopy(module, memo)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        hollow(*(x.to("meta") for x in inputs))
    return counter.get_total_flops()


def half_bytes(module: nn.Module) -> int:
    """Return the bytes of the weights that a call reads, in half precision."""
    unused = ("vae.encoder.", "vae.quant_conv.")
    named = module.named_parameters()
    return 2 * sum(weight.numel() for name, weight in named if not name.startswith(unused))


def floor_ms(flops: int, weight_bytes: int, gpu: str) -> float:
    """Return max(FLOP / rate, bytes of weights / bandwidth), ms."""
    rate, bandwidth = GPUS[gpu]
    return 1e3 * max(flops / rate, weight_bytes / bandwidth)
