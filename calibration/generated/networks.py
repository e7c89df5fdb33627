"""What a generator folder knows of sounds: its encoder, judge, codec encoder and tokens, by ONNX.

All of them read the generator's own log mel. They run as exported, without torch, so that what is
measured of a sound is measured alike in training, in a calibration and on any other machine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.embedders.base import at_rate
from export.checked_files import sha256_of
from export.runtime import open_runner
from models.errors import BundleError, SettingError
from models.mel import MelSpec, log_mel

__all__ = [
    "FRAMES_PER_LATENT",
    "FRAMES_PER_TOKEN_STEP",
    "MelNetwork",
    "generator_mel",
]

FRAMES_PER_LATENT = 4  # mel frames, 40 ms
FRAMES_PER_TOKEN_STEP = 16  # mel frames, 160 ms
_MEL = MelSpec()
_MIN_SAMPLES = 513  # what the front-end can reflect at the edges


class MelNetwork:
    """One of the networks that read log mel frames.

    Parameters
    ----------
    folder : Path
        Of the generator.
    name : str
        File of the network, for example "encoder.onnx".

    Attributes
    ----------
    sha256 : str
        Of the file.
    n_frames : int or None
        Mel frames that it reads at once; None: any number.

    Raises
    ------
    FileError
        If the file is missing or cannot be run.
    BundleError
        If it reads something else than log mel frames.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._runner = open_runner(folder / name)
        self.sha256 = sha256_of(folder / name)
        inputs = self._runner.inputs
        shape = inputs[0].shape if len(inputs) == 1 else ()
        if len(shape) != 3 or inputs[0].name != "mel" or shape[2] != _MEL.n_mels:
            raise BundleError(
                f"{name} of the generator {folder.name!r} should read 'mel' of shape (1, frames, "
                f"{_MEL.n_mels}), but reads {[(item.name, item.shape) for item in inputs]}. Export "
                "the generator again."
            )
        self.n_frames = shape[1]
        self.outputs = tuple(item.name for item in self._runner.outputs)

    def run(self, mel: NDArray[np.float32], output: str | None = None) -> NDArray[np.float32]:
        """Return an output (the first, if none is named) for frames (n, 64), without the batch."""
        values = self._runner.run({"mel": np.ascontiguousarray(mel[np.newaxis], np.float32)})
        found: NDArray[np.float32] = values[output or self.outputs[0]][0]
        return found

    def whole(self, pcm: ArrayLike, sample_rate_hz: int, *, per_step: int) -> NDArray[np.float32]:
        """Return what it says of a whole sound, step by step.

        A network of a fixed length reads windows that overlap by half; of each, the half that is
        farther from the window's edges is taken, so that every step has heard what is around it.

        Parameters
        ----------
        pcm : array of shape (n,)
        sample_rate_hz : int
        per_step : int
            Mel frames for one step of the output; a sound that ends within a step is held on.

        Returns
        -------
        steps : array of shape (rows, dim), float32
        """
        mel = generator_mel(pcm, sample_rate_hz)
        n_steps = -(-len(mel) // per_step)
        if self.n_frames is None:
            return self.run(_held(mel, n_steps * per_step))
        size = self.n_frames // per_step
        mel = _held(mel, max(n_steps, size) * per_step)
        starts = _half_overlapping(n_steps, size)
        parts: list[NDArray[np.float32]] = []
        done = 0
        for start, following in zip(starts, [*starts[1:], None], strict=True):
            rows = self.run(mel[start * per_step : start * per_step + self.n_frames])
            each = len(rows) // size  # rows for one step: 1, or one for each band
            # Where two windows overlap, each gives the half that is nearer to its middle.
            stop = start + size if following is None else (following + start + size) // 2
            parts.append(rows[(done - start) * each : (stop - start) * each])
            done = stop
        together = np.concatenate(parts)
        return together[: n_steps * (len(together) // done)]


def generator_mel(pcm: ArrayLike, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return the log mel of a sound as the generator's networks were trained on it.

    Parameters
    ----------
    pcm : array of shape (n,)
        Mono, full scale 1.0.
    sample_rate_hz : int

    Returns
    -------
    mel : array of shape (n / 160 at 16 kHz, 64), float32
        At least one frame.

    Raises
    ------
    SettingError
        If the sound is not mono, finite, or is shorter than 33 ms.
    """
    sound = at_rate(pcm, sample_rate_hz, _MEL.sample_rate_hz)
    if len(sound) < _MIN_SAMPLES:
        raise SettingError(
            f"A generator's networks need at least 33 ms of sound, got {len(sound)} samples at 16 "
            "kHz. Take a longer stretch."
        )
    return log_mel(sound, _MEL)[: len(sound) // _MEL.hop]


def _held(mel: NDArray[np.float32], n_frames: int) -> NDArray[np.float32]:
    """Return so many frames: the last one held on, where there are fewer."""
    short = n_frames - len(mel)
    return mel[:n_frames] if short <= 0 else np.pad(mel, ((0, short), (0, 0)), mode="edge")


def _half_overlapping(n_steps: int, size: int) -> list[int]:
    """Return where windows of `size` steps begin, half a window apart; the last ends at the end."""
    last = max(0, n_steps - size)
    return [*range(0, last, max(1, size // 2)), last]
