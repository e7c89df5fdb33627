"""What tells real sound from made sound while the vocoder learns: by spectra and by periods.

Small forms of the multi-resolution (UnivNet, arXiv:2106.07889, section 2.2) and multi-period
(HiFi-GAN, arXiv:2010.05646, section 2.3) discriminators. Training only; nothing of it is exported.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SoundDiscriminator"]

_SIZES = (256, 512, 1024)
_PERIODS = (2, 3, 5, 7, 11)
_SLOPE = 0.1


class SoundDiscriminator(nn.Module):
    """Judge sounds at three spectral resolutions and five periods.

    Parameters
    ----------
    channels : int
        Of the first layers; the last have two or four times as many.
    """

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.spectral = nn.ModuleList(_Spectral(size, channels) for size in _SIZES)
        self.periodic = nn.ModuleList(_Periodic(period, channels) for period in _PERIODS)

    def forward(self, sound: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the judgements and the features before them of sounds (batch, samples)."""
        judgements, features = [], []
        for part in (*self.spectral, *self.periodic):
            judgement, before = part(sound)
            judgements.append(judgement)
            features += before
        return judgements, features


class _Spectral(nn.Module):
    """Convolutions over the compressed magnitudes of one STFT."""

    window: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        c = channels
        shapes = [(1, c, (2, 1)), (c, c, (2, 1)), (c, 2 * c, (2, 2)), (2 * c, 2 * c, (2, 1))]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, (5, 3), stride=stride, padding=(2, 1)) for a, b, stride in shapes
        )
        self.last = nn.Conv2d(2 * c, 1, 3, padding=1)

    def forward(self, sound: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the judgement, a map, and the features of each layer."""
        spectrum = torch.stft(
            sound.float(), self.size, self.size // 4, window=self.window, return_complex=True
        )
        # The cube root makes quiet parts count, and has a finite slope here.
        h = (spectrum.abs().square() + 1e-6).pow(1.0 / 6.0).unsqueeze(1)
        features = []
        for layer in self.layers:
            h = functional.leaky_relu(layer(h), _SLOPE)
            features.append(h)
        return self.last(h), features


class _Periodic(nn.Module):
    """Convolutions over every p-th sample, side by side."""

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        c = channels
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, (5, 1), stride=(3, 1), padding=(2, 0))
            for a, b in ((1, c), (c, 2 * c), (2 * c, 4 * c), (4 * c, 4 * c))
        )
        self.last = nn.Conv2d(4 * c, 1, (3, 1), padding=(1, 0))

    def forward(self, sound: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the judgement, a map, and the features of each layer."""
        n = sound.shape[1] - sound.shape[1] % self.period
        h = sound[:, :n].reshape(len(sound), 1, -1, self.period)
        features = []
        for layer in self.layers:
            h = functional.leaky_relu(layer(h), _SLOPE)
            features.append(h)
        return self.last(h), features
