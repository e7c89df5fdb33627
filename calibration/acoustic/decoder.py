"""A fitted acoustic decoder: it predicts tokens, and leaves as acoustic.onnx."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.acoustic.settings import AcousticSettings
from calibration.whole_file import write_whole
from models.errors import SettingError
from models.stretch import TOKENS_PER_STEP

__all__ = ["AcousticDecoder", "AcousticEngine"]

_PARITY = 1e-5

Array = NDArray[np.float32]


class AcousticEngine(Protocol):
    """What computes: the closed form, or the network."""

    def predict(self, features: NDArray[Any], embeddings: NDArray[Any]) -> Array:
        """Return tokens (n, places, dim)."""
        ...

    def onnx(self) -> bytes:
        """Return the decoder as the bytes of an ONNX file."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class AcousticDecoder:
    """A fitted acoustic decoder."""

    settings: AcousticSettings
    engine: AcousticEngine
    shape: tuple[int, int]  # of the tokens of a window: (8 m, 768)
    n_features: int
    mean: Array  # (8 m, 768) of the training tokens: the floor of every score
    scores: dict[str, float]  # on inner groups, over the floor of the mean tokens
    curve: tuple[tuple[int, float], ...] = field(default=())  # held-out error by step

    @property
    def steps(self) -> int:
        """Steps of 160 ms that the tokens of a window stand for: m."""
        return self.shape[0] // TOKENS_PER_STEP

    def predict(self, features: NDArray[Any], embeddings: NDArray[Any]) -> Array:
        """Return tokens of windows.

        Parameters
        ----------
        features : array of shape (n, n_features)
            Standardised as in training.
        embeddings : array of shape (n, 512)
            Decoded, of length 1.

        Returns
        -------
        tokens : array of shape (n, 8 m, 768), float32

        Raises
        ------
        SettingError
            If a shape is another one.
        """
        x, s = np.asarray(features, np.float32), np.asarray(embeddings, np.float32)
        if x.ndim != 2 or x.shape[1] != self.n_features or s.shape[:1] != x.shape[:1]:
            raise SettingError(
                f"Expected features of shape (n, {self.n_features}) and as many embeddings, got "
                f"{x.shape} and {s.shape}."
            )
        return self.engine.predict(x, s)

    def export_onnx(self, path: Path) -> float:
        """Write acoustic.onnx and run it; return how far it is from the decoder here.

        Returns
        -------
        parity : float
            Relative error (L2) of ONNX Runtime on random inputs.

        Raises
        ------
        SettingError
            If onnx, or for the transformer onnxscript, is missing, or parity is above 1e-5.
        FileError
            If the file cannot be written.
        """
        from export.runtime import open_runner

        write_whole(path, self.engine.onnx())
        runner = open_runner(path)
        rng = np.random.default_rng(0)
        worst = 0.0
        for _ in range(4):
            x = rng.standard_normal((1, self.n_features)).astype(np.float32)
            s = rng.standard_normal((1, runner.inputs[1].shape[1] or 0)).astype(np.float32)
            s /= np.linalg.norm(s)
            made = runner.run({"features": x, "embedding": s})["tokens"]
            here = self.predict(x, s)
            size = max(float(np.linalg.norm(here)), 1e-12)
            worst = max(worst, float(np.linalg.norm(made - here)) / size)
        if not worst <= _PARITY:
            raise SettingError(
                f"{path.name} differs from the decoder it was made of by {worst:.1e} (at most "
                f"{_PARITY:.0e} is right). Install the releases that constraints.txt names."
            )
        return worst
