"""Bring a checkpoint to what few steps can be taught to: v or x0 for noise, and guidance inside.

These checkpoints predict noise, whose errors are multiplied by 84 in x0 at the last level. Here a
second output is grown beside the old one. At first everything comes from the old one, so that x0 is
what it was at every level; with `share` at 0 everything comes from the new one. Once that is
taught, it is all that is kept: the network has its published layout again and predicts v or x0.

Guidance enters as a vector beside the time, as diffusers' `time_cond_proj_dim` has it, through a
layer that is zero at first. Once a strength is chosen it is folded into a bias, exactly.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.errors import SettingError
from models.nets.full.generator import FullGenerator
from models.nets.full.networks import build
from models.nets.full.published import Network
from models.nets.full.schedule import NoiseSchedule, Prediction

__all__ = [
    "GrownDenoiser",
    "check_convertible",
    "fold_guidance",
    "grow",
    "grown_generator",
    "guidance_features",
]

_GUIDANCE_WIDTH = 256


def check_convertible(prediction: Prediction) -> None:
    """Refuse a checkpoint that needs no conversion.

    Raises
    ------
    SettingError
        If it predicts something else than noise.
    """
    if prediction != "epsilon":
        raise SettingError(
            "Only a network that predicts noise is to be converted; this one predicts "
            f"{prediction}. Leave the table [full.convert] out."
        )


class GrownDenoiser(nn.Module):
    """A checkpoint's denoiser that predicts v or x0, from its old output at first.

    Called as the denoiser that it was made of, with the strength of guidance beside.

    Parameters
    ----------
    generator : FullGenerator
        That predicts noise; copied.
    prediction : {"v_prediction", "sample"}
    guided : bool
        Whether the strength of guidance is an input.
    """

    share: Tensor
    alphas: Tensor

    def __init__(
        self,
        generator: FullGenerator,
        prediction: Literal["v_prediction", "sample"],
        *,
        guided: bool,
    ) -> None:
        super().__init__()
        check_convertible(generator.schedule.prediction)
        self.prediction, self.guided = prediction, guided
        self.register_buffer("alphas", torch.from_numpy(generator.schedule.alphas()))
        self.register_buffer("share", torch.ones(()))  # of the old output
        self.denoiser: Any = copy.deepcopy(generator.denoiser)
        like = next(generator.parameters())
        unet = self.denoiser.unet
        if guided:
            unet = _with_guidance(unet).to(like)
        first = unet.conv_out
        self.channels = first.out_channels
        both = nn.Conv2d(
            first.in_channels, 2 * first.out_channels, first.kernel_size, padding=first.padding
        ).to(like)
        with torch.no_grad():
            # For v the old output is right where there is little noise; x0 is begun from nothing.
            again = first.weight if prediction == "v_prediction" else 0.0 * first.weight
            both.weight.copy_(torch.cat([first.weight, again]))
            assert both.bias is not None
            both.bias.copy_(torch.cat([first.bias, first.bias * (prediction == "v_prediction")]))
        unet.conv_out = both
        self.denoiser.unet = unet

    def forward(
        self, x: Tensor, timestep: Tensor, *parts: Tensor, strength: Tensor | None = None
    ) -> Tensor:
        """Return v or x0.

        Parameters
        ----------
        x : Tensor of shape (batch, 8, frames, 16)
            With 9 channels more where a beginning is told (`models.nets.full.prefix`).
        timestep : Tensor of shape () or (batch,)
        *parts : Tensor
            As the family's denoiser takes them.
        strength : Tensor of shape (batch,), optional
            Of guidance; 1 if not given.
        """
        with _guidance(self.denoiser.unet, strength, len(x), like=x, on=self.guided):
            both: Tensor = self.denoiser(x, timestep, *parts)
        eps, own = both.chunk(2, dim=1)
        if float(self.share) == 0.0:  # 84 times what is not asked for is still no 0 in bfloat16
            return own
        old = self._from_noise(x[:, : self.channels], eps, timestep)
        made: Tensor = self.share * old + (1.0 - self.share) * own
        return made

    def _from_noise(self, x: Tensor, eps: Tensor, timestep: Tensor) -> Tensor:
        """Return what is predicted, of the old output: x0 = (x - sigma eps) / alpha and so on."""
        alpha = self.alphas[timestep].reshape(-1, 1, 1, 1)
        sigma = (1.0 - alpha.square()).sqrt()
        if self.prediction == "sample":
            converted = (x - sigma * eps) / alpha
        else:  # v = alpha eps - sigma x0 = (eps - sigma x) / alpha, since the squares sum to 1
            converted = (eps - sigma * x) / alpha
        made: Tensor = converted.to(x.dtype)
        return made

    @torch.no_grad()
    def finished(self) -> nn.Module:
        """Return the family's denoiser with the new output alone.

        Raises
        ------
        SettingError
            If the old output still has a share.
        """
        if float(self.share) != 0.0:
            raise SettingError(
                f"The old output still has a share of {float(self.share):g}. Train until it is 0."
            )
        whole = copy.deepcopy(self.denoiser)
        both = whole.unet.conv_out
        last = nn.Conv2d(
            both.in_channels, self.channels, both.kernel_size, padding=both.padding
        ).to(both.weight)
        last.weight.copy_(both.weight[self.channels :])
        assert last.bias is not None
        last.bias.copy_(both.bias[self.channels :])
        whole.unet.conv_out = last
        done: nn.Module = whole
        return done


def grow(
    generator: FullGenerator,
    prediction: Literal["v_prediction", "sample"] = "v_prediction",
    *,
    guided: bool = True,
) -> GrownDenoiser:
    """Return a denoiser that predicts v or x0 and gives the x0 of the checkpoint at every level.

    Parameters
    ----------
    generator : FullGenerator
        That predicts noise; it stays as it is, as the teacher.
    prediction : {"v_prediction", "sample"}
    guided : bool
        Let the strength of guidance be an input; it changes nothing at first.

    Raises
    ------
    SettingError
        If the checkpoint predicts something else than noise.
    """
    return GrownDenoiser(generator, prediction, guided=guided)


def grown_generator(
    grown: GrownDenoiser, generator: FullGenerator, *, strength: float | None = None
) -> FullGenerator:
    """Return a generator of the published layout from a grown denoiser that is trained.

    Parameters
    ----------
    grown : GrownDenoiser
        Its old output without a share.
    generator : FullGenerator
        That it was grown from: mel decoder, vocoder and levels.
    strength : float, optional
        Of guidance, folded in; needed where the denoiser was made with it.

    Raises
    ------
    SettingError
        If the old output still has a share, or the strength is missing.
    """
    denoiser: Any = grown.finished()
    if grown.guided:
        if strength is None:
            raise SettingError("Say with which strength of guidance the generator is to work.")
        denoiser.unet = fold_guidance(denoiser.unet, strength)
    schedule: NoiseSchedule = replace(generator.schedule, prediction=grown.prediction)
    return generator.with_unet(denoiser.unet, schedule=schedule)


def guidance_features(strength: Tensor, width: int = _GUIDANCE_WIDTH) -> Tensor:
    """Return sines and cosines of 1,000 times the strength (arXiv:2310.04378): (batch, width)."""
    half = width // 2
    rates = torch.exp(
        -torch.log(torch.tensor(10_000.0, dtype=torch.float64))
        * torch.arange(half, dtype=torch.float64)
        / (half - 1)
    ).to(strength.device)
    angle = 1_000.0 * strength.double().unsqueeze(-1) * rates
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)


@torch.no_grad()
def fold_guidance(unet: nn.Module, strength: float) -> nn.Module:
    """Return a UNet without the input for guidance, working at one strength: exactly the same.

    Its features pass a linear layer and are added before a linear layer; so they add to a bias.

    Parameters
    ----------
    unet : Module
        With `time_cond_proj_dim`.
    strength : float
    """
    whole: Any = unet
    width = int(whole.config.time_cond_proj_dim)
    embedding = whole.time_embedding
    weight = embedding.linear_1.weight
    features = guidance_features(torch.tensor([strength], device=weight.device), width)
    added = embedding.cond_proj.weight.double() @ features[0]
    plain: Any = _rebuilt(whole, time_cond_proj_dim=None).to(weight)
    state = {
        name: value
        for name, value in whole.state_dict().items()
        if name != "time_embedding.cond_proj.weight"
    }
    bias = "time_embedding.linear_1.bias"
    state[bias] = state[bias] + (weight.double() @ added).to(state[bias])
    plain.load_state_dict(state)
    folded: nn.Module = plain
    return folded


def _with_guidance(unet: Any) -> Any:
    """Return a UNet with the input for guidance, which is not heard yet."""
    more: Any = _rebuilt(unet, time_cond_proj_dim=_GUIDANCE_WIDTH)
    state = dict(unet.state_dict())
    name = "time_embedding.cond_proj.weight"
    state[name] = torch.zeros_like(more.state_dict()[name])
    more.load_state_dict(state)
    return more


def _rebuilt(unet: Any, **changes: Any) -> nn.Module:
    """Return a network of the same class with some entries of its configuration changed."""
    config = {key: value for key, value in dict(unet.config).items() if not key.startswith("_")}
    return build(Network(type(unet).__name__, {**config, **changes}))


class _guidance:
    """Hands the strength to the time embedding, which the families' denoisers do not pass on."""

    def __init__(
        self, unet: Any, strength: Tensor | None, batch: int, *, like: Tensor, on: bool
    ) -> None:
        self._unet, self._on = unet, on
        if on:
            given = torch.ones(batch, device=like.device) if strength is None else strength
            width = int(unet.config.time_cond_proj_dim)
            self._features = guidance_features(given.expand(batch), width).to(like)

    def __enter__(self) -> None:
        if not self._on:
            return

        def pass_on(
            _module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return (given[0], self._features), {}

        self._hook = self._unet.time_embedding.register_forward_pre_hook(pass_on, with_kwargs=True)

    def __exit__(self, *_: object) -> None:
        if self._on:
            self._hook.remove()
