"""The encoders of a generator: the space that it is steered in, and another one to judge it by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.embedders.base import WindowEmbedder, even_starts
from calibration.generated.folder import generator_folder
from calibration.generated.networks import MelNetwork, generator_mel
from export.generator_files import read_generator_card
from models.errors import BundleError

__all__ = ["GeneratorEmbedder", "load_generator_embedder", "load_generator_judge"]

_FILES = {"encoder": "encoder.onnx", "judge": "judge.onnx"}


class GeneratorEmbedder(WindowEmbedder):
    """The encoder of a generator folder, or its judge, through ONNX Runtime.

    Each reads 2.56 s at once. A longer sound is cut into the fewest such windows that cover it
    evenly; its embedding is the mean of theirs, at unit length. A shorter one is repeated.

    The judge is an encoder of another seed. What was decoded into the space of the encoder must not
    be scored there: a generator is trained to please its encoder.

    Parameters
    ----------
    place : str
        The generator's folder, or "default".
    network : {"encoder", "judge"}
    batch_size : int

    Raises
    ------
    FileError
        If there is no generator, or it has no such network.
    BundleError
        If the network is another one than its name says, or the generator's card is damaged.
    """

    sample_rate_hz = 16_000

    def __init__(
        self,
        place: str,
        *,
        network: Literal["encoder", "judge"] = "encoder",
        batch_size: int = 8,
    ) -> None:
        super().__init__(batch_size=batch_size)
        folder = generator_folder(place)
        self._network = MelNetwork(folder, _FILES[network])
        if self._network.n_frames is None:
            raise BundleError(
                f"{_FILES[network]} of the generator {folder.name!r} should read a fixed number of "
                "mel frames. Export the generator again."
            )
        self._frames = self._network.n_frames
        self._kind = network
        self.dim = len(self._network.run(np.zeros((self._frames, 64), np.float32)))
        self.name = f"generator-{network}-{self._network.sha256[:8]}"
        self.source = f"generator {folder.name}"
        self.licence = read_generator_card(folder).licence

    def settings(self) -> dict[str, Any]:
        """Return all that the vectors depend on."""
        return {
            "embedder": f"generator-{self._kind}",
            "sha256": self._network.sha256,
            "windows": "even, mean at unit length, short ones repeated",
            "version": 1,
        }

    def _embed_batch(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        return np.stack([self._one(window) for window in windows])

    def _one(self, window: NDArray[np.float32]) -> NDArray[np.float64]:
        mel = generator_mel(window, self.sample_rate_hz)
        if len(mel) < self._frames:
            mel = np.tile(mel, (-(-self._frames // len(mel)), 1))[: self._frames]
        starts = even_starts(len(mel), self._frames).tolist()
        vectors = [self._network.run(mel[start : start + self._frames]) for start in starts]
        return np.asarray(np.mean(vectors, axis=0, dtype=np.float64))


def load_generator_embedder(place: str, *, batch_size: int = 8) -> GeneratorEmbedder:
    """Return the encoder of a generator: the space that it is steered in."""
    return GeneratorEmbedder(place, network="encoder", batch_size=batch_size)


def load_generator_judge(place: str, *, batch_size: int = 8) -> GeneratorEmbedder:
    """Return the judge of a generator: an encoder that it was not trained with."""
    return GeneratorEmbedder(place, network="judge", batch_size=batch_size)
