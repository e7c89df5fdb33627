"""One fine-tuning under way: what it learns from, where it is written, how long it may take."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

from calibration.acoustic.decoder import AcousticDecoder
from calibration.acoustic.fit import fit_acoustic
from calibration.acoustic.selection import SelectedStage, train_selected
from calibration.acoustic.targets import rendered, stretch_mel
from calibration.finetune.prepare import Prepared, prepare_windows
from calibration.finetune.settings import BrainTraining
from calibration.finetune.windows import BrainWindows, decode_tokens
from calibration.training.loop import Progress
from calibration.training.settings import TrainingSettings
from models.stretch import TOKENS_PER_STEP

if TYPE_CHECKING:
    from calibration.acoustic.token_decoder import SmallTokenDecoder
    from calibration.data.dataset import Dataset

__all__ = ["BrainJob"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class BrainJob:
    """A fine-tuning on recordings that were read."""

    dataset: Dataset
    settings: BrainTraining
    out: Path
    device: Literal["cpu", "cuda"] = "cpu"
    resume: bool = False  # go on with what is in the folder
    stop: Event | None = None  # when set, everything is saved and left
    progress: Callable[[Progress], None] | None = None

    @property
    def training(self) -> TrainingSettings:
        """What every stage wants to know."""
        settings = self.settings
        return TrainingSettings(
            seed=settings.seed,
            device=self.device,
            threads=settings.threads,
            precision=settings.precision,
            checkpoint_s=settings.checkpoint_s,
        )

    @property
    def stopped(self) -> bool:
        """Whether somebody asked to save and leave."""
        return self.stop is not None and self.stop.is_set()

    @property
    def ways(self) -> dict[str, Any]:
        """How training goes on and is told of, as keyword arguments of a stage's training."""
        return {"resume": self.resume, "stop": self.stop, "progress": self.progress}

    def prepare(self, **options: Any) -> Prepared:
        """Return the training windows; `options` are those of `prepare_windows`."""
        return prepare_windows(
            self.dataset,
            self.dataset.participants[0],
            self.settings.calibration,
            progress=lambda what: _log.info("%s", what),
            **options,
        )

    def fit_decoder(
        self, prepared: Prepared, *, token_decoder: SmallTokenDecoder | None = None
    ) -> AcousticDecoder:
        """Fit the acoustic decoder of prepared windows; see `fit_acoustic`."""
        windows, settings = prepared.windows, self.settings
        mel = None
        if settings.acoustic.mel_weight and settings.acoustic.mel_target == "sound":
            mel = stretch_mel(
                self.dataset.stimuli,
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
            device=self.device,
            seed=settings.seed,
            folder=self.out / "acoustic",
            **self.ways,
        )

    def decoded(self, windows: BrainWindows) -> BrainWindows:
        """Return the windows with tokens decoded out of fold, as the settings say."""
        settings = self.settings
        return decode_tokens(
            windows, settings.acoustic, n_folds=settings.finetune.error_folds, seed=settings.seed
        )

    def train(self, stage: SelectedStage, name: str) -> bool:
        """Train a stage in its folder; return whether it came to its end."""
        return train_selected(stage, self.out / name, **self.ways)
