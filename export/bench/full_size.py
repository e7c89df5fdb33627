"""Times the full-size generators, random weights in the exact architectures, beside their floors.

Parts (one call of the denoiser, mel decoder, vocoder) and whole chains from noise and condition to
sound, each in several engines. Times beside a load are upper bounds. An engine that is not there is
a row that says why.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from export.bench.engines import ENGINES, EngineName, running, time_calls
from export.bench.floors import GPUS, count_flops, floor_ms, half_bytes
from models.errors import DeviceError, SettingError
from models.nets.full.generator import FullGenerator
from models.nets.full.graph import SoundGraph
from models.nets.full.published import FAMILIES, FamilyName
from models.nets.full.random_weights import random_generator

__all__ = ["FullSettings", "time_full"]

Progress = Callable[[str, float, float], None]
DType = Literal["fp32", "fp16", "bf16"]

_FRAMES_PER_S = 25
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_UNROLLED = 8  # steps of a chain that is run as such on a CPU or as one graph
_PARTS = 3


@dataclass(frozen=True, slots=True)
class FullSettings:
    """What is timed."""

    models: tuple[FamilyName, ...] = ("musicldm",)
    seconds: float = 2.56  # of sound
    steps: tuple[int, ...] = (1, 2, 4)
    device: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    dtype: DType | None = None  # None: fp32 on a CPU, fp16 on a GPU
    engines: tuple[EngineName, ...] | None = None  # None: those that make sense on the device
    repeats: int | None = None  # None: 5 on a CPU, 200 on a GPU
    threads: int = 1
    budget_s: float = 60.0  # of one row
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.models if name not in FAMILIES]
        odd = [name for name in self.engines or () if name not in ENGINES]
        if unknown or odd:
            raise SettingError(
                f"Expected models out of {', '.join(FAMILIES)} and engines out of "
                f"{', '.join(ENGINES)}, got {', '.join([*unknown, *odd])}."
            )
        if not self.models or not self.steps or min(self.steps) < 1 or not self.seconds > 0.0:
            raise SettingError(
                f"Expected a model, steps of at least 1 and seconds above 0, got {self}."
            )
        if self.dtype is not None and self.dtype not in get_args(DType):
            raise SettingError(f"Expected fp32, fp16 or bf16, got {self.dtype!r}.")


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Something that is timed: a network and what goes in."""

    name: str
    module: nn.Module
    compiled: nn.Module
    inputs: tuple[Tensor, ...]
    calls: dict[str, int]  # how often each part runs in it
    steps: int = 0  # of a chain


def time_full(
    settings: FullSettings, *, progress: Progress | None = None
) -> tuple[list[dict[str, Any]], str]:
    """Return a row for each model, part or chain, and engine, and what it ran on.

    Parameters
    ----------
    settings : FullSettings
    progress : callable, optional
        Called with what is being timed, the models done, and all models.

    Raises
    ------
    DeviceError
        If there is no GPU though one was asked for.
    SettingError
        If the length is none that the networks work on.
    """
    on_gpu = settings.device != "cpu"
    if on_gpu and not torch.cuda.is_available():
        raise DeviceError(
            "There is no CUDA GPU here, or this torch was built without CUDA. Say --device cpu, or "
            "run it where there is one."
        )
    hardware = torch.cuda.get_device_name() if on_gpu else "CPU"
    torch.set_num_threads(settings.threads)
    rows: list[dict[str, Any]] = []
    for number, model in enumerate(settings.models):
        for row in _model_rows(model, settings):
            if progress is not None:
                what = f"{model}: {row['what']}, {row['engine']}"
                progress(what, number, len(settings.models))
            rows.append(row)
    return rows, hardware


def _model_rows(model: FamilyName, settings: FullSettings) -> Iterator[dict[str, Any]]:
    on_gpu = settings.device != "cpu"
    dtype = settings.dtype or ("fp16" if on_gpu else "fp32")
    engines = settings.engines or _engines(settings.device)
    generator = random_generator(model).to(device="cuda" if on_gpu else "cpu", dtype=_DTYPES[dtype])
    works = list(_works(generator, settings))
    parts = {work.name: work for work in works[:_PARTS]}
    flops = {name: count_flops(work.module, work.inputs) for name, work in parts.items()}
    weights = {name: half_bytes(work.module) for name, work in parts.items()}
    medians: dict[tuple[str, str], float] = {}
    for work in works:
        total = sum(n * flops[part] for part, n in work.calls.items())
        for engine in engines:
            row: dict[str, Any] = {
                "model": model,
                "what": work.name,
                "engine": f"{engine} {dtype}",
                "GFLOP": round(total / 1e9, 1),
            }
            for gpu in GPUS:
                least = sum(
                    n * floor_ms(flops[part], weights[part], gpu) for part, n in work.calls.items()
                )
                row[f"floor {gpu} ms"] = round(least, 3)
            if work.steps > _UNROLLED and (engine == "onnx" or not on_gpu):
                row |= _summed(work, engine, medians, settings.seconds, total)
            else:
                row |= _measured(work, engine, settings, total)
            if isinstance(row["p50 ms"], float):
                medians[(work.name, engine)] = row["p50 ms"]
            yield row


