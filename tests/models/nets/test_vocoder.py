from __future__ import annotations

import numpy as np
import torch

from models.mel import MelSpec, log_mel
from models.nets.codec import from_log
from models.nets.stretch import random_nets
from models.nets.vocoder import HOP, N_FFT, Vocoder, _run_on

_BINS = N_FFT // 2 + 1


def test_a_steady_tone_between_multiples_of_the_frame_rate_keeps_its_pitch() -> None:
    # A network of constant output: every bin turns as a tone of 437 Hz does, and is hardly pulled.
    vocoder = Vocoder(width=32, depth=1).requires_grad_(False)
    vocoder.leave.weight.zero_()
    bias = vocoder.leave.bias.zero_().view(4, _BINS)
    bias[1] = 2.0 * np.pi * 437.0 * HOP / 16_000 - vocoder.turn
    bias[2] = 1e-4
    time = np.arange(32_000) / 16_000
    mel = log_mel(0.2 * np.sin(2.0 * np.pi * 437.0 * time), MelSpec())
    sound = vocoder(from_log(torch.from_numpy(mel)[None])).flatten()[8_000:24_000]
    power = torch.fft.rfft(sound * torch.hann_window(len(sound))).abs().square()
    assert int(power.argmax()) == 437
    assert float(power[430:445].sum() / power.sum()) > 0.99


def test_a_strong_pull_sets_the_phase_and_none_lets_it_run_on() -> None:
    start = torch.zeros(1, 2, 1)
    turn = torch.full((1, 3, 1), 0.3)
    pull = torch.zeros(1, 3, 2, 1)
    pull[0, 0, 0] = 1.0
    phases = _run_on(start, turn, pull)[0, :, :, 0]
    angles = torch.tensor([0.0, 0.3, 0.6])
    assert torch.allclose(phases, torch.stack([angles.cos(), angles.sin()], dim=1), atol=1e-4)
    pull[0, 2, 1] = 1e4
    assert torch.allclose(
        _run_on(start, turn, pull)[0, 2, :, 0], torch.tensor([0.0, 1.0]), atol=1e-3
    )


def test_phases_that_go_on_from_those_found_elsewhere_are_compared_frame_by_frame() -> None:
    nets = random_nets("tiny", seed=3)
    mel = torch.rand(1, 9, 64, generator=torch.Generator().manual_seed(0))
    state = nets.vocoder.initial_state()
    with torch.no_grad():
        sound, phases, after = nets.vocoder.traced(mel, state)
        before = torch.cat([state[-1][:, None], phases[:, :-1]], dim=1)
        again, same, _ = nets.vocoder.traced(mel, state, before=before)
        before[:, 4] = torch.roll(before[:, 4], 1, dims=1)  # another way in frame 3, elsewhere
        _, others, _ = nets.vocoder.traced(mel, state, before=before)
    torch.testing.assert_close(again, sound)
    torch.testing.assert_close(same, phases)
    torch.testing.assert_close(after[-1], phases[:, -1])
    moved = (others - phases).abs().amax(dim=(0, 2, 3)) > 1e-3
    assert moved.tolist() == [False] * 4 + [True] + [False] * 4


def test_gradients_stay_within_their_frame() -> None:
    turn = torch.zeros(1, 5, 3, requires_grad=True)
    pull = torch.randn(1, 5, 2, 3, generator=torch.Generator().manual_seed(0))
    _run_on(torch.zeros(1, 2, 3), turn, pull)[:, -1, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert turn.grad is not None
    assert float(turn.grad[:, :-1].abs().max()) == 0.0
    assert float(turn.grad[:, -1].abs().max()) > 0.0
