"""Stage `codec`: mel frames to 32 numbers each 40 ms and back, and the latents of all clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.training.loop import Stage, autocast
from calibration.training.material import Material, louder, mel_batch
from calibration.training.settings import TrainingSettings
from models.nets.codec import FRAMES_PER_LATENT, Codec, from_log
from models.nets.sizes import make_codec

__all__ = ["CodecStage", "mel_correlation"]

_FRAMES = 128


class CodecStage(Stage):
    """Train the codec on clips and blends.

    Parameters
    ----------
    run : TrainingSettings
    material : Material
    """

    def __init__(self, run: TrainingSettings, material: Material) -> None:
        super().__init__("codec", run, run.codec)
        self.options = run.codec
        self.material = material
        self.train_network("codec", make_codec(run.size))

    def advance(
        self, step: int, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Any]:
        """One step: half of the stretches from clips, half from blends, at random levels."""
        half, material = self.batch // 2, self.material
        mels = []
        for store, count, n in (
            (material.clips, material.n_train, half),
            (material.blends, material.n_blends, self.batch - half),
        ):
            firsts = rng.integers(0, store.n_frames - _FRAMES + 1, n)
            mels.append(mel_batch(store, rng.integers(0, count, n), firsts, _FRAMES))
        gains = torch.from_numpy(
            rng.uniform(-1.0, 1.0, self.batch).astype(np.float32) * self.options.gain_db
        )
        mel = louder(torch.cat(mels), gains).to(self.device)
        codec = self.networks["codec"]
        assert isinstance(codec, Codec)
        with autocast(self.run):
            mean, log_variance = codec.posterior(mel)
            random = torch.randn(mean.shape, generator=noise, device=self.device)
            out = codec.scaled_mel(mean + random * torch.exp(0.5 * log_variance))
        wanted = from_log(mel)
        level = (out - wanted).abs().mean() + (out - wanted).square().mean()
        slope = sum((out.diff(dim=dim) - wanted.diff(dim=dim)).abs().mean() for dim in (1, 2))
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1).mean()
        loss = level + self.options.slope_weight * slope + self.options.kl_weight * kl
        self.update(loss, "codec")
        return {"loss": loss, "level": level, "slope": slope, "kl": kl}

    def derive(self) -> None:
        """Store the latents of all clips and of silence."""
        self._store(self._means())

    @torch.no_grad()
    def finish(self, out: Path) -> dict[str, float]:
        """Measure the latents' statistics, store the latents, score the copies."""
        codec, material = self.averages["codec"], self.material
        assert isinstance(codec, Codec)
        raw = self._means()
        known = raw[: material.n_train].reshape(-1, codec.latent)
        codec.centre.copy_(torch.from_numpy(known.mean(axis=0)))
        codec.spread.copy_(torch.from_numpy(known.std(axis=0)).clamp(min=1e-3))
        silent = torch.full((1, 256, 64), float(np.log(1e-5)), device=self.device)
        codec.silence.copy_(codec.encode(silent)[0, -1])
        self._store(raw)
        return self._scores()

    @torch.no_grad()
    def _means(self) -> NDArray[np.float32]:
        """Return the latents of all clips as they come, (clips, frames, latent)."""
        codec, material = self.averages["codec"], self.material
        assert isinstance(codec, Codec)
        frames = material.clips.n_frames
        raw = np.zeros((len(material.clips), frames // FRAMES_PER_LATENT, codec.latent), np.float32)
        for first in range(0, len(raw), 32):
            numbers = np.arange(first, min(first + 32, len(raw)))
            mel = mel_batch(material.clips, numbers, np.zeros_like(numbers), frames)
            raw[numbers] = codec.posterior(mel.to(self.device))[0].cpu().numpy()
        return raw

    def _store(self, raw: NDArray[np.float32]) -> None:
        codec, material = self.averages["codec"], self.material
        assert isinstance(codec, Codec)
        latents = material.derive("latents", raw.shape)
        latents[:] = (raw - codec.centre.cpu().numpy()) / codec.spread.cpu().numpy()
        latents.flush()
        material.derive_done("latents")
        silence = material.derive("silence", (codec.latent,))
        silence[:] = codec.silence.cpu().numpy()
        silence.flush()
        material.derive_done("silence")

    def _scores(self) -> dict[str, float]:
        codec, material = self.averages["codec"], self.material
        assert isinstance(codec, Codec)
        frames = material.clips.n_frames
        scores = {}
        for name, store, first in (
            ("clips", material.clips, material.n_train),
            ("blends", material.blends, material.n_blends),
        ):
            numbers = np.arange(first, min(first + 130, len(store)))
            mel = mel_batch(store, numbers, np.zeros_like(numbers), frames)
            copies = codec.decode(codec.encode(mel.to(self.device))).cpu()
            scores[f"{name}_mel_pcc"] = mel_correlation(mel, copies)
        return scores


def mel_correlation(a: Tensor, b: Tensor) -> float:
    """Return the mean correlation of log mel spectrograms, (sounds, frames, 64), flattened.

    Sounds of no variance (silence) are left out.
    """
    a, b = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (a, b))
    norms = a.norm(dim=1), b.norm(dim=1)
    heard = norms[0] > 1.0
    r = (a * b).sum(1) / (norms[0] * norms[1]).clamp(min=1e-6)
    return float(r[heard].mean())
