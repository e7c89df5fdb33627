"""What a person sees of a training: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from calibration.training.loop import Progress
from calibration.training.settings import StageName, TrainingSettings

__all__ = ["WholeRun", "training_progress"]

_log = logging.getLogger("calibration.training")

# Work of a step for one sound of the batch, over that of the codec; measured on one core with AMX.
# It only weighs the stages against each other, until their own pace is known.
_WORK = {
    "encoder": 1.2,
    "judge": 1.2,
    "codec": 1.0,
    "tokens": 1.0,
    "vocoder": 3.5,
    "generator": 1.6,
    "distill": 4.0,
}
_LINE_S = 20.0
_BAR_S = 0.5


class WholeRun:
    """How much of a run is left, from the pace of the stage that runs now.

    Parameters
    ----------
    run : TrainingSettings
    stages : sequence of str
        Those that are still to be done, in their order.
    """

    def __init__(self, run: TrainingSettings, stages: Sequence[StageName]) -> None:
        self._work: dict[str, float] = {}
        for name in stages:
            settings = getattr(run, "encoder" if name == "judge" else name)
            self._work[name] = settings.steps * settings.batch * _WORK[name]
        self._per_work_s: float | None = None

    def share(self, at: Progress) -> float:
        """Return how much of the run's work is done, 0 to 1."""
        total = sum(self._work.values())
        before, here = self._around(at)
        return (before + here * at.step / at.steps) / total if total else 1.0

    def left_s(self, at: Progress) -> float:
        """Return the seconds until the whole run is done; NaN while nothing is known."""
        before, here = self._around(at)
        if here and at.steps_per_s > 0:
            self._per_work_s = at.steps / at.steps_per_s / here
        if self._per_work_s is None:
            return float("nan")
        return at.left_s + (sum(self._work.values()) - before - here) * self._per_work_s

    def _around(self, at: Progress) -> tuple[float, float]:
        """Return the work before this stage, and its own; none for what is made between stages."""
        before = 0.0
        for name, work in self._work.items():
            if at.stage == name:
                return before, work
            if at.stage.startswith(f"{name}:"):
                return before, 0.0
            before += work
        return 0.0, 0.0


@contextmanager
def training_progress(
    run: TrainingSettings, stages: Sequence[StageName], *, quiet: bool
) -> Iterator[tuple[Callable[[Progress], None], float]]:
    """Show how far a run is, on standard error.

    Yields
    ------
    report : callable
        Takes each `Progress`.
    every_s : float
        How often it wants to be called.
    """
    from rich.console import Console

    whole = WholeRun(run, stages)
    console = Console(stderr=True)
    if not console.is_terminal or quiet:

        def line(at: Progress) -> None:
            _log.info("%s  all: %s left", _described(at), _minutes(whole.left_s(at)))

        yield (lambda _at: None) if quiet else line, _LINE_S
        return
    from rich.progress import BarColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[left]} left  {task.fields[more]}"),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        everything = bars.add_task("all", total=1.0, left="?", more="")
        shown: dict[str, TaskID] = {}

        def update(at: Progress) -> None:
            if at.stage not in shown:
                for old in shown.values():
                    bars.remove_task(old)
                shown.clear()
                shown[at.stage] = bars.add_task(at.stage, total=at.steps, left="?", more="")
            fields: dict[str, Any] = {"left": _minutes(at.left_s), "more": _losses(at)}
            bars.update(shown[at.stage], completed=at.step, total=at.steps, **fields)
            left = _minutes(whole.left_s(at))
            bars.update(everything, completed=whole.share(at), left=left)

        yield update, _BAR_S


def _described(at: Progress) -> str:
    pace = f"  {at.steps_per_s:.2f} it/s" if at.steps_per_s else ""
    return f"{at.stage} {at.step}/{at.steps}  {_losses(at)}{pace}  {_minutes(at.left_s)} left"


def _losses(at: Progress) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in at.losses.items())


def _minutes(seconds: float) -> str:
    if not 0 <= seconds < 1e7:
        return "?"
    return f"{seconds / 60.0:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
