from __future__ import annotations

from typing import Any, Literal

import pytest
import torch

from calibration.finetune.convert import fold_guidance, grow, grown_generator
from models.errors import SettingError
from models.nets.full.generator import FullGenerator
from models.nets.full.published import FamilyName
from models.nets.full.sampler import as_denoiser
from models.nets.full.schedule import NoiseSchedule
from tests.models.nets.full.tiny import NAMES, noise, tiny_generator

_Target = Literal["v_prediction", "sample"]


@pytest.fixture(scope="module")
def checkpoints() -> dict[FamilyName, FullGenerator]:
    # In double precision: at the last level rounding is multiplied by 84.
    return {name: tiny_generator(name, prediction="epsilon").double() for name in NAMES}


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
@pytest.mark.parametrize("family", NAMES)
def test_a_converted_network_gives_the_same_x0_at_every_level(
    family: FamilyName, prediction: _Target, checkpoints: dict[FamilyName, FullGenerator]
) -> None:
    generator = checkpoints[family]
    grown = grow(generator, prediction)
    source = torch.Generator().manual_seed(0)
    condition = generator.random_condition(source)
    parts = [getattr(condition, name) for name in generator.family.conditions]
    x = noise(generator, 8).double()
    # The network itself is asked at a few levels; what is done with its output, at all of them.
    for timestep in (0, 1, 250, 600, 900, 999):
        level = generator.schedule.level(timestep)
        at = torch.tensor(timestep)
        with torch.no_grad():
            before = as_denoiser(
                lambda x, t: generator.denoiser(x, torch.tensor(t), *parts), generator.schedule
            )(x, level)
            said = grown(x, at, *parts, strength=torch.tensor([3.5]))
        after = level.alpha * x - level.sigma * said if prediction == "v_prediction" else said
        torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    eps = torch.randn_like(x)
    for timestep in range(1000):
        level = generator.schedule.level(timestep)
        said = grown._from_noise(x, eps, torch.tensor(timestep))
        after = level.alpha * x - level.sigma * said if prediction == "v_prediction" else said
        wanted = (x - level.sigma * eps) / level.alpha
        torch.testing.assert_close(after, wanted, rtol=1e-9, atol=1e-9)


def test_what_is_left_has_the_published_layout_and_does_what_the_new_output_did(
    checkpoints: dict[FamilyName, FullGenerator],
) -> None:
    generator = checkpoints["musicldm"]
    grown = grow(generator, "v_prediction")
    with torch.no_grad():
        grown.denoiser.unet.conv_out.weight.mul_(1.3)
        torch.nn.init.normal_(grown.denoiser.unet.time_embedding.cond_proj.weight, std=0.1)
        grown.share.fill_(0.0)
    condition = generator.random_condition(torch.Generator().manual_seed(0))
    assert condition.vector is not None
    x, at = noise(generator, 8).double(), torch.tensor(700)
    made = grown_generator(grown, generator, strength=2.5)
    with torch.no_grad():
        wanted = grown(x, at, condition.vector, strength=torch.tensor([2.5]))
        other = grown(x, at, condition.vector, strength=torch.tensor([4.0]))
        found = made.denoiser(x, at, condition.vector)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    assert float((other - wanted).abs().max()) > 1e-3
    assert made.schedule == NoiseSchedule(prediction="v_prediction")
    layout = {k: v.shape for k, v in generator.denoiser.unet.state_dict().items()}
    assert {k: v.shape for k, v in made.denoiser.unet.state_dict().items()} == layout


def test_the_old_output_must_be_gone(checkpoints: dict[FamilyName, FullGenerator]) -> None:
    with pytest.raises(SettingError, match="share of 1"):
        grow(checkpoints["musicldm"]).finished()


def test_only_predicted_noise_is_converted() -> None:
    with pytest.raises(SettingError, match="v_prediction"):
        grow(tiny_generator("musicldm"))


def test_guidance_that_is_not_heard_yet_folds_into_nothing(
    checkpoints: dict[FamilyName, FullGenerator],
) -> None:
    generator = checkpoints["audioldm2"]
    grown = grow(generator)
    before = generator.denoiser.unet.time_embedding.linear_1.bias
    grown.denoiser.unet.conv_out = generator.denoiser.unet.conv_out
    plain: Any = fold_guidance(grown.denoiser.unet, 3.5)
    torch.testing.assert_close(plain.time_embedding.linear_1.bias, before, rtol=0, atol=0)
