"""A full-size checkpoint to the same kind of folder as the small generator's.

Needs the extra `train`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.generator_files import DATA_FILE, GeneratorCard, GraphEntry, StateEntry
from export.generator_folder import Checks, Precision, finish_folder, replaced_folder
from export.npy import write_npy
from export.onnx_store import drop_outputs, save_shared
from export.precision import to_half
from export.stage_parity import half_figures, stage_figures
from export.to_onnx import to_onnx
from models.errors import FileError
from models.nets.full.generator import FullGenerator
from models.nets.full.published import FamilyName
from models.nets.full.stretches import FADE, PREFIX, STRETCHES, FullStretchGraph, FullTorchGenerator

__all__ = ["checkpoint_family", "export_full"]

_TEXT_FILE = "generator-text.npy"
_TEXT_WIDTH = 1024


def checkpoint_family(folder: Path) -> FamilyName:
    """Return which kind of checkpoint a folder holds, by its denoiser.

    Raises
    ------
    FileError
        If it is none of them.
    """
    file = folder / "unet" / "config.json"
    try:
        config: dict[str, Any] = json.loads(file.read_text("utf-8"))
        kind, contexts = config.get("_class_name"), config.get("cross_attention_dim")
        if kind == "UNet2DConditionModel":
            return "musicldm"
        if kind == "AudioLDM2UNet2DConditionModel":
            widths = contexts[-1] if isinstance(contexts, list) else []
            return "audioldm2" if _TEXT_WIDTH in widths else "audioldm2-speech"
    except (OSError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise FileError(f"{file} cannot be read ({error}). Copy the folder again.") from error
    raise FileError(
        f"{file} describes a {kind!r}; expected the denoiser of MusicLDM or AudioLDM 2."
    )


def export_full(
    generator: FullGenerator,
    out: str | Path,
    *,
    name: str,
    licence: str,
    steps: int = 4,
    stretches: Sequence[int] = STRETCHES,
    prefix: int = PREFIX,
    fade: int = FADE,
    sampler: str = "ddim",
    text: NDArray[np.float32] | None = None,
    precision: Precision = "fp32",
    overwrite: bool = False,
    checks: Checks | None = None,
) -> GeneratorCard:
    """Write a full-size generator as a folder.

    Parameters
    ----------
    generator : FullGenerator
    out : str or Path
        Folder to make; its parent must exist.
    name : str
        Of the checkpoint.
    licence : str
        Of its weights; it goes with the folder.
    steps, prefix, fade, sampler, text
        See `models.nets.full.stretches.FullTorchGenerator`. The text context is stored in the
        folder and given to every graph.
    stretches : sequence of int
        Lengths that it will make.
    precision : {"fp32", "fp16"}
    overwrite : bool
        Replace a generator that is there.
    checks : Checks, optional

    Raises
    ------
    SettingError
        If an option is out of range, or a text context is missing.
    StageError
        If the networks cannot be exported, or a bound is not kept. A checkpoint that predicts noise
        multiplies every error by 84 in its first step: teach it another parametrisation first.
    FileError
        If the folder is there and is not to be replaced, or cannot be written.
    """
    checks = checks or Checks()
    reference = FullTorchGenerator(
        generator,
        name=name,
        steps=steps,
        stretches=stretches,
        prefix=prefix,
        fade=fade,
        sampler=sampler,
        text=text,
    )
    spec = reference.spec
    graphs: dict[str, Any] = {}
    figures: dict[str, float] = {}
    with replaced_folder(Path(out), overwrite=overwrite) as folder:
        for number, n_frames in enumerate(spec.stretches):
            checks.progress("graphs", number, len(spec.stretches))
            graph = FullStretchGraph(
                generator,
                n_frames=n_frames,
                steps=steps,
                prefix=prefix,
                fade=fade,
                sampler=sampler,
                text_shape=reference.constants["text"].shape[1:] if text is not None else (1, 1),
                probes=True,
            ).eval()
            model = to_onnx(
                graph,
                graph.example(),
                input_names=graph.input_names,
                output_names=graph.output_names,
            )
            figures |= stage_figures(graph, model)
            if precision == "fp16":
                half = to_half(model)
                figures |= half_figures(graph, model, half)
                model = half
            graphs[f"generator-{n_frames}.onnx"] = drop_outputs(model, "probe.")
        save_shared(graphs, folder, DATA_FILE)
        constants: dict[str, str] = {}
        for key, value in reference.constants.items():
            constants[key] = _TEXT_FILE
            (folder / _TEXT_FILE).write_bytes(write_npy(value))
        first = reference.initial_state()
        card = GeneratorCard(
            spec=spec,
            sampler=sampler,
            guidance=1.0,
            precision=precision,
            graphs=tuple(
                GraphEntry(n, f"generator-{n}.onnx", reference.noise_shape(n))
                for n in spec.stretches
            ),
            state=tuple(StateEntry(key, tuple(value.shape)) for key, value in first.items()),
            silence=tuple(float(value) for value in reference.silence.ravel()),
            licence=licence,
            constants=constants,
        )
        return finish_folder(
            folder, card, list(first.values()), figures, reference=reference, checks=checks
        )
