"""An acoustic decoder that is there as acoustic.onnx alone: as a bundle runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.runtime import open_runner
from models.errors import FileError

__all__ = ["OnnxEngine"]


@dataclass(frozen=True, slots=True)
class OnnxEngine:
    """The decoder in a file, through ONNX Runtime, one window at a time as live."""

    path: Path

    def predict(self, features: NDArray[Any], embeddings: NDArray[Any]) -> NDArray[np.float32]:
        """Return tokens (n, places, dim).

        Raises
        ------
        BundleError
            If the file is no decoder.
        """
        runner = open_runner(self.path)
        x, s = np.asarray(features, np.float32), np.asarray(embeddings, np.float32)
        made = [
            runner.run({"features": x[k : k + 1], "embedding": s[k : k + 1]})["tokens"]
            for k in range(len(x))
        ]
        sizes = (n or 0 for n in runner.outputs[0].shape[1:])
        return np.concatenate(made) if made else np.zeros((0, *sizes), np.float32)

    def onnx(self) -> bytes:
        """Return the file.

        Raises
        ------
        FileError
            If it cannot be read.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise FileError(f"Cannot read {self.path}: {error}.") from error
