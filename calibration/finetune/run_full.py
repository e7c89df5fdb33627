"""A full-size checkpoint tuned on recordings, and brought to what few steps can be taught to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.acoustic.selection import train_selected
from calibration.acoustic.targets import AudioMaeTokens
from calibration.finetune.full import FullFinetune, enter_tokens
from calibration.finetune.outcome import BrainReport, finish, network_of, scores_of
from calibration.finetune.prepare import prepare_windows
from calibration.finetune.run import decode_windows, fit_decoder, training_of
from calibration.finetune.settings import BrainTraining, FullSettings
from calibration.finetune.teach import ConvertStage
from calibration.finetune.windows import BrainWindows
from calibration.training.loop import Progress, train_stage
from models.errors import FileError, SettingError
from models.frontends.audioldm import AudioLdmMel
from models.nets.full.generator import FullGenerator
from models.nets.full.loaders import load_full_generator
from models.nets.full.random_weights import save_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from calibration.acoustic.targets import TokenSource
    from calibration.data.dataset import Dataset

__all__ = ["tune_full"]

_log = logging.getLogger(__name__)
_LONGEST_S = 10.24
_MEL = AudioLdmMel()


def tune_full(
    dataset: Dataset,
    settings: BrainTraining,
    out: Path,
    *,
    device: Literal["cpu", "cuda"] = "cpu",
    resume: bool = False,
    stop: Event | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> BrainReport | None:
    """Tune a full-size checkpoint; parameters and errors are those of `train_brain`."""
    full = settings.full
    assert full is not None
    loaded = load_full_generator(str(full.checkpoint), full.family, published=full.published)
    generator = loaded.generator
    by_vector = generator.family.conditions == ("vector",)
    tokens = _Silent() if by_vector and full.audiomae is None else _audiomae(full)
    prepared = prepare_windows(
        dataset,
        dataset.participants[0],
        settings.calibration,
        embedder=_embedder(full),
        tokens=tokens,
        latents=lambda pcm: _latents(generator, pcm),
        silence=np.zeros((generator.channels, generator.bands), np.float32),
        prefix=full.prefix,
        even=True,
        most_s=_LONGEST_S,
        progress=lambda what: _log.info("%s", what),
    )
    windows, decoder = prepared.windows, None
    if isinstance(tokens, _Silent):
        windows = replace(windows, decoded_tokens=np.zeros_like(windows.tokens))
    else:
        decoder = fit_decoder(
            prepared,
            settings,
            out / "acoustic",
            dataset=dataset,
            token_decoder=None,
            device=device,
            resume=resume,
            stop=stop,
            progress=progress,
        )
        if stop is not None and stop.is_set():
            return None
        windows = decode_windows(windows, settings)
    train, check = windows.split(settings.acoustic, seed=settings.seed)
    run = training_of(settings, device)
    text = _text(full)
    stage = FullFinetune(
        run,
        settings.finetune,
        settings.acoustic,
        windows,
        full=full,
        generator=generator,
        decoder=None if decoder is None else network_of(decoder),
        train=train,
        check=check,
        text=text,
    )
    if not train_selected(stage, out / "brain", resume=resume, stop=stop, progress=progress):
        return None
    tuned = stage.tuned()
    scores = scores_of(stage)
    if full.convert is not None:
        latents = np.ascontiguousarray(windows.latents[train].transpose(0, 2, 1, 3))
        teach = ConvertStage(
            run,
            full.convert,
            tuned,
            latents,
            _given(windows, train, full, text),
            n_known=windows.n_known[train],
            prefix=full.prefix,
            prefixed=settings.finetune.prefixed,
        )
        if not train_stage(teach, out / "convert", resume=resume, stop=stop, progress=progress):
            return None
        tuned = teach.converted()
    save_checkpoint(tuned.cpu(), out / "checkpoint")
    report = finish(prepared, decoder, stage, out, dataset=dataset, tokens=tokens, scores=scores)
    return replace(report, licence=loaded.licence)


class _Silent:
    """Stands for tokens where a checkpoint takes none."""

    def tokens(self, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return zeros."""
        return np.zeros((8 * max(1, -(-len(pcm) // 2_560)), 768), np.float32)


def _audiomae(full: FullSettings) -> TokenSource:
    if full.audiomae is None:
        raise SettingError(
            f"{full.family} takes AudioMAE's tokens. Give its weights as full.audiomae."
        )
    from calibration.embedders.audiomae import load_audiomae

    return AudioMaeTokens(load_audiomae(str(full.audiomae)).encoder, last_blocks=full.last_blocks)


def _embedder(full: FullSettings) -> Any:
    if full.clap is None:
        raise SettingError(
            "A full-size checkpoint is steered in CLAP's space. Give it as full.clap, for example "
            '"clap:FOLDER".'
        )
    from calibration.embedders import make_embedder

    return make_embedder(full.clap)


@torch.no_grad()
def _latents(generator: FullGenerator, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the latents of a sound, (frames, 8, 16), by the checkpoint's own autoencoder."""
    mel = _MEL(pcm)
    mel = np.pad(mel, ((0, -len(mel) % 4), (0, 0)), mode="edge")
    made = generator.encode(torch.from_numpy(mel[None]))[0]  # (8, frames, 16)
    return np.asarray(made.permute(1, 0, 2).numpy(), np.float32)


def _text(full: FullSettings) -> torch.Tensor | None:
    if full.text is None:
        return None
    try:
        values = np.load(full.text, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FileError(f"Cannot read the text states {full.text}: {error}.") from error
    if values.ndim != 2 or values.shape[1] != 1024 or not np.isfinite(values).all():
        raise FileError(
            f"{full.text} holds an array of shape {values.shape}; expected FLAN-T5's states, "
            "(length, 1024), all finite."
        )
    return torch.from_numpy(np.asarray(values, np.float32))[None]


def _given(
    windows: BrainWindows,
    train: NDArray[np.int64],
    full: FullSettings,
    text: torch.Tensor | None,
) -> Callable[[NDArray[np.int64]], list[torch.Tensor]]:
    """Return what gives the conditions of training rows: as decoded out of fold."""

    def parts(rows: NDArray[np.int64]) -> list[torch.Tensor]:
        chosen = train[rows]
        if full.family == "musicldm":
            return [torch.from_numpy(windows.decoded[chosen])]
        assert windows.decoded_tokens is not None
        tokens = enter_tokens(
            torch.from_numpy(windows.decoded_tokens[chosen]),
            pooled=full.family == "audioldm2",
            pooling=full.pooling,
            fill=full.fill,
        )
        return [tokens] if text is None else [tokens, text.expand(len(rows), -1, -1)]

    return parts
