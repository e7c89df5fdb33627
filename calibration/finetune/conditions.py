"""The conditions of a batch: decoded, true now and then, or drawn from the decoder's error model.

Three sources, chosen for each sample: what the acoustic decoder says of the brain (trained along,
or out of fold beforehand), the truth (`p_gt`), and a draw around the truth (`error_share`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.acoustic.network import AcousticTransformer
from calibration.acoustic.ridge import fit_ridge
from calibration.acoustic.settings import AcousticSettings
from calibration.acoustic.train import acoustic_losses
from calibration.finetune.error_model import ErrorModel, fit_error_model
from calibration.finetune.settings import FinetuneSettings
from calibration.finetune.windows import BrainWindows
from models.errors import SettingError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ConditionSource", "Conditions"]


@dataclass(frozen=True, slots=True, eq=False)
class Conditions:
    """Of a batch of windows; before dropout."""

    vector: Tensor  # (batch, 512)
    tokens: Tensor  # (batch, 8 m, 768)
    losses: dict[str, Tensor]  # of the acoustic decoder, where it is trained along


class ConditionSource:
    """Gives the conditions of training windows.

    Parameters
    ----------
    windows : BrainWindows
        With tokens decoded out of fold.
    options : FinetuneSettings
    acoustic : AcousticSettings
    train : array of shape (n_train,)
        Rows that may be learnt from.
    device : torch.device
    networked : bool
        Whether an acoustic transformer is trained along.
    """

    def __init__(
        self,
        windows: BrainWindows,
        options: FinetuneSettings,
        acoustic: AcousticSettings,
        train: NDArray[np.int64],
        *,
        device: torch.device,
        networked: bool,
    ) -> None:
        if windows.decoded_tokens is None:
            raise SettingError("Decode the tokens out of fold first (decode_tokens).")
        self.windows, self.options, self.device = windows, options, device
        # The sums of squares stand beside the denoiser's loss, a mean: so are they.
        self.acoustic = replace(acoustic, perceptual_weight=0.0, mel_weight=0.0, reduction="mean")
        mean = windows.tokens[train].mean(axis=0)
        self.scale = max(float(np.sqrt(np.mean((windows.tokens[train] - mean) ** 2))), 1e-6)
        self.errors: tuple[ErrorModel, ErrorModel] | None = None
        if options.error_share:
            pairs = (
                (windows.decoded[train], windows.true[train]),
                (windows.decoded_tokens[train], windows.tokens[train]),
            )
            vector, tokens = (
                fit_error_model(said, true, rank=options.error_rank, centre=options.error_centre)
                for said, true in pairs
            )
            self.errors = vector, tokens
        self.base: NDArray[np.float32] | None = None
        if networked and acoustic.base == "ridge":
            # As when the decoder was trained: a closed form that did not see the window.
            _, held_out = fit_ridge(
                windows.features[train],
                windows.decoded[train],
                windows.tokens[train],
                np.asarray(windows.groups)[train],
                settings=acoustic,
            )
            self.base = np.zeros((len(windows.samples), held_out.shape[1]), np.float32)
            self.base[train] = held_out
        self._features = torch.from_numpy(windows.features) if networked else None

    def draw(
        self,
        rows: NDArray[np.int64],
        rng: np.random.Generator,
        network: AcousticTransformer | None,
    ) -> Conditions:
        """Return the conditions of a batch to learn from.

        Parameters
        ----------
        rows : array of shape (batch,)
        rng : numpy.random.Generator
        network : AcousticTransformer, optional
            That is trained along; else tokens are those decoded out of fold.
        """
        options, windows = self.options, self.windows
        n = len(rows)
        given = rng.uniform(size=n) < options.p_gt
        drawn = (rng.uniform(size=n) < options.error_share) & ~given
        vector, true_tokens = windows.decoded[rows].copy(), windows.tokens[rows]
        said = windows.decoded[rows].copy()  # what the acoustic decoder hears
        if options.given_true in ("embedding", "both"):
            vector[given], said[given] = windows.true[rows][given], windows.true[rows][given]
        losses: dict[str, Tensor] = {}
        if network is None:
            assert windows.decoded_tokens is not None
            tokens = self._to(windows.decoded_tokens[rows])
        else:
            tokens = self._decode(network, rows, said)
            losses = acoustic_losses(tokens, self._to(true_tokens), self.acoustic, scale=self.scale)
        if options.given_true in ("tokens", "both"):
            tokens = torch.where(self._mask(given), self._to(true_tokens), tokens)
        if self.errors is not None and drawn.any():
            of_vector, of_tokens = self.errors
            vector[drawn] = _unit(of_vector.draw(windows.true[rows[drawn]], rng))
            values = np.zeros_like(true_tokens)
            values[drawn] = of_tokens.draw(true_tokens[drawn], rng)
            tokens = torch.where(self._mask(drawn), self._to(values), tokens)
        return Conditions(self._to(vector), tokens, losses)

    @torch.no_grad()
    def decoded(self, rows: NDArray[np.int64], network: AcousticTransformer | None) -> Conditions:
        """Return the conditions of windows as they are decoded live: nothing of the truth."""
        if network is None:
            assert self.windows.decoded_tokens is not None
            tokens = self._to(self.windows.decoded_tokens[rows])
        else:
            assert self._features is not None
            features = self._features[rows].to(self.device)
            tokens = network(features, self._to(self.windows.decoded[rows]))
        return Conditions(self._to(self.windows.decoded[rows]), tokens, {})

    def _decode(
        self, network: AcousticTransformer, rows: NDArray[np.int64], said: NDArray[np.float32]
    ) -> Tensor:
        assert self._features is not None
        values = None if self.base is None else self._to(self.base[rows])
        tokens: Tensor = network(self._features[rows].to(self.device), self._to(said), values)
        return tokens

    def _mask(self, flags: NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(flags).to(self.device)[:, None, None]

    def _to(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norm = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.asarray(rows / norm, np.float32)
