"""Stage `tokens`: the masked autoencoder, and the tokens of all windows of the clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.training.codec import mel_correlation
from calibration.training.loop import Stage, autocast
from calibration.training.material import WINDOW, WINDOW_STARTS, Material, mel_batch
from calibration.training.settings import TrainingSettings
from models.nets.codec import from_log
from models.nets.dit import BANDS, TOKEN_DIM
from models.nets.masked_autoencoder import PATCH_FRAMES, MaskedAutoencoder, patches

__all__ = ["TokensStage"]

_STEPS = WINDOW // PATCH_FRAMES  # time steps of a window


class TokensStage(Stage):
    """Train the masked autoencoder on windows of 2.56 s.

    Parameters
    ----------
    run : TrainingSettings
    material : Material
    """

    def __init__(self, run: TrainingSettings, material: Material) -> None:
        super().__init__("tokens", run, run.tokens)
        self.options = run.tokens
        self.material = material
        self.train_network("autoencoder", MaskedAutoencoder())

    def advance(
        self, step: int, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Any]:
        """One step: fill in the hidden patches, or carry all of them through the tokens."""
        n, store = self.batch, self.material.clips
        numbers = rng.integers(0, self.material.n_train, n)
        mel = mel_batch(store, numbers, rng.integers(0, store.n_frames - WINDOW + 1, n), WINDOW)
        mel = mel.to(self.device)
        count = _STEPS * BANDS
        whole = bool(rng.uniform() < self.options.whole)
        keep = count if whole else max(1, round(count * self.options.seen))
        order = torch.rand(n, count, generator=noise, device=self.device).argsort(dim=1)
        seen = order[:, :keep]
        net = self.networks["autoencoder"]
        assert isinstance(net, MaskedAutoencoder)
        with autocast(self.run):
            filled = net.decode_seen(net.encode_seen(mel, seen), seen, count).float()
        error = (filled - patches(from_log(mel))).square().mean(-1)  # (batch, patches)
        hidden = torch.ones_like(error)
        if not whole:
            hidden.scatter_(1, seen, 0.0)
        loss = (error * hidden).sum() / hidden.sum()
        self.update(loss, "autoencoder")
        return {"whole" if whole else "hidden": loss}

    @torch.no_grad()
    def derive(self) -> None:
        """Store the tokens of all windows, averaged over bands as the denoiser takes them."""
        net, material = self.averages["autoencoder"], self.material
        assert isinstance(net, MaskedAutoencoder)
        shape = (len(material.clips), len(WINDOW_STARTS), _STEPS, TOKEN_DIM)
        tokens = material.derive("tokens", shape)
        for number in range(len(material.clips)):
            whole = material.clips.mel(number, 0, material.clips.n_frames)
            windows = np.stack([whole[first : first + WINDOW] for first in WINDOW_STARTS])
            made = net(torch.from_numpy(windows).to(self.device))
            tokens[number] = made.unflatten(1, (_STEPS, BANDS)).mean(2).cpu().numpy()
        tokens.flush()
        material.derive_done("tokens")

    @torch.no_grad()
    def finish(self, out: Path) -> dict[str, float]:
        """Store the tokens of all windows; score the copies."""
        self.derive()
        net, material = self.averages["autoencoder"], self.material
        assert isinstance(net, MaskedAutoencoder)
        numbers = np.arange(material.n_train, min(material.n_train + 130, len(material.clips)))
        mel = mel_batch(material.clips, numbers, np.full(len(numbers), 128), WINDOW)
        copies = net.decode(net(mel.to(self.device))).cpu()
        return {"copy_mel_pcc": mel_correlation(mel, copies)}
