"""The networks of a training run or of an exported generator, for scoring what they make."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from calibration.training.checkpoint import load_tensors, load_weights, read_note
from export.checkpoint import few_step_sampler
from export.generator_files import CARD_FILE
from export.restored import read_exported
from models.errors import FileError
from models.nets.codec import Codec
from models.nets.dit import Denoiser
from models.nets.encoder import AudioEncoder
from models.nets.readout import Readout
from models.nets.samplers import SamplerName
from models.nets.sizes import SIZES, SizeName, make_codec, make_denoiser, make_vocoder
from models.nets.vocoder import Vocoder

__all__ = ["Trained", "open_trained", "scores_folder"]

TEACHER_GUIDANCE = 1.5  # what a student is taught with by default


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """Networks of one run; what is None is not trained yet, or was not exported."""

    size: SizeName
    codec: Codec
    encoder: AudioEncoder
    judge: AudioEncoder
    readout: Readout
    vocoder: Vocoder | None
    teacher: Denoiser | None  # many steps
    student: Denoiser | None  # few
    sampler: SamplerName = "secants"  # of the student
    guidance: float = TEACHER_GUIDANCE


def open_trained(folder: Path) -> Trained:
    """Return the networks of a training run, unfinished ones too, or of an exported generator.

    Of a run codec, encoder and judge must be there; vocoder, teacher and student need not. An
    exported generator has either a student or a teacher.

    Parameters
    ----------
    folder : Path
        Holds a folder for each stage, with `final.safetensors`; or `generator.json`.

    Raises
    ------
    FileError
        If a needed stage is missing or damaged.
    BundleError
        If an exported generator cannot be read; see `export.restored.read_exported`.
    """
    if (folder / CARD_FILE).is_file():
        return _exported(folder)
    size = _size(folder)
    judged, _ = load_tensors(_final(folder, "judge"))
    try:
        shapes = len(judged["readout.classes.weight"]), len(judged["readout.factors.2.weight"])
    except KeyError as error:
        raise FileError(f"{folder / 'judge'} has no readout ({error}). Train it again.") from error
    codec, encoder, judge = make_codec(size), AudioEncoder(), AudioEncoder()
    readout = Readout(*shapes)
    _fill(codec, folder, "codec", "codec")
    _fill(encoder, folder, "encoder", "audio")
    _fill(judge, folder, "judge", "audio")
    _fill(readout, folder, "judge", "readout")
    vocoder = make_vocoder(size)
    teacher = make_denoiser(size)
    student = copy.deepcopy(teacher)
    taught = _filled(student, folder, "distill", "denoiser")
    note = read_note(_final(folder, "distill")) if taught else {}
    return Trained(
        size=size,
        codec=codec,
        encoder=encoder,
        judge=judge,
        readout=readout,
        vocoder=vocoder if _filled(vocoder, folder, "vocoder", "vocoder") else None,
        teacher=teacher if _filled(teacher, folder, "generator", "denoiser") else None,
        student=student if taught else None,
        sampler=few_step_sampler(note, folder / "distill"),
    )


def scores_folder(folder: Path) -> Path:
    """Return where what is made for scoring is kept.

    Beside a training run; for an exported generator, which may lie among installed files, in
    `out/generator_scores` of the present folder.
    """
    beside = Path("out") if (folder / CARD_FILE).is_file() else folder.resolve().parent
    return beside / "generator_scores"


def _exported(folder: Path) -> Trained:
    found = read_exported(folder)
    return Trained(
        size=found.nets.size,
        codec=found.nets.codec,
        encoder=found.encoder,
        judge=found.judge,
        readout=found.readout,
        vocoder=found.nets.vocoder,
        teacher=None if found.distilled else found.nets.denoiser,
        student=found.nets.denoiser if found.distilled else None,
        sampler=found.sampler,
    )


def _final(folder: Path, stage: str) -> Path:
    return folder / stage / "final.safetensors"


def _filled(network: nn.Module, folder: Path, stage: str, key: str) -> bool:
    if not _final(folder, stage).is_file():
        return False
    _fill(network, folder, stage, key)
    return True


def _fill(network: nn.Module, folder: Path, stage: str, key: str) -> None:
    tensors, _ = load_tensors(_final(folder, stage))
    load_weights(network, tensors, key)
    network.eval().requires_grad_(False)


def _size(folder: Path) -> SizeName:
    """Return the size whose codec has this width."""
    tensors, _ = load_tensors(_final(folder, "codec"))
    width = len(tensors.get("codec.decoder.leave.weight", [[]])[0])
    for name, size in SIZES.items():
        if size.codec[0] == width:
            return name
    raise FileError(
        f"{folder / 'codec'} holds a codec {width} channels wide; expected one of "
        f"{[size.codec[0] for size in SIZES.values()]}."
    )
