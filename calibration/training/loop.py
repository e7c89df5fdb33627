"""The loop that all stages share: steps, averaged weights, checkpoints, logs, an end on request.

What happens in a step depends on the weights and on the step's number only: its data and noise
come from generators seeded by (seed, stage, step). So a run that was stopped at any step and
resumed has, bit for bit, the weights of one that ran through.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from calibration.training.checkpoint import (
    load_optimiser,
    load_tensors,
    load_weights,
    optimiser_tensors,
    save_tensors,
)
from calibration.training.settings import StageSettings, TrainingSettings
from models.errors import DeviceError, FileError, StageError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Progress", "Stage", "autocast", "average_decay", "learning_rate", "train_stage"]

_log = logging.getLogger(__name__)
_REPORT_S = 20.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is."""

    stage: str
    step: int
    steps: int
    losses: dict[str, float]  # means since the last report
    steps_per_s: float
    left_s: float  # estimate


class Stage:
    """One stage: networks, their optimisers, and what a step does.

    A subclass makes its networks in `__init__`, registers each by `train_network`, and implements
    `advance` and `finish`.

    Parameters
    ----------
    name : str
    run : TrainingSettings
    settings : StageSettings
        Those of this stage.
    """

    def __init__(self, name: str, run: TrainingSettings, settings: StageSettings) -> None:
        self.name, self.run, self.settings = name, run, settings
        self.device = torch.device(run.device)
        self.networks: dict[str, nn.Module] = {}
        self.averages: dict[str, nn.Module] = {}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.notes: dict[str, Any] = {}  # what a later stage must know beside the weights
        torch.manual_seed(self._seed(0))  # initial weights

    def train_network(self, key: str, network: nn.Module, *, rate: float | None = None) -> None:
        """Register a network under a name; its averaged copy is what later stages use."""
        self.networks[key] = network.to(self.device)
        self.averages[key] = copy.deepcopy(network).requires_grad_(False).eval()
        # Norm gains, biases and tables are not decayed.
        groups = [
            {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        peak = self.settings.rate if rate is None else rate
        self.optimisers[key] = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
        for group in self.optimisers[key].param_groups:
            group["peak"] = peak

    def advance(
        self, step: int, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Any]:
        """Do one step, numbered from 0; return the losses by name (floats or 0-d tensors)."""
        raise NotImplementedError

    def finish(self, out: Path) -> dict[str, float]:
        """Do what follows the last step (statistics, derived data); return scores by name."""
        raise NotImplementedError

    def update(self, loss: Tensor, *keys: str) -> None:
        """Take a step of the optimisers of these networks down the gradient of a loss.

        Raises
        ------
        StageError
            If the loss is not finite.
        """
        if not torch.isfinite(loss):
            raise StageError(
                f"The loss of stage '{self.name}' is {float(loss)}. Resume from the last "
                "checkpoint with a smaller rate, or in fp32."
            )
        for key in keys:
            self.optimisers[key].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for key in keys:
            torch.nn.utils.clip_grad_norm_(self.networks[key].parameters(), self.settings.clip)
            self.optimisers[key].step()

    def generators(self, step: int) -> tuple[np.random.Generator, torch.Generator]:
        """Return the sources of data and of noise of a step."""
        words = [zlib.crc32(self.name.encode()), self.run.seed, step]
        noise = torch.Generator(device=self.device)
        noise.manual_seed(self._seed(step + 1))
        return np.random.default_rng(words), noise

    def average(self, step: int) -> None:
        """Move the averaged weights towards the present ones."""
        decay = average_decay(step, self.settings.average)
        with torch.no_grad():
            for key, network in self.networks.items():
                held: list[Tensor] = list(self.averages[key].parameters())
                torch._foreach_lerp_(held, list(network.parameters()), 1.0 - decay)
                for mean, now in zip(self.averages[key].buffers(), network.buffers(), strict=True):
                    mean.copy_(now)

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a checkpoint must hold."""
        held: dict[str, Tensor] = {}
        for key, network in self.networks.items():
            held |= {f"now.{key}.{name}": v for name, v in network.state_dict().items()}
            held |= {f"mean.{key}.{n}": v for n, v in self.averages[key].state_dict().items()}
            held |= optimiser_tensors(self.optimisers[key], f"optimiser.{key}")
        return held

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take everything from a checkpoint."""
        for key, network in self.networks.items():
            load_weights(network, tensors, f"now.{key}")
            load_weights(self.averages[key], tensors, f"mean.{key}")
            load_optimiser(self.optimisers[key], tensors, f"optimiser.{key}")

    def result(self) -> dict[str, Tensor]:
        """Return the weights that later stages use: the averaged ones."""
        return {
            f"{key}.{name}": value
            for key, network in self.averages.items()
            for name, value in network.state_dict().items()
        }

    def _seed(self, step: int) -> int:
        return zlib.crc32(f"{self.name} {self.run.seed} {step}".encode())


def learning_rate(step: int, settings: StageSettings) -> float:
    """Return the share of the largest rate at a step: a rise, then a cosine down to a tenth."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    after = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.1 + 0.9 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, after)))


def average_decay(step: int, decay: float) -> float:
    """Return the decay of averaged weights after a step: small at first.

    A constant .999 would keep 13 % of the random initial weights after 2000 steps.
    """
    return min(decay, (1.0 + step) / (10.0 + step))


def autocast(run: TrainingSettings) -> AbstractContextManager[Any]:
    """Return the context of half precision that the run asks for, or that pays on this machine."""
    if run.precision == "bf16" or (run.precision == "auto" and _bfloat16_pays(run.device)):
        return torch.autocast(run.device, torch.bfloat16)
    return nullcontext()


def _bfloat16_pays(device: str) -> bool:
    # Measured: three times as fast with AMX; emulated, and slower than fp32, without.
    return device == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def train_stage(
    stage: Stage,
    out: Path,
    *,
    resume: bool = False,
    stop: Event | None = None,
    deadline: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> bool:
    """Run a stage to its end, or until it is asked to stop.

    Parameters
    ----------
    stage : Stage
    out : Path
        Its folder: `checkpoint.safetensors`, `log.jsonl`, `events/` for TensorBoard and, when it is
        done, `final.safetensors`.
    resume : bool
        Go on from the checkpoint that is there.
    stop : Event, optional
        When set, the stage saves and ends after the present step.
    deadline : float, optional
        On `time.monotonic`'s clock; the same happens then.
    progress : callable, optional
        Called every 20 s, and at the end.

    Returns
    -------
    done : bool
        False if it was stopped before its end.

    Raises
    ------
    FileError
        If there is a checkpoint and `resume` is not asked for, or it does not fit, or the folder
        cannot be written.
    StageError
        If a loss is not finite.
    """
    path = out / "checkpoint.safetensors"
    wanted = json.loads(json.dumps(asdict(stage.settings)))
    step = 0
    if path.exists():
        if not resume:
            raise FileError(f"{path} exists. Resume it, or give another folder.")
        tensors, note = load_tensors(path)
        if {**note["settings"], "steps": 0} != {**wanted, "steps": 0}:
            raise FileError(f"{path} was made with other settings. Give those, or another folder.")
        stage.restore(tensors)
        step = int(note["step"])
    out.mkdir(parents=True, exist_ok=True)
    stop = stop or Event()
    log = _Log(out, stage.name)

    def save() -> None:
        save_tensors(path, stage.tensors(), {"step": step, "settings": wanted})

    saved = reported = time.monotonic()
    since = step
    sums: dict[str, Any] = {}
    started = step
    steps = stage.settings.steps
    while step < steps:
        if stop.is_set() or (deadline is not None and time.monotonic() >= deadline):
            if step > started:
                save()
            log.close()
            return False
        share = learning_rate(step, stage.settings)
        for optimiser in stage.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * share
        for name, value in stage.advance(step, *stage.generators(step)).items():
            # Tensors are added up where they are: reading one would wait for the device.
            total, count = sums.get(name, (0.0, 0))
            held = value.detach() if isinstance(value, torch.Tensor) else value
            sums[name] = (total + held, count + 1)
        stage.average(step)
        step += 1
        now = time.monotonic()
        if now - reported >= _REPORT_S or step == steps:
            means = {name: float(total) / count for name, (total, count) in sums.items()}
            speed = (step - since) / max(now - reported, 1e-9)
            report = Progress(stage.name, step, steps, means, speed, (steps - step) / speed)
            log.write(report)
            if progress is not None:
                progress(report)
            sums, since, reported = {}, step, now
        if now - saved >= stage.run.checkpoint_s and step < steps:
            save()
            saved = now
    save()
    scores = stage.finish(out)
    note = {"settings": wanted, "step": step, "scores": scores, **stage.notes}
    save_tensors(out / "final.safetensors", stage.result(), note)
    log.scores(scores)
    log.close()
    return True


class _Log:
    """Losses as JSON lines, and for TensorBoard where that is installed."""

    def __init__(self, out: Path, stage: str) -> None:
        self._file = (out / "log.jsonl").open("a", encoding="utf-8")
        self._stage = stage
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            _log.info("TensorBoard is not installed; losses are in %s only.", self._file.name)
        else:
            self._board = SummaryWriter(str(out / "events"))

    def write(self, report: Progress) -> None:
        """Write the losses of a stretch."""
        self._line({"time": time.time(), **asdict(report)})
        if self._board is not None:
            for name, value in report.losses.items():
                self._board.add_scalar(f"{self._stage}/{name}", value, report.step)

    def scores(self, scores: Mapping[str, float]) -> None:
        """Write what the finished stage reaches."""
        self._line({"time": time.time(), "stage": self._stage, "scores": dict(scores)})

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def _line(self, values: Mapping[str, object]) -> None:
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()


def need_device(device: str) -> None:
    """Check that a device can be used.

    Raises
    ------
    DeviceError
        If it cannot.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "Training on 'cuda' was asked for, but torch finds no CUDA device. Install torch with "
            "CUDA and check nvidia-smi, or give --device cpu."
        )
