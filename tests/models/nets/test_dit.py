from __future__ import annotations

from typing import Any

import torch

from models.nets.dit import Denoiser, frame_tokens


def _denoiser() -> Denoiser:
    torch.manual_seed(0)
    denoiser = Denoiser(width=64, depth=2, latent=8)
    with torch.no_grad():  # the last layers start at zero, which would hide everything
        for weight in denoiser.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return denoiser


def _given(frames: int = 12) -> dict[str, Any]:
    return {
        "condition": torch.nn.functional.normalize(torch.randn(2, 512), dim=-1),
        "tokens": torch.randn(2, frames, 768),
        "clean": torch.randn(2, frames, 8),
        "known": 4,
    }


def test_what_is_noisy_at_known_frames_and_clean_at_others_does_not_matter() -> None:
    denoiser, given, x = _denoiser(), _given(), torch.randn(2, 12, 8)
    time = torch.tensor([0.2, 0.8])
    other_x, other = x.clone(), {**given, "clean": given["clean"].clone()}
    other_x[:, :4] = 5.0
    other["clean"][:, 4:] = 5.0
    with torch.no_grad():
        velocity = denoiser(x, time, **given)
        assert torch.equal(velocity, denoiser(other_x, time, **other))
    assert not velocity[:, :4].any()


def test_known_frames_see_only_each_other() -> None:
    denoiser, given, x = _denoiser(), _given(), torch.randn(2, 12, 8)
    time = torch.tensor([0.2, 0.8])
    rest = denoiser.modulated(torch.ones(2), given["condition"])
    with torch.no_grad():
        memory = denoiser.read(given["clean"][:, :4], rest, given["condition"])
        fewer = denoiser.read(given["clean"][:, :3], rest, given["condition"])
        # What is made after them stands at other moments; the memory is the same for all.
        again = denoiser.velocity(
            x[:, 4:],
            denoiser.modulated(time, given["condition"]),
            condition=given["condition"],
            tokens=given["tokens"][:, 4:],
            memory=memory,
        )
        torch.testing.assert_close(again, denoiser(x, time, **given)[:, 4:])
    # Keys of the first block are of single frames, those of later ones of all known ones.
    torch.testing.assert_close(memory[0].keys[..., :3, :], fewer[0].keys)
    assert float((memory[1].keys[..., :3, :] - fewer[1].keys).abs().max()) > 1e-4


def test_frames_to_be_made_see_known_ones_and_each_other_both_ways() -> None:
    denoiser, given, x = _denoiser(), _given(), torch.randn(2, 12, 8)
    time = torch.tensor([0.2, 0.8])
    with torch.no_grad():
        base = denoiser(x, time, **given)
        for name, place in (("clean", 0), ("clean", 3), ("x", 4), ("x", 11)):
            other = {**given, "clean": given["clean"].clone()}
            noisy = x.clone()
            (noisy if name == "x" else other["clean"])[:, place] += 1.0
            moved = (denoiser(noisy, time, **other) - base)[:, 4:].abs().amax(dim=(0, 2))
            assert float(moved.min()) > 1e-5, (name, place)


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
    times = (0.2, 0.8)
    for row in range(2):
        condition, clean = given["condition"][row], given["clean"][row, :4]
        with torch.no_grad():
            *moments, rest = denoiser.modulations(torch.tensor([*times, 1.0]), condition)
            memory = denoiser.read(clean, rest, condition)
            for time, moment in zip(times, moments, strict=True):
                alone = denoiser.velocity(
                    x[row, 4:],
                    moment,
                    condition=condition,
                    tokens=given["tokens"][row, 4:],
                    memory=memory,
                )
                both = denoiser(x, torch.full((2,), time), **given)
                torch.testing.assert_close(alone, both[row, 4:], rtol=1e-5, atol=1e-5)


def test_tokens_keep_their_time_when_they_are_put_to_frames() -> None:
    tokens = torch.arange(3.0).repeat_interleave(8).reshape(1, 24, 1).expand(1, 24, 768)
    frames = frame_tokens(tokens)
    assert frames.shape == (1, 12, 768)
    assert frames[0, :, 0].tolist() == [0.0] * 4 + [1.0] * 4 + [2.0] * 4
