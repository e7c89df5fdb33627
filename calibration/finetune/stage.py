"""What fine-tunings on brain data have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.acoustic.network import AcousticTransformer
from calibration.acoustic.selection import SelectedStage
from calibration.acoustic.settings import AcousticSettings
from calibration.finetune.conditions import Conditions, ConditionSource
from calibration.finetune.settings import FinetuneSettings
from calibration.finetune.windows import BrainWindows
from calibration.training.loop import learning_rate
from calibration.training.settings import TrainingSettings
from models.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BrainStage"]


class BrainStage(SelectedStage):
    """What fine-tunings have in common: rows, conditions, rates, and the decoder trained along.

    Parameters
    ----------
    run : TrainingSettings
    options : FinetuneSettings
    acoustic : AcousticSettings
    windows : BrainWindows
        With tokens decoded out of fold.
    decoder : AcousticTransformer, optional
        To train along; without one, or with `joint` off, tokens are those decoded out of fold.
    train, check : arrays of int
        Rows to learn from, and rows of other groups that select.
    """

    stage_name = "brain"

    def __init__(
        self,
        run: TrainingSettings,
        options: FinetuneSettings,
        acoustic: AcousticSettings,
        windows: BrainWindows,
        *,
        decoder: AcousticTransformer | None,
        train: NDArray[np.int64],
        check: NDArray[np.int64],
    ) -> None:
        super().__init__(
            self.stage_name,
            run,
            options,
            check_every=options.check_every,
            patience=options.patience,
        )
        both = np.intersect1d(np.asarray(windows.groups)[train], np.asarray(windows.groups)[check])
        if len(both):
            raise SettingError(
                f"{len(both)} groups, {str(both[0])!r} among them, are trained on and select. "
                "Divide the windows by whole groups (BrainWindows.split)."
            )
        self.options, self.windows = options, windows
        self.train_rows, self.check_rows = train, check
        self.joint = options.joint and decoder is not None
        self.source = ConditionSource(
            windows, options, acoustic, train, device=self.device, networked=self.joint
        )
        if self.joint:
            assert decoder is not None
            self.train_network("acoustic", decoder)

    def rates(self, step: int) -> dict[str, float]:
        """Return the learning rates: the acoustic decoder has its own."""
        share = learning_rate(step, self.options)
        own = {"acoustic": self.options.acoustic_rate}
        return {key: share * own.get(key, self.options.rate) for key in self.optimisers}

    def conditions(self, rows: NDArray[np.int64], rng: np.random.Generator) -> Conditions:
        """Return the conditions of a batch to learn from."""
        network = self.networks.get("acoustic")
        if network is not None:
            network.train()
        assert network is None or isinstance(network, AcousticTransformer)
        return self.source.draw(rows, rng, network)

    def decoded(self, rows: NDArray[np.int64]) -> Conditions:
        """Return the conditions of a batch as they are decoded live, by the averaged weights."""
        network = self.averages.get("acoustic")
        assert network is None or isinstance(network, AcousticTransformer)
        return self.source.decoded(rows, network)

    def dropped(self, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return 1 where vector and tokens are given, each (n,).

        A share of `without_condition` has neither, for guidance; as large a one lacks tokens only,
        so that the generator goes on to work where no tokens are decoded.
        """
        share = self.options.without_condition
        chance = rng.uniform(size=n)
        vector = torch.from_numpy((chance >= share).astype(np.float32))
        tokens = torch.from_numpy((chance >= 2.0 * share).astype(np.float32))
        return vector.to(self.device), tokens.to(self.device)

    def finish(self, out: Path) -> dict[str, float]:
        """Look once more, take the best weights, and say what was gained."""
        with torch.no_grad():
            self.check_last()
        self.take_best()
        self.notes["curve"] = self.curve
        return self.gained()

    def gained(self) -> dict[str, float]:
        """Return the losses on held-out groups before and after, and the step that was best."""
        return {
            "held_out_loss_before": self.curve[0][1],
            "held_out_loss": self.best_loss,
            "best_step": float(self.best_step),
        }
