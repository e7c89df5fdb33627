"""AudioMAE: what a masked autoencoder makes of a spectrogram, averaged over its patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.embedders.base import WindowEmbedder, even_starts, needs_train
from calibration.embedders.pretrained import (
    Weights,
    checked_device,
    find_weights,
    random_weights,
)
from models.errors import FileError, SettingError
from models.frontends.audiomae import AudioMaeFbank

__all__ = ["AudioMaeEmbedder", "checked_state", "load_audiomae", "small_random_audiomae"]

_INPUT = 400 + 1023 * 160  # samples that fill 1,024 frames: 10.255 s
# Parts of a whole autoencoder, or of a classifier made of it, that an encoder has no use for.
_UNUSED = ("decoder_", "mask_token", "head.", "fc_norm.")


class AudioMaeEmbedder(WindowEmbedder):
    """The mean of the encoder's patches that hold sound; filled frames are left out.

    A window longer than 10.255 s is cut into the fewest stretches of that length that cover it
    evenly, and their patches are averaged stretch by stretch.

    Parameters
    ----------
    model : models.nets.audiomae.AudioMaeEncoder
        In evaluation mode.
    last_blocks : int
        1: the last block's output (AudioMAE); 3: the mean of the last three (AudioLDM 2).
    weights : Weights
    device : torch.device
    batch_size : int
    """

    sample_rate_hz = AudioMaeFbank.sample_rate_hz

    def __init__(
        self,
        model: Any,
        *,
        last_blocks: int,
        weights: Weights,
        device: Any,
        batch_size: int = 8,
    ) -> None:
        super().__init__(batch_size=batch_size)
        if not 1 <= last_blocks <= model.config.depth:
            raise SettingError(
                f"last_blocks must lie in 1 to {model.config.depth}, got {last_blocks}."
            )
        self.name = weights.name if weights.path is None else f"audiomae:{weights.name}"
        self.dim = int(model.config.dim)
        self.licence = weights.licence
        self.source = weights.source
        self._model = model.to(device)
        self._front_end = AudioMaeFbank()
        self._last_blocks = last_blocks
        self._device = device
        self._weights = weights
        self._digest = ""

    @property
    def encoder(self) -> Any:
        """The network, for what needs its tokens one by one."""
        return self._model

    def settings(self) -> dict[str, Any]:
        """Return all that the vectors depend on."""
        self._digest = self._digest or self._weights.digest()
        return {
            "embedder": "audiomae",
            "weights": self._digest,
            "last_blocks": self._last_blocks,
            "long": "mean of even stretches",
            "version": 1,
        }

    def _embed_batch(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        import torch

        owner, mels, n_steps = [], [], []
        for number, window in enumerate(windows):
            for start in even_starts(len(window), _INPUT):
                stretch = window[start : start + _INPUT]
                owner.append(number)
                mels.append(self._front_end(stretch))
                n_steps.append(-(-(1 + (len(stretch) - 400) // 160) // 16))
        rows = np.empty((len(mels), self.dim))
        for at in range(0, len(mels), self._batch_size):
            inputs = torch.from_numpy(np.stack(mels[at : at + self._batch_size]))
            with torch.inference_mode():
                tokens = self._model(inputs.to(self._device), last_blocks=self._last_blocks)
            patches = tokens[:, 1:].double().cpu().numpy()  # (batch, 512, dim)
            for place, values in enumerate(patches, start=at):
                rows[place] = values[: 8 * n_steps[place]].mean(axis=0)
        owners = np.array(owner)
        return np.stack([rows[owners == n].mean(axis=0) for n in range(len(windows))])


def load_audiomae(
    place: str,
    *,
    last_blocks: int = 1,
    download: bool = False,
    device: str = "cpu",
    batch_size: int = 8,
) -> AudioMaeEmbedder:
    """Return AudioMAE with published weights.

    Parameters
    ----------
    place : str
        File (.pth or .safetensors), a folder with one, or a hub id.
    last_blocks : int
        1: the last block's output (AudioMAE); 3: the mean of the last three (AudioLDM 2).
    download : bool
        Whether a hub id that is not on this machine may be fetched.
    device : str
        Of torch: "cpu", "cuda".
    batch_size : int

    Raises
    ------
    SettingError
        If torch is missing or last_blocks is out of range.
    FileError
        If the weights are not there, not whole or of another model.
    """
    chosen = checked_device(device, "AudioMAE")
    import torch

    from models.nets.audiomae import AudioMaeEncoder

    weights = find_weights(place, download=download, what="AudioMAE")
    assert weights.path is not None
    file = _weights_file(weights.path)
    with torch.device("meta"):  # shapes only: the numbers come from the file
        model = AudioMaeEncoder()
    state = checked_state(
        _read_state(file),
        {key: tuple(value.shape) for key, value in model.state_dict().items()},
        where=str(file),
    )
    model.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return AudioMaeEmbedder(
        model.eval(), last_blocks=last_blocks, weights=weights, device=chosen, batch_size=batch_size
    )


def small_random_audiomae(
    *, last_blocks: int = 1, seed: int = 0, device: str = "cpu", batch_size: int = 8
) -> AudioMaeEmbedder:
    """Return a small encoder that has learnt nothing, to try a chain where no weights are at hand.

    Raises
    ------
    SettingError
        If torch is missing or last_blocks is out of range.
    """
    chosen = checked_device(device, "AudioMAE")
    import torch

    from models.nets.audiomae import AudioMaeConfig, AudioMaeEncoder

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AudioMaeEncoder(AudioMaeConfig(dim=64, depth=3, n_heads=4))
    return AudioMaeEmbedder(
        model.eval(),
        last_blocks=last_blocks,
        weights=random_weights("audiomae", seed),
        device=chosen,
        batch_size=batch_size,
    )


def checked_state(
    state: Mapping[str, Any], manifest: Mapping[str, tuple[int, ...]], *, where: str
) -> dict[str, Any]:
    """Return the weights that a model has, each of the right shape, under the model's names.

    Parameters
    ----------
    state : mapping of str to tensor
        As read. A common beginning ("model.", "encoder.", "module.") is taken off.
    manifest : mapping of str to shape
        Every weight of the model.
    where : str
        File, for messages.

    Raises
    ------
    FileError
        If a weight is missing, has another shape, or belongs to no part that is known.
    """
    for prefix in ("module.", "model.", "encoder."):
        if state and not any(key in manifest for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    missing = [key for key in manifest if key not in state]
    wrong = [
        f"{key} is {tuple(state[key].shape)} instead of {shape}"
        for key, shape in manifest.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    strange = [key for key in state if key not in manifest and not key.startswith(_UNUSED)]
    for found, says in (
        (missing, "lacks"),
        (wrong, "has weights of another shape:"),
        (strange, "has weights that this model does not know:"),
    ):
        if found:
            raise FileError(
                f"{where} {says} {found[0]}"
                + (f" and {len(found) - 1} more" if len(found) > 1 else "")
                + ". It is damaged or belongs to another model."
            )
    return {key: state[key] for key in manifest}


def _weights_file(path: Path) -> Path:
    """Return the file of weights in a folder, or the file itself."""
    if path.is_file():
        return path
    for pattern in ("*.safetensors", "*.pth", "*.pt", "*.bin"):
        found = sorted(path.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise FileError(
                f"{path} holds {len(found)} files {pattern}; name the one with AudioMAE's weights."
            )
    raise FileError(f"{path} holds no weights (.safetensors or .pth). Copy the folder again.")


def _read_state(file: Path) -> Mapping[str, Any]:
    """Return the tensors in a file, without running anything that stands in it."""
    import argparse

    import torch

    try:
        if file.suffix == ".safetensors":
            try:
                from safetensors.torch import load_file
            except ImportError as error:
                raise needs_train("safetensors", "AudioMAE") from error
            stored: Any = load_file(file)
        else:
            # Published files also hold their training options, a Namespace of plain values.
            with torch.serialization.safe_globals([argparse.Namespace]):
                stored = torch.load(file, map_location="cpu", weights_only=True)
    except SettingError:
        raise
    except Exception as error:  # pickle, zip, safetensors and file errors have no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise FileError(
            f"{file} is not a file of weights that can be read safely: {reason} Download it again."
        ) from error
    state = stored.get("model", stored) if isinstance(stored, dict) else stored
    if not isinstance(state, dict) or not all(hasattr(value, "shape") for value in state.values()):
        raise FileError(f"{file} holds no table of weights. It belongs to another program.")
    return state
