"""The trained acoustic transformer: made, trained, kept, opened again, exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.acoustic.network import AcousticTransformer
from calibration.acoustic.ridge import AcousticRidge
from calibration.acoustic.selection import train_selected
from calibration.acoustic.settings import AcousticSettings
from calibration.acoustic.token_decoder import SmallTokenDecoder
from calibration.acoustic.train import AcousticRows, AcousticStage
from calibration.training.checkpoint import load_tensors, load_weights, save_tensors
from calibration.training.loop import Progress, need_device
from calibration.training.settings import TrainingSettings
from export.to_onnx import to_onnx
from models.errors import SettingError
from models.settings import settings_from_dict

__all__ = ["TransformerEngine", "load_acoustic", "save_acoustic", "train_transformer"]

Array = NDArray[np.float32]
_BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class TransformerEngine:
    """A trained network, on the CPU."""

    network: AcousticTransformer

    def predict(self, features: NDArray[Any], embeddings: NDArray[Any]) -> Array:
        """Return tokens (n, places, dim)."""
        made = []
        with torch.inference_mode():
            for first in range(0, len(features), _BATCH):
                x = torch.from_numpy(np.asarray(features[first : first + _BATCH], np.float32))
                s = torch.from_numpy(np.asarray(embeddings[first : first + _BATCH], np.float32))
                made.append(self.network(x, s).numpy())
        places, _ = self.network.queries.shape
        dim = self.network.leave.out_features
        return np.concatenate(made) if made else np.zeros((0, places, dim), np.float32)

    def onnx(self) -> bytes:
        """Return the network as the bytes of an ONNX file, shapes fixed.

        Raises
        ------
        SettingError
            If onnxscript is missing.
        StageError
            If torch cannot export it.
        """
        model = to_onnx(
            self.network.eval(),
            (
                torch.zeros(1, self.network.n_features),
                torch.full((1, self.network.n_embedding), self.network.n_embedding**-0.5),
            ),
            input_names=["features", "embedding"],
            output_names=["tokens"],
        )
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def train_transformer(
    rows: AcousticRows,
    settings: AcousticSettings,
    *,
    ridge: AcousticRidge,
    mean: Array,
    response: NDArray[np.float64],
    token_decoder: SmallTokenDecoder | None,
    device: Literal["cpu", "cuda"],
    seed: int,
    folder: Path,
    resume: bool,
    stop: Event | None,
    progress: Callable[[Progress], None] | None,
) -> tuple[TransformerEngine, dict[str, float], tuple[tuple[int, float], ...]]:
    """Train, and return the network with the best held-out error, its scores and its curve.

    Parameters are those of `calibration.acoustic.fit.fit_acoustic`; `ridge` is the closed form of
    the rows that are trained on, `mean` their mean tokens.

    Raises
    ------
    SettingError
        If `response` has not one number for each feature.
    DeviceError
        If the device cannot be had.
    """
    need_device(device)
    run = TrainingSettings(device=device, seed=seed)
    n_features = rows.features.shape[1]
    if response.shape != (n_features,):
        raise SettingError(
            f"Expected a response for each of {n_features} features, got {response.shape}."
        )
    of_components = settings.brain == "components"
    # A graph wants one feature at least where none is read.
    n_chosen = 1 if of_components else min(settings.n_features or n_features, n_features)
    chosen = np.sort(np.argsort(-response, kind="stable")[:n_chosen])
    torch.manual_seed(seed)  # initial weights
    network = _make(settings, n_features, n_chosen, ridge)
    x = rows.features[rows.train][:, chosen]
    if of_components and rows.base is not None:
        x = rows.base[rows.train]
    buffers: dict[str, NDArray[Any]] = {
        "chosen": chosen,
        "centre": x.mean(axis=0),
        "spread": np.maximum(x.std(axis=0), 1e-6),
        "scale": np.asarray(rows.scale, np.float32),
    }
    if settings.base != "none":
        buffers["base.mean"] = mean
    if settings.base == "ridge":
        buffers |= {
            "base.weights": ridge.weights,
            "base.bias": ridge.bias,
            "base.components": ridge.basis.components,
            "base.directions": ridge.basis.directions,
        }
    network.take({name: np.array(value) for name, value in buffers.items()})
    stage = AcousticStage(run, settings, network, rows, token_decoder=token_decoder)
    done = train_selected(stage, folder, resume=resume, stop=stop, progress=progress)
    if not done:
        stage.finish(folder)
    best = stage.averages["acoustic"]
    assert isinstance(best, AcousticTransformer)
    save_acoustic(best, settings, folder)
    scores = {
        "held_out_error": stage.best_loss,
        "best_step": float(stage.best_step),
        "trust": stage.trust,
    }
    return TransformerEngine(best.cpu().eval()), scores, tuple(stage.curve)


def save_acoustic(network: AcousticTransformer, settings: AcousticSettings, folder: Path) -> None:
    """Keep a network in a folder, with all that is needed to open it again.

    Raises
    ------
    FileError
        If it cannot be written.
    """
    base = network.base
    places, _ = network.queries.shape
    shape = {
        "n_features": network.n_features,
        "n_chosen": len(network.chosen),
        "places": places,
        "dim": network.leave.out_features,
        "n_embedding": network.n_embedding,
        "ranks": [0, 0] if base is None or not base.rank else [base.rank, base.directions.shape[1]],
    }
    note = {"settings": json.loads(json.dumps(asdict(settings))), "shape": shape}
    tensors = {f"acoustic.{name}": value for name, value in network.state_dict().items()}
    save_tensors(folder / "acoustic.safetensors", tensors, note)


def load_acoustic(folder: Path) -> tuple[AcousticTransformer, AcousticSettings]:
    """Return the network that `save_acoustic` kept.

    Raises
    ------
    FileError
        If it is missing, damaged or of another kind.
    """
    tensors, note = load_tensors(folder / "acoustic.safetensors")
    settings = settings_from_dict(AcousticSettings, note["settings"])
    shape = {**note["shape"], "ranks": tuple(note["shape"]["ranks"])}
    network = AcousticTransformer(settings, **shape)
    load_weights(network, tensors, "acoustic")
    return network.eval(), settings


def _make(
    settings: AcousticSettings, n_features: int, n_chosen: int, ridge: AcousticRidge
) -> AcousticTransformer:
    places, dim = ridge.basis.shape
    ranks = (0, 0)
    if settings.base == "ridge":
        ranks = (ridge.weights.shape[1], ridge.basis.directions.shape[1])
    return AcousticTransformer(
        settings,
        n_features=n_features,
        n_chosen=n_chosen,
        places=places,
        dim=dim,
        n_embedding=len(ridge.weights) - n_features,
        ranks=ranks,
    )
