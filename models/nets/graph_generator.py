"""A generator around graphs in torch: NumPy in and out, every argument checked.

Small and full-size networks are run through the same class, as their exported graphs are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.stretch import GeneratorInput, GeneratorSpec, GeneratorState
from models.stretch_inputs import check_length, check_noise, check_state, stretch_arrays

__all__ = ["Graph", "GraphGenerator"]


class Graph(Protocol):
    """One stretch of some generator as a module of tensors."""

    input_names: list[str]
    output_names: list[str]
    state_names: list[str]
    noise_shape: tuple[int, ...]
    n_frames: int
    steps: int

    def initial_state(self) -> list[Tensor]:
        """Return the state before the first stretch."""
        ...

    def example(self) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes."""
        ...

    def beside(
        self, inputs: Mapping[str, Tensor], found: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        """Return the outputs that those of another backend are to be compared with."""
        ...

    def isolated(
        self, inputs: Mapping[str, Tensor], found: Mapping[str, Tensor]
    ) -> dict[str, tuple[str, Tensor]]:
        """Return what each later stage gives for what the stage before it gave elsewhere."""
        ...

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the sound and the state after it."""
        ...


class GraphGenerator:
    """A `models.stretch.Generator` around graphs in torch, one for each length.

    Parameters
    ----------
    spec : GeneratorSpec
    graphs : dict of int to Graph
        By latent frames.
    silence : array of shape spec.latent
    device : torch.device
        Where the networks are.
    constants : dict of str to array, optional
        Inputs of every graph that stay the same.
    """

    def __init__(
        self,
        spec: GeneratorSpec,
        graphs: Mapping[int, Graph],
        silence: NDArray[np.float32],
        *,
        device: torch.device,
        constants: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.spec, self.graphs, self.silence = spec, dict(graphs), silence
        self.device = device
        self.constants = dict(constants or {})
        self._names = self.graphs[spec.stretches[0]].state_names
        self._shapes = {k: v.shape for k, v in self.initial_state().items()}

    def noise_shape(self, n_frames: int) -> tuple[int, ...]:
        """Return the shape of the noise of a stretch; draws come first."""
        check_length(n_frames, self.spec)
        return self.graphs[n_frames].noise_shape

    def initial_state(self) -> GeneratorState:
        """Return the state before the first stretch."""
        state = self.graphs[self.spec.stretches[0]].initial_state()
        return {k: v.cpu().numpy() for k, v in zip(self._names, state, strict=True)}

    @torch.no_grad()
    def stretch(
        self,
        given: GeneratorInput,
        state: GeneratorState,
        noise: NDArray[np.float32],
        *,
        n_frames: int,
    ) -> tuple[NDArray[np.float32], GeneratorState]:
        """Return the next sound and the state after it; see `models.stretch.Generator`."""
        arrays = stretch_arrays(given, self.spec, n_frames=n_frames, silence=self.silence)
        arrays["noise"] = check_noise(noise, self.noise_shape(n_frames))
        check_state(state, self._shapes)
        arrays |= self.constants
        arrays |= {f"state.{name}": value for name, value in state.items()}
        graph = self.graphs[n_frames]
        # Arrays may be read-only; torch wants to be able to write.
        inputs = [torch.tensor(arrays[name], device=self.device) for name in graph.input_names]
        sound, *after = graph(*inputs)
        return sound[0].cpu().numpy(), {
            k: v.cpu().numpy() for k, v in zip(self._names, after, strict=True)
        }
