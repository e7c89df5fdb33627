"""What stands in a generator folder beside its graphs, and how the folder comes to be, whole.

First state, golden sounds, card. What was written is opened and run before it takes its place: as
streams beside torch, and on random conditions.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from export.checked_files import take_place
from export.generator import OnnxGenerator, golden_input, golden_noise, open_generator
from export.generator_files import (
    CARD_FILE,
    DATA_FILE,
    GeneratorCard,
    GeneratorFile,
    card_to_json,
    file_entry,
)
from export.generator_page import PAGE_FILE, card_page
from export.npy import write_npy
from export.parity import check_bounds, mel_correlation, relative_error, run_stream, stress
from export.runtime import Device
from models.errors import FileError, StageError
from models.stretch import Generator, GeneratorInput, GeneratorState

__all__ = [
    "Checks",
    "Precision",
    "Report",
    "finish_folder",
    "replaced_folder",
    "silence_level",
    "stream_figures",
]

_log = logging.getLogger(__name__)

Precision: TypeAlias = Literal["fp32", "fp16"]
Report: TypeAlias = Callable[[str, int, int], None]
"""What is being done, how much of it is done, of how much."""

Encode: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A sound at 16 kHz to a unit vector."""


def _silent(_what: str, _done: int, _total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class Checks:
    """What an export is put through, and what happens if it fails."""

    conditions: int = 1000  # drawn at random; all must give finite sound
    streams: int = 4  # compared with torch, each of several stretches of every length
    accept: bool = False  # write it though a bound is not kept
    progress: Report = field(default=_silent)


def finish_folder(
    folder: Path,
    card: GeneratorCard,
    first_state: Sequence[NDArray[np.float32]],
    figures: dict[str, float],
    *,
    reference: Generator | None = None,
    encode: Encode | None = None,
    scores: Sequence[str] = (),
    checks: Checks | None = None,
) -> GeneratorCard:
    """Write first state, golden sounds and card beside graphs; run and check what was written.

    Parameters
    ----------
    folder : Path
        Holds the graphs, the file of weights, constants and encoders.
    card : GeneratorCard
        Its `files` and `parity` are made here.
    first_state : sequence of array
        In the order of `card.state`.
    figures : dict of str to float
        What was compared before; see `export.parity.BOUNDS` for the names.
    reference : Generator, optional
        What streams are compared with.
    encode : callable, optional
        Shows in half precision how much a sound has moved away from its condition.
    scores : sequence of str
        Files that embed and score sounds.
    checks : Checks, optional

    Returns
    -------
    card : GeneratorCard
        As it was written.

    Raises
    ------
    StageError
        If a bound is not kept and that is not accepted.
    BundleError, DeviceError
        If what was written cannot be opened again.
    """
    checks = checks or Checks()
    spec = card.spec
    flat = np.concatenate([value.ravel() for value in first_state]).astype(np.float32)
    (folder / card.state_file).write_bytes(write_npy(flat))
    live = {entry.file for entry in card.graphs} | set(card.constants.values())
    live |= {DATA_FILE, card.state_file, card.golden_file}
    zeros = np.zeros(sum(spec.stretches) * spec.samples_per_frame, np.float32)
    (folder / card.golden_file).write_bytes(write_npy(zeros))
    card = _write_card(folder, card, live, scores)
    generator = open_generator(folder, golden=False)
    (folder / card.golden_file).write_bytes(write_npy(_golden(generator)))
    if reference is not None:
        figures = figures | stream_figures(
            generator, reference, encode=encode, count=checks.streams, progress=checks.progress
        )
    if spec.startable:
        figures = figures | {"silence.level_dbfs": silence_level(generator)}
    figures = figures | stress(
        generator,
        count=checks.conditions,
        progress=lambda done, total: checks.progress("random conditions", done, total),
    )
    failed = check_bounds(figures)
    if failed and not checks.accept:
        others = f" (and {len(failed) - 1} figures more)" if len(failed) > 1 else ""
        raise StageError(
            f"The export does not keep its bounds: {failed[0]}{others}. Choose another precision, "
            "or say --accept to have it as it is."
        )
    for check in failed:
        _log.warning("Accepted: %s.", check)
    parity = {
        "figures": {k: v if math.isfinite(v) else None for k, v in figures.items()},
        "failed": [str(check) for check in failed],
        "runtime": _versions(generator.device),
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    card = replace(card, parity=parity)
    (folder / PAGE_FILE).write_text(card_page(card), encoding="utf-8")
    card = _write_card(folder, card, live | {PAGE_FILE}, scores)
    open_generator(folder)
    return card


def stream_figures(
    generator: OnnxGenerator,
    reference: Generator,
    *,
    encode: Encode | None,
    count: int,
    progress: Report = _silent,
) -> dict[str, float]:
    """Compare streams of stretches of every length with those of another backend.

    In single precision both run on from their own state, and latents and mel are bound. The sound's
    own error is told as `phase_drift`: where what pulls a phase cancels it, the last bit decides
    which way it goes on, in any two backends. In half precision each stretch begins from the
    reference's state, because two streams that differ a little drift apart as two draws do.

    Parameters
    ----------
    generator : OnnxGenerator
    reference : Generator
    encode : callable, optional
    count : int
        Streams.
    progress : callable
    """
    spec = generator.spec
    lengths = [*spec.stretches, *reversed(spec.stretches)]
    if generator.card.precision == "fp32":
        worst = {"single.stream.latents.relative_l2": 0.0, "single.stream.mel_pcc": 1.0}
        drift = []
        for number in range(count):
            progress("streams", number, count)
            after: list[list[GeneratorState]] = [[], []]
            found, expected = (
                np.concatenate(run_stream(each, lengths, seed=number, states=states))
                for each, states in zip((generator, reference), after, strict=True)
            )
            error = max(
                relative_error(_latents(a, n), _latents(b, n))
                for n, a, b in zip(lengths, *after, strict=True)
            )
            off = max(error, worst["single.stream.latents.relative_l2"])
            worst["single.stream.latents.relative_l2"] = off
            pcc = mel_correlation(found, expected)
            worst["single.stream.mel_pcc"] = min(pcc, worst["single.stream.mel_pcc"])
            drift.append(relative_error(found, expected))
        worst["single.stream.phase_drift"] = float(np.median(drift))
        return worst
    half = {"half.stream.mel_pcc": 1.0, "half.stream.latents.relative_l2": 0.0}
    changes = []
    for number in range(count):
        progress("streams", number, count)
        vector, found, expected, latents = _side_by_side(generator, reference, lengths, seed=number)
        pcc = mel_correlation(found, expected)
        half["half.stream.mel_pcc"] = min(pcc, half["half.stream.mel_pcc"])
        off = max(latents, half["half.stream.latents.relative_l2"])
        half["half.stream.latents.relative_l2"] = off
        if encode is not None and vector is not None:
            changes.append(abs(float(vector @ (encode(found) - encode(expected)))))
    if changes:
        half["half.stream.cosine_change"] = float(np.mean(changes))
    return half


def silence_level(generator: OnnxGenerator) -> float:
    """Return the level of a stretch that begins and ends as silence, dB of full scale.

    Trained networks give less than -80; at -200 the sound is exactly 0.
    """
    spec = generator.spec
    n_frames = spec.stretches[-1]
    start = np.broadcast_to(generator.card.silent_latent, (n_frames + spec.held, *spec.latent))
    given = replace(golden_input(spec), start=np.array(start), strength=0.0)
    noise = golden_noise(generator.noise_shape(n_frames))
    sound, _ = generator.stretch(given, generator.initial_state(), noise, n_frames=n_frames)
    level = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))
    return max(-200.0, 20.0 * float(np.log10(max(level, 1e-12))))


