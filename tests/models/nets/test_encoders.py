from __future__ import annotations

import numpy as np
import pytest
import torch

from models.nets.codec import from_log, to_log
from models.nets.encoder import AudioEncoder, CaptionEncoder, caption_words, word_ids
from models.nets.masked_autoencoder import MaskedAutoencoder, patches, unpatched


def _mel(frames: int) -> torch.Tensor:
    return torch.rand(2, frames, 64, generator=torch.Generator().manual_seed(0)) * 12.0 - 11.0


@pytest.mark.parametrize("frames", [32, 128, 333])
def test_sounds_of_any_length_become_unit_vectors(frames: int) -> None:
    vectors = AudioEncoder()(_mel(frames))
    assert vectors.shape == (2, 512)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(2), atol=1e-5)


def test_numbers_in_captions_are_steps_of_a_quarter_octave() -> None:
    assert caption_words("440 Hz") == caption_words("450 Hz") == ["#35", "hz"]
    assert caption_words("880 Hz")[0] == "#39"


def test_an_unknown_caption_gives_a_finite_vector() -> None:
    ids = word_ids(["a flute", "xyzzy"], ["a", "flute"])
    assert ids[0, :3].tolist() == [1, 2, 0]
    vectors = CaptionEncoder(vocabulary=2)(ids)
    assert bool(torch.isfinite(vectors).all())
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(2), atol=1e-5)


def test_tokens_have_the_shape_of_audiomae_and_unit_level() -> None:
    tokens = MaskedAutoencoder()(_mel(256))
    assert tokens.shape == (2, 128, 768)
    assert torch.allclose(tokens.square().mean(-1), torch.ones(2, 128), atol=1e-4)


def test_patches_are_in_order_of_time_then_band_and_can_be_put_back() -> None:
    mel = _mel(48)
    cut = patches(mel)
    assert cut.shape == (2, 24, 128)
    assert torch.equal(cut[0, 9], mel[0, 16:32, 8:16].reshape(-1))
    assert torch.equal(unpatched(cut), mel)


def test_the_scale_of_the_networks_puts_silence_at_zero() -> None:
    mel = torch.tensor([float(np.log(1e-5)), 0.0])
    assert abs(float(from_log(mel)[0])) < 1e-6
    assert torch.allclose(to_log(from_log(mel)), mel, atol=1e-5)
    assert torch.equal(to_log(torch.tensor([-1.0])), mel[:1])
