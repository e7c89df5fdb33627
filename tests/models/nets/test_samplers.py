from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.errors import SettingError
from models.nets.samplers import SAMPLERS, Sampler, euler, heun, ping_pong, uniform_times


def _decay(x: Tensor, time: float) -> Tensor:
    return -x


def test_euler_and_heun_approach_the_solution_at_their_order() -> None:
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    exact = torch.exp(torch.tensor(-1.0, dtype=torch.float64))
    for sampler, order in ((euler, 1), (heun, 2)):
        coarse, fine = (
            float((sampler(_decay, x, uniform_times(n), noise=()) - exact).abs()) for n in (20, 40)
        )
        assert coarse / fine == pytest.approx(2.0**order, rel=0.05)


def test_straight_paths_need_one_step() -> None:
    noise, sound = torch.randn(2, 3, 4), torch.randn(2, 3, 4)

    def velocity(x: Tensor, time: float) -> Tensor:
        return (sound - x) / (1.0 - time)

    for steps in (1, 3):
        fresh = [torch.randn(2, 3, 4) for _ in range(steps - 1)]
        assert torch.allclose(euler(velocity, noise, uniform_times(steps)), sound, atol=1e-5)
        jumped = ping_pong(velocity, noise, uniform_times(steps), noise=fresh)
        assert torch.allclose(jumped, sound, atol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_steps_can_be_taken_in_two_parts(sampler: Sampler) -> None:
    def velocity(x: Tensor, time: float) -> Tensor:
        return torch.sin(3.0 * x) + time

    x, fresh = torch.randn(2, 3, 4), [torch.randn(2, 3, 4) for _ in range(3)]
    times = uniform_times(4)
    for place in (0, 1, 3):
        at = sampler(velocity, x, times[: place + 1], noise=fresh[:place])
        end = sampler(velocity, at, times[place:], noise=fresh[place:])
        assert torch.allclose(end, sampler(velocity, x, times, noise=fresh), atol=1e-6)


def test_with_no_fresh_noise_jumping_follows_the_velocity() -> None:
    def velocity(x: Tensor, time: float) -> Tensor:
        return torch.sin(3.0 * x) + time

    x, fresh = torch.randn(2, 3, 4), [torch.randn(2, 3, 4) for _ in range(3)]
    times = uniform_times(4)
    jumped = ping_pong(velocity, x, times, noise=fresh, fresh=0.0)
    assert torch.allclose(jumped, euler(velocity, x, times), atol=1e-5)


def test_noise_and_fresh_noise_keep_the_variance() -> None:
    # Of a velocity that points from the noise to silence, what is gone back to is noise again.
    x, fresh = torch.randn(100_000), torch.randn(100_000)
    for share in (0.0, 0.5, 1.0):
        back = ping_pong(lambda x, time: -x, x, (0.0, 0.25), noise=[fresh], fresh=share)
        assert float(back.std()) == pytest.approx(0.75, abs=0.01)
        assert float((back * fresh).mean()) == pytest.approx(0.75 * share, abs=0.01)


def test_jumping_asks_for_the_noise_that_it_needs() -> None:
    with pytest.raises(SettingError, match="need 2 noises"):
        ping_pong(_decay, torch.ones(1), uniform_times(3), noise=[])
    with pytest.raises(SettingError, match="need 2 noises, got 4"):
        ping_pong(_decay, torch.ones(1), uniform_times(3), noise=[torch.ones(1)] * 4)
    with pytest.raises(SettingError, match="at least one step"):
        uniform_times(0)
