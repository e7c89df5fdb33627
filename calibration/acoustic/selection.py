"""Training that keeps the weights that did best on held-out groups, and ends when none does better.

On top of the stages of `calibration.training.loop`: the best weights so far and how long ago they
were lie in the checkpoint, so that a run that was stopped goes on to the same end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from calibration.training.checkpoint import save_tensors
from calibration.training.loop import Progress, Stage, train_stage
from calibration.training.settings import StageSettings, TrainingSettings

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Either", "SelectedStage", "train_selected"]


class SelectedStage(Stage):
    """A stage whose result is what scored best on groups that it does not train on.

    A subclass implements `learn` in place of `advance`, and `held_out_loss`.

    Parameters
    ----------
    name : str
    run : TrainingSettings
    settings : StageSettings
    check_every : int
        Steps from check to check.
    patience : int
        Checks without a better one after which enough is done.
    """

    def __init__(
        self,
        name: str,
        run: TrainingSettings,
        settings: StageSettings,
        *,
        check_every: int,
        patience: int,
    ) -> None:
        super().__init__(name, run, settings)
        self.check_every, self.patience = check_every, patience
        self.enough = Event()
        self.best: dict[str, Tensor] = {}
        self.best_loss, self.best_step, self.checks_since = math.inf, -1, 0
        self.curve: list[tuple[int, float]] = []
        self._seen = 0  # steps done here; none where a finished stage is only opened again

    def learn(self, step: int, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Any]:
        """Do one step, as `Stage.advance`."""
        raise NotImplementedError

    def held_out_loss(self) -> float:
        """Return the loss of the averaged weights on the held-out groups; the same each time."""
        raise NotImplementedError

    def advance(
        self, step: int, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Any]:
        """Do one step; before it, every `check_every` steps, look at the held-out groups."""
        if step % self.check_every == 0 and (not self.curve or step > self.curve[-1][0]):
            self.check(step)
        self._seen = step + 1
        return self.learn(step, rng, noise)

    def check(self, step: int) -> None:
        """Score the weights after so many steps, and keep them if they are the best so far."""
        with torch.no_grad():
            loss = self.held_out_loss()
        self.curve.append((step, loss))
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.checks_since = loss, step, 0
            self.best = {name: value.clone() for name, value in super().result().items()}
        else:
            self.checks_since += 1
            if self.checks_since >= self.patience:
                self.enough.set()

    def check_last(self) -> None:
        """Score the weights after the last step; to be called by `finish`."""
        after = self.curve[-1][0] + 1 if self.curve and self.enough.is_set() else self.done
        self.check(max(after, self.curve[-1][0] if self.curve else 0))

    @property
    def done(self) -> int:
        """Steps of the whole stage, or those that were seen to be done where it was stopped."""
        return self._seen or self.settings.steps

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a checkpoint must hold."""
        curve = torch.tensor(self.curve, dtype=torch.float64).reshape(-1, 2)
        held = {f"best.{name}": value for name, value in self.best.items()}
        return super().tensors() | held | {"selection.curve": curve}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take everything from a checkpoint."""
        super().restore(tensors)
        self.best = {
            name[len("best.") :]: value.to(self.device)
            for name, value in tensors.items()
            if name.startswith("best.")
        }
        self.curve = [(int(step), float(loss)) for step, loss in tensors["selection.curve"]]
        self.best_loss, self.best_step, self.checks_since = math.inf, -1, 0
        for step, loss in self.curve:
            if loss < self.best_loss:
                self.best_loss, self.best_step, self.checks_since = loss, step, 0
            else:
                self.checks_since += 1
        if self.checks_since >= self.patience:
            self.enough.set()

    def result(self) -> dict[str, Tensor]:
        """Return the best weights."""
        return self.best or super().result()

    def take_best(self) -> None:
        """Put the best weights into the averaged networks."""
        for key, network in self.averages.items():
            own = {
                name[len(key) + 1 :]: value
                for name, value in self.result().items()
                if name.startswith(f"{key}.")
            }
            network.load_state_dict(own)


class Either(Event):
    """Set as soon as one of several events is."""

    def __init__(self, *events: Event) -> None:
        super().__init__()
        self._events = events

    def is_set(self) -> bool:
        """Return whether one of them is set."""
        return any(event.is_set() for event in self._events)


def train_selected(
    stage: SelectedStage,
    out: Path,
    *,
    resume: bool = False,
    stop: Event | None = None,
    deadline: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> bool:
    """Run a stage until it is trained: to its last step, or until nothing gets better.

    Parameters
    ----------
    stage : SelectedStage
    out, resume, stop, deadline, progress
        As `calibration.training.loop.train_stage`.

    Returns
    -------
    done : bool
        False if it was stopped before; the averaged networks hold the best weights if True.

    Raises
    ------
    FileError
        As `train_stage`.
    StageError
        If a loss is not finite.
    """
    asked = stop or Event()
    done = train_stage(
        stage,
        out,
        resume=resume,
        stop=Either(asked, stage.enough),
        deadline=deadline,
        progress=progress,
    )
    if done:
        return True
    if not stage.enough.is_set():
        return False
    scores = stage.finish(out)
    note = {"step": stage.best_step, "scores": scores, **stage.notes}
    save_tensors(out / "final.safetensors", stage.result(), note)
    return True
