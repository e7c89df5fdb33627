"""AudioLDM 2's denoisers: decoded AudioMAE tokens stand where GPT-2's would.

GPT-2 would write its tokens one after the other (512 of them for speech); decoded from a brain they
are there at once.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from models.nets.full.prefix import padded

__all__ = ["AudioLdm2Denoiser", "AudioLdm2SpeechDenoiser"]


class AudioLdm2Denoiser(nn.Module):
    """The full model: 8 pooled tokens, and a context of FLAN-T5 that is computed once and kept.

    The context has a fixed length and no mask: cut it to the text instead of padding it.

    Parameters
    ----------
    unet : diffusers.AudioLDM2UNet2DConditionModel
        With the contexts (none, 768, 1024).
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet: Any = unet

    def forward(self, x: Tensor, timestep: Tensor, tokens: Tensor, text: Tensor) -> Tensor:
        """Return what the network predicts.

        Parameters
        ----------
        x : Tensor of shape (batch, 8, frames, 16)
            Noisy latents; with 9 channels more where a beginning is told (`prefix.told`).
        timestep : Tensor of shape ()
            0 to 999.
        tokens : Tensor of shape (batch, 8, 768)
        text : Tensor of shape (batch, length, 1024)

        Returns
        -------
        prediction : Tensor like the noisy latents
        """
        predicted: Tensor = self.unet(
            padded(self.unet, x),
            timestep,
            encoder_hidden_states=tokens,
            encoder_hidden_states_1=text,
            return_dict=False,
        )[0]
        return predicted


class AudioLdm2SpeechDenoiser(nn.Module):
    """The speech model: 512 unpooled tokens of 10.24 s, and nothing else.

    Parameters
    ----------
    unet : diffusers.AudioLDM2UNet2DConditionModel
        With the contexts (none, 768).
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet: Any = unet

    def forward(self, x: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        """Return what the network predicts; see `AudioLdm2Denoiser`, with (batch, 512, 768)."""
        predicted: Tensor = self.unet(
            padded(self.unet, x), timestep, encoder_hidden_states=tokens, return_dict=False
        )[0]
        return predicted
