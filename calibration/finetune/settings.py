"""What a brain-conditioned fine-tuning is told: one TOML file, a table for each part.

Published (C2F-LDM): AdamW, 1e-4 for the generator and 1e-6 for the acoustic decoder, batches of 8,
30 or 40 epochs, P_gt 0.25 chosen out of the table below. Not published and options here: guidance,
how tokens enter each checkpoint, dropout of the condition.

C2F-LDM's table of P_gt (music / speech, without prompt):

=====  ===========================  ===========================
P_gt   music: PCC, FAD, CLAP        speech: PCC, FAD, CLAP
=====  ===========================  ===========================
0      .442, 1.606, .527            .379, 4.866, .438
.25    .454, 1.504, .530            .393, 4.623, .471
.5     .422, 1.341, .513            .374, 4.013, .502
=====  ===========================  ===========================

The text calls .25 best on the whole; without prompt on speech .5 is better in all but PCC.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from calibration.acoustic.settings import AcousticSettings
from calibration.config import CalibrationSettings
from calibration.finetune.convert_settings import ConsistencySettings, ConvertSettings
from calibration.training.settings import StageSettings
from models.errors import SettingError

__all__ = ["BrainTraining", "FewStepSettings", "FinetuneSettings", "FullSettings"]


@dataclass(frozen=True, slots=True)
class FinetuneSettings(StageSettings):
    """The fine-tuning itself."""

    steps: int = 1_500
    batch: int = 16
    rate: float = 1e-4
    warmup: int = 20
    average: float = 0.99
    joint: bool = True  # train the acoustic decoder along; else it stays as it is
    acoustic_rate: float = 1e-6
    acoustic_weight: float = 1.0  # of its own losses beside the denoiser's
    p_gt: float = 0.25  # how often the truth is given in place of what was decoded
    # What is given then. C2F-LDM gives the true embedding to the acoustic decoder; AudioLDM 2,
    # whose idea it is, the true tokens to the denoiser.
    given_true: Literal["tokens", "embedding", "both"] = "tokens"
    without_condition: float = 0.15  # dropout, for guidance
    prefixed: float = 0.8  # samples that go on from known frames, as the generator learnt it
    switched: float = 0.25  # share of those whose known frames are of another sound
    error_share: float = 0.0  # samples whose condition is drawn from the decoder's error model
    error_rank: int = 32
    error_centre: Literal["true", "regressed"] = "regressed"
    # Folds of the decoder whose errors are modelled; 0: the closed form's, which are there anyway.
    error_folds: int = 0
    held_out: float = 0.15  # share of the groups that select
    check_every: int = 50
    check_windows: int = 128
    patience: int = 6

    def __post_init__(self) -> None:
        StageSettings.__post_init__(self)
        shares = (
            self.p_gt,
            self.without_condition,
            self.prefixed,
            self.switched,
            self.error_share,
        )
        if not all(0 <= share <= 1 for share in shares) or not 0 < self.held_out < 1:
            raise SettingError(
                "p_gt, without_condition, prefixed, switched and error_share lie in 0 to 1 and "
                f"held_out between, got {shares} and {self.held_out}."
            )
        if min(self.error_rank, self.check_every, self.check_windows, self.patience) < 1:
            raise SettingError(
                "error_rank, check_every, check_windows and patience are 1 or more, got "
                f"{self.error_rank}, {self.check_every}, {self.check_windows} and {self.patience}."
            )
        if self.acoustic_rate <= 0 or self.acoustic_weight < 0 or self.error_folds < 0:
            raise SettingError(
                "acoustic_rate is above 0, acoustic_weight and error_folds 0 or more, got "
                f"{self.acoustic_rate}, {self.acoustic_weight} and {self.error_folds}."
            )


@dataclass(frozen=True, slots=True)
class FewStepSettings(StageSettings):
    """How the distilled denoiser is brought after the tuned one; see `few_steps`."""

    steps: int = 400
    batch: int = 16
    rate: float = 1e-4
    warmup: int = 20
    average: float = 0.99
    teacher_steps: int = 8  # Heun; a multiple of 4, as steps begin at quarters
    guidance: float = 1.5  # that the student has built in

    def __post_init__(self) -> None:
        StageSettings.__post_init__(self)
        if self.teacher_steps < 4 or self.teacher_steps % 4 or self.guidance < 1:
            raise SettingError(
                "The tuned denoiser takes a multiple of 4 steps and a guidance of 1 or more, got "
                f"{self.teacher_steps} and {self.guidance}."
            )

    def scheduled(self, options: FinetuneSettings) -> FinetuneSettings:
        """Return the options of a fine-tuning on this schedule; conditions are those decoded."""
        names = ("steps", "batch", "rate", "warmup", "average", "clip")
        schedule = {name: getattr(self, name) for name in names}
        return replace(options, joint=False, **schedule)


@dataclass(frozen=True, slots=True)
class FullSettings:
    """A full-size checkpoint in place of the embedded generator."""

    checkpoint: Path
    family: Literal["musicldm", "audioldm2", "audioldm2-speech"] = "musicldm"
    published: bool = True  # the networks must be those of the published checkpoints
    adapt: Literal["lora", "all"] = "lora"
    lora_rank: int = 16
    adapter: bool = True  # a small map before the condition, which begins as the identity
    # How decoded tokens become the 8 of AudioLDM 2, each of 8 steps and 8 bands (the paper does not
    # say how tokens enter): their mean, or the mean of mean and maximum.
    pooling: Literal["mean", "mean-max"] = "mean"
    fill: Literal["last", "zeros"] = "zeros"  # tokens after the stretch, up to 10.24 s
    # Latent frames (40 ms) of what came before that it learns to go on from, for which it gets an
    # input; a multiple of 8, live stretches see 32. 0: as published, held to them from outside.
    prefix: int = 0
    # What makes AudioLDM 2's tokens: "audiomae:FILE", or "generator:FOLDER" of a small generator.
    tokens: str | None = None
    last_blocks: int = 1  # of AudioMAE: 1 its last block, 3 as AudioLDM 2 was trained
    clap: str | None = None  # embedder of the decoded vector: "clap:FOLDER"
    text: Path | None = None  # .npy (length, 1024): FLAN-T5's states for AudioLDM 2
    convert: ConvertSettings | None = None  # then bring it to v or x0, with guidance inside
    distill: ConsistencySettings | None = None  # then to few steps

    def __post_init__(self) -> None:
        if self.lora_rank < 1:
            raise SettingError(f"lora_rank is 1 or more, got {self.lora_rank}.")
        if not 0 <= self.prefix <= 128 or self.prefix % 8:
            raise SettingError(f"full.prefix is a multiple of 8 up to 128, got {self.prefix}.")


@dataclass(frozen=True, slots=True)
class BrainTraining:
    """Everything that `hearback train brain` reads."""

    recordings: Path  # as `hearback calibrate` takes them
    generator: Path | None = None  # training folder of the embedded generator
    participant: str | None = None
    seed: int = 0
    threads: int = 1
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_s: float = 120.0
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    acoustic: AcousticSettings = field(default_factory=AcousticSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    # Used where the training folder has a distilled denoiser.
    few_steps: FewStepSettings = field(default_factory=FewStepSettings)
    full: FullSettings | None = None

    def __post_init__(self) -> None:
        if (self.generator is None) == (self.full is None):
            raise SettingError(
                "Name what is to be trained further: 'generator', the folder of a training run, or "
                "the table [full] with a checkpoint; one of the two."
            )
        if self.seed < 0 or self.threads < 1 or not self.checkpoint_s > 0:
            raise SettingError(
                "Training needs a seed >= 0, at least one thread and a time between checkpoints, "
                f"got {self.seed}, {self.threads} and {self.checkpoint_s}."
            )
