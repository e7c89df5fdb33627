"""MusicLDM's denoiser: a vector of 512 (CLAP's audio branch, unit length) in place of a text."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from models.nets.full.prefix import padded

__all__ = ["MusicLdmDenoiser"]


class MusicLdmDenoiser(nn.Module):
    """A `UNet2DConditionModel` whose class labels are the vector; it has no other context.

    Trained on embeddings of sound; those of text lie elsewhere on the sphere, so the vector is to
    be decoded, or mapped, to the audio branch.

    Parameters
    ----------
    unet : diffusers.UNet2DConditionModel
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet: Any = unet

    def forward(self, x: Tensor, timestep: Tensor, vector: Tensor) -> Tensor:
        """Return what the network predicts.

        Parameters
        ----------
        x : Tensor of shape (batch, 8, frames, 16)
            Noisy latents; with 9 channels more where a beginning is told (`prefix.told`).
        timestep : Tensor of shape ()
            0 to 999.
        vector : Tensor of shape (batch, 512)

        Returns
        -------
        prediction : Tensor like the noisy latents
        """
        predicted: Tensor = self.unet(
            padded(self.unet, x),
            timestep,
            encoder_hidden_states=None,
            class_labels=vector,
            return_dict=False,
        )[0]
        return predicted
