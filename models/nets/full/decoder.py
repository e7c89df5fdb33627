"""Latents to log mel to sound: the released autoencoder and HiFi-GAN, each behind one call."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["HOP", "MEL_PER_LATENT", "MelDecoder", "MelVocoder"]

HOP = 160  # samples of a mel frame
MEL_PER_LATENT = 4


class MelDecoder(nn.Module):
    """The decoding half of an `AutoencoderKL`: 33.0 M parameters of the 55.4 M.

    Its convolutions reach 17 latent frames (0.68 s) to either side, and its norms and attention see
    the whole stretch: what is decoded in pieces differs from what is decoded at once.

    Parameters
    ----------
    vae : diffusers.AutoencoderKL
    """

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae: Any = vae
        config: Any = vae.config
        self.scale = 1.0 / float(config.scaling_factor)

    def forward(self, latents: Tensor) -> Tensor:
        """Return the log mel of latents: (batch, 8, frames, 16) to (batch, 4 frames, 64)."""
        mel: Tensor = self.vae.decode(self.scale * latents, return_dict=False)[0]
        return mel[:, 0]

    def encode(self, mel: Tensor) -> Tensor:
        """Return the latents of a log mel, the mean of their distribution; nothing is drawn.

        Parameters
        ----------
        mel : Tensor of shape (batch, 4 frames, 64)
            By `models.frontends.audioldm`.

        Returns
        -------
        latents : Tensor of shape (batch, 8, frames, 16)
        """
        mean: Tensor = self.vae.encode(mel[:, None], return_dict=False)[0].mode()
        return mean / self.scale


class MelVocoder(nn.Module):
    """A `SpeechT5HifiGan` that gives exactly 160 samples a frame.

    The released one has kernels of odd surplus and gives 32 samples more, which are cut off.

    Parameters
    ----------
    vocoder : transformers.SpeechT5HifiGan
    """

    def __init__(self, vocoder: nn.Module) -> None:
        super().__init__()
        self.vocoder: Any = vocoder

    def forward(self, mel: Tensor) -> Tensor:
        """Return the sound of a log mel: (batch, frames, 64) to (batch, 160 frames), 16 kHz."""
        sound: Tensor = self.vocoder(mel)
        return sound[:, : HOP * mel.shape[1]]
