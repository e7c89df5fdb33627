"""Each stage of an exported stretch beside the same stage in torch, on the same input.

The graph is run with the values between its stages as outputs; torch gets those as inputs, so that
the error of a stage is its own and not that of what came before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.parity import mel_correlation, relative_error
from models.nets.graph_generator import Graph

__all__ = ["half_figures", "module_figure", "stage_figures"]

Values: TypeAlias = dict[str, NDArray[np.float32]]
Run: TypeAlias = Callable[[Values], Values]

# The floor is silence in sound: of a stretch that all but is, a share of it would say nothing.
_error = partial(relative_error, floor=1e-5)

# What stands for several inputs; the largest for all others.
_OVER: dict[str, Callable[[Iterable[float]], float]] = {"mel_pcc": min, "phase_drift": median}


def stage_figures(graph: Graph, model: Any, *, seeds: Sequence[int] = range(5)) -> dict[str, float]:
    """Return the relative errors of denoiser, sampler, codec decoder, vocoder and the whole.

    Of several inputs the worst. Where phases run on from frame to frame, torch takes those of the
    graph and finds how they were pulled (see `models.nets.stretch.StretchGraph.beside`); by how
    much the sound differs when torch runs on from its own is told as `phase_drift`, the median.

    Parameters
    ----------
    graph : Graph
        With probes.
    model : onnx.ModelProto
        Exported from it, probes and all.
    seeds : sequence of int
        Of the inputs: a condition, a start, and the state after two stretches.

    Returns
    -------
    figures : dict
        `single.LENGTH.STAGE.relative_l2`, `single.LENGTH.mel_pcc`, `single.LENGTH.phase_drift`.
    """
    run = _runner(model)
    drawn = [_figures_once(graph, run, seed) for seed in seeds]
    return {
        f"single.{graph.n_frames}.{name}": _OVER.get(name, max)(figures[name] for figures in drawn)
        for name in drawn[0]
    }


def _figures_once(graph: Graph, run: Run, seed: int) -> dict[str, float]:
    inputs = _inputs(graph, seed)
    found = run(_arrays(inputs))
    with torch.no_grad():
        given = {k: torch.from_numpy(v) for k, v in found.items()}
        outputs = graph.beside(inputs, given)
        stages = graph.isolated(inputs, given)
        # Where phases run on; other networks gave the same already.
        free = graph(*inputs.values())[0] if "probe.pulled" in found else outputs[0]
    expected = {k: v.numpy() for k, v in zip(graph.output_names, outputs, strict=True)}
    alone = free[0].numpy()
    states = [f"next.{state}" for state in graph.state_names]
    errors = {
        "denoiser": _error(found["probe.velocity"], expected["probe.velocity"]),
        "sampler": _error(found["probe.made"], expected["probe.made"]),
        "stretch": max(
            _error(found[name], expected[name])
            for name in ("sound", "probe.pulled")
            if name in expected
        ),
        "state": max(_error(found[name], expected[name]) for name in states),
    }
    errors |= {k: _error(found[name], v.numpy()) for k, (name, v) in stages.items()}
    return {f"{name}.relative_l2": error for name, error in errors.items()} | {
        "mel_pcc": mel_correlation(found["sound"][0], alone),
        "phase_drift": _error(found["sound"][0], alone),
    }


def half_figures(graph: Graph, single: Any, half: Any, *, seed: int = 0) -> dict[str, float]:
    """Return how far the latents and the sound in half precision are from those in single.

    Parameters
    ----------
    graph : Graph
        With probes.
    single, half : onnx.ModelProto
        The same export in both precisions.
    seed : int

    Returns
    -------
    figures : dict
        `half.LENGTH.latents.relative_l2`, `half.LENGTH.mel_pcc`.
    """
    inputs = _arrays(_inputs(graph, seed))
    expected, found = _runner(single)(inputs), _runner(half)(inputs)
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
    found = _runner(model)({name: value.numpy() for name, value in inputs.items()})
    return max(relative_error(a, b.numpy()) for a, b in zip(found.values(), expected, strict=True))


def _inputs(graph: Graph, seed: int) -> dict[str, Tensor]:
    """Return random inputs with the state after two stretches of others."""
    source = torch.Generator().manual_seed(seed)
    state = graph.initial_state()
    names = graph.input_names[: -len(state)]
    for _ in range(3):
        made = {
            name: torch.randn(x.shape, generator=source)
            for name, x in zip(names, graph.example(), strict=False)
        }
        if "vector" in made:
            made["vector"] = nn.functional.normalize(made["vector"], dim=-1)
        made["times"] = torch.linspace(0.2, 1.0, graph.steps + 1)
        inputs = [*made.values(), *state]
        with torch.no_grad():
            state = list(graph(*inputs)[1 : 1 + len(state)])
    return dict(zip(graph.input_names, inputs, strict=True))


def _arrays(inputs: dict[str, Tensor]) -> Values:
    return {name: value.numpy() for name, value in inputs.items()}


def _runner(model: Any) -> Run:
    """Return a model in memory as a function on the CPU: inputs to outputs by name, in order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()]
    wanted = {value.name for value in session.get_inputs()}

    def run(inputs: Values) -> Values:
        feeds = {name: value for name, value in inputs.items() if name in wanted}
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run
