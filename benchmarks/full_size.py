"""Times the full-size generators, random weights in the exact architectures, beside their floors.

    python -m benchmarks.full_size --random-weights [--model musicldm|audioldm2|audioldm2-speech]
        [--seconds 2.56] [--steps 1 2 4] [--device cpu|cuda] [--engine eager compile cudagraph onnx]

Parts (one call of the denoiser, mel decoder, vocoder) and whole chains from noise and condition to
sound. Timings beside a load are upper bounds; the load stands in the results. The floor of a part
is max(FLOP / rate, bytes of half-precision weights / bandwidth), counted here by torch on tensors
without storage. An engine that is not there is a row that says why.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rig import machine, write_results
from models.nets.full.generator import FullGenerator
from models.nets.full.graph import SoundGraph
from models.nets.full.published import FAMILIES, FamilyName
from models.nets.full.random_weights import random_generator

__all__ = ["main"]

_FRAMES_PER_S = 25
_WARM_UP = 1
# Dense half precision in FLOP/s, and bytes/s.
_FLOORS = {"A100": (312e12, 2.0e12), "H200": (790e12, 4.3e12)}
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

Call = Callable[[], object]


@dataclass(frozen=True)
class Work:
    """Something that is timed: a network and what goes in."""

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    calls: dict[str, int]  # how often each part runs in it


def main() -> None:
    """Run it."""
    args = _arguments()
    before = machine()
    before["packages"] = {
        name: version(name) for name in ("torch", "diffusers", "transformers", "onnxruntime")
    }
    if args.device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("There is no CUDA GPU here. Say --device cpu, or run it where one is.")
        before["gpu"] = torch.cuda.get_device_name()
    torch.set_num_threads(args.threads)
    rows = [row for model in args.model for row in _model_rows(model, args)]
    settings = {key: value for key, value in vars(args).items() if key not in ("json", "out")}
    title = "Full-size generators, random weights; upper bounds where the machine was loaded"
    write_results(args.out, title=title, settings=settings, before=before, rows=rows)
    if args.json:
        print(json.dumps({"machine": before, "settings": settings, "rows": rows}))


def _arguments() -> argparse.Namespace:
    head = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(description=head, epilog="Results: benchmarks/results/")
    parser.add_argument("--random-weights", action="store_true", required=True)
    parser.add_argument("--model", nargs="+", choices=list(FAMILIES), default=["musicldm"])
    parser.add_argument("--seconds", type=float, default=2.56, help="a multiple of 0.32")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=list(_DTYPES), default=None, help="cpu fp32, cuda fp16")
    parser.add_argument(
        "--engine",
        nargs="+",
        choices=["eager", "compile", "cudagraph", "onnx"],
        default=None,
        help="default: cpu eager onnx, cuda all",
    )
    parser.add_argument("--repeats", type=int, default=None, help="default: cpu 5, cuda 200")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default="full_size", help="name of the results")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    everything = ["eager", "compile", "cudagraph", "onnx"]
    args.engine = args.engine or (everything if args.device == "cuda" else ["eager", "onnx"])
    args.dtype = args.dtype or ("fp16" if args.device == "cuda" else "fp32")
    args.repeats = args.repeats or (200 if args.device == "cuda" else 5)
    return args


def _model_rows(model: FamilyName, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    generator = random_generator(model).to(device=args.device, dtype=_DTYPES[args.dtype])
    works = list(_works(generator, args.seconds, args.steps))
    parts = {work.name: work for work in works[:3]}
    flops = {name: _flops(work) for name, work in parts.items()}
    weights = {name: _half_bytes(work.module) for name, work in parts.items()}
    for work in works:
        floors = {
            gpu: 1e3
            * sum(
                n * max(flops[part] / rate, weights[part] / bandwidth)
                for part, n in work.calls.items()
            )
            for gpu, (rate, bandwidth) in _FLOORS.items()
        }
        total = sum(n * flops[part] for part, n in work.calls.items())
        for engine in args.engine:
            row: dict[str, Any] = {
                "model": model,
                "what": work.name,
                "engine": f"{engine} {args.dtype}",
                "GFLOP": round(total / 1e9, 1),
                "floor A100 ms": round(floors["A100"], 3),
                "floor H200 ms": round(floors["H200"], 3),
            }
            row |= _measured(work, engine, args, total)
            print({key: row[key] for key in ("what", "engine", "p50 ms", "note")}, flush=True)
            yield row


def _works(generator: FullGenerator, seconds: float, steps: list[int]) -> Iterator[Work]:
    """Return the three parts, then a chain for each number of steps."""
    source = torch.Generator().manual_seed(0)
    like = next(generator.parameters())
    shape = generator.latent_shape(round(seconds * _FRAMES_PER_S))
    noise = torch.randn(shape, generator=source).to(like.device)
    condition = generator.random_condition(source)
    parts = [getattr(condition, name) for name in generator.family.conditions]
    latents = noise.to(like.dtype)
    at = torch.tensor(500, device=like.device)
    with torch.inference_mode():
        mel = generator.decoder(latents)
    mel = mel.clone()
    decoder = generator.decoder
    yield Work("denoiser", generator.denoiser, (latents, at, *parts), {"denoiser": 1})
    yield Work("mel decoder", decoder, (latents,), {"mel decoder": 1})
    yield Work("vocoder", generator.vocoder, (mel,), {"vocoder": 1})
    for k in steps:
        calls = {"denoiser": k, "mel decoder": 1, "vocoder": 1}
        graph = SoundGraph(generator, n_steps=k).eval()
        yield Work(f"chain, {k} steps", graph, (noise, *parts), calls)


def _flops(work: Work) -> int:
    """Return what one call computes, counted without computing it."""
    memo: dict[int, Any] = {}
    for tensor in (*work.module.parameters(), *work.module.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, False) if isinstance(tensor, nn.Parameter) else empty
    module = copy.deepcopy(work.module, memo)
    inputs = [x.to("meta") for x in work.inputs]
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops()


def _half_bytes(module: nn.Module) -> int:
    """Return the bytes of the weights that a call reads, in half precision."""
    unused = ("vae.encoder.", "vae.quant_conv.")
    named = module.named_parameters()
    return 2 * sum(weight.numel() for name, weight in named if not name.startswith(unused))


def _measured(work: Work, engine: str, args: argparse.Namespace, flops: int) -> dict[str, Any]:
    """Return the columns of one measurement, or why there is none."""
    columns = ("p50 ms", "p99 ms", "min ms", "min CPU ms", "RTF p50", "GFLOP/s", "out std")
    try:
        with _engine(work, engine, args.device) as (call, note):
            times, used = _times(call, args.device, args.repeats)
    except Exception as error:  # whatever a compiler or a provider says is the row's note
        reason = (str(error).strip() or repr(error)).splitlines()[0][:160]
        return {**dict.fromkeys(columns, "-"), "note": f"not possible here: {reason}"}
    with torch.inference_mode():
        spread = float(work.module(*work.inputs).float().std())
    p50 = float(np.median(times))
    return {
        "p50 ms": round(p50, 3),
        "p99 ms": round(float(np.percentile(times, 99)), 3),
        "min ms": round(min(times), 3),
        # What a loaded machine took away is not in it.
        "min CPU ms": round(min(used), 3) if used else "-",
        "RTF p50": round(p50 / 1e3 / args.seconds, 4),
        "GFLOP/s": round(flops / p50 / 1e6, 1),
        "out std": round(spread, 3),
        "note": note,
    }


@contextmanager
def _engine(work: Work, engine: str, device: str) -> Iterator[tuple[Call, str]]:
    """Give a call without arguments that computes the work once."""
    module, inputs = work.module, work.inputs
    if engine == "onnx":
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
            yield _onnx(work, Path(folder), device)
        return
    with torch.inference_mode():
        if engine == "eager":
            yield (lambda: module(*inputs)), ""
        elif engine == "compile":
            # Its own graphs would copy inputs; what is captured here is captured below.
            compiled = torch.compile(module, dynamic=False)
            yield (lambda: compiled(*inputs)), ""
        else:
            yield _captured(module, inputs, device).replay, "one replay"


def _captured(module: nn.Module, inputs: tuple[Tensor, ...], device: str) -> Any:
    if device != "cuda":
        raise RuntimeError("CUDA graphs need --device cuda")
    cuda: Any = torch.cuda
    side = cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            module(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        module(*inputs)
    return graph


def _onnx(work: Work, folder: Path, device: str) -> tuple[Call, str]:
    import onnxruntime

    file = folder / "work.onnx"
    torch.onnx.export(
        work.module, work.inputs, str(file), dynamo=True, opset_version=18, verbose=False
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = ["CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(file), options, providers=wanted)
    got = session.get_providers()
    if got[0] != wanted[0]:
        raise RuntimeError(f"ONNX Runtime gave {got[0]} where {wanted[0]} was asked for")
    binding = session.io_binding()
    for spec, value in zip(session.get_inputs(), work.inputs, strict=True):
        held = onnxruntime.OrtValue.ortvalue_from_numpy(value.cpu().numpy(), device, 0)
        binding.bind_ortvalue_input(spec.name, held)
    binding.bind_output(session.get_outputs()[0].name, device)
    session.run_with_iobinding(binding)
    found = binding.copy_outputs_to_cpu()[0].astype(np.float64)
    with torch.inference_mode():
        expected = work.module(*work.inputs).double().cpu().numpy()
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    note = f"{got[0]}, against torch {error:.1e}"
    return (lambda: session.run_with_iobinding(binding)), note


def _times(call: Call, device: str, repeats: int) -> tuple[list[float], list[float]]:
    """Return milliseconds of many calls, of the clock (GPU events on a GPU) and of the CPU."""
    for _ in range(_WARM_UP if device == "cpu" else 10):
        call()
    if device == "cpu":
        pairs = []
        for _ in range(repeats):
            start, used = time.perf_counter(), time.process_time()
            call()
            stop = time.perf_counter()
            pairs.append((1e3 * (stop - start), 1e3 * (time.process_time() - used)))
        return [wall for wall, _ in pairs], [cpu for _, cpu in pairs]
    torch.cuda.synchronize()
    cuda: Any = torch.cuda
    events = [[cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for start_event, stop_event in events:
        start_event.record()
        call()
        stop_event.record()
        # One at a time, as a stream of stretches asks for them.
        stop_event.synchronize()
    return [float(a.elapsed_time(b)) for a, b in events], []


if __name__ == "__main__":
    main()
