from __future__ import annotations

import numpy as np
import torch

from models.mel import MelSpec, log_mel
from models.nets.codec import from_log
from models.nets.stretch import random_nets
from models.nets.vocoder import HOP, N_FFT, Vocoder, _run_on, unit_phases

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
    phases = _run_on(start, turn, pull)[1][0, :, :, 0]
    angles = torch.tensor([0.0, 0.3, 0.6])
    assert torch.allclose(phases, torch.stack([angles.cos(), angles.sin()], dim=1), atol=1e-4)
    pull[0, 2, 1] = 1e4
    assert torch.allclose(
        _run_on(start, turn, pull)[1][0, 2, :, 0], torch.tensor([0.0, 1.0]), atol=1e-3
    )


def test_phases_found_elsewhere_are_sounded_and_gone_on_from() -> None:
    vocoder = random_nets("tiny", seed=3).vocoder
    mel = torch.rand(1, 9, 64, generator=torch.Generator().manual_seed(0))
    state = vocoder.initial_state()
    with torch.no_grad():
        sound, pulled, after = vocoder.traced(mel, state)
        phases = unit_phases(pulled)
        again, same, _ = vocoder.traced(mel, state, phases=phases)
        other = phases.clone()
        other[:, 4] = torch.roll(other[:, 4], 1, dims=1)  # another way in frame 4, elsewhere
        heard, moved, _ = vocoder.traced(mel, state, phases=other)
    torch.testing.assert_close(again, sound)
    torch.testing.assert_close(same, pulled)
    torch.testing.assert_close(after[-1], phases[:, -1])
    differs = (moved - pulled).abs().amax(dim=(0, 2, 3)) > 1e-3
    assert differs.tolist() == [False] * 5 + [True] + [False] * 3
    differs = (heard - sound).abs().amax(dim=(0, 2)) > 1e-6
    assert differs.tolist() == [False] * 4 + [True] * 4 + [False]


def test_gradients_stay_within_their_frame() -> None:
    turn = torch.zeros(1, 5, 3, requires_grad=True)
    pull = torch.randn(1, 5, 2, 3, generator=torch.Generator().manual_seed(0))
    _run_on(torch.zeros(1, 2, 3), turn, pull)[1][:, -1, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert turn.grad is not None
    assert float(turn.grad[:, :-1].abs().max()) == 0.0
    assert float(turn.grad[:, -1].abs().max()) > 0.0
