"""A full-size checkpoint tuned on recordings, and brought to what few steps can be taught to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.embedders import make_embedder
from calibration.finetune.consistency import ConsistencyStage, check_jumpable
from calibration.finetune.convert import check_convertible
from calibration.finetune.full import FullFinetune, enter_tokens
from calibration.finetune.job import BrainJob
from calibration.finetune.outcome import BrainReport, finish, network_of, tuned_record
from calibration.finetune.settings import BrainTraining, FullSettings
from calibration.finetune.taught import TaughtWindows
from calibration.finetune.teach import ConvertStage
from calibration.finetune.windows import BrainWindows
from calibration.generated.entering import EnteringTokens
from calibration.generated.full_tokens import token_source
from calibration.generated.tuned_record import write_tuned
from calibration.training.checkpoint import FINAL, read_note, weights_digest
from calibration.training.loop import train_stage
from calibration.whole_file import write_whole
from export.text_states import read_text_states
from export.tuned_checkpoint import NOTE_FILE, TunedCheckpoint
from models.errors import SettingError
from models.frontends.audioldm import AudioLdmMel
from models.nets.full.generator import FullGenerator
from models.nets.full.loaders import load_full_generator
from models.nets.full.random_weights import save_checkpoint

if TYPE_CHECKING:
    from calibration.acoustic.targets import TokenSource

__all__ = ["tune_full"]

_LONGEST_S = 10.24
_MEL = AudioLdmMel()


def tune_full(job: BrainJob) -> BrainReport | None:
    """Tune a full-size checkpoint; see `calibration.finetune.run_small.tune_small`."""
    settings, out, full = job.settings, job.out, job.settings.full
    assert full is not None
    _check(full)
    assert full.clap is not None
    text = None if full.text is None else torch.from_numpy(read_text_states(full.text))
    loaded = load_full_generator(str(full.checkpoint), full.family, published=full.published)
    generator = loaded.generator
    if full.convert is not None:
        check_convertible(generator.schedule.prediction)
    elif full.distill is not None:
        check_jumpable(generator.schedule.prediction)
    by_vector = generator.family.conditions == ("vector",)
    tokens: TokenSource = _Silent()
    if full.tokens is not None:
        tokens = token_source(full.tokens, last_blocks=full.last_blocks)
    prepared = job.prepare(
        embedder=make_embedder(full.clap),
        tokens=tokens,
        latents=lambda pcm: _latents(generator, pcm),
        silence=np.zeros((generator.channels, generator.bands), np.float32),
        prefix=full.prefix,
        even=True,
        most_s=_LONGEST_S,
    )
    windows, decoder, entering = prepared.windows, None, None
    if by_vector:
        windows = replace(windows, decoded_tokens=np.zeros_like(windows.tokens))
    else:
        decoder = job.fit_decoder(prepared)
        if job.stopped:
            return None
        windows = job.decoded(windows)
        entering = EnteringTokens(full.family, pooling=full.pooling, fill=full.fill)
    train, check = windows.split(settings.acoustic, seed=settings.seed)
    run = job.training
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
    if not job.train(stage, "brain"):
        return None
    tuned = stage.tuned()
    scores = stage.gained()
    taught, held = (_taught(windows, rows, settings, text) for rows in (train, check))
    if full.convert is not None:
        teach = ConvertStage(run, full.convert, tuned, taught)
        if not train_stage(teach, out / "convert", **job.ways):
            return None
        tuned = teach.converted()
        scores |= _scores("convert", out)
    if full.distill is not None:
        few = ConsistencyStage(run, full.distill, tuned, taught, held=held)
        if not train_stage(few, out / "distill", **job.ways):
            return None
        tuned = few.distilled()
        scores |= _scores("distill", out)
    tuned = tuned.cpu()
    save_checkpoint(tuned, out / "checkpoint")
    note = TunedCheckpoint(
        weights_digest(tuned.denoiser.state_dict()),
        prepared.trained_on,
        pooling=None if decoder is None else full.pooling,
        fill=None if decoder is None else full.fill,
        last_blocks=None if decoder is None else full.last_blocks,
        sampler=None if full.distill is None else "ping_pong",
    )
    data = (json.dumps(note.to_json(), indent=1) + "\n").encode()
    write_whole(out / "checkpoint" / NOTE_FILE, data)
    report, left = finish(
        job, prepared, decoder, stage, tokens=tokens, scores=scores, entering=entering
    )
    if left is not None:
        record = tuned_record(job, prepared, left, weights=note.weights)
        write_tuned(out, record, prepared.fit, tokens=left.mean)
    return replace(report, licence=loaded.licence)


class _Silent:
    """Stands for tokens where a checkpoint takes none."""

    def tokens(self, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return zeros."""
        return np.zeros((8 * max(1, -(-len(pcm) // 2_560)), 768), np.float32)


def _check(full: FullSettings) -> None:
    """Refuse, before hours of work, what a family cannot do with or without."""
    if full.clap is None:
        raise SettingError(
            "A full-size checkpoint is steered in CLAP's space. Give it as full.clap, for example "
            '"clap:FOLDER".'
        )
    if full.family == "musicldm" and full.tokens is not None:
        raise SettingError("MusicLDM takes no acoustic tokens. Leave full.tokens out.")
    if full.family != "musicldm" and full.tokens is None:
        raise SettingError(
            f"{full.family} takes acoustic tokens. Say what makes them: full.tokens = "
            '"audiomae:FILE" (AudioMAE\'s weights).'
        )
    if full.family == "audioldm2" and full.text is None:
        raise SettingError(
            "AudioLDM 2 is also conditioned on FLAN-T5's states. Give full.text, a float32 .npy of "
            "shape (length, 1024): those of an empty text will do."
        )


@torch.no_grad()
def _latents(generator: FullGenerator, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the latents of a sound, (frames, 8, 16), by the checkpoint's own autoencoder."""
    mel = _MEL(pcm)
    mel = np.pad(mel, ((0, -len(mel) % 4), (0, 0)), mode="edge")
    made = generator.encode(torch.from_numpy(mel[None]))[0]  # (8, frames, 16)
    return np.asarray(made.permute(1, 0, 2).numpy(), np.float32)


def _taught(
    windows: BrainWindows,
    chosen: NDArray[np.int64],
    settings: BrainTraining,
    text: torch.Tensor | None,
) -> TaughtWindows:
    """Return some of the windows with their conditions as decoded out of fold."""
    full = settings.full
    assert full is not None

    def parts(rows: NDArray[np.int64]) -> list[torch.Tensor]:
        if full.family == "musicldm":
            return [torch.from_numpy(windows.decoded[chosen[rows]])]
        assert windows.decoded_tokens is not None
        tokens = enter_tokens(
            torch.from_numpy(windows.decoded_tokens[chosen[rows]]),
            pooled=full.family == "audioldm2",
            pooling=full.pooling,
            fill=full.fill,
        )
        return [tokens] if text is None else [tokens, text.expand(len(rows), -1, -1)]

    return TaughtWindows(
        np.ascontiguousarray(windows.latents[chosen].transpose(0, 2, 1, 3)),
        parts,
        n_known=windows.n_known[chosen],
        prefix=full.prefix,
        prefixed=settings.finetune.prefixed,
    )


def _scores(stage: str, out: Path) -> dict[str, float]:
    """Return the scores of a stage that is done, by names that tell it."""
    scores = read_note(out / stage / FINAL)["scores"]
    return {f"{stage}_{name}": float(value) for name, value in scores.items()}
