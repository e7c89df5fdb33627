from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from models.errors import SettingError
from models.nets.full.sampler import LevelSampler, as_denoiser, ddim, keep_known, ping_pong
from models.nets.full.schedule import NoiseSchedule, Prediction

_SHAPE = (1, 8, 4, 16)


def _network(x: Tensor, timestep: int) -> Tensor:
    """A network of closed form, that depends on both of its inputs."""
    return torch.tanh(x * (1.0 + timestep / 1000.0)) + 0.1 * math.sin(timestep)


def _constant(value: Tensor, x: Tensor, timestep: int) -> Tensor:
    return value


def _noise(seed: int = 0) -> Tensor:
    return torch.randn(_SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("n_steps", [10, 200])
def test_leading_ddim_is_the_released_sampler(prediction: Prediction, n_steps: int) -> None:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    theirs = DDIMScheduler(
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )
    theirs.set_timesteps(n_steps)
    expected = _noise()
    for t in theirs.timesteps:
        expected = theirs.step(_network(expected, int(t)), int(t), expected).prev_sample
    schedule = NoiseSchedule(prediction=prediction)
    levels = schedule.levels(n_steps, spacing="leading")
    found = ddim(as_denoiser(_network, schedule), _noise(), levels)
    # Theirs keeps the levels in single precision, which 200 steps add up.
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("n_steps", [1, 2, 4, 50])
@pytest.mark.parametrize("sampler", [ddim, ping_pong])
def test_a_denoiser_that_knows_the_sound_gives_it_exactly(
    n_steps: int, sampler: LevelSampler
) -> None:
    clean, noises = _noise(7), [_noise(seed) for seed in range(n_steps)]
    levels = NoiseSchedule().levels(n_steps)
    found = sampler(lambda x, level: clean, noises[0], levels, noise=noises[1:])
    torch.testing.assert_close(found, clean, rtol=0, atol=0)


@pytest.mark.parametrize("timestep", [999, 500, 0])
def test_the_three_predictions_say_the_same(timestep: int) -> None:
    clean, eps = _noise(1).double(), _noise(2).double()
    level = NoiseSchedule().level(timestep)
    x = level.alpha * clean + level.sigma * eps
    said: dict[Prediction, Tensor] = {
        "epsilon": eps,
        "v_prediction": level.alpha * eps - level.sigma * clean,
        "sample": clean,
    }
    for prediction, value in said.items():
        schedule = NoiseSchedule(prediction=prediction)
        found = as_denoiser(partial(_constant, value), schedule)(x, level)
        torch.testing.assert_close(found, clean)


def test_guidance_extrapolates_from_the_unconditional_branch() -> None:
    schedule = NoiseSchedule(prediction="sample")
    denoise = as_denoiser(
        lambda x, t: torch.full_like(x, 3.0),
        schedule,
        guidance=2.5,
        unconditional=lambda x, t: torch.full_like(x, 1.0),
    )
    found = denoise(_noise(), schedule.level(500))
    torch.testing.assert_close(found, torch.full(_SHAPE, 1.0 + 2.5 * 2.0))


def test_guidance_without_an_unconditional_branch_is_refused() -> None:
    with pytest.raises(SettingError, match="unconditional"):
        as_denoiser(_network, NoiseSchedule(), guidance=2.0)


def test_too_little_noise_is_refused() -> None:
    with pytest.raises(SettingError, match="need 3 noises, got 1"):
        ping_pong(lambda x, level: x, _noise(), NoiseSchedule().levels(4), noise=[_noise()])


@pytest.mark.parametrize("n_steps", [1, 4])
def test_what_is_known_comes_out_as_it_went_in(n_steps: int) -> None:
    known, mask = _noise(3), torch.zeros(1, 1, 4, 1)
    mask[:, :, :2] = 1.0
    schedule = NoiseSchedule(prediction="sample")
    denoise = keep_known(as_denoiser(_network, schedule), known, mask)
    found = ddim(denoise, _noise(), schedule.levels(n_steps))
    torch.testing.assert_close(found[:, :, :2], known[:, :, :2], rtol=0, atol=0)
    assert not torch.allclose(found[:, :, 2:], known[:, :, 2:])
