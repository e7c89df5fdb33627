from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.errors import SettingError
from models.nets.samplers import (
    SAMPLERS,
    Sampler,
    euler,
    heun,
    ping_pong,
    secant_moment,
    secants,
    uniform_times,
)


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


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_steps_on_secants_end_where_the_path_ends(steps: int) -> None:
    # x(t) = noise (1 + t^3): the secant of a piece is known, its beginning's velocity is another.
    noise = torch.randn(2, 3, 4)
    pieces = {1: {-3.0: (0.0, 1.0)}, 2: {-1.0: (0.0, 0.5), -0.5: (0.5, 1.0)}}.get(
        steps, {i / 4: (i / 4, (i + 1) / 4) for i in range(4)}
    )

    def velocity(x: Tensor, time: float) -> Tensor:
        now, then = pieces[time]
        return noise * (then**3 - now**3) / (then - now)

    made = secants(velocity, noise, uniform_times(steps))
    torch.testing.assert_close(made, 2.0 * noise)


def test_moments_of_secants_tell_beginning_and_length_apart() -> None:
    pieces = [(i / n, (i + 1) / n) for n in (1, 2, 4) for i in range(n)]
    moments = [secant_moment(*piece) for piece in pieces]
    assert len(set(moments)) == len(pieces)
    now, then = torch.tensor(pieces).unbind(-1)
    torch.testing.assert_close(secant_moment(now, then), torch.tensor(moments))
    # A short piece is asked for where it begins, others as the nearest length that is known.
    assert secant_moment(0.4, 0.5) == pytest.approx(0.4)
    assert secant_moment(1 / 3, 2 / 3) == pytest.approx(1 / 3)
    assert secant_moment(0.0, 0.7) == pytest.approx(-1.0)


def test_jumping_asks_for_the_noise_that_it_needs() -> None:
    with pytest.raises(SettingError, match="need 2 noises"):
        ping_pong(_decay, torch.ones(1), uniform_times(3), noise=[])
    with pytest.raises(SettingError, match="need 2 noises, got 4"):
        ping_pong(_decay, torch.ones(1), uniform_times(3), noise=[torch.ones(1)] * 4)
    with pytest.raises(SettingError, match="at least one step"):
        uniform_times(0)
