"""LAION-CLAP: sounds and texts in one space of (mostly) 512 dimensions, by `transformers`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from calibration.embedders.base import WindowEmbedder, even_starts, needs_train, unit_rows
from calibration.embedders.pretrained import (
    Weights,
    checked_device,
    find_weights,
    load_transformers,
    random_weights,
)
from models.errors import FileError
from models.frontends.clap import LaionClapMel

__all__ = ["ClapEmbedder", "load_clap", "small_random_clap"]

_RATE_HZ = 48_000


class ClapEmbedder(WindowEmbedder):
    """The audio and text towers of a `transformers.ClapModel`.

    A window of up to 10 s is one input (repeated to 10 s, `LaionClapMel`). A longer one is cut into
    the fewest stretches of 10 s that cover it evenly, the first at its beginning, the last at its
    end; their embeddings are averaged. Released code takes one random crop instead. The fusion
    models get the same mel four times and are told that it is not longer, for the same reason.

    Parameters
    ----------
    model : transformers.ClapModel
        In evaluation mode.
    tokenizer : transformers tokenizer
    front_end : LaionClapMel
    weights : Weights
    device : torch.device
    batch_size : int
    """

    sample_rate_hz = _RATE_HZ

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        front_end: LaionClapMel,
        weights: Weights,
        device: Any,
        batch_size: int = 8,
    ) -> None:
        super().__init__(batch_size=batch_size)
        self.name = weights.name if weights.path is None else f"clap:{weights.name}"
        self.dim = int(model.config.projection_dim)
        self.licence = weights.licence
        self.source = weights.source
        self._model = model.to(device)
        self._tokenizer = tokenizer
        self._front_end = front_end
        self._device = device
        self._fused = bool(model.config.audio_config.enable_fusion)
        self._weights = weights
        self._digest = ""

    def settings(self) -> dict[str, Any]:
        """Return all that the vectors depend on."""
        self._digest = self._digest or self._weights.digest()
        return {
            "embedder": "clap",
            "weights": self._digest,
            "fmin_hz": self._front_end.fmin_hz,
            "fmax_hz": self._front_end.fmax_hz,
            "scale": self._front_end.scale,
            "seconds": self._front_end.seconds,
            "int16": self._front_end.int16,
            "long": "mean of even stretches",
            "version": 1,
        }

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the embeddings of texts: (n, dim), float32, unit length.

        Parameters
        ----------
        texts : sequence of str
            English; what goes beyond 512 tokens is cut off.
        """
        import torch

        rows = [np.zeros((0, self.dim), np.float32)]
        for at in range(0, len(texts), self._batch_size):
            tokens = self._tokenizer(
                list(texts[at : at + self._batch_size]),
                padding=True,
                truncation=True,
                max_length=512,
                return_tensors="pt",
            ).to(self._device)
            with torch.inference_mode():
                found = self._model.get_text_features(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
                )
            rows.append(unit_rows(_vectors(found)))
        return np.concatenate(rows)

    def _embed_batch(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        import torch

        n_input = round(self._front_end.seconds * self.sample_rate_hz)
        owner, mels = [], []
        for number, window in enumerate(windows):
            for start in even_starts(len(window), n_input):
                owner.append(number)
                mels.append(self._front_end(window[start : start + n_input]))
        rows = []
        for at in range(0, len(mels), self._batch_size):
            inputs = np.stack(mels[at : at + self._batch_size])[:, np.newaxis]
            inputs = np.repeat(inputs, 4 if self._fused else 1, axis=1)  # (n, 1 or 4, 1001, 64)
            with torch.inference_mode():
                found = self._model.get_audio_features(
                    input_features=torch.from_numpy(inputs).to(self._device),
                    is_longer=torch.zeros(len(inputs), 1, dtype=torch.bool, device=self._device),
                )
            # Releases differ in whether they return unit vectors; averaging needs them.
            rows.append(unit_rows(_vectors(found)))
        vectors, owners = np.concatenate(rows).astype(np.float64), np.array(owner)
        return np.stack([vectors[owners == n].mean(axis=0) for n in range(len(windows))])


def load_clap(
    place: str, *, download: bool = False, device: str = "cpu", batch_size: int = 8
) -> ClapEmbedder:
    """Return a CLAP with published weights.

    Parameters
    ----------
    place : str
        Folder of a converted checkpoint, or a hub id such as
        "laion/larger_clap_music_and_speech". LAION's own .pt files are not converted ones.
    download : bool
        Whether a hub id that is not on this machine may be fetched.
    device : str
        Of torch: "cpu", "cuda".
    batch_size : int

    Raises
    ------
    SettingError
        If torch or transformers is missing.
    FileError
        If the weights are not there, not whole or of another model.
    """
    chosen = checked_device(device, "CLAP")
    weights = find_weights(place, download=download, what="CLAP")
    model = load_transformers("ClapModel", weights, model_type="clap", may_lack=("position_ids",))
    assert weights.path is not None
    front_end = _front_end(weights.path, fused=bool(model.config.audio_config.enable_fusion))
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(weights.path, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"{weights.path} holds no tokenizer of CLAP. Copy tokenizer.json, vocab.json and "
            "tokenizer_config.json beside the weights."
        ) from error
    return ClapEmbedder(
        model,
        tokenizer,
        front_end=front_end,
        weights=weights,
        device=chosen,
        batch_size=batch_size,
    )


def small_random_clap(
    *, seed: int = 0, fused: bool = False, device: str = "cpu", batch_size: int = 8
) -> ClapEmbedder:
    """Return a small CLAP that has learnt nothing, to try a chain where no weights are at hand.

    Its vectors still depend on the sound, so that everything behind it runs for real; they carry
    no meaning, and its texts have nothing to do with its sounds.

    Raises
    ------
    SettingError
        If torch or transformers is missing.
    """
    chosen = checked_device(device, "CLAP")
    try:
        import torch
        from transformers import ClapConfig, ClapModel, RobertaTokenizerFast
    except ImportError as error:
        raise needs_train("transformers", "CLAP") from error
    letters = _byte_letters()
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    vocabulary = {token: number for number, token in enumerate((*special, *letters))}
    config = ClapConfig(
        projection_dim=512,
        text_config={
            "vocab_size": len(vocabulary),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "projection_dim": 512,
        },
        audio_config={
            "patch_embeds_hidden_size": 16,
            "depths": [1, 1, 1],
            "num_attention_heads": [1, 2, 4],
            "num_hidden_layers": 3,
            "hidden_size": 64,
            "projection_dim": 512,
            "enable_fusion": fused,
            "fusion_type": "aff_2d" if fused else None,
            # Published weights have an initial spread of 0.02, with which nothing gets through an
            # untrained network.
            "initializer_factor": 5.0,
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = ClapModel(config)
    return ClapEmbedder(
        model.eval(),
        RobertaTokenizerFast(vocab=vocabulary, merges=[]),
        front_end=LaionClapMel(scale="htk" if fused else "slaney"),
        weights=random_weights("clap", seed),
        device=chosen,
        batch_size=batch_size,
    )


def _vectors(found: Any) -> NDArray[np.float32]:
    """Return the embeddings of what transformers returns: a tensor before release 5, then more."""
    tensor = getattr(found, "pooler_output", found)
    values: NDArray[np.float32] = tensor.float().cpu().numpy()
    return values


def _front_end(folder: Path, *, fused: bool) -> LaionClapMel:
    """Return the front-end that stands beside the weights."""
    file = folder / "preprocessor_config.json"
    scale: Literal["slaney", "htk"] = "htk" if fused else "slaney"
    if not file.exists():
        return LaionClapMel(scale=scale)
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        fixed = {
            "sampling_rate": _RATE_HZ,
            "fft_window_size": LaionClapMel.n_fft,
            "hop_length": LaionClapMel.hop,
            "feature_size": LaionClapMel.n_mels,
        }
        for key, expected in fixed.items():
            if said.get(key, expected) != expected:
                raise FileError(f"{file} says {key} {said[key]}, CLAP's front-end has {expected}.")
        # transformers reads truncation "fusion" as the HTK scale, everything else as Slaney's.
        if said.get("truncation", "fusion") != "fusion":
            scale = "slaney"
        return LaionClapMel(
            fmin_hz=float(said.get("frequency_min", 0.0)),
            fmax_hz=float(said.get("frequency_max", 14_000.0)),
            scale=scale,
            seconds=float(said.get("max_length_s", 10)),
        )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise FileError(f"{file} cannot be read as CLAP's front-end: {error}.") from error


def _byte_letters() -> list[str]:
    """Return the 256 letters that a byte-level tokenizer writes bytes with."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())
