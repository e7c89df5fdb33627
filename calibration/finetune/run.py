"""The whole of `hearback train brain`: recordings to a tuned generator and its acoustic decoder.

OUT/acoustic/     the acoustic decoder, trained first
brain/        the fine-tuning
generator/    the tuned denoiser, beside copies of the other stages: a training folder
checkpoint/   in its place, for a full-size checkpoint: a folder in diffusers layout
acoustic.onnx
tuned.json    with statistics beside it: what a bundle must fit (`calibration.generated.tuned`)
brain.json    settings, scores, what was gained
NAME-exported/  with --bundle: the generator as the bundle holds it; NAME is the folder's
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import Any, Literal

from calibration.acoustic.selection import Either
from calibration.config import settings_to_json
from calibration.finetune.job import BrainJob
from calibration.finetune.outcome import BrainReport
from calibration.finetune.settings import BrainTraining
from calibration.reading import read_participant
from calibration.training.loop import Progress, need_device
from calibration.whole_file import write_whole
from models.errors import FileError

__all__ = ["train_brain"]


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
    job = BrainJob(
        dataset, settings, out, device=device, resume=resume, stop=ended, progress=progress
    )
    if settings.full is not None:
        from calibration.finetune.run_full import tune_full as tune
    else:
        from calibration.finetune.run_small import tune_small as tune
    report = tune(job)
    if report is not None:
        _write_report(out, settings, report)
    return report


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
