from __future__ import annotations

import pytest
from torch import nn

from models.nets.encoder import AudioEncoder, CaptionEncoder
from models.nets.masked_autoencoder import MaskedAutoencoder
from models.nets.sizes import SizeName, make_codec, make_denoiser, make_vocoder


def _count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(
    ("size", "decoder", "denoiser", "vocoder"),
    [("tiny", 1_259_392, 2_809_184, 840_196), ("small", 2_203_392, 6_197_024, 3_652_356)],
)
def test_the_live_parts_have_the_stated_number_of_weights(
    size: SizeName, decoder: int, denoiser: int, vocoder: int
) -> None:
    parts = make_codec(size).decoder, make_denoiser(size), make_vocoder(size)
    assert [_count(part) for part in parts] == [decoder, denoiser, vocoder]


def test_the_encoders_stay_small() -> None:
    assert 1e6 < _count(AudioEncoder()) < 2.5e6
    assert _count(CaptionEncoder(vocabulary=300)) < 1e6
    assert _count(MaskedAutoencoder()) < 3.2e6
