"""Training of the acoustic transformer: losses of C2F-LDM, equation 1, on decoded embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.acoustic.network import AcousticTransformer
from calibration.acoustic.selection import SelectedStage
from calibration.acoustic.settings import AcousticSettings
from calibration.acoustic.token_decoder import Heard, SmallTokenDecoder
from calibration.training.loop import autocast
from calibration.training.settings import StageSettings, TrainingSettings
from models.errors import SettingError
from models.nets.codec import from_log

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AcousticRows", "AcousticStage", "acoustic_losses"]

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class AcousticRows:
    """Training windows, row by row, and which of them only select."""

    features: Array  # (n, n_features)
    decoded: Array  # (n, 512), out of fold, unit length
    true: Array | None  # (n, 512)
    tokens: Array  # (n, places, dim)
    train: NDArray[np.int64]  # rows that are trained on
    check: NDArray[np.int64]  # rows of other groups
    base: Array | None = None  # (n, r) components by a closed form that did not see the row
    mel: Array | None = None  # (n, 2 places, 64), log, of the stretches
    scale: float = field(default=1.0)  # spread of tokens about their mean


@dataclass(frozen=True, slots=True)
class _Schedule(StageSettings):
    """The schedule as every stage has it; a checkpoint holds the whole of the settings."""

    options: AcousticSettings = field(default_factory=AcousticSettings)


class AcousticStage(SelectedStage):
    """Train the acoustic transformer.

    Parameters
    ----------
    run : TrainingSettings
        Device, seed, precision.
    settings : AcousticSettings
    network : AcousticTransformer
        Its buffers filled.
    rows : AcousticRows
    token_decoder : SmallTokenDecoder, optional
        For the losses on what is heard.

    Raises
    ------
    SettingError
        If a loss or P_gt lacks what it needs.
    """

    def __init__(
        self,
        run: TrainingSettings,
        settings: AcousticSettings,
        network: AcousticTransformer,
        rows: AcousticRows,
        *,
        token_decoder: SmallTokenDecoder | None = None,
    ) -> None:
        schedule = _Schedule(
            steps=settings.steps,
            batch=settings.batch,
            rate=settings.rate,
            warmup=settings.warmup,
            average=settings.average,
            clip=settings.clip,
            options=settings,
        )
        super().__init__(
            "acoustic",
            run,
            schedule,
            check_every=settings.check_every,
            patience=settings.patience,
        )
        self.options, self.rows = settings, rows
        check_losses(settings, true=rows.true, mel=rows.mel, token_decoder=token_decoder)
        self.train_network("acoustic", network)
        self.trust = 1.0  # of what is added to the base
        self.token_decoder = token_decoder
        if token_decoder is not None:
            token_decoder.to(self.device).requires_grad_(settings.tune_token_decoder)
            if settings.tune_token_decoder:
                self.train_network("heard", token_decoder)
        self.data = {
            name: torch.from_numpy(values)
            for name in ("features", "decoded", "true", "tokens", "base", "mel")
            if (values := getattr(rows, name)) is not None
        }

    def learn(self, step: int, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Any]:
        """One step on a batch of windows."""
        options = self.options
        chosen = rng.choice(self.rows.train, self.batch)
        batch = {name: values[chosen].to(self.device) for name, values in self.data.items()}
        embedding = batch["decoded"]
        if "true" in batch and options.p_gt:
            # Drawn for each sample (section 2.1.2); never at inference.
            given = torch.from_numpy(rng.uniform(size=len(chosen)) < options.p_gt)
            embedding = torch.where(given.to(self.device)[:, None], batch["true"], embedding)
        features = batch["features"]
        network = self.networks["acoustic"]
        assert isinstance(network, AcousticTransformer)
        if options.feature_noise and not network.of_components:
            shape = (len(chosen), len(network.chosen))
            aside = torch.randn(shape, generator=noise, device=self.device) * network.spread
            features = features.index_add(1, network.chosen, options.feature_noise * aside)
        network.train()
        with autocast(self.run):
            tokens = network(features, embedding, batch.get("base"))
            losses = acoustic_losses(
                tokens.float(),
                batch["tokens"],
                options,
                scale=self.rows.scale,
                token_decoder=self.networks.get("heard", self.token_decoder),  # type: ignore[arg-type]
                mel=batch.get("mel"),
            )
        total = torch.stack(list(losses.values())).sum()
        self.update(total, *self.networks)
        return dict(losses)

    def held_out_loss(self) -> float:
        """Return the squared error over that of the mean tokens, under decoded embeddings."""
        return self.error(self.rows.check) / self.floor

    @property
    def floor(self) -> float:
        """Squared error of the mean training tokens on the windows that select."""
        mean = self.rows.tokens[self.rows.train].mean(axis=0)
        return max(float(np.mean((self.rows.tokens[self.rows.check] - mean) ** 2)), 1e-12)

    def error(self, rows: NDArray[np.int64]) -> float:
        """Return the mean squared error of the averaged network on rows."""
        network = self.averages["acoustic"]
        assert isinstance(network, AcousticTransformer)
        total = 0.0
        for first in range(0, len(rows), 64):
            part = rows[first : first + 64]
            batch = {name: values[part].to(self.device) for name, values in self.data.items()}
            made = network(batch["features"], batch["decoded"], batch.get("base"))
            total += float((made - batch["tokens"]).square().mean()) * len(part)
        return total / len(rows)

    def finish(self, out: Path) -> dict[str, float]:
        """Look once more, take the best weights, and say how far they are from the floor."""
        with torch.no_grad():
            self.check_last()
            self.take_best()
            self.trust = self._trust()
            # What was learnt beyond the base counts as far as it holds on the windows that select.
            scale = self.averages["acoustic"].get_buffer("scale")
            scale.mul_(self.trust)
            self.best = dict(self.result()) | {"acoustic.scale": scale.clone()}
            self.best_loss = self.held_out_loss()
        self.notes["curve"] = self.curve
        return {
            "held_out_error": self.best_loss,
            "best_step": float(self.best_step),
            "trust": self.trust,
        }

    def _trust(self) -> float:
        """Return by how much what is added to the base is to be multiplied, 0 to 1.

        One number by least squares; without a base there is nothing to fall back to, and it is 1.
        """
        network = self.averages["acoustic"]
        assert isinstance(network, AcousticTransformer)
        if network.base is None:
            return 1.0
        both = squares = 0.0
        for first in range(0, len(self.rows.check), 64):
            part = self.rows.check[first : first + 64]
            batch = {name: values[part].to(self.device) for name, values in self.data.items()}
            values = batch.get("base")
            below = network.base.mean if values is None else network.base.decode(values)
            more = network(batch["features"], batch["decoded"], values) - below
            both += float((more * (batch["tokens"] - below)).sum())
            squares += float(more.square().sum())
        return min(1.0, max(0.0, both / squares)) if squares > 0 else 1.0


def check_losses(
    settings: AcousticSettings,
    *,
    true: Array | None,
    mel: Array | None,
    token_decoder: SmallTokenDecoder | None,
) -> None:
    """Refuse settings that need something which is not there.

    Raises
    ------
    SettingError
        Naming it.
    """
    if settings.p_gt > 0 and true is None:
        raise SettingError(
            f"p_gt of {settings.p_gt} gives true embeddings now and then, and there are none. Pass "
            "true_embeddings, or set p_gt to 0."
        )
    hears = settings.perceptual_weight > 0 or settings.mel_weight > 0
    if hears and token_decoder is None:
        raise SettingError(
            "perceptual_weight and mel_weight need a token decoder, and there is none (AudioMAE's "
            "is not at hand). Set both to 0, or use the tokens of the embedded autoencoder."
        )
    if settings.mel_weight > 0 and settings.mel_target == "sound" and mel is None:
        raise SettingError(
            "mel_weight with mel_target 'sound' needs the mel of each stretch. Pass mel, or take "
            "mel_target 'upper'."
        )


def acoustic_losses(
    tokens: Tensor,
    true: Tensor,
    settings: AcousticSettings,
    *,
    scale: float = 1.0,
    token_decoder: SmallTokenDecoder | None = None,
    mel: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the weighted losses by name (C2F-LDM, equation 1).

    Parameters
    ----------
    tokens, true : Tensor of shape (batch, places, dim)
    settings : AcousticSettings
    scale : float
        Spread of tokens; errors of tokens are counted in it, so that losses are near 1.
    token_decoder : SmallTokenDecoder, optional
    mel : Tensor of shape (batch, 2 places, 64), optional
        Log mel of the stretch.
    """
    losses: dict[str, Tensor] = {}
    if settings.condition_weight:
        losses["condition"] = settings.condition_weight * _squares(
            (tokens - true) / scale, settings
        )
    if token_decoder is None or not (settings.perceptual_weight or settings.mel_weight):
        return losses
    heard: Heard = token_decoder(tokens)
    tuned = settings.tune_token_decoder
    with torch.set_grad_enabled(tuned and torch.is_grad_enabled()):
        upper: Heard = token_decoder(true)
    if settings.perceptual_weight:
        # The comparison moves the tokens; it must not move the features that it compares with.
        parts = [
            _squares(a.float() - b.detach().float(), settings)
            for a, b in zip(heard.layers, upper.layers, strict=True)
        ]
        losses["perceptual"] = settings.perceptual_weight * torch.stack(parts).sum()
    if settings.mel_weight:
        own, top = from_log(heard.mel), from_log(upper.mel)
        if settings.mel_target == "upper" or mel is None:
            loss = _squares(own - top.detach(), settings)
        else:
            loss = _squares(own - from_log(mel), settings)
        if tuned and mel is not None:
            loss = loss + _squares(top - from_log(mel), settings)
        losses["mel"] = settings.mel_weight * loss
    return losses


def _squares(error: Tensor, settings: AcousticSettings) -> Tensor:
    squares = error.square()
    return squares.mean() if settings.reduction == "mean" else squares.flatten(1).sum(1).mean()
