"""Each stage of an exported stretch beside the same stage in torch, on the same input.

The graph is run with the values between its stages as outputs; torch gets those as inputs, so that
the error of a stage is its own and not that of what came before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.parity import mel_correlation, relative_error
from models.nets.stretch import StretchGraph

__all__ = ["half_figures", "module_figure", "stage_figures"]

Values = dict[str, NDArray[np.float32]]


def stage_figures(graph: StretchGraph, model: Any, *, seed: int = 0) -> dict[str, float]:
    """Return the relative errors of denoiser, sampler, codec decoder, vocoder and the whole.

    Parameters
    ----------
    graph : StretchGraph
        With probes.
    model : onnx.ModelProto
        Exported from it, probes and all.
    seed : int
        Of the input: a condition, a start, and the state after two stretches.

    Returns
    -------
    figures : dict
        `single.LENGTH.STAGE.relative_l2`, `single.LENGTH.mel_pcc`.
    """
    inputs = _inputs(graph, seed)
    with torch.no_grad():
        outputs = graph(*(torch.from_numpy(value) for value in inputs.values()))
        expected = _named(graph, outputs)
        found = _run(model, inputs)
        n_decoder = sum(name.startswith("decoder") for name in graph.state_names)
        memory = [torch.from_numpy(inputs[f"state.{name}"]) for name in graph.state_names[3:]]
        mel, _ = graph.scaled_mel(torch.from_numpy(found["probe.latents"]), memory[:n_decoder])
        sound, _ = graph.sound(torch.from_numpy(found["probe.mel"]), memory[n_decoder:])
    errors = {
        "denoiser": relative_error(found["probe.velocity"], expected["probe.velocity"]),
        "sampler": relative_error(found["probe.made"], expected["probe.made"]),
        "codec": relative_error(found["probe.mel"], mel.numpy()),
        "vocoder": relative_error(found["sound"], sound.numpy()),
        "stretch": relative_error(found["sound"], expected["sound"]),
        "state": max(
            relative_error(found[f"next.{name}"], expected[f"next.{name}"])
            for name in graph.state_names
        ),
    }
    figures = {f"single.{graph.n_frames}.{k}.relative_l2": v for k, v in errors.items()}
    pcc = mel_correlation(found["sound"][0], expected["sound"][0])
    return figures | {f"single.{graph.n_frames}.mel_pcc": pcc}


def half_figures(graph: StretchGraph, single: Any, half: Any, *, seed: int = 0) -> dict[str, float]:
    """Return how far the latents and the sound in half precision are from those in single.

    Parameters
    ----------
    graph : StretchGraph
        With probes.
    single, half : onnx.ModelProto
        The same export in both precisions.
    seed : int

    Returns
    -------
    figures : dict
        `half.LENGTH.latents.relative_l2`, `half.LENGTH.mel_pcc`.
    """
    inputs = _inputs(graph, seed)
    expected, found = _run(single, inputs), _run(half, inputs)
    name = f"half.{graph.n_frames}"
    return {
        f"{name}.latents.relative_l2": relative_error(found["probe.made"], expected["probe.made"]),
        f"{name}.mel_pcc": mel_correlation(found["sound"][0], expected["sound"][0]),
    }


def module_figure(module: nn.Module, model: Any, inputs: dict[str, Tensor]) -> float:
    """Return the largest relative error of a module's outputs as exported."""
    with torch.no_grad():
        outputs = module(*inputs.values())
    expected = outputs if isinstance(outputs, tuple) else (outputs,)
    found = _run(model, {name: value.numpy() for name, value in inputs.items()})
    return max(relative_error(a, b.numpy()) for a, b in zip(found.values(), expected, strict=True))


def _inputs(graph: StretchGraph, seed: int) -> Values:
    """Return random inputs with the state after two stretches of others."""
    source = torch.Generator().manual_seed(seed)
    fixed = len(graph.input_names) - len(graph.state_names)
    state = graph.initial_state()
    for _ in range(3):
        made = [torch.randn(x.shape, generator=source) for x in graph.example()[:fixed]]
        made[0] = nn.functional.normalize(made[0], dim=-1)
        made[4] = torch.linspace(0.2, 1.0, graph.steps + 1)
        inputs = [*made, *state]
        with torch.no_grad():
            state = list(graph(*inputs)[1 : 1 + len(state)])
    return {name: x.numpy() for name, x in zip(graph.input_names, inputs, strict=True)}


def _named(graph: StretchGraph, outputs: tuple[Tensor, ...]) -> Values:
    return {name: x.numpy() for name, x in zip(graph.output_names, outputs, strict=True)}


def _run(model: Any, inputs: Values) -> Values:
    """Run a model in memory on the CPU; return its outputs by name, in order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    wanted = {value.name for value in session.get_inputs()}
    feeds = {name: value for name, value in inputs.items() if name in wanted}
    return dict(zip(names, session.run(names, feeds), strict=True))
