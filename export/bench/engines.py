"""One network run in several ways, each as a call without arguments."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.errors import DeviceError

__all__ = ["ENGINES", "Call", "EngineName", "running", "time_calls"]

Call = Callable[[], object]
EngineName = Literal["eager", "compile", "cudagraph", "compile-cudagraph", "onnx"]
ENGINES: tuple[EngineName, ...] = ("eager", "compile", "cudagraph", "compile-cudagraph", "onnx")

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


@contextmanager
def running(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    engine: EngineName,
    *,
    device: str,
    compiled: nn.Module | None = None,
) -> Iterator[tuple[Call, str]]:
    """Give a call that computes the module once, and a note on what runs it.

    Parameters
    ----------
    module : nn.Module
    inputs : tuple of Tensor
        On the device.
    engine : str
        One of `ENGINES`.
    device : {"cpu", "cuda", "tensorrt"}
        The last is for ONNX Runtime.
    compiled : nn.Module, optional
        The module with its parts compiled, for the engines that compile.

    Raises
    ------
    DeviceError
        If the engine cannot be had; whatever a compiler raises comes through.
    """
    if engine == "onnx":
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
            yield _onnx(module, inputs, Path(folder), device)
        return
    with torch.inference_mode():
        used = module if compiled is None or engine in ("eager", "cudagraph") else compiled
        if engine.endswith("cudagraph"):
            yield _captured(used, inputs, device).replay, "one replay"
        else:
            yield (lambda: used(*inputs)), ""


def time_calls(
    call: Call, *, on_gpu: bool, repeats: int, budget_s: float = 60.0
) -> tuple[list[float], list[float]]:
    """Return milliseconds of many calls, of the clock (GPU events on a GPU) and of the CPU.

    Parameters
    ----------
    call : callable
    on_gpu : bool
    repeats : int
        Calls, fewer where they would take longer than the budget; at least one.
    budget_s : float
    """
    start = time.perf_counter()
    call()  # allocates, compiles
    if on_gpu:
        torch.cuda.synchronize()
    for _ in range(9 if on_gpu and time.perf_counter() - start < 1.0 else 0):
        call()
    if on_gpu:
        torch.cuda.synchronize()
        return _gpu_times(call, repeats, budget_s), []
    walls: list[float] = []
    used: list[float] = []
    until = time.perf_counter() + budget_s
    while len(walls) < repeats and (not walls or time.perf_counter() < until):
        begin, cpu = time.perf_counter(), time.process_time()
        call()
        walls.append(1e3 * (time.perf_counter() - begin))
        used.append(1e3 * (time.process_time() - cpu))
    return walls, used


def _gpu_times(call: Call, repeats: int, budget_s: float) -> list[float]:
    cuda: Any = torch.cuda
    times: list[float] = []
    until = time.perf_counter() + budget_s
    while len(times) < repeats and (not times or time.perf_counter() < until):
        first, last = (cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        call()
        last.record()
        # One at a time, as a stream of stretches asks for them.
        last.synchronize()
        times.append(float(first.elapsed_time(last)))
    return times


def _captured(module: nn.Module, inputs: tuple[Tensor, ...], device: str) -> Any:
    if device != "cuda":
        raise DeviceError("CUDA graphs need --device cuda.")
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


def _onnx(
    module: nn.Module, inputs: tuple[Tensor, ...], folder: Path, device: str
) -> tuple[Call, str]:
    import onnxruntime

    file = folder / "work.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own parts, about each other
        torch.onnx.export(module, inputs, str(file), dynamo=True, opset_version=20, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    wanted = _PROVIDERS[device]
    if wanted not in onnxruntime.get_available_providers():
        raise DeviceError(f"this ONNX Runtime has no {wanted}; install 'hearback[gpu]'")
    providers = [wanted] if device != "tensorrt" else [wanted, _PROVIDERS["cuda"]]
    session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    got = session.get_providers()
    if got[0] != wanted:
        raise DeviceError(f"ONNX Runtime gave {got[0]} where {wanted} was asked for")
    place = "cpu" if device == "cpu" else "cuda"
    binding = session.io_binding()
    for spec, value in zip(session.get_inputs(), inputs, strict=True):
        held = onnxruntime.OrtValue.ortvalue_from_numpy(value.cpu().numpy(), place, 0)
        binding.bind_ortvalue_input(spec.name, held)
    binding.bind_output(session.get_outputs()[0].name, place)
    session.run_with_iobinding(binding)
    found = torch.from_numpy(binding.copy_outputs_to_cpu()[0]).double()
    with torch.inference_mode():
        expected = module(*inputs).double().cpu()
    error = float((found - expected).norm() / expected.norm())
    return (lambda: session.run_with_iobinding(binding)), f"{got[0]}, against torch {error:.1e}"
