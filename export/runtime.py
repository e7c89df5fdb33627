"""Runs ONNX files on CPU, CUDA or TensorRT through ONNX Runtime; knows nothing of torch.

What a device is able to do is found by trying: a build of ONNX Runtime lists providers that the
machine may not have, so a session is made and then asked what it really runs on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from export.manifest import DirectChain
from models.errors import BundleError, DeviceError, FileError, SettingError

__all__ = [
    "Device",
    "Runner",
    "TensorInfo",
    "has_provider",
    "open_decoder",
    "open_runner",
    "open_session",
]

logger = logging.getLogger(__name__)

Device: TypeAlias = Literal["cpu", "cuda", "tensorrt"]

_PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}
_SILENT = 4  # ONNX Runtime's severities: 0 verbose ... 3 error, 4 fatal
_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output of a model."""

    name: str
    shape: tuple[int | None, ...]  # None: any length
    dtype: np.dtype[Any]


class Runner:
    """One ONNX model on one device; `open_runner` makes it.

    Calls are stateless and repeat exactly on the same device. One runner may be shared by threads.

    Attributes
    ----------
    device : {"cpu", "cuda", "tensorrt"}
        What it really runs on, which may be less than what was asked for.
    providers : tuple of str
        ONNX Runtime's own words for it, in the order in which they are tried for each operation.
    inputs, outputs : tuple of TensorInfo
    """

    def __init__(self, session: Any, device: Device) -> None:
        self._session = session
        self.device: Device = device
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self.inputs = tuple(_tensor(item) for item in session.get_inputs())
        self.outputs = tuple(_tensor(item) for item in session.get_outputs())
        self._names = [item.name for item in self.outputs]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Compute all outputs.

        Parameters
        ----------
        inputs : mapping of str to array
            One array per input, of its dtype and shape.

        Returns
        -------
        outputs : dict of str to array

        Raises
        ------
        SettingError
            If an input is missing, unknown, or of another dtype or shape.
        DeviceError
            If the device fails.
        """
        self._check(inputs)
        try:
            return self._compute(inputs)
        except Exception as error:  # ONNX Runtime's own classes share no base but this
            raise DeviceError(
                f"The model failed on {self.device}: {str(error)[:300]}. Restart the session with "
                "device cpu if this comes again."
            ) from error

    def _compute(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        values = self._session.run(self._names, dict(inputs))
        return dict(zip(self._names, values, strict=True))

    def warm_up(self, n_runs: int = 2) -> None:
        """Run on zeros, so that the first window does not pay for what is made lazily.

        Raises
        ------
        BundleError
            If zeros give something that is not finite: such a model is broken.
        """
        zeros = {
            item.name: np.zeros([length or 1 for length in item.shape], item.dtype)
            for item in self.inputs
        }
        for _ in range(n_runs):
            for name, values in self.run(zeros).items():
                if values.dtype.kind == "f" and not np.isfinite(values).all():
                    raise BundleError(
                        f"The model's output {name!r} is not finite when all inputs are zero. "
                        "Its weights are broken; export it again."
                    )

    def _check(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        if inputs.keys() != {item.name for item in self.inputs}:
            raise SettingError(
                f"Expected inputs {sorted(item.name for item in self.inputs)}, "
                f"got {sorted(inputs)}."
            )
        for item in self.inputs:
            came = inputs[item.name]
            if came.dtype != item.dtype or not _fits(came.shape, item.shape):
                raise SettingError(
                    f"Expected input {item.name!r} as {item.dtype} {item.shape}, "
                    f"got {came.dtype} {came.shape}."
                )


def open_runner(
    path: str | Path,
    *,
    device: Device = "cpu",
    threads: int = 1,
    cache_dir: str | Path | None = None,
    fp16: bool = False,
    verbose: bool = False,
    strict: bool = False,
) -> Runner:
    """Open an ONNX file on a device, or with one warning on the CPU if the device is not there.

    Parameters
    ----------
    path : str or Path
        ONNX file; external data is looked for beside it.
    device : {"cpu", "cuda", "tensorrt"}
        What to try.
    threads : int
        CPU threads for one operation; they sleep while they wait (spinning ones take a core from
        the rest of the live path).
    cache_dir : str or Path, optional
        TensorRT: where engines and kernel timings are kept, so that the next start is quick.
    fp16 : bool
        TensorRT: allow half precision.
    verbose : bool
        Let ONNX Runtime write its own messages to standard error.
    strict : bool
        Refuse where the device cannot be had, in place of a warning and the CPU.

    Returns
    -------
    runner : Runner
        Has run on zeros once, with finite outputs.

    Raises
    ------
    SettingError
        If an argument is not usable.
    FileError
        If there is no such file, or it is no model that this ONNX Runtime can run.
    BundleError
        If zeros give something that is not finite.
    DeviceError
        If no ONNX Runtime is installed, or it is broken; if `strict`, if the device cannot be had.
    """
    session, found = open_session(
        path,
        device=device,
        threads=threads,
        cache_dir=cache_dir,
        fp16=fp16,
        verbose=verbose,
        strict=strict,
    )
    runner = Runner(session, found)
    runner.warm_up(1)
    return runner


def open_session(
    path: str | Path,
    *,
    device: Device = "cpu",
    threads: int = 1,
    cache_dir: str | Path | None = None,
    fp16: bool = False,
    verbose: bool = False,
    strict: bool = False,
    warn: bool = True,
    cuda_graph: bool = False,
) -> tuple[Any, Device]:
    """Return ONNX Runtime's session, and the device that it was made for.

    Parameters
    ----------
    path, device, threads, cache_dir, fp16, verbose
        See `open_runner`.
    strict : bool
        Refuse where the device cannot be had, in place of a warning and the CPU.
    warn : bool
        Say it in the log where the CPU takes its place.
    cuda_graph : bool
        Record the model once and replay it: shapes and places of all tensors must stay as they are.
        Not on the CPU.

    Raises
    ------
    SettingError, FileError, DeviceError
        As `open_runner`; DeviceError also if `strict` and the device cannot be had.
    """
    if device not in get_args(Device):
        raise SettingError(f"Unknown device {device!r}; expected one of {list(get_args(Device))}.")
    if threads < 1:
        raise SettingError(f"A model needs at least 1 thread, got threads={threads}.")
    file = Path(path)
    if not file.is_file():
        raise FileError(f"No ONNX file at {file}. Give the path of a file that was exported.")
    runtime = _onnxruntime()
    if not verbose:
        runtime.set_default_logger_severity(_SILENT)
    options = _options(runtime, threads, verbose=verbose)
    if device != "cpu":
        session, reason = _try_device(
            runtime, file, options, device, cache_dir, fp16=fp16, cuda_graph=cuda_graph
        )
        if session is not None:
            return session, device
        if strict:
            raise DeviceError(
                f"The model {file.name} cannot run on {device}: {reason}. Check nvidia-smi, or "
                "choose --device cpu."
            )
        logger.log(
            logging.WARNING if warn else logging.DEBUG,
            "The model %s runs on the CPU: %s cannot be had (%s).",
            *(file.name, device, reason),
        )
    return _cpu_session(runtime, file, options), "cpu"


def open_decoder(
    bundle: Bundle,
    *,
    device: Device = "cpu",
    threads: int = 1,
    cache_dir: str | Path | None = None,
    fp16: bool = False,
    strict: bool = False,
) -> Runner:
    """Open the decoder of a bundle and check that it is the one its manifest describes.

    Raises
    ------
    BundleError
        If its inputs or outputs have other names, shapes or types, or an embedding is not of unit
        length.
    DeviceError
        As `open_runner`.
    """
    chain = bundle.manifest.chain
    runner = open_runner(
        bundle.file(chain.decoder),
        device=device,
        threads=threads,
        cache_dir=cache_dir,
        fp16=fp16,
        strict=strict,
    )
    where = f"Bundle {bundle.path.name!r}: {chain.decoder}"
    if isinstance(chain, DirectChain):
        expected: tuple[str, tuple[int, ...]] = (
            "mel",
            (1, chain.frames_per_window, chain.mel.n_mels),
        )
    else:
        expected = ("embedding", (1, chain.embedding.dim))
    _check_tensor(where, "input", runner.inputs, "features", (1, bundle.n_features))
    _check_tensor(where, "output", runner.outputs, *expected)
    ones = np.ones((1, bundle.n_features), np.float32)
    for name, values in runner.run({"features": ones}).items():
        norm = float(np.linalg.norm(values))
        if name == "embedding" and not abs(norm - 1.0) <= _UNIT_TOLERANCE:
            raise BundleError(
                f"{where}: embeddings should have length 1, but one has {norm:g}. Export the "
                "decoder with normalisation."
            )
    return runner


def has_provider(device: Device) -> bool:
    """Return whether this build of ONNX Runtime knows a device; the machine may still lack it.

    Raises
    ------
    DeviceError
        If no ONNX Runtime is installed, or it is broken.
    """
    return _PROVIDERS[device] in _onnxruntime().get_available_providers()


def _onnxruntime() -> ModuleType:
    """Import ONNX Runtime, or say how to get it."""
    try:
        import onnxruntime
    except ImportError as error:
        if error.name == "onnxruntime":
            raise DeviceError(
                "ONNX Runtime is not installed. Install it with pip install 'hearback[cpu]', or "
                "'hearback[gpu]' on a machine with an NVIDIA GPU; never both."
            ) from error
        raise DeviceError(f"ONNX Runtime does not start: {error}. {_REINSTALL}") from error
    # Installing one build over the other, or removing one of two, leaves an empty package.
    if not hasattr(onnxruntime, "InferenceSession"):
        raise DeviceError(f"ONNX Runtime is broken: its package is incomplete. {_REINSTALL}")
    module: ModuleType = onnxruntime
    return module


_REINSTALL = (
    "Probably both builds were installed. Run pip uninstall -y onnxruntime onnxruntime-gpu, then "
    "pip install 'hearback[cpu]' or 'hearback[gpu]', never both."
)


def _options(runtime: ModuleType, threads: int, *, verbose: bool) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 0 if verbose else _SILENT
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _try_device(
    runtime: ModuleType,
    file: Path,
    options: Any,
    device: Device,
    cache_dir: str | Path | None,
    *,
    fp16: bool,
    cuda_graph: bool,
) -> tuple[Any, str]:
    """Return a session that runs on the device, or None and the reason."""
    name = _PROVIDERS[device]
    if name not in runtime.get_available_providers():
        return None, "this build of ONNX Runtime has no support for it; install 'hearback[gpu]'"
    named = _provider_options(device, cache_dir, fp16=fp16, cuda_graph=cuda_graph)
    wanted: list[Any] = [(name, named)]
    if device == "tensorrt":  # operations that TensorRT lacks run on CUDA
        other = _provider_options("cuda", None, fp16=False, cuda_graph=False)
        wanted.append((_PROVIDERS["cuda"], other))
    try:
        session = runtime.InferenceSession(
            str(file), options, providers=[*wanted, _PROVIDERS["cpu"]]
        )
        session.disable_fallback()
    except Exception as error:  # ONNX Runtime's own classes share no base but this
        return None, " ".join(str(error).split())[:200]
    if name not in session.get_providers():
        return None, "its driver or libraries do not load"
    return session, ""


def _provider_options(
    device: Device, cache_dir: str | Path | None, *, fp16: bool, cuda_graph: bool
) -> dict[str, str]:
    if device == "cuda":
        # The exhaustive search of cuDNN picks by timing, so two starts could differ in last bits.
        return {
            "cudnn_conv_algo_search": "HEURISTIC",
            "use_tf32": "0",
            "enable_cuda_graph": "1" if cuda_graph else "0",
        }
    options = {
        "trt_fp16_enable": "1" if fp16 else "0",
        "trt_cuda_graph_enable": "1" if cuda_graph else "0",
    }
    if cache_dir is not None:
        folder = Path(cache_dir)
        folder.mkdir(parents=True, exist_ok=True)
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
    return options


def _cpu_session(runtime: ModuleType, file: Path, options: Any) -> Any:
    try:
        return runtime.InferenceSession(str(file), options, providers=[_PROVIDERS["cpu"]])
    except Exception as error:  # ONNX Runtime's own classes share no base but this
        raise FileError(
            f"{file.name} cannot be run: {' '.join(str(error).split())[:300]}. Export it again "
            f"with opset 20 or lower for ONNX Runtime {runtime.__version__}."
        ) from error


def _tensor(item: Any) -> TensorInfo:
    if item.type not in _DTYPES:
        raise FileError(
            f"The model's {item.name!r} is a {item.type}; expected one of {sorted(_DTYPES)}."
        )
    shape = tuple(length if isinstance(length, int) else None for length in item.shape)
    return TensorInfo(item.name, shape, np.dtype(_DTYPES[item.type]))


def _fits(came: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(came) == len(expected) and all(
        length is None or length == n for n, length in zip(came, expected, strict=True)
    )


def _check_tensor(
    where: str, kind: str, tensors: tuple[TensorInfo, ...], name: str, shape: tuple[int, ...]
) -> None:
    """Check that a model has exactly one input or output, and which."""
    came = [(item.name, item.shape, str(item.dtype)) for item in tensors]
    if (
        len(tensors) != 1
        or tensors[0].name != name
        or tensors[0].dtype != np.float32
        or not _fits(shape, tensors[0].shape)
    ):
        raise BundleError(
            f"{where} should have the one {kind} {name!r} float32 {shape} ({math.prod(shape)} "
            f"values) but has {came}. Export the bundle again."
        )
