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

from export.generator_files import GeneratorCard, GraphEntry, StateEntry
from export.generator_folder import Checks, Precision, finish_folder, replaced_folder
from export.npy import write_npy
from export.stretch_models import save_stretches
from export.tuned_checkpoint import TunedCheckpoint
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
    tuned: TunedCheckpoint | None = None,
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
    tuned : TunedCheckpoint, optional
        What the checkpoint says of its tuning to a brain; the card says it too.
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
    text_shape = reference.constants["text"].shape[1:] if text is not None else (1, 1)

    def make(n_frames: int) -> FullStretchGraph:
        return FullStretchGraph(
            generator,
            n_frames=n_frames,
            steps=steps,
            prefix=prefix,
            fade=fade,
            sampler=sampler,
            text_shape=text_shape,
            probes=True,
        ).eval()

    with replaced_folder(Path(out), overwrite=overwrite) as folder:
        figures = save_stretches(make, spec.stretches, folder, precision=precision, checks=checks)
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
            about={} if tuned is None else {"recipe": {"tuned": tuned.to_json()}},
        )
        return finish_folder(
            folder, card, list(first.values()), figures, reference=reference, checks=checks
        )
