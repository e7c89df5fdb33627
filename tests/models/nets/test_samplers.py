from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.errors import SettingError
from models.nets.samplers import euler, heun, ping_pong, uniform_times


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


def test_jumping_asks_for_the_noise_that_it_needs() -> None:
    with pytest.raises(SettingError, match="need 2 noises"):
        ping_pong(_decay, torch.ones(1), uniform_times(3), noise=[])
    with pytest.raises(SettingError, match="at least one step"):
        uniform_times(0)
