from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingError
from models.nets.full.schedule import NoiseSchedule


def test_levels_are_those_of_the_released_scheduler() -> None:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    theirs = DDIMScheduler(beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear")
    expected = np.sqrt(theirs.alphas_cumprod.double().numpy())
    np.testing.assert_allclose(NoiseSchedule().alphas(), expected, rtol=1e-4)


@pytest.mark.parametrize("n_steps", [1, 4, 50, 200])
def test_leading_timesteps_are_those_of_the_released_scheduler(n_steps: int) -> None:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    theirs = DDIMScheduler(steps_offset=1, timestep_spacing="leading")
    theirs.set_timesteps(n_steps)
    levels = NoiseSchedule().levels(n_steps, spacing="leading")
    assert [level.timestep for level in levels[:-1]] == theirs.timesteps.tolist()


@pytest.mark.parametrize("n_steps", [1, 2, 4, 10, 30])
def test_trailing_timesteps_are_those_of_diffusers(n_steps: int) -> None:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    theirs = DDIMScheduler(timestep_spacing="trailing")
    theirs.set_timesteps(n_steps)
    levels = NoiseSchedule().levels(n_steps)
    assert [level.timestep for level in levels[:-1]] == theirs.timesteps.tolist()


@pytest.mark.parametrize(("timestep", "expected"), [(999, 84.0), (900, 34.0), (600, 4.5)])
def test_errors_of_eps_are_amplified_as_documented(timestep: int, expected: float) -> None:
    assert NoiseSchedule().amplification(timestep) == pytest.approx(expected, rel=0.02)


@given(n_steps=st.integers(1, 300), strength=st.floats(0.01, 1.0))
def test_levels_fall_from_the_strength_to_none(n_steps: int, strength: float) -> None:
    levels = NoiseSchedule().levels(n_steps, strength=strength)
    sigmas = [level.sigma for level in levels]
    assert len(levels) == n_steps + 1
    assert sigmas == sorted(sigmas, reverse=True)
    assert (levels[-1].alpha, levels[-1].sigma) == (1.0, 0.0)
    assert levels[0].timestep == round(strength * 1000) - 1
    for level in levels:
        assert level.alpha**2 + level.sigma**2 == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("n_steps", "strength", "said"), [(0, 1.0, "steps"), (1001, 1.0, "steps"), (4, 0.0, "strength")]
)
def test_what_cannot_be_sampled_is_refused(n_steps: int, strength: float, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        NoiseSchedule().levels(n_steps, strength=strength)


def test_leading_spacing_with_a_strength_is_refused() -> None:
    with pytest.raises(SettingError, match="trailing"):
        NoiseSchedule().levels(10, spacing="leading", strength=0.5)
