"""Small additions to a frozen network, which end up inside its own weights.

Low-rank additions to the projections of attention (LoRA, arXiv:2106.09685, section 4.1), and a
linear map before the condition. Both are zero at first, so that training begins at the checkpoint,
and both are folded into its weights afterwards: what is written has the published layout again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from models.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Additions", "attention_projections"]

_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


def attention_projections(network: nn.Module) -> dict[str, nn.Linear]:
    """Return the projections of all attention layers of a diffusers UNet, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(_PROJECTIONS)
    }


class Additions(nn.Module):
    """What is trained beside a frozen UNet.

    Parameters
    ----------
    unet : Module
        Not kept; only shapes are read from it.
    rank : int
        Of the additions to attention; 0: none.
    condition : int, optional
        Width of the condition before which a linear map is trained; none if not given.
    """

    def __init__(self, unet: nn.Module, *, rank: int, condition: int | None = None) -> None:
        super().__init__()
        self.names = list(attention_projections(unet)) if rank else []
        down, up = [], []
        for layer in attention_projections(unet).values() if rank else ():
            k = min(rank, layer.in_features, layer.out_features)
            down.append(nn.Parameter(torch.randn(k, layer.in_features) / layer.in_features**0.5))
            up.append(nn.Parameter(torch.zeros(layer.out_features, k)))
        self.down, self.up = nn.ParameterList(down), nn.ParameterList(up)
        self.map = None
        if condition is not None:
            self.map = nn.Parameter(torch.zeros(condition, condition))

    def adapted(self, condition: Tensor) -> Tensor:
        """Return a condition through the map before it."""
        return condition if self.map is None else condition + condition @ self.map.T

    @contextmanager
    def on(self, unet: nn.Module) -> Iterator[None]:
        """Let a UNet compute with the additions to its attention while the context lasts."""
        layers = attention_projections(unet)
        hooks = [
            layers[name].register_forward_hook(_adding(a, b))
            for name, a, b in zip(self.names, self.down, self.up, strict=True)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def fold(self, unet: nn.Module, *, tokens: bool) -> None:
        """Add everything to the weights of a UNet, which then computes the same by itself.

        Parameters
        ----------
        unet : Module
            Changed in place.
        tokens : bool
            Whether the condition is tokens, read by attention, or a class vector.

        Raises
        ------
        SettingError
            If the UNet does not read such a condition.
        """
        layers = attention_projections(unet)
        for name, a, b in zip(self.names, self.down, self.up, strict=True):
            layers[name].weight += (b @ a).to(layers[name].weight)
        if self.map is None:
            return
        width = len(self.map)
        readers = _token_readers(layers, width) if tokens else _class_readers(unet, width)
        if not readers:
            raise SettingError(f"This network reads no condition {width} wide.")
        for layer in readers:
            layer.weight += (layer.weight.float() @ self.map.float()).to(layer.weight)


def _adding(a: Tensor, b: Tensor) -> Any:
    def add(_module: nn.Module, given: tuple[Any, ...], made: Any) -> Any:
        return made + (given[0].to(a.dtype) @ a.T @ b.T).to(made.dtype)

    return add


def _token_readers(layers: dict[str, nn.Linear], width: int) -> list[nn.Linear]:
    """Return keys and values that read tokens: no layer of the UNet is as wide as those."""
    return [
        layer
        for name, layer in layers.items()
        if name.endswith(("to_k", "to_v")) and layer.in_features == width
    ]


def _class_readers(unet: nn.Module, width: int) -> list[nn.Linear]:
    first = getattr(unet, "class_embedding", None)
    return [first] if isinstance(first, nn.Linear) and first.in_features == width else []
