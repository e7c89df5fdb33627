"""The acoustic transformer of C2F-LDM: embedding and brain features to acoustic tokens.

The embedding becomes one token, the features with the highest responses another; an encoder mixes
the two, and learnt queries, one for each token of the window, read from them in a decoder
(C2F-LDM, section 2.1.2). Everything it needs to know of the training data lies inside as buffers,
so that it takes features and gives tokens as a bundle holds them.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from calibration.acoustic.settings import AcousticSettings

__all__ = ["AcousticTransformer", "LinearBase"]

_QUERY_SPREAD = 0.02


class LinearBase(nn.Module):
    """The closed form inside the network's graph; or the mean tokens, where its rank is 0.

    Parameters
    ----------
    n_features, n_embedding : int
    places, dim : int
        Shape of the tokens.
    rank, token_rank : int
        Of the basis; 0 leaves the mean.
    """

    weights: Tensor
    bias: Tensor
    components: Tensor
    directions: Tensor
    mean: Tensor

    def __init__(
        self,
        n_features: int,
        n_embedding: int,
        *,
        places: int,
        dim: int,
        rank: int = 0,
        token_rank: int = 0,
    ) -> None:
        super().__init__()
        self.n_features, self.rank = n_features, rank
        self.register_buffer("mean", torch.zeros(places, dim))
        if rank:
            self.register_buffer("weights", torch.zeros(n_features + n_embedding, rank))
            self.register_buffer("bias", torch.zeros(rank))
            self.register_buffer("components", torch.zeros(rank, places * token_rank))
            self.register_buffer("directions", torch.zeros(dim, token_rank))

    def values(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Return the components, (batch, rank)."""
        values = features @ self.weights[: self.n_features]
        return values + embedding @ self.weights[self.n_features :] + self.bias

    def decode(self, values: Tensor) -> Tensor:
        """Return the tokens that components (batch, rank) stand for."""
        turned = (values @ self.components).reshape(len(values), len(self.mean), -1)
        tokens: Tensor = turned @ self.directions.T + self.mean
        return tokens


class AcousticTransformer(nn.Module):
    """Features and embedding to tokens.

    Parameters
    ----------
    settings : AcousticSettings
    n_features : int
        Of the brain.
    n_chosen : int
        Features that make the brain token.
    places : int
        Tokens of a window, 8 m.
    dim : int
        Of a token.
    n_embedding : int
    ranks : (int, int)
        Of the base: components of windows, directions of tokens; (0, 0): the mean tokens.
    """

    chosen: Tensor
    centre: Tensor
    spread: Tensor
    scale: Tensor

    def __init__(
        self,
        settings: AcousticSettings,
        *,
        n_features: int,
        n_chosen: int,
        places: int,
        dim: int = 768,
        n_embedding: int = 512,
        ranks: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        width = settings.width
        self.of_components = settings.brain == "components"
        self.n_features, self.n_embedding = n_features, n_embedding
        self.register_buffer("chosen", torch.arange(n_chosen))
        n_brain = ranks[0] if self.of_components else n_chosen
        self.register_buffer("centre", torch.zeros(n_brain))
        self.register_buffer("spread", torch.ones(n_brain))
        self.register_buffer("scale", torch.ones(()))  # of what is added to the base
        self.base = (
            None
            if settings.base == "none"
            else LinearBase(
                n_features, n_embedding, places=places, dim=dim, rank=ranks[0], token_rank=ranks[1]
            )
        )
        self.semantic = nn.Linear(n_embedding, width)
        self.brain = nn.Linear(n_brain, width)
        kind = (width, settings.heads, settings.feedforward, settings.dropout)
        self.encoder = nn.ModuleList(_Block(*kind) for _ in range(settings.encoder_layers))
        self.encoded = nn.LayerNorm(width)
        self.queries = nn.Parameter(_QUERY_SPREAD * torch.randn(places, width))
        self.decoder = nn.ModuleList(
            _Block(*kind, reads=True) for _ in range(settings.decoder_layers)
        )
        self.decoded = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dim)
        if self.base is not None:  # training begins at the base
            nn.init.zeros_(self.leave.weight)
            nn.init.zeros_(self.leave.bias)

    def forward(self, features: Tensor, embedding: Tensor, values: Tensor | None = None) -> Tensor:
        """Return tokens, (batch, places, dim), float32.

        Parameters
        ----------
        features : Tensor of shape (batch, n_features)
        embedding : Tensor of shape (batch, 512)
            Unit vectors.
        values : Tensor of shape (batch, rank), optional
            Components of the base: in training those of a closed form that did not see the row, in
            place of the own one's.
        """
        if values is None and self.base is not None and self.base.rank:
            values = self.base.values(features, embedding)
        x = features.index_select(1, self.chosen)
        if self.of_components and values is not None:
            x = values
        x = (x - self.centre) / self.spread
        # Entries of a unit vector are near .04; layers are made for inputs near 1.
        s = embedding * self.n_embedding**0.5
        n = torch.stack([self.semantic(s), self.brain(x)], dim=1)
        for block in self.encoder:
            n = block(n)
        n = self.encoded(n)
        c = self.queries.expand(len(features), -1, -1)
        for block in self.decoder:
            c = block(c, n)
        more: Tensor = self.leave(self.decoded(c)).float() * self.scale
        if self.base is None:
            return more
        below: Tensor = self.base.mean if values is None else self.base.decode(values)
        return more + below

    def take(self, buffers: dict[str, NDArray[Any]]) -> None:
        """Fill buffers by name, "chosen" or "base.mean" for example, from arrays."""
        held = dict(self.named_buffers())
        for name, values in buffers.items():
            with torch.no_grad():
                held[name].copy_(torch.from_numpy(values))


class _Block(nn.Module):
    """Attention among the tokens, to others where it reads, and a map per token; norms first."""

    def __init__(
        self, width: int, heads: int, feedforward: int, dropout: float, *, reads: bool = False
    ) -> None:
        super().__init__()
        self.among = _Attention(width, heads)
        self.norm_a, self.norm_c = nn.LayerNorm(width), nn.LayerNorm(width)
        self.reading = _Attention(width, heads) if reads else None
        self.norm_b = nn.LayerNorm(width) if reads else None
        self.up, self.down = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, others: Tensor | None = None) -> Tensor:
        """Return the tokens, (batch, n, width)."""
        h = self.norm_a(x)
        x = x + self.drop(self.among(h, h))
        if self.reading is not None and self.norm_b is not None and others is not None:
            x = x + self.drop(self.reading(self.norm_b(x), others))
        more: Tensor = self.down(self.drop(functional.gelu(self.up(self.norm_c(x)))))
        y: Tensor = x + self.drop(more)
        return y


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, others: Tensor) -> Tensor:
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(others).unflatten(-1, (2, self.heads, -1)).unbind(2)
        k, v = k.transpose(1, 2), v.transpose(1, 2)
        weights = torch.softmax((q @ k.transpose(-2, -1)).float() * k.shape[-1] ** -0.5, dim=-1)
        y: Tensor = self.out((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))
        return y
