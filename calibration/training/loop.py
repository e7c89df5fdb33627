"""The loop that all stages share: steps, averaged weights, checkpoints, logs, an end on request.

What happens in a step depends on the weights and on the step's number only: its data and noise
come from generators seeded by (seed, stage, step). So a run that was stopped at any step and
resumed has, bit for bit, the weights of one that ran through. Where several processes train
together, each draws its share of a batch from seeds of its own, so this holds for a number of them.
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
from calibration.training.made_with import made_with
from calibration.training.processes import processes
from calibration.training.settings import StageSettings, TrainingSettings
from models.errors import DeviceError, FileError, SettingError, StageError

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
        self.processes = processes()
        if settings.batch % self.processes.count or settings.batch < 2 * self.processes.count:
            raise SettingError(
                f"Stage '{name}' takes {settings.batch} sounds a step, which cannot be shared by "
                f"{self.processes.count} processes. Choose another batch, or number of processes."
            )
        self.batch = settings.batch // self.processes.count  # of this process
        self.device = torch.device(run.device)
        self.networks: dict[str, nn.Module] = {}
        self.averages: dict[str, nn.Module] = {}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.notes: dict[str, Any] = {}  # what a later stage must know beside the weights
        # float16 loses small gradients unless the loss is scaled up; bfloat16 does not.
        self.scaler = torch.amp.GradScaler(run.device, enabled=run.precision == "fp16")
        torch.manual_seed(self._seed(0))  # initial weights

    def train_network(self, key: str, network: nn.Module) -> None:
        """Register a network under a name; its averaged copy is what later stages use."""
        self.networks[key] = network.to(self.device)
        self.averages[key] = copy.deepcopy(network).requires_grad_(False).eval()
        # Norm gains, biases and tables are not decayed.
        groups = [
            {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 0.01},
            {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimisers[key] = torch.optim.AdamW(groups, lr=self.settings.rate, betas=(0.9, 0.98))

    def prepare(
        self,
        *,
        ended: Callable[[], bool] = lambda: False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> bool:
        """Do what must be there before the first step; what is there already is left.

        Parameters
        ----------
        ended : callable
            Whether to stop and leave the rest for the next call.
        progress : callable, optional
            Called with what is being made, how much of it is done, and of how much.

        Returns
        -------
        done : bool
        """
        return True

    def rates(self, step: int) -> dict[str, float]:
        """Return the learning rate at a step of each network that is trained in it."""
        share = learning_rate(step, self.settings)
        return dict.fromkeys(self.optimisers, share * self.settings.rate)

    def advance(
        self, step: int, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Any]:
        """Do one step, numbered from 0; return the losses by name (floats or 0-d tensors)."""
        raise NotImplementedError

    def derive(self) -> None:
        """Store what later stages take from the averaged weights, if there is anything."""

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
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        for key in keys:
            self.processes.average(self.networks[key].parameters())
            self.scaler.unscale_(self.optimisers[key])
            torch.nn.utils.clip_grad_norm_(self.networks[key].parameters(), self.settings.clip)
            self.scaler.step(self.optimisers[key])
        self.scaler.update()

    def generators(self, step: int) -> tuple[np.random.Generator, torch.Generator]:
        """Return the sources of data and of noise of a step."""
        rank = self.processes.rank
        words = [zlib.crc32(self.name.encode()), self.run.seed, step, *([rank] if rank else [])]
        noise = torch.Generator(device=self.device)
        noise.manual_seed(self._seed(step + 1, f" {rank}" if rank else ""))
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
        if self.scaler.is_enabled():
            scale = self.scaler.state_dict()
            held["scaler"] = torch.tensor([scale["scale"], scale["_growth_tracker"]])
        return held

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take everything from a checkpoint."""
        for key, network in self.networks.items():
            load_weights(network, tensors, f"now.{key}")
            load_weights(self.averages[key], tensors, f"mean.{key}")
            load_optimiser(self.optimisers[key], tensors, f"optimiser.{key}")
        if self.scaler.is_enabled() and "scaler" in tensors:
            scale, since = tensors["scaler"].tolist()
            now = self.scaler.state_dict()
            self.scaler.load_state_dict({**now, "scale": scale, "_growth_tracker": int(since)})

    def result(self) -> dict[str, Tensor]:
        """Return the weights that later stages use: the averaged ones."""
        return {
            f"{key}.{name}": value
            for key, network in self.averages.items()
            for name, value in network.state_dict().items()
        }

    def _seed(self, step: int, more: str = "") -> int:
        return zlib.crc32(f"{self.name} {self.run.seed} {step}{more}".encode())


def learning_rate(step: int, settings: StageSettings, *, steps: int | None = None) -> float:
    """Return the share of the largest rate at a step: a rise, then a cosine down to a tenth.

    Parameters
    ----------
    step : int
        From 0.
    settings : StageSettings
    steps : int, optional
        Length of the whole; that of the stage if not given.
    """
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    whole = settings.steps if steps is None else steps
    after = (step - settings.warmup) / max(1, whole - settings.warmup)
    return 0.1 + 0.9 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, after)))


def average_decay(step: int, decay: float) -> float:
    """Return the decay of averaged weights after a step: small at first.

    A constant .999 would keep 13 % of the random initial weights after 2000 steps.
    """
    return min(decay, (1.0 + step) / (10.0 + step))


