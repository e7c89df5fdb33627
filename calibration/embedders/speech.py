"""HuBERT and wav2vec 2.0: the last hidden layers of speech models, averaged over the window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.embedders.base import WindowEmbedder, needs_train
from calibration.embedders.pretrained import (
    Weights,
    checked_device,
    find_weights,
    load_transformers,
    random_weights,
)
from models.errors import SettingError

__all__ = ["SpeechEmbedder", "load_speech", "small_random_speech"]

Kind = Literal["hubert", "wav2vec2"]
_CLASSES = {"hubert": "HubertModel", "wav2vec2": "Wav2Vec2Model"}
_NAMES = {"hubert": "HuBERT", "wav2vec2": "wav2vec 2.0"}


class SpeechEmbedder(WindowEmbedder):
    """The mean of the last hidden layers of a HuBERT or wav2vec 2.0, over layers and time.

    Each window is brought to zero mean and unit variance by itself. It is heard as a whole,
    whatever its length: windows of different lengths go through the model one after another and
    are never padded, which some of these models were not trained to ignore.

    Parameters
    ----------
    model : transformers.HubertModel or transformers.Wav2Vec2Model
        In evaluation mode.
    kind : str
    n_layers : int
        Last hidden layers that are averaged.
    weights : Weights
    device : torch.device
    batch_size : int
    """

    sample_rate_hz = 16_000

    def __init__(
        self,
        model: Any,
        *,
        kind: Kind,
        n_layers: int,
        weights: Weights,
        device: Any,
        batch_size: int = 8,
    ) -> None:
        super().__init__(batch_size=batch_size)
        n_hidden = int(model.config.num_hidden_layers)
        if not 1 <= n_layers <= n_hidden:
            raise SettingError(
                f"{_NAMES[kind]} {weights.name} has {n_hidden} hidden layers; n_layers must lie "
                f"in 1 to {n_hidden}, got {n_layers}."
            )
        self.name = weights.name if weights.path is None else f"{kind}:{weights.name}"
        self.dim = int(model.config.hidden_size)
        self.licence = weights.licence
        self.source = weights.source
        self._kind = kind
        self._n_layers = n_layers
        self._model = model.to(device)
        self._device = device
        self._weights = weights
        self._digest = ""

    def settings(self) -> dict[str, Any]:
        """Return all that the vectors depend on."""
        self._digest = self._digest or self._weights.digest()
        return {
            "embedder": self._kind,
            "weights": self._digest,
            "n_layers": self._n_layers,
            "version": 1,
        }

    def _embed_batch(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        import torch

        rows = np.empty((len(windows), self.dim), np.float32)
        lengths = np.array([len(window) for window in windows])
        shortest = int(lengths.min())
        if int(self._model._get_feat_extract_output_lengths(shortest)) < 1:
            raise SettingError(
                f"A window of {shortest} samples is too short for {_NAMES[self._kind]}; "
                "take at least 25 ms."
            )
        for length in np.unique(lengths):
            mine = np.flatnonzero(lengths == length)
            inputs = np.stack([_standardised(windows[number]) for number in mine.tolist()])
            with torch.inference_mode():
                layers = self._model(
                    torch.from_numpy(inputs).to(self._device), output_hidden_states=True
                ).hidden_states[-self._n_layers :]
                means = torch.stack([layer.float().mean(dim=1) for layer in layers]).mean(dim=0)
            rows[mine] = means.cpu().numpy()
        return rows


def load_speech(
    kind: Kind,
    place: str,
    *,
    n_layers: int = 1,
    download: bool = False,
    device: str = "cpu",
    batch_size: int = 8,
) -> SpeechEmbedder:
    """Return a HuBERT or wav2vec 2.0 with published weights.

    Parameters
    ----------
    kind : str
        "hubert" or "wav2vec2".
    place : str
        Folder, or a hub id such as "facebook/hubert-large-ls960-ft".
    n_layers : int
        Last hidden layers that are averaged.
    download : bool
        Whether a hub id that is not on this machine may be fetched.
    device : str
        Of torch: "cpu", "cuda".
    batch_size : int

    Raises
    ------
    SettingError
        If torch or transformers is missing, or n_layers is out of range.
    FileError
        If the weights are not there, not whole or of another model.
    """
    chosen = checked_device(device, _NAMES[kind])
    weights = find_weights(place, download=download, what=_NAMES[kind])
    # The vector that stands for masked frames in training is not part of all published weights.
    model = load_transformers(
        _CLASSES[kind], weights, model_type=kind, may_lack=("masked_spec_embed",)
    )
    return SpeechEmbedder(
        model, kind=kind, n_layers=n_layers, weights=weights, device=chosen, batch_size=batch_size
    )


def small_random_speech(
    kind: Kind, *, n_layers: int = 1, seed: int = 0, device: str = "cpu", batch_size: int = 8
) -> SpeechEmbedder:
    """Return a small model that has learnt nothing, to try a chain where no weights are at hand.

    Raises
    ------
    SettingError
        If torch or transformers is missing, or n_layers is out of range.
    """
    chosen = checked_device(device, _NAMES[kind])
    try:
        import torch
        import transformers
    except ImportError as error:
        raise needs_train("transformers", _NAMES[kind]) from error
    name = _CLASSES[kind]
    config = getattr(transformers, name.replace("Model", "Config"))(
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = getattr(transformers, name)(config)
    return SpeechEmbedder(
        model.eval(),
        kind=kind,
        n_layers=n_layers,
        weights=random_weights(kind, seed),
        device=chosen,
        batch_size=batch_size,
    )


def _standardised(window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a window of zero mean and unit variance, as the models' feature extractor makes it."""
    values = window.astype(np.float64)
    return np.asarray((values - values.mean()) / np.sqrt(values.var() + 1e-7), np.float32)
