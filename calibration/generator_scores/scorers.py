"""Who judges: the training encoder, and a judge of another seed with classes and factors read off.

From a training run, by torch and for any length of sound; or from an exported generator, by ONNX
Runtime and for 2.56 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError, SettingError
from models.mel import MelSpec, log_mel

if TYPE_CHECKING:
    from calibration.generator_scores.networks import Trained

__all__ = ["FACTORS", "WINDOW", "Judged", "OnnxScorer", "Scorer", "TorchScorer", "mel_windows"]

FACTORS = ("pitch", "tempo", "brightness", "loudness", "density")
WINDOW = 256  # mel frames, 2.56 s
_BATCH = 32
_LEAST = 32  # mel frames that the encoders take

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What the judge says of sounds."""

    vectors: Rows  # (n, 512), unit length
    classes: NDArray[np.int64]  # (n,), in the order of `calibration.sounds.procedural.CLASSES`
    factors: Rows  # (n, 5), in the order of `FACTORS`, standardised


class Scorer(Protocol):
    """The two networks that score sounds."""

    def embed(self, mel: Rows) -> Rows:
        """Return the training encoder's unit vectors, (n, 512), of log mels (n, frames, 64)."""
        ...

    def judge(self, mel: Rows) -> Judged:
        """Return what the judge says of log mels (n, frames, 64)."""
        ...


class TorchScorer:
    """The networks of a training run.

    Parameters
    ----------
    trained : Trained
    """

    def __init__(self, trained: Trained) -> None:
        self._trained = trained

    def embed(self, mel: Rows) -> Rows:
        """Return the training encoder's vectors; see `Scorer`."""
        import torch

        with torch.inference_mode():
            parts = [
                self._trained.encoder(torch.from_numpy(part)).numpy() for part in _batches(mel)
            ]
        return np.concatenate(parts)

    def judge(self, mel: Rows) -> Judged:
        """Return what the judge says; see `Scorer`."""
        import torch

        vectors, classes, factors = [], [], []
        with torch.inference_mode():
            for part in _batches(mel):
                found = self._trained.judge(torch.from_numpy(part))
                logits, values = self._trained.readout(found)
                vectors.append(found.numpy())
                classes.append(logits.argmax(-1).numpy())
                factors.append(values.numpy())
        return Judged(np.concatenate(vectors), np.concatenate(classes), np.concatenate(factors))


class OnnxScorer:
    """The networks that stand in the folder of an exported generator.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    FileError
        If they are not in it: a bundle may leave them out.
    """

    def __init__(self, folder: Path) -> None:
        from export.runtime import open_runner

        for name in ("encoder.onnx", "judge.onnx"):
            if not (folder / name).is_file():
                raise FileError(
                    f"{folder} has no {name} to score with. Give the folder that hearback export "
                    "wrote, or the training run."
                )
        self._encoder: Any = open_runner(folder / "encoder.onnx")
        self._judge: Any = open_runner(folder / "judge.onnx")

    def embed(self, mel: Rows) -> Rows:
        """Return the training encoder's vectors; see `Scorer`."""
        rows = [self._encoder.run({"mel": part})["vector"][0] for part in _singles(mel)]
        return np.stack(rows)

    def judge(self, mel: Rows) -> Judged:
        """Return what the judge says; see `Scorer`."""
        found = [self._judge.run({"mel": part}) for part in _singles(mel)]
        return Judged(
            np.concatenate([one["vector"] for one in found]),
            np.concatenate([one["classes"] for one in found]).argmax(axis=1).astype(np.int64),
            np.concatenate([one["factors"] for one in found]),
        )


def mel_windows(sounds: Sequence[NDArray[np.floating]], n_frames: int = WINDOW) -> Rows:
    """Return the log mels of sounds of at least `160 n_frames` samples, (n, n_frames, 64).

    Raises
    ------
    SettingError
        If a sound is too short, or the encoders do not take so few frames.
    """
    spec = MelSpec()
    if n_frames < _LEAST or n_frames % 8:
        raise SettingError(
            f"The encoders take a multiple of 8 mel frames, at least {_LEAST}, got {n_frames}."
        )
    rows = []
    for sound in sounds:
        if len(sound) < n_frames * spec.hop:
            raise SettingError(
                f"A window of {n_frames} mel frames needs {n_frames * spec.hop} samples, got "
                f"{len(sound)}."
            )
        rows.append(log_mel(np.asarray(sound[: n_frames * spec.hop]), spec)[:n_frames])
    return np.stack(rows).astype(np.float32)


def _batches(mel: Rows) -> list[Rows]:
    return [np.ascontiguousarray(mel[i : i + _BATCH]) for i in range(0, len(mel), _BATCH)]


def _singles(mel: Rows) -> list[Rows]:
    if mel.shape[1] != WINDOW:
        raise SettingError(
            f"Exported encoders take {WINDOW} mel frames, got {mel.shape[1]}. Score others "
            "with the networks of the training run."
        )
    return [np.ascontiguousarray(row[np.newaxis]) for row in mel]
