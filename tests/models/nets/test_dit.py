from __future__ import annotations

import torch

from models.nets.dit import Denoiser, frame_tokens


def _denoiser() -> Denoiser:
    torch.manual_seed(0)
    denoiser = Denoiser(width=64, depth=2, latent=8)
    with torch.no_grad():  # the last layers start at zero, which would hide everything
        for weight in denoiser.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return denoiser


def _given(frames: int = 12) -> dict[str, torch.Tensor]:
    known = torch.zeros(2, frames)
    known[:, :4] = 1.0
    return {
        "condition": torch.nn.functional.normalize(torch.randn(2, 512), dim=-1),
        "tokens": torch.randn(2, frames, 768),
        "clean": torch.randn(2, frames, 8),
        "known": known,
    }


def test_what_is_noisy_at_known_frames_and_clean_at_others_does_not_matter() -> None:
    denoiser, given, x = _denoiser(), _given(), torch.randn(2, 12, 8)
    time = torch.tensor([0.2, 0.8])
    other_x, other = x.clone(), {**given, "clean": given["clean"].clone()}
    other_x[:, :4] = 5.0
    other["clean"][:, 4:] = 5.0
    with torch.no_grad():
        assert torch.equal(denoiser(x, time, **given), denoiser(other_x, time, **other))


def test_condition_tokens_prefix_and_time_all_act() -> None:
    denoiser, given, x = _denoiser(), _given(), torch.randn(2, 12, 8)
    time = torch.tensor([0.2, 0.8])
    with torch.no_grad():
        base = denoiser(x, time, **given)
        for name in ("condition", "tokens", "clean"):
            changed = denoiser(x, time, **{**given, name: torch.zeros_like(given[name])})
            assert float((changed - base)[:, 4:].abs().max()) > 1e-3, name
        assert float((denoiser(x, time + 0.1, **given) - base).abs().max()) > 1e-3


def test_one_window_without_the_axis_of_the_batch_is_a_row_of_a_batch() -> None:
    denoiser, given, x = _denoiser(), _given(), torch.randn(2, 12, 8)
    time = torch.tensor([0.2, 0.8])
    with torch.no_grad():
        both = denoiser(x, time, **given)
        for row in range(2):
            alone = {name: value[row] for name, value in given.items()}
            torch.testing.assert_close(
                denoiser(x[row], time[row], **alone), both[row], rtol=1e-5, atol=1e-5
            )


def test_tokens_keep_their_time_when_they_are_put_to_frames() -> None:
    tokens = torch.arange(3.0).repeat_interleave(8).reshape(1, 24, 1).expand(1, 24, 768)
    frames = frame_tokens(tokens)
    assert frames.shape == (1, 12, 768)
    assert frames[0, :, 0].tolist() == [0.0] * 4 + [1.0] * 4 + [2.0] * 4