def _engines(device: str) -> tuple[EngineName, ...]:
    if device == "cpu":
        return ("eager", "onnx")
    return ENGINES if device == "cuda" else ("onnx",)


def _works(generator: FullGenerator, settings: FullSettings) -> Iterator[_Work]:
    """Return the three parts, then a chain for each number of steps."""
    source = torch.Generator().manual_seed(settings.seed)
    like = next(generator.parameters())
    shape = generator.latent_shape(round(settings.seconds * _FRAMES_PER_S))
    noise = torch.randn(shape, generator=source).to(like.device)
    condition = generator.random_condition(source)
    given = [getattr(condition, name) for name in generator.family.conditions]
    latents = noise.to(like.dtype)
    at = torch.tensor(500, device=like.device)
    with torch.inference_mode():
        mel = generator.decoder(latents)
    mel = mel.clone()
    fast = _compiled_parts(generator)
    for name, attribute, inputs in (
        ("denoiser", "denoiser", (latents, at, *given)),
        ("mel decoder", "decoder", (latents,)),
        ("vocoder", "vocoder", (mel,)),
    ):
        plain, compiled = getattr(generator, attribute), getattr(fast, attribute)
        yield _Work(name, plain, compiled, inputs, {name: 1})
    for k in settings.steps:
        calls = {"denoiser": k, "mel decoder": 1, "vocoder": 1}
        graph, other = (SoundGraph(g, n_steps=k).eval() for g in (generator, fast))
        title = f"chain, {k} step{'s' if k > 1 else ''}"
        yield _Work(title, graph, other, (noise, *given), calls, k)


def _compiled_parts(generator: FullGenerator) -> FullGenerator:
    """Return the generator with its networks compiled when they are first called.

    Parts and not whole chains: a chain of 200 steps would be compiled for hours, and every number
    of steps anew.
    """
    fast = copy.copy(generator)
    fast._modules = dict(generator._modules)
    for name in ("denoiser", "decoder", "vocoder"):
        compiled: Any = torch.compile(getattr(generator, name), dynamic=False)
        fast._modules[name] = compiled
    return fast


def _measured(
    work: _Work, engine: EngineName, settings: FullSettings, flops: int
) -> dict[str, Any]:
    """Return the columns of one measurement, or why there is none."""
    on_gpu = settings.device != "cpu"
    try:
        with running(
            work.module, work.inputs, engine, device=settings.device, compiled=work.compiled
        ) as (call, note):
            times, used = time_calls(
                call,
                on_gpu=on_gpu,
                repeats=settings.repeats or (200 if on_gpu else 5),
                budget_s=settings.budget_s,
            )
    except Exception as error:  # whatever a compiler or a provider says is the row's note
        reason = (str(error).strip() or repr(error)).splitlines()[0][:160]
        return _columns(note=f"not possible here: {reason}")
    with torch.inference_mode():
        spread = float(work.module(*work.inputs).float().std()) if work.steps <= _UNROLLED else None
    p50 = float(np.median(times))
    return _columns(
        p50=round(p50, 3),
        p99=round(float(np.percentile(times, 99)), 3),
        least=round(min(times), 3),
        # What a loaded machine took away is not in it.
        cpu=round(min(used), 3) if used else "-",
        n=len(times),
        rtf=round(p50 / 1e3 / settings.seconds, 4),
        rate=round(flops / p50 / 1e6, 1),
        spread="-" if spread is None else round(spread, 3),
        note=note,
    )


def _summed(
    work: _Work,
    engine: EngineName,
    medians: dict[tuple[str, str], float],
    seconds: float,
    flops: int,
) -> dict[str, Any]:
    """Return the sum of the parts: no graph is unrolled so far, and a CPU would take minutes."""
    own = [medians.get((part, engine), float("nan")) * n for part, n in work.calls.items()]
    if not np.isfinite(own).all():
        return _columns(note="not possible here: a part was not measured")
    total = float(sum(own))
    return _columns(
        p50=round(total, 3),
        rtf=round(total / 1e3 / seconds, 4),
        rate=round(flops / total / 1e6, 1),
        note="sum of the parts' medians",
    )


def _columns(
    *,
    p50: float | str = "-",
    p99: float | str = "-",
    least: float | str = "-",
    cpu: float | str = "-",
    n: int | str = "-",
    rtf: float | str = "-",
    rate: float | str = "-",
    spread: float | str = "-",
    note: str = "",
) -> dict[str, Any]:
    return {
        "p50 ms": p50,
        "p99 ms": p99,
        "min ms": least,
        "min CPU ms": cpu,
        "n": n,
        "RTF p50": rtf,
        "GFLOP/s": rate,
        "out std": spread,
        "note": note,
    }
