"""The whole of `hearback train brain`: recordings to a tuned generator and its acoustic decoder.

OUT/acoustic/     the acoustic decoder, trained first
brain/        the fine-tuning
generator/    the tuned denoiser, beside copies of the other stages: a training folder
checkpoint/   in its place, for a full-size checkpoint: a folder in diffusers layout
acoustic.onnx
brain.json    settings, scores, what was gained
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

from calibration.acoustic.decoder import AcousticDecoder
from calibration.acoustic.fit import fit_acoustic
from calibration.acoustic.selection import Either, train_selected
from calibration.config import settings_to_json
from calibration.finetune.outcome import BrainReport, finish, network_of, scores_of
from calibration.finetune.prepare import Prepared, prepare_windows, rendered
from calibration.finetune.settings import BrainTraining
from calibration.finetune.small import PREFIX, SmallFinetune
from calibration.finetune.windows import BrainWindows, decode_tokens
from calibration.reading import read_participant
from calibration.training.checkpoint import save_tensors
from calibration.training.loop import Progress, need_device
from calibration.training.settings import TrainingSettings
from calibration.whole_file import write_whole
from models.errors import FileError, SettingError
from models.stretch import TOKENS_PER_STEP

if TYPE_CHECKING:
    from calibration.data.dataset import Dataset

__all__ = ["train_brain", "tune_small"]

_log = logging.getLogger(__name__)
_COPIED = ("encoder", "judge", "codec", "tokens", "vocoder")


class _Deadline(Event):
    """Set when a moment on `time.monotonic`'s clock has come."""

    def __init__(self, at: float | None) -> None:
        super().__init__()
        self._at = at

    def is_set(self) -> bool:
        return self._at is not None and time.monotonic() >= self._at


