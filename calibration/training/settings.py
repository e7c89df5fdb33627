"""What a training run is made of: sizes, steps, rates. The defaults are the shipped recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from models.errors import SettingError
from models.nets.sizes import SizeName

__all__ = [
    "STAGES",
    "CodecSettings",
    "DistillSettings",
    "EncoderSettings",
    "GeneratorSettings",
    "SoundsSettings",
    "StageName",
    "StageSettings",
    "TokensSettings",
    "TrainingSettings",
    "VocoderSettings",
    "scaled",
]

StageName = Literal["encoder", "judge", "codec", "tokens", "vocoder", "generator", "distill"]
STAGES: tuple[StageName, ...] = get_args(StageName)


@dataclass(frozen=True, slots=True)
class StageSettings:
    """What every stage has."""

    steps: int = 1_000
    batch: int = 32  # sounds in a step
    rate: float = 1e-3  # largest learning rate
    warmup: int = 200  # steps until it is reached; then a cosine down to a tenth of it
    average: float = 0.999  # decay of the averaged weights, reached after a warm-up
    clip: float = 1.0  # largest norm of a gradient

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or not self.rate > 0 or not 0 <= self.average < 1:
            raise SettingError(
                "A stage needs at least 1 step, 2 sounds a step, a rate above 0 and an average "
                f"from 0 to below 1, got {self}."
            )


@dataclass(frozen=True, slots=True)
class SoundsSettings:
    """How many sounds are rendered, 5.12 s each."""

    clips: int = 13_000  # of the library's classes
    blends: int = 5_000  # mixtures without a class, for codec and vocoder
    held_out: int = 650  # of each, the last ones: never trained on
    # Of the clips: procedural, folder:PATH or midi:PATH; several with '+' between them take turns.
    source: str = "procedural"

    def __post_init__(self) -> None:
        if not 0 < self.held_out < min(self.clips, self.blends):
            raise SettingError(f"Expected fewer sounds held out than rendered, got {self}.")


@dataclass(frozen=True, slots=True)
class EncoderSettings(StageSettings):
    """Sounds and captions into one space."""

    steps: int = 2_000
    batch: int = 64
    temperature: float = 0.07  # where it starts; it is learned
    pair_weight: float = 0.5  # two stretches of one sound belong together
    factor_weight: float = 1.0  # pitch, tempo, brightness, loudness, density can be read off
    class_weight: float = 0.3


@dataclass(frozen=True, slots=True)
class CodecSettings(StageSettings):
    """Mel frames to latents and back."""

    steps: int = 10_000
    batch: int = 32
    rate: float = 1.5e-3
    kl_weight: float = 1e-4  # [?] generation.md names 1e-2 to 1e-4
    slope_weight: float = 0.5  # steps from frame to frame and band to band must be right too
    gain_db: float = 8.0


@dataclass(frozen=True, slots=True)
class TokensSettings(StageSettings):
    """Masked autoencoder."""

    steps: int = 3_000
    batch: int = 32
    seen: float = 0.25  # share of patches that the encoder sees
    whole: float = 0.25  # share of steps in which it sees all, as it will when it is used


@dataclass(frozen=True, slots=True)
class VocoderSettings(StageSettings):
    """Mel frames to sound; the adversarial part begins after `plain` of the steps."""

    steps: int = 19_000
    batch: int = 12
    frames: int = 64  # of a stretch
    plain: float = 0.98
    phase_weight: float = 0.3
    turn_weight: float = 0.3  # how far the phases turn from frame to frame, bin by bin
    adversarial_weight: float = 0.1
    match_weight: float = 0.2  # features of the discriminators
    copied: float = 0.75  # share of stretches whose mel has been through the codec, as live
    gain_db: float = 8.0


@dataclass(frozen=True, slots=True)
class GeneratorSettings(StageSettings):
    """Flow matching."""

    steps: int = 7_000
    batch: int = 64
    rate: float = 1e-3
    warmup: int = 500
    average: float = 0.9995
    prefixed: float = 0.8  # share of samples that go on from known frames
    switched: float = 0.25  # share of those whose known frames are of another sound
    without_condition: float = 0.12
    with_tokens: float = 0.5
    noisy_condition: float = 0.2  # share whose condition is blurred as a decoder blurs it


@dataclass(frozen=True, slots=True)
class DistillSettings(StageSettings):
    """Few steps: regression on secants of the teacher's paths, then a short adversarial phase."""

    steps: int = 2_440
    batch: int = 32
    rate: float = 4e-4  # of the regression, and of consistency distillation
    warmup: int = 100
    average: float = 0.998
    method: Literal["secants", "consistency"] = "secants"
    regression: float = 0.984  # share of the steps; the rest is adversarial
    adversarial_rate: float = 1e-4  # of student and critic
    paths: int = 16_000  # ways from noise to sound that the teacher lays down; fewer are memorised
    teacher_steps: int = 8  # Heun; a multiple of 4, as the student's steps begin at quarters
    guidance: float = 1.5  # strength that the student has built in; 1 is none
    own_prefixes: float = 0.5  # share of adversarial steps that go on from the student's own sound
    chain: int = 4  # so many continuations of its own at most come before
    points: int = 32  # of a path, for consistency distillation
    scored: int = 1_040  # held-out windows at most, that few and many steps are compared on

    def __post_init__(self) -> None:
        # Named: zero-argument super() does not work in a dataclass with slots.
        StageSettings.__post_init__(self)
        if (
            self.teacher_steps < 4
            or self.teacher_steps % 4
            or self.paths < 1
            or self.chain < 1
            or self.points < 2
            or self.scored < 2
            or not 0 <= self.regression <= 1
            or not 0 <= self.own_prefixes <= 1
            or not self.adversarial_rate > 0
        ):
            raise SettingError(
                "Distillation needs a multiple of 4 teacher steps, at least one path and one "
                "continuation, 2 points, 2 windows to score, shares from 0 to 1 and a rate above "
                f"0, got {self}."
            )


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """A whole run."""

    size: SizeName = "tiny"
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    compiled: bool = False  # the denoiser, by torch.compile, when it learns
    checkpoint_s: float = 120.0
    sounds: SoundsSettings = field(default_factory=SoundsSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    codec: CodecSettings = field(default_factory=CodecSettings)
    tokens: TokensSettings = field(default_factory=TokensSettings)
    vocoder: VocoderSettings = field(default_factory=VocoderSettings)
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    distill: DistillSettings = field(default_factory=DistillSettings)

    def __post_init__(self) -> None:
        if self.seed < 0 or self.threads < 1 or not self.checkpoint_s > 0:
            raise SettingError(
                "Training needs a seed >= 0, at least one thread and a time between checkpoints, "
                f"got {self.seed}, {self.threads} and {self.checkpoint_s}."
            )


def scaled(settings: TrainingSettings, factor: float) -> TrainingSettings:
    """Return the run with the steps of every stage, and the sounds, times a factor; for trials.

    Parameters
    ----------
    settings : TrainingSettings
    factor : float
        Above 0; .1 is a tenth of the work.

    Raises
    ------
    SettingError
        If the factor is not above 0.
    """
    if not factor > 0:
        raise SettingError(f"Expected a factor above 0, got {factor}.")

    def fewer(stage: StageSettings) -> StageSettings:
        steps = max(1, round(stage.steps * factor))
        return replace(stage, steps=steps, warmup=max(1, round(stage.warmup * factor)))

    names = ("encoder", "codec", "tokens", "vocoder", "generator", "distill")
    sounds = SoundsSettings(
        clips=max(52, round(settings.sounds.clips * factor)),
        blends=max(40, round(settings.sounds.blends * factor)),
        held_out=max(13, round(settings.sounds.held_out * factor)),
        source=settings.sounds.source,
    )
    stages = {name: fewer(getattr(settings, name)) for name in names}
    given = settings.distill
    stages["distill"] = replace(
        stages["distill"],
        paths=max(32, round(given.paths * factor)),  # type: ignore[call-arg]
        scored=max(26, min(given.scored, 2 * sounds.held_out)),
    )
    return replace(settings, sounds=sounds, **stages)  # type: ignore[arg-type]
