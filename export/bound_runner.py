"""An ONNX model with fixed places for its tensors: bound once, refilled and run again.

On a GPU a run then copies a few kilobytes in and out and replays one recorded graph; on the CPU the
same code saves allocations. Only models of fixed shapes can be bound.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.runtime import Device, Runner, open_session
from models.errors import DeviceError, SettingError

__all__ = ["BoundRunner", "open_bound_runner"]

logger = logging.getLogger(__name__)


class BoundRunner(Runner):
    """A `Runner` whose inputs and outputs stay in the same places of the device.

    One call at a time: calls share the places.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    device : {"cpu", "cuda", "tensorrt"}
    constants : mapping of str to array
        Inputs that are given once, here.

    Raises
    ------
    SettingError
        If a shape is not fixed, or a constant does not fit.
    """

    def __init__(
        self, session: Any, device: Device, constants: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        super().__init__(session, device)
        import onnxruntime

        for item in (*self.inputs, *self.outputs):
            if None in item.shape:
                raise SettingError(
                    f"{item.name!r} of the model has the shape {item.shape}; only fixed shapes can "
                    "be bound. Export it again."
                )
        place = "cpu" if device == "cpu" else "cuda"
        held = dict(constants or {})
        zeros = {
            item.name: np.zeros([length or 0 for length in item.shape], item.dtype)
            for item in self.inputs
        }
        self._check(zeros | held)
        self._binding = session.io_binding()
        self._places: dict[str, Any] = {}
        for name, array in (zeros | held).items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), place, 0)
            self._binding.bind_ortvalue_input(name, value)
            self._places[name] = value
        self._results: dict[str, Any] = {}
        for item in self.outputs:
            shape = [length or 0 for length in item.shape]
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, item.dtype, place, 0)
            self._binding.bind_ortvalue_output(item.name, value)
            self._results[item.name] = value
        # The caller gives the rest; `run` and `warm_up` check and fill these only.
        self.inputs = tuple(item for item in self.inputs if item.name not in held)

    def _compute(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        for name, array in inputs.items():
            self._places[name].update_inplace(np.ascontiguousarray(array))
        # Copies and the graph run on streams of their own; without waiting the graph may read what
        # was there before, and nobody would be told.
        self._binding.synchronize_inputs()
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        # Copies: on the CPU numpy() may show the place itself, which the next call fills.
        return {name: np.array(value.numpy()) for name, value in self._results.items()}


def open_bound_runner(
    path: str | Path,
    *,
    device: Device = "cpu",
    threads: int = 1,
    cache_dir: str | Path | None = None,
    fp16: bool = False,
    strict: bool = False,
    constants: Mapping[str, NDArray[Any]] | None = None,
) -> BoundRunner:
    """Open an ONNX file of fixed shapes on a device; see `export.runtime.open_session`.

    On a GPU the model is recorded as a CUDA graph and replayed, where all of it is on the GPU.

    Parameters
    ----------
    path, device, threads, cache_dir, fp16, strict
        See `export.runtime.open_session`.
    constants : mapping of str to array, optional
        Inputs that are given once, here.

    Raises
    ------
    SettingError, FileError, DeviceError
        As `open_session` and `BoundRunner`.
    """
    for recorded in (device != "cpu", False):
        session, found = open_session(
            path,
            device=device,
            threads=threads,
            cache_dir=cache_dir,
            fp16=fp16,
            strict=strict and not recorded,
            warn=not recorded,
            cuda_graph=recorded,
        )
        if recorded and found != device:
            continue  # perhaps a part of the model is not to be had on the GPU, so not recorded
        runner = BoundRunner(session, found, constants)
        if not recorded:
            return runner
        try:
            runner.warm_up(3)  # recorded in the second run, replayed in the third
        except DeviceError as error:
            logger.info("%s runs without a recorded graph: %s", Path(path).name, error)
        else:
            return runner
    raise AssertionError("the last way returns")
