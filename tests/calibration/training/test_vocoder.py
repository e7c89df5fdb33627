"""What the vocoder is trained towards, against SciPy and against what each part must tell apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import stft

from calibration.training.vocoder import batch_log_mel, spectral_losses, turn_loss
from models.mel import MelSpec, log_mel
from models.nets.vocoder import AHEAD, HOP, N_FFT

_BEFORE = 12  # frames that come before a stretch


def _sounds(n: int, seed: int, samples: int = 100 * HOP) -> torch.Tensor:
    """Return bursts of tones in noise, (n, samples)."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 16_000
    tones = np.sin(2 * np.pi * rng.uniform(100, 3000, (n, 1)) * time) * (time > 0.2)
    return torch.from_numpy(0.1 * tones + 0.01 * rng.standard_normal((n, samples))).float()


def test_the_mel_of_a_batch_is_the_front_ends() -> None:
    sounds = _sounds(3, 0)
    found = batch_log_mel(sounds)
    assert found.shape == (3, 100, 64)
    for sound, mel in zip(sounds, found, strict=True):
        torch.testing.assert_close(
            mel, torch.from_numpy(log_mel(sound.numpy(), MelSpec())[:100]), atol=2e-3, rtol=0
        )


def test_a_louder_sound_is_as_far_as_its_gain_says() -> None:
    sounds = _sounds(2, 1)
    assert float(spectral_losses(sounds, sounds, 1.0)[0]) == pytest.approx(0.0, abs=1e-6)
    stft_loss, phase_loss = spectral_losses(3.0 * sounds, sounds, 1.0)
    # Convergence |3 b - b| / |b| and logarithm of 3; a few quiet bins lie under the floor.
    assert float(stft_loss) == pytest.approx(2.0 + np.log(3.0), rel=0.01)
    assert float(phase_loss) == pytest.approx(0.0, abs=0.02)  # quiet bins hardly count


def test_phase_is_free_but_its_steps_are_not() -> None:
    sounds = _sounds(2, 2)
    same, turned = (spectral_losses(each, sounds, 1.0) for each in (sounds, -sounds))
    assert float(turned[1]) == pytest.approx(float(same[1]), abs=1e-6)
    assert float(same[1]) < 0.05  # of quiet bins a phase is little more than rounding
    one, other = torch.randn(2, 2, 100 * HOP, generator=torch.Generator().manual_seed(0))
    # Angles that have nothing to do with each other; 2 if neighbours did not share their samples.
    assert 1.0 < float(spectral_losses(one, other, 1.0)[1]) < 2.0
    assert float(spectral_losses(one, other, 0.0)[1]) == 0.0


def test_turns_are_those_between_frames_of_the_sound() -> None:
    sound = _sounds(1, 3)
    *_, spectrum = stft(
        sound[0].numpy(), nperseg=N_FFT, noverlap=N_FFT - HOP, boundary="even", padded=False
    )
    angles = np.angle(spectrum.T[:100])  # (frames, 321)
    frames = len(angles)
    true = np.zeros((1, frames, angles.shape[1]), np.float32)
    # As late as the vocoder gives them: frame m comes when m + AHEAD is known.
    true[0, 1 + AHEAD :] = np.diff(angles, axis=0)[: frames - 1 - AHEAD]
    turns = torch.from_numpy(true)
    assert float(turn_loss(turns, sound)) == pytest.approx(0.0, abs=0.02)
    assert float(turn_loss(turns + torch.pi, sound)) == pytest.approx(2.0, abs=0.02)
    before = turns.clone()
    before[:, : _BEFORE + AHEAD + 1] = 1.0  # of what comes before a stretch nothing is asked
    assert float(turn_loss(before, sound)) == pytest.approx(float(turn_loss(turns, sound)))


def test_gradients_of_silence_are_finite() -> None:
    made = torch.zeros(1, 100 * HOP, requires_grad=True)
    stft_loss, phase_loss = spectral_losses(made, _sounds(1, 4), 1.0)
    (stft_loss + phase_loss + batch_log_mel(made).mean()).backward()  # type: ignore[no-untyped-call]
    assert made.grad is not None
    assert bool(torch.isfinite(made.grad).all())
