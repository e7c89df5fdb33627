"""The graphs of a generator, one for each length of a stretch, beside one file of weights.

Needs the extra `train`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.generator_files import DATA_FILE
from export.generator_folder import Checks, Precision
from export.onnx_store import drop_outputs, save_shared
from export.precision import to_half
from export.stage_parity import half_figures, stage_figures
from export.to_onnx import to_onnx

if TYPE_CHECKING:
    from models.nets.full.stretches import FullStretchGraph
    from models.nets.stretch import StretchGraph

__all__ = ["graph_file", "save_stretches"]


def graph_file(n_frames: int) -> str:
    """Return the name of the file that makes stretches of so many latent frames."""
    return f"generator-{n_frames}.onnx"


def save_stretches(
    make: Callable[[int], StretchGraph | FullStretchGraph],
    stretches: Sequence[int],
    folder: Path,
    *,
    precision: Precision,
    checks: Checks,
) -> dict[str, float]:
    """Write the graph of each length and the weights that they share; compare each with torch.

    Parameters
    ----------
    make : callable
        Returns the graph of stretches of so many latent frames, with probes, in mode `eval`.
    stretches : sequence of int
        Lengths, latent frames.
    folder : Path
    precision : {"fp32", "fp16"}
        Of products and weights.
    checks : Checks
        Told how far it is.

    Returns
    -------
    figures : dict of str to float
        How far each stage is from torch.

    Raises
    ------
    SettingError
        If onnx is missing.
    StageError
        If the networks cannot be exported.
    """
    graphs: dict[str, Any] = {}
    figures: dict[str, float] = {}
    for number, n_frames in enumerate(stretches):
        checks.progress("graphs", number, len(stretches))
        graph = make(n_frames)
        model = to_onnx(
            graph, graph.example(), input_names=graph.input_names, output_names=graph.output_names
        )
        figures |= stage_figures(graph, model)
        if precision == "fp16":
            half = to_half(model)
            figures |= half_figures(graph, model, half)
            model = half
        graphs[graph_file(n_frames)] = drop_outputs(model, "probe.")
    save_shared(graphs, folder, DATA_FILE)
    return figures
