"""The embedded generator of a training folder tuned on recordings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from calibration.acoustic.token_decoder import load_token_decoder
from calibration.finetune.few_steps import FewSteps
from calibration.finetune.job import BrainJob
from calibration.finetune.outcome import BrainReport, finish, network_of, tuned_record
from calibration.finetune.small import SmallFinetune
from calibration.finetune.trained import RunEmbedder, RunTokens, TrainedParts
from calibration.generated.tuned_record import TunedRecord, write_tuned
from calibration.training.checkpoint import save_tensors, weights_digest
from calibration.whole_file import write_whole
from models.errors import FileError, SettingError
from models.nets.dit import Denoiser
from models.nets.stretch import PREFIX

__all__ = ["tune_small"]

_COPIED = ("encoder", "judge", "codec", "tokens", "vocoder")


def tune_small(job: BrainJob) -> BrainReport | None:
    """Tune the embedded generator of a training folder.

    Parameters
    ----------
    job : BrainJob

    Returns
    -------
    report : BrainReport or None
        None if it was stopped before its end.

    Raises
    ------
    HearbackError
        If sounds or networks cannot be read, or do not fit.
    """
    settings, out = job.settings, job.out
    if settings.generator is None:
        raise SettingError("Name the folder of a training run as 'generator'.")
    parts = TrainedParts(settings.generator)
    tokens = RunTokens(parts.tokens)
    prepared = job.prepare(
        embedder=RunEmbedder(parts),
        tokens=tokens,
        latents=parts.latents,
        silence=parts.silence,
        prefix=PREFIX,
    )
    hears = settings.acoustic.perceptual_weight or settings.acoustic.mel_weight
    decoder = job.fit_decoder(
        prepared, token_decoder=load_token_decoder(settings.generator) if hears else None
    )
    if job.stopped:
        return None
    windows = job.decoded(prepared.windows)
    train, check = windows.split(settings.acoustic, seed=settings.seed)
    stage = SmallFinetune(
        job.training,
        settings.finetune,
        settings.acoustic,
        windows,
        denoiser=parts.denoiser,
        silence=parts.silence,
        decoder=network_of(decoder),
        train=train,
        check=check,
    )
    if not job.train(stage, "brain"):
        return None
    scores = stage.gained()
    _save_denoiser(stage, out / "generator", scores)
    student, tuned = parts.distilled(), stage.averages["denoiser"]
    if student is not None:
        assert isinstance(tuned, Denoiser)
        few = FewSteps(
            job.training,
            settings.few_steps,
            settings.finetune,
            settings.acoustic,
            windows,
            teacher=tuned,
            student=student,
            silence=parts.silence,
            train=train,
            check=check,
        )
        if not job.train(few, "few-steps"):
            return None
        scores |= {f"few_steps_{name}": value for name, value in few.gained().items()}
        _save_denoiser(few, out / "distill", few.gained())
    report, decoder = finish(job, prepared, decoder, stage, tokens=tokens, scores=scores)
    record = tuned_record(job, prepared, decoder, weights=weights_digest(tuned.state_dict()))
    record = write_tuned(out, record, prepared.fit, tokens=decoder.mean)
    _copy_stages(settings.generator, out, record)
    return report


def _save_denoiser(stage: SmallFinetune, folder: Path, scores: dict[str, float]) -> None:
    """Write a denoiser as the stages of a training folder are written."""
    state = stage.averages["denoiser"].state_dict()
    tensors = {f"denoiser.{name}": value for name, value in state.items()}
    note = {"step": stage.best_step, "scores": scores, "tuned": "on brain data"}
    save_tensors(folder / "final.safetensors", tensors, note)


def _copy_stages(source: Path, out: Path, record: TunedRecord) -> None:
    """Put the frozen stages beside the tuned one: what is exported needs them all.

    The recipe says what was tuned; so does the card of every generator that is exported from here.
    """
    recipe: dict[str, Any] = {}
    try:
        for stage in _COPIED:
            final = source / stage / "final.safetensors"
            if final.is_file():
                (out / stage).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(final, out / stage / "final.safetensors")
        if (source / "run.json").is_file():
            recipe = json.loads((source / "run.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"Cannot copy the trained stages to {out}: {error}.") from error
    recipe["tuned"] = {"weights": record.weights, "trained_on": list(record.trained_on)}
    write_whole(out / "run.json", json.dumps(recipe, indent=1).encode())