def train_brain(
    settings: BrainTraining,
    out: Path,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    resume: bool = False,
    budget_min: float | None = None,
    stop: Event | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> BrainReport | None:
    """Train an acoustic decoder and tune a generator on one participant's recordings.

    Parameters
    ----------
    settings : BrainTraining
    out : Path
    device : {"cpu", "cuda"}
    resume : bool
        Go on with what is in the folder.
    budget_min : float, optional
        Minutes after which everything is saved and left.
    stop : Event, optional
        When set, everything is saved and left.
    progress : callable, optional

    Returns
    -------
    report : BrainReport or None
        None if it was stopped before its end.

    Raises
    ------
    HearbackError
        If recordings, sounds or networks cannot be read, do not fit, or the folder is in use.
    """
    import torch

    need_device(device)
    torch.set_num_threads(settings.threads)
    deadline = None if budget_min is None else time.monotonic() + 60.0 * budget_min
    ended = Either(stop or Event(), _Deadline(deadline))
    _claim(settings, out, resume=resume)
    dataset = read_participant(settings.recordings, settings.participant, settings.calibration.data)
    if settings.full is not None:
        from calibration.finetune.run_full import tune_full

        tune: Any = tune_full
    else:
        tune = tune_small
    report: BrainReport | None = tune(
        dataset, settings, out, device=device, resume=resume, stop=ended, progress=progress
    )
    if report is not None:
        _write_report(out, settings, report)
    return report


def tune_small(
    dataset: Dataset,
    settings: BrainTraining,
    out: Path,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    resume: bool = False,
    stop: Event | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> BrainReport | None:
    """Tune the embedded generator of a training folder on recordings that were read.

    Parameters and errors are those of `train_brain`.
    """
    from calibration.acoustic.token_decoder import load_token_decoder
    from calibration.finetune.few_steps import FewSteps
    from calibration.finetune.trained import RunEmbedder, RunTokens, TrainedParts
    from models.nets.dit import Denoiser

    if settings.generator is None:
        raise SettingError("Name the folder of a training run as 'generator'.")
    parts = TrainedParts(settings.generator)
    tokens = RunTokens(parts.tokens)
    prepared = prepare_windows(
        dataset,
        dataset.participants[0],
        settings.calibration,
        embedder=RunEmbedder(parts),
        tokens=tokens,
        latents=parts.latents,
        silence=parts.silence,
        prefix=PREFIX,
        progress=lambda what: _log.info("%s", what),
    )
    run = training_of(settings, device)
    hears = settings.acoustic.perceptual_weight or settings.acoustic.mel_weight
    decoder = fit_decoder(
        prepared,
        settings,
        out / "acoustic",
        dataset=dataset,
        token_decoder=load_token_decoder(settings.generator) if hears else None,
        device=device,
        resume=resume,
        stop=stop,
        progress=progress,
    )
    if stop is not None and stop.is_set():
        return None
    windows = decode_windows(prepared.windows, settings)
    train, check = windows.split(settings.acoustic, seed=settings.seed)
    stage = SmallFinetune(
        run,
        settings.finetune,
        settings.acoustic,
        windows,
        denoiser=parts.denoiser,
        decoder=network_of(decoder),
        train=train,
        check=check,
    )
    if not train_selected(stage, out / "brain", resume=resume, stop=stop, progress=progress):
        return None
    scores = scores_of(stage)
    _save_denoiser(stage, out / "generator", scores)
    student, tuned = parts.distilled(), stage.averages["denoiser"]
    if student is not None:
        assert isinstance(tuned, Denoiser)
        few = FewSteps(
            run,
            settings.few_steps,
            settings.finetune,
            settings.acoustic,
            windows,
            teacher=tuned,
            student=student,
            train=train,
            check=check,
        )
        folder = out / "few-steps"
        if not train_selected(few, folder, resume=resume, stop=stop, progress=progress):
            return None
        scores |= {f"few_steps_{name}": value for name, value in scores_of(few).items()}
        _save_denoiser(few, out / "distill", scores_of(few))
    _copy_stages(settings.generator, out)
    return finish(prepared, decoder, stage, out, dataset=dataset, tokens=tokens, scores=scores)


def fit_decoder(
    prepared: Prepared,
    settings: BrainTraining,
    folder: Path,
    *,
    dataset: Dataset,
    token_decoder: Any,
    device: Literal["cpu", "cuda"],
    resume: bool,
    stop: Event | None,
    progress: Callable[[Progress], None] | None,
) -> AcousticDecoder:
    """Fit the acoustic decoder of prepared windows; see `calibration.acoustic.fit.fit_acoustic`."""
    windows = prepared.windows
    mel = None
    if settings.acoustic.mel_weight and settings.acoustic.mel_target == "sound":
        from calibration.acoustic.targets import stretch_mel

        mel = stretch_mel(
            dataset.stimuli,
            windows.samples.clip.tolist(),
            *rendered(windows.samples, prepared.hop_s),
            steps=windows.tokens.shape[1] // TOKENS_PER_STEP,
        )
    return fit_acoustic(
        windows.samples,
        windows.tokens,
        windows.decoded,
        windows.groups,
        settings.acoustic,
        true_embeddings=windows.true,
        response=prepared.response,
        mel=mel,
        token_decoder=token_decoder,
        device=device,
        seed=settings.seed,
        folder=folder,
        resume=resume,
        stop=stop,
        progress=progress,
    )


def _save_denoiser(stage: SmallFinetune, folder: Path, scores: dict[str, float]) -> None:
    """Write a denoiser as the stages of a training folder are written."""
    state = stage.averages["denoiser"].state_dict()
    tensors = {f"denoiser.{name}": value for name, value in state.items()}
    note = {"step": stage.best_step, "scores": scores, "tuned": "on brain data"}
    save_tensors(folder / "final.safetensors", tensors, note)


def decode_windows(windows: BrainWindows, settings: BrainTraining) -> BrainWindows:
    """Return the windows with tokens decoded out of fold, as the settings say."""
    return decode_tokens(
        windows, settings.acoustic, n_folds=settings.finetune.error_folds, seed=settings.seed
    )


def training_of(settings: BrainTraining, device: Literal["cpu", "cuda"]) -> TrainingSettings:
    """Return what every stage wants to know."""
    return TrainingSettings(
        seed=settings.seed,
        device=device,
        threads=settings.threads,
        precision=settings.precision,
        checkpoint_s=settings.checkpoint_s,
    )


def _copy_stages(source: Path, out: Path) -> None:
    """Put the frozen stages beside the tuned one: what is exported needs them all."""
    try:
        for stage in _COPIED:
            final = source / stage / "final.safetensors"
            if final.is_file():
                (out / stage).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(final, out / stage / "final.safetensors")
        if (source / "run.json").is_file():
            shutil.copyfile(source / "run.json", out / "run.json")
    except OSError as error:
        raise FileError(f"Cannot copy the trained stages to {out}: {error}.") from error


def _claim(settings: BrainTraining, out: Path, *, resume: bool) -> None:
    """Write down what is trained here, or check that it is the same as before."""
    path = out / "settings.json"
    # Number of threads, precision and the pace of checkpoints may change between calls.
    free = {"threads", "precision", "checkpoint_s"}
    wanted = {key: value for key, value in _plain(settings).items() if key not in free}
    try:
        if path.exists():
            if not resume:
                raise FileError(f"{out} holds a fine-tuning. Resume it, or give another folder.")
            if json.loads(path.read_text("utf-8")) != wanted:
                raise FileError(
                    f"{out} holds a fine-tuning with other settings. Give those, or another folder."
                )
        else:
            out.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(wanted, indent=1).encode())
    except (OSError, ValueError) as error:
        raise FileError(f"Cannot use {path}: {error}.") from error


def _plain(settings: BrainTraining) -> dict[str, Any]:
    values = asdict(settings)
    values["calibration"] = settings_to_json(settings.calibration)
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _write_report(out: Path, settings: BrainTraining, report: BrainReport) -> None:
    said = {"settings": _plain(settings), **report.to_json()}
    write_whole(out / "brain.json", json.dumps(said, indent=1).encode())