@contextlib.contextmanager
def replaced_folder(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a folder to write in, which takes its place when all went well.

    Parameters
    ----------
    folder : Path
    overwrite : bool
        Whether a generator that is there is replaced; anything else never is.

    Raises
    ------
    FileError
        If the folder is there and is not to be replaced, or cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() or folder.is_symlink():
        if not overwrite:
            raise FileError(
                f"{folder} is there already. Choose another name, or say --overwrite to replace it."
            )
        if folder.is_symlink() or not _replaceable(folder):
            raise FileError(
                f"{folder} is no generator or bundle, so it is not replaced. Choose another name."
            )
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        temporary.chmod(0o755)  # mkdtemp makes it private
    except OSError as error:
        raise FileError(
            f"Cannot write to {folder.parent}: {error.strerror}. Choose a folder that can be "
            "written."
        ) from error
    try:
        yield temporary
        take_place(temporary, folder)
    except OSError as error:
        raise FileError(f"Cannot write {folder}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replaceable(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (CARD_FILE, "manifest.json"))


def _write_card(
    folder: Path, card: GeneratorCard, live: set[str], scores: Sequence[str]
) -> GeneratorCard:
    files: dict[str, GeneratorFile] = {}
    for name in sorted(live | set(scores)):
        files[name] = file_entry(folder / name, "live" if name in live else "scores")
    card = replace(card, files=files)
    (folder / CARD_FILE).write_bytes(card_to_json(card))
    return card


def _golden(generator: OnnxGenerator) -> NDArray[np.float32]:
    """Return the sound of every length on the fixed input, one after the other."""
    given = golden_input(generator.spec)
    sounds = []
    for n_frames in generator.spec.stretches:
        noise = golden_noise(generator.noise_shape(n_frames))
        first = generator.initial_state()
        sounds.append(generator.stretch(given, first, noise, n_frames=n_frames)[0])
    return np.concatenate(sounds)


def _side_by_side(
    generator: Generator, reference: Generator, lengths: Sequence[int], *, seed: int
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32], NDArray[np.float32], float]:
    """Run both on one condition, each stretch from the reference's state.

    Returns
    -------
    vector : array of shape (512,), or None
        The condition.
    found, expected : array of shape (n,)
        Both sounds.
    error : float
        Largest relative error of the latents of a stretch.
    """
    rng = np.random.default_rng(seed)
    spec = generator.spec
    vector = golden_input(spec).vector
    if vector is not None:
        vector = rng.standard_normal(vector.shape).astype(np.float32)
        vector /= np.linalg.norm(vector)
    given = GeneratorInput(vector=vector, tokens=golden_input(spec).tokens)
    state = reference.initial_state()
    found, expected, error = [], [], 0.0
    for n_frames in lengths:
        noise = rng.standard_normal(generator.noise_shape(n_frames)).astype(np.float32)
        sound, after = generator.stretch(given, state, noise, n_frames=n_frames)
        wanted, state = reference.stretch(given, state, noise, n_frames=n_frames)
        found.append(sound)
        expected.append(wanted)
        parts = (_latents(each, n_frames) for each in (after, state))
        error = max(error, relative_error(*parts))
    return vector, np.concatenate(found), np.concatenate(expected), error


def _latents(state: GeneratorState, n_frames: int) -> NDArray[np.float32]:
    """Return the latents of the last stretch from the state after it."""
    if "prefix" in state:
        return state["prefix"][:, -n_frames:]
    return state["latents"][:, :, -n_frames:]


def _versions(device: Device) -> dict[str, str]:
    """Return what the figures were measured with."""
    import onnxruntime

    found = {
        "onnxruntime": onnxruntime.__version__,
        "device": device,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    with contextlib.suppress(ImportError):
        import onnx

        found["onnx"] = onnx.__version__
    return found
