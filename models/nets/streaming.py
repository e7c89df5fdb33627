"""Operators that give the same result in pieces as in one go: local, causal, with carried state.

A network here is causal throughout; what it may see of the future is settled once, by delaying
its output: `Streamed.forward` appends `lookahead` frames of silence and drops as many from the
start, and `Streamed.step` gives frames `lookahead` late. Both run the same operators, so whole =
chunked up to rounding. The input 0 means silence, which is also what comes before the first frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CausalConv", "ConvNeXt", "RmsNorm", "State", "Streamed"]

State = list[Tensor]
"""Past inputs of each convolution, (batch, kernel - 1, channels) each, in the order of use."""


class RmsNorm(nn.Module):
    """Each frame by its root mean square over channels, times a gain (arXiv:1910.07467, eq. 4).

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised frames, (..., channels), in float32."""
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.gain


class CausalConv(nn.Module):
    """A convolution over time that sees the present frame and kernel - 1 frames before it.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    kernel : int
        Frames.
    depthwise : bool
        Each channel by itself; needs inputs = outputs.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, depthwise: bool = False) -> None:
        super().__init__()
        self.past = kernel - 1
        self.inputs = inputs
        self.conv = nn.Conv1d(inputs, outputs, kernel, groups=inputs if depthwise else 1)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames of x, (batch, time, outputs), and the past for the next call."""
        x = torch.cat([past, x], dim=1)  # (batch, kernel - 1 + time, inputs)
        y = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return y, x[:, x.shape[1] - self.past :]


class ConvNeXt(nn.Module):
    """Depthwise convolution, then a gated-by-GELU expansion per frame, added to the input.

    ConvNeXt (arXiv:2201.03545, fig. 4) in one dimension, as Vocos has it; RMSNorm for LayerNorm.

    Parameters
    ----------
    channels : int
    expansion : int
        Width of the hidden layer over `channels`.
    kernel : int
        Frames.
    depth : int
        How many such blocks the network has: the first output of each is scaled to 1 / depth.
    """

    def __init__(self, channels: int, *, expansion: int, kernel: int = 7, depth: int = 1) -> None:
        super().__init__()
        self.conv = CausalConv(channels, channels, kernel, depthwise=True)
        self.norm = RmsNorm(channels)
        self.up = nn.Linear(channels, channels * expansion)
        self.down = nn.Linear(channels * expansion, channels)
        self.scale = nn.Parameter(torch.full((channels,), 1.0 / depth))

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames of x, (batch, time, channels), and the past for the next call."""
        y, past = self.conv(x, past)
        y = self.down(functional.gelu(self.up(self.norm(y)), approximate="tanh"))
        return x + self.scale * y, past


class Streamed(nn.Module):
    """Base of the networks that run on a stream.

    A subclass sets `lookahead` and `convolutions`, and implements `run`.
    """

    lookahead: int
    """Frames by which `step` is late, in frames of the input."""

    def convolutions(self) -> list[CausalConv]:
        """Return the convolutions in the order in which `run` uses them."""
        return [module for module in self.modules() if isinstance(module, CausalConv)]

    def initial_state(self, batch: int = 1) -> State:
        """Return the state after endless silence: zeros, (batch, kernel - 1, channels) each."""
        some = next(self.parameters())
        return [
            torch.zeros(batch, conv.past, conv.inputs, device=some.device)
            for conv in self.convolutions()
        ]

    def run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return as many frames as came in, `lookahead` late, and the state after them."""
        raise NotImplementedError

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the next frames of a stream and the state; the first `lookahead` are no output.

        Parameters
        ----------
        x : Tensor of shape (batch, time, inputs)
            Any number of frames.
        state : list of Tensor
            From `initial_state` or the last call.
        """
        return self.run(x, state)

    def forward(self, x: Tensor) -> Tensor:
        """Return all frames of a sound that is followed by silence.

        Parameters
        ----------
        x : Tensor of shape (batch, time, inputs)

        Returns
        -------
        y : Tensor of shape (batch, time, outputs)
        """
        padded = functional.pad(x, (0, 0, 0, self.lookahead))
        y, _ = self.run(padded, self.initial_state(len(x)))
        return y[:, self.lookahead :]
