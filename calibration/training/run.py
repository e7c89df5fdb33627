"""The whole training, stage after stage, each of which can be run and resumed by itself."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any

import torch

from calibration.json_values import json_values
from calibration.training.begun import begin_from
from calibration.training.card import model_card
from calibration.training.checkpoint import FINAL, read_note
from calibration.training.loop import Progress, Stage, need_device, train_stage
from calibration.training.material import Material, prepare_sounds
from calibration.training.processes import processes
from calibration.training.settings import STAGES, SoundsSettings, StageName, TrainingSettings
from calibration.whole_file import write_whole
from export.generator_files import read_generator_card
from models.errors import FileError, SettingError

__all__ = ["make_stage", "stages_left", "summary", "train"]

_log = logging.getLogger(__name__)


def train(
    run: TrainingSettings,
    out: Path,
    *,
    stages: Sequence[StageName] = STAGES,
    resume: bool = False,
    budget_min: float | None = None,
    workers: int = 1,
    begin: Path | None = None,
    stop: Event | None = None,
    progress: Callable[[Progress], None] | None = None,
    every_s: float = 20.0,
) -> bool:
    """Train the stages that are not done yet, in their order.

    Parameters
    ----------
    run : TrainingSettings
    out : Path
        Folder of the run: `sounds/`, `derived/`, a folder for each stage, `run.json`, and `card.md`
        of what is finished. Two calls may share it at the same time if they train different stages.
    stages : sequence of str
        Which of `STAGES`.
    resume : bool
        Go on where a stage stopped, and leave out those that are done.
    budget_min : float, optional
        Minutes after which everything is saved and left.
    workers : int
        Processes that render sounds.
    begin : Path, optional
        Exported generator to begin from; see `calibration.training.begun`.
    stop : Event, optional
        When set, everything is saved and left.
    progress : callable, optional
        Told how far a stage is every `every_s` seconds, and at its end.
    every_s : float

    Returns
    -------
    done : bool
        False if it was stopped before its end.

    Raises
    ------
    SettingError
        If a stage is unknown, or the generator to begin from is of another size.
    BundleError
        If the generator to begin from cannot be read.
    FileError
        If the folder holds another run, or a run and `resume` is not asked for, or cannot be
        written.
    DeviceError
        If the device cannot be had.
    StageError
        If a loss is not finite.
    """
    unknown = [name for name in stages if name not in STAGES]
    if unknown or not stages:
        raise SettingError(f"Expected stages out of {', '.join(STAGES)}, got {list(stages)}.")
    need_device(run.device)
    if begin is not None:
        read_generator_card(begin)  # before minutes of rendering
    torch.set_num_threads(run.threads)
    deadline = None if budget_min is None else time.monotonic() + 60.0 * budget_min
    together = processes()
    if together.first:
        _claim(run, out)

        def rendered(what: str, done: int, of: int) -> None:
            if progress is not None:
                progress(Progress(f"sounds: {what}", done, of, {}, 0.0, math.nan))

        prepare_sounds(run, out, workers=workers, progress=rendered)
    together.wait()
    material = Material(run, out)
    if begin is not None:
        if together.first:
            begin_from(
                begin, run, material, out, stage=lambda name: make_stage(name, run, material, out)
            )
        together.wait()
    for name in stages:
        folder = out / name
        if (folder / FINAL).exists():
            if not resume and read_note(folder / FINAL).get("begun_from") is None:
                raise FileError(f"{folder} is trained. Resume the run, or give another folder.")
            _log.info("Stage '%s' is done.", name)
            continue
        if together.any(stop is not None and stop.is_set()):
            return False
        stage = make_stage(name, run, material, out)
        _log.info("Stage '%s': %d steps.", name, stage.settings.steps)
        if not train_stage(
            stage,
            folder,
            resume=resume,
            stop=stop,
            deadline=deadline,
            progress=progress,
            every_s=every_s,
        ):
            return False
        if together.first:
            write_whole(out / "card.md", model_card(out).encode())
    return True


def stages_left(out: Path, stages: Sequence[StageName]) -> list[StageName]:
    """Return those stages that a run's folder does not hold yet."""
    return [name for name in stages if not (out / name / FINAL).exists()]


def summary(out: Path, stages: Sequence[StageName] = STAGES) -> dict[str, Any]:
    """Return what a run's folder holds: the folder, seconds in all, and each finished stage.

    Parameters
    ----------
    out : Path
    stages : sequence of str

    Returns
    -------
    values : dict
        `folder`, `seconds`, and `stages` by name with `steps`, `seconds` and `scores`. Times of
        what was taken from another generator or trained without a clock, and scores that are no
        number, are None.
    """
    found: dict[str, Any] = {}
    for name in stages:
        if (out / name / FINAL).exists():
            note = read_note(out / name / FINAL)
            found[name] = {
                "steps": note.get("step"),
                "seconds": None if note.get("begun_from") else note.get("seconds"),
                "scores": json_values(note.get("scores", {})),
            }
    seconds = sum(stage["seconds"] or 0.0 for stage in found.values())
    return {"folder": str(out), "seconds": round(seconds, 1), "stages": found}


def make_stage(name: StageName, run: TrainingSettings, material: Material, out: Path) -> Stage:
    """Return a stage with its networks at their initial weights.

    Parameters
    ----------
    name : str
        One of `STAGES`.
    run : TrainingSettings
    material : Material
    out : Path
        Folder of the run, where later stages find what earlier ones made.
    """
    if name in ("encoder", "judge"):
        from calibration.training.encoder import EncoderStage

        return EncoderStage(name, run, material)
    if name == "codec":
        from calibration.training.codec import CodecStage

        return CodecStage(run, material)
    if name == "tokens":
        from calibration.training.tokens import TokensStage

        return TokensStage(run, material)
    if name == "vocoder":
        from calibration.training.vocoder import VocoderStage

        return VocoderStage(run, material, out)
    if name == "generator":
        from calibration.training.generator import GeneratorStage

        return GeneratorStage(run, material, out)
    from calibration.training.distill import DistillStage

    return DistillStage(run, material, out)


def _claim(run: TrainingSettings, out: Path) -> None:
    """Write down what the run is, or check that it is the same as before.

    Number of threads, device and precision may change between calls; the recipe may not.
    """
    recipe = json.loads(json.dumps(asdict(run)))
    for free in ("threads", "device", "precision", "compiled", "checkpoint_s"):
        recipe.pop(free)
    path = out / "run.json"
    before = None
    try:
        out.mkdir(parents=True, exist_ok=True)
        if path.exists():
            before = json.loads(path.read_text("utf-8"))
            # What was written before a setting existed had its default.
            before["sounds"] = {**asdict(SoundsSettings()), **before.get("sounds", {})}
            changed = [k for k in ("size", "seed", "sounds") if before.get(k) != recipe[k]]
            if changed:
                raise FileError(
                    f"{out} holds a run with other settings ({', '.join(changed)}). Give another "
                    "folder."
                )
        if before != recipe:  # another stage of this run may be reading it at this moment
            write_whole(path, json.dumps(recipe, indent=1).encode())
    except (OSError, ValueError, TypeError) as error:
        raise FileError(f"Cannot use {path}: {error}. Give another folder.") from error