def autocast(run: TrainingSettings) -> AbstractContextManager[Any]:
    """Return the context of half precision that the run asks for, or that pays on this machine."""
    if run.precision == "fp16":
        return torch.autocast(run.device, torch.float16)
    if run.precision == "bf16" or (run.precision == "auto" and _bfloat16_pays(run.device)):
        return torch.autocast(run.device, torch.bfloat16)
    return nullcontext()


def _bfloat16_pays(device: str) -> bool:
    # Measured: three times as fast with AMX; emulated, and slower than fp32, without. GPUs before
    # Ampere emulate it too.
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def train_stage(
    stage: Stage,
    out: Path,
    *,
    resume: bool = False,
    stop: Event | None = None,
    deadline: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    every_s: float = _REPORT_S,
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
        Called every `every_s` seconds, and at the end.
    every_s : float
        Seconds; the log gets a line every 20 s at the most.

    Returns
    -------
    done : bool
        False if it was stopped before its end.

    Raises
    ------
    FileError
        If there is a checkpoint and `resume` is not asked for, or it does not fit, or the folder
        cannot be written.
    SettingError
        If the batch cannot be shared among the processes.
    StageError
        If a loss is not finite.
    """
    path = out / "checkpoint.safetensors"
    wanted = json.loads(json.dumps(asdict(stage.settings)))
    step, spent = 0, 0.0
    if path.exists():
        if not resume:
            raise FileError(f"{path} exists. Resume it, or give another folder.")
        tensors, note = load_tensors(path)
        if {**note["settings"], "steps": 0} != {**wanted, "steps": 0}:
            raise FileError(f"{path} was made with other settings. Give those, or another folder.")
        stage.restore(tensors)
        step, spent = int(note["step"]), float(note.get("seconds", 0.0))
    out.mkdir(parents=True, exist_ok=True)
    stop = stop or Event()
    together = stage.processes
    began = time.monotonic()

    def ended() -> bool:
        now = stop.is_set() or (deadline is not None and time.monotonic() >= deadline)
        return together.any(now)

    def seconds() -> float:
        return round(spent + time.monotonic() - began, 1)

    def save() -> None:
        if together.first:
            save_tensors(
                path, stage.tensors(), {"step": step, "seconds": seconds(), "settings": wanted}
            )

    log = _Log(out, stage.name) if together.first else None
    try:

        def making(what: str, done: int, of: int) -> None:
            left = (of - done) * (time.monotonic() - began) / max(done, 1)
            if progress is not None and together.first:
                progress(Progress(f"{stage.name}: {what}", done, of, {}, 0.0, left))

        if not stage.prepare(ended=ended, progress=making):
            return False
        together.wait()
        meter = _Meter(stage.name, step, stage.settings.steps)
        saved, started = time.monotonic(), step
        while step < stage.settings.steps:
            if ended():
                if step > started:
                    save()
                return False
            for key, rate in stage.rates(step).items():
                for group in stage.optimisers[key].param_groups:
                    group["lr"] = rate
            meter.add(stage.advance(step, *stage.generators(step)))
            stage.average(step)
            step += 1
            last = step == stage.settings.steps
            if log is not None and (last or meter.age_s("log") >= _REPORT_S):
                log.write(meter.report("log", step))
            if progress is not None and together.first:
                if last or meter.age_s("shown") >= every_s:
                    progress(meter.report("shown", step))
            if time.monotonic() - saved >= stage.run.checkpoint_s and not last:
                save()
                saved = time.monotonic()
        save()
        if log is not None:
            scores = stage.finish(out)
            note = {
                "settings": wanted,
                "step": step,
                "seconds": seconds(),
                "scores": scores,
                "made_with": made_with(
                    stage.run.device, threads=stage.run.threads, processes=together.count
                ),
                **stage.notes,
            }
            save_tensors(out / "final.safetensors", stage.result(), note)
            log.scores(scores)
        together.wait()
        return True
    finally:
        if log is not None:
            log.close()


class _Meter:
    """Means of losses, and the pace, since the last report of each kind."""

    def __init__(self, stage: str, step: int, steps: int) -> None:
        self._stage, self._steps = stage, steps
        now = time.monotonic()
        self._since = {kind: (now, step) for kind in ("log", "shown")}
        self._sums: dict[str, dict[str, tuple[Any, int]]] = {kind: {} for kind in self._since}

    def age_s(self, kind: str) -> float:
        """Return the seconds since the last report of this kind."""
        return time.monotonic() - self._since[kind][0]

    def add(self, losses: Mapping[str, Any]) -> None:
        """Add the losses of a step."""
        for name, value in losses.items():
            # Tensors are added up where they are: reading one would wait for the device.
            held = value.detach() if isinstance(value, torch.Tensor) else value
            for sums in self._sums.values():
                total, count = sums.get(name, (0.0, 0))
                sums[name] = (total + held, count + 1)

    def report(self, kind: str, step: int) -> Progress:
        """Return the means since the last report of this kind, and begin anew."""
        before, at = self._since[kind]
        now = time.monotonic()
        means = {name: float(total) / n for name, (total, n) in self._sums[kind].items()}
        speed = (step - at) / max(now - before, 1e-9)
        self._since[kind], self._sums[kind] = (now, step), {}
        left_s = (self._steps - step) / speed if speed > 0 else math.inf
        return Progress(self._stage, step, self._steps, means, speed, left_s)


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
