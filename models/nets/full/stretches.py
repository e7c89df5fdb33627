"""One stretch of a full-size checkpoint as one graph of tensors, and a generator around it.

The same inputs and outputs as the small generator's graphs, so that one runtime serves both. The
window is the latents that were heard last and those of the stretch; the known ones are kept at
every step, all are decoded together, and the sound is joined by a short fade
(`FullGenerator.stretch`). A checkpoint that learnt to go on from a clean beginning is told the
known ones as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import SettingError
from models.nets.full.decoder import HOP, MEL_PER_LATENT
from models.nets.full.generator import FullGenerator
from models.nets.full.prefix import told
from models.nets.full.sampler import LevelSampler, as_denoiser, ddim, keep_known, ping_pong
from models.nets.full.schedule import Level
from models.nets.graph_generator import GraphGenerator
from models.stretch import CONDITION_DIM, TOKEN_DIM, GeneratorSpec

__all__ = ["STRETCHES", "FullStretchGraph", "FullTorchGenerator", "full_spec"]

STRETCHES = (8, 16, 32)  # .32, .64 and 1.28 s: these networks halve time three times
PREFIX = 32
PROBES = ("velocity", "made", "mel")
FADE = 320  # samples over which a stretch is blended into the next
_FLOOR = math.log(1e-5)
_TOKENS = {"audioldm2": 8, "audioldm2-speech": 512}


def full_spec(
    generator: FullGenerator,
    name: str,
    *,
    steps: int,
    stretches: Sequence[int] = STRETCHES,
    prefix: int = PREFIX,
    fade: int = FADE,
) -> GeneratorSpec:
    """Return what a full-size generator is.

    Parameters
    ----------
    generator : FullGenerator
    name : str
        Of the checkpoint.
    steps : int
    stretches : sequence of int
        Lengths, latent frames of 40 ms.
    prefix : int
        Latent frames that each stretch sees of what came before.
    fade : int
        Samples; the sound is late by them.

    Raises
    ------
    SettingError
        If the network cannot work on a length, or the fade does not fit.
    """
    for n_frames in stretches:
        generator.latent_shape(prefix + n_frames)
    if not 1 <= fade <= prefix * MEL_PER_LATENT * HOP:
        raise SettingError(
            f"A fade has 1 to {prefix * MEL_PER_LATENT * HOP} samples, those of the prefix, got "
            f"{fade}."
        )
    conditions = tuple(part for part in generator.family.conditions if part != "text")
    return GeneratorSpec(
        family=generator.family.name,
        size=name,
        steps=steps,
        stretches=tuple(stretches),
        held=0,
        conditions=cast(Any, conditions),
        startable=True,
        latent=(generator.channels, generator.bands),
        delay_samples=fade,
    )


class FullStretchGraph(nn.Module):
    """Condition, noise and state to sound and the state after it; everything else is fixed.

    Inputs, float32, batch 1: the parts of the condition; `noise` (draws, 1, 8, window, 16);
    `start` (1, n, 8, 16); `times` (steps + 1,), rising to 1: the share of the schedule that is
    behind; the state `latents` (1, 8, prefix, 16), `known` (1, prefix) and `tail` (1, fade).

    Parameters
    ----------
    generator : FullGenerator
    n_frames, prefix : int
        Latent frames of the stretch and before it.
    steps : int
    fade : int
        Samples.
    sampler : {"ddim", "ping_pong"}
        The second for checkpoints that were taught to jump.
    text_shape : tuple of int
        Length and width of the text context, where the family has one.
    probes : bool
        Give what stands between the stages too, as `probe.*`: what is predicted first, the latents
        of the window, and their mel frames.
    """

    def __init__(
        self,
        generator: FullGenerator,
        *,
        n_frames: int,
        steps: int,
        prefix: int = PREFIX,
        fade: int = FADE,
        sampler: str = "ddim",
        text_shape: tuple[int, ...] = (1, 1024),
        probes: bool = False,
    ) -> None:
        super().__init__()
        if sampler not in ("ddim", "ping_pong"):
            raise SettingError(f"Expected the sampler ddim or ping_pong, got {sampler!r}.")
        self.generator = generator
        self.n_frames, self.steps, self.prefix, self.fade = n_frames, steps, prefix, fade
        self.text_shape, self.probes = text_shape, probes
        self._sampler: LevelSampler = ddim if sampler == "ddim" else ping_pong
        draws = steps if sampler == "ping_pong" else 1
        self.noise_shape: tuple[int, ...] = (draws, *generator.latent_shape(prefix + n_frames))
        self.parts = list(generator.family.conditions)
        self.state_names = ["latents", "known", "tail"]
        self.input_names = [
            *self.parts,
            *("noise", "start", "times"),
            *(f"state.{name}" for name in self.state_names),
        ]
        between = [f"probe.{name}" for name in PROBES] if probes else []
        self.output_names = ["sound", *(f"next.{name}" for name in self.state_names), *between]
        alphas = torch.from_numpy(generator.schedule.alphas())
        self.register_buffer("alphas", alphas.float(), persistent=False)
        self.register_buffer("sigmas", (1.0 - alphas.square()).sqrt().float(), persistent=False)
        self.alphas: Tensor
        self.sigmas: Tensor
        # Both ends of a join are the sound of the same latents: their shares add up to 1.
        rise = torch.sin(torch.linspace(0.0, torch.pi / 2, fade)) ** 2
        self.register_buffer("rise", rise, persistent=False)
        self.rise: Tensor

    def initial_state(self) -> list[Tensor]:
        """Return the state before the first stretch: nothing is known."""
        generator = self.generator
        device = self.alphas.device
        return [
            torch.zeros(1, generator.channels, self.prefix, generator.bands, device=device),
            torch.zeros(1, self.prefix, device=device),
            torch.zeros(1, self.fade, device=device),
        ]

    def example(self) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes."""
        generator, device = self.generator, self.alphas.device
        shapes = {
            "vector": (1, CONDITION_DIM),
            "tokens": (1, _TOKENS.get(generator.family.name, 8), TOKEN_DIM),
            "text": (1, *self.text_shape),
        }
        return (
            *(torch.zeros(shapes[part], device=device) for part in self.parts),
            torch.zeros(self.noise_shape, device=device),
            torch.zeros(1, self.n_frames, generator.channels, generator.bands, device=device),
            torch.linspace(0.0, 1.0, self.steps + 1, device=device),
            *self.initial_state(),
        )

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the sound of the stretch, (1, 640 n), and the state after it."""
        count = len(self.parts)
        parts, (noise, start, times, before, known, tail) = tensors[:count], tensors[count:]
        start = start.permute(0, 2, 1, 3)  # (1, 8, n, 16)
        made, velocity = self._made(parts, noise, start, times, before, known)
        mel = self.generator.mel(made)
        sound, after = self._joined(mel, tail)
        ones = torch.ones_like(known[:, :1]).expand(-1, self.n_frames)
        given = (
            sound,
            made[:, :, -self.prefix :],
            torch.cat([known, ones], dim=1)[:, -self.prefix :],
            after,
        )
        return (*given, velocity, made, mel) if self.probes else given

    def beside(
        self, inputs: Mapping[str, Tensor], found: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        """Return the outputs that those of another backend are to be compared with.

        Nothing in these networks runs on from frame to frame, so the other's are not needed;
        parameters are those of `models.nets.stretch.StretchGraph.beside`.
        """
        outputs: tuple[Tensor, ...] = self(*inputs.values())
        return outputs

    def isolated(
        self, inputs: Mapping[str, Tensor], found: Mapping[str, Tensor]
    ) -> dict[str, tuple[str, Tensor]]:
        """Return what each later stage gives for what the stage before it gave elsewhere.

        Parameters are those of `beside`.
        """
        mel = self.generator.mel(found["probe.made"])
        sound, _ = self._joined(found["probe.mel"], inputs["state.tail"])
        return {"codec": ("probe.mel", mel), "vocoder": ("sound", sound)}

    def _joined(self, mel: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sound of a window's new frames, faded in, and what waits for the next."""
        first = self.prefix * MEL_PER_LATENT * HOP - self.fade
        sound = self.generator.sound(mel)[:, first:]  # fade + new samples
        head = self.rise * sound[:, : self.fade] + (1.0 - self.rise) * tail
        whole = torch.cat([head, sound[:, self.fade :]], dim=1)
        return whole[:, : -self.fade], whole[:, -self.fade :]

    def _made(
        self,
        parts: Sequence[Tensor],
        noise: Tensor,
        start: Tensor,
        times: Tensor,
        before: Tensor,
        known: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the latents of the window, (1, 8, window, 16), and what is first predicted."""
        clean = torch.cat([before, start], dim=2)
        mask = torch.cat([known, torch.zeros_like(start[:, 0, :, 0])], dim=1)[:, None, :, None]
        levels = self._levels(times)
        dtype = next(self.generator.parameters()).dtype
        given = [part.to(dtype) for part in parts]

        seen: list[Tensor] = []

        def network(x: Tensor, timestep: Any) -> Tensor:
            x = x.to(dtype)
            if self.generator.prefixed:
                x = told(x, clean, mask)
            seen.append(self.generator.denoiser(x, timestep, *given))
            return seen[-1]

        denoise = as_denoiser(network, self.generator.schedule)
        denoise = keep_known(denoise, clean, mask)
        first = levels[0]
        # All of the schedule begins from noise alone: the last level has a trace of sound left.
        entered = first.alpha * clean + first.sigma * noise[0]
        x = torch.where(times[0] > 0.0, entered, noise[0])
        made = self._sampler(denoise, x, levels, noise=[*noise[1:].unbind()])
        return made, seen[0]

    def _levels(self, times: Tensor) -> list[Level]:
        """Return the levels at moments; the rule is that of `NoiseSchedule.levels`, trailing."""
        n_levels = self.generator.schedule.n_levels
        at = torch.round((1.0 - times[:-1]) * n_levels).long() - 1
        at = at.clamp(min=0)
        alphas, sigmas = self.alphas[at], self.sigmas[at]
        levels = [
            # Tensors stand where numbers are elsewhere: the moments are inputs of the graph.
            Level(cast(Any, at[i]), cast(Any, alphas[i]), cast(Any, sigmas[i]))
            for i in range(self.steps)
        ]
        return [*levels, Level(-1, 1.0, 0.0)]


class FullTorchGenerator(GraphGenerator):
    """A full-size checkpoint behind the interface of the live path.

    Parameters
    ----------
    generator : FullGenerator
    name : str
        Of the checkpoint.
    steps, prefix, fade, sampler
        See `FullStretchGraph`.
    stretches : sequence of int
        Lengths that it makes.
    text : array of shape (1, length, 1024), optional
        Context of FLAN-T5; AudioLDM 2 full needs one, that of an empty text for example.

    Raises
    ------
    SettingError
        If the family needs a text context and none is given, or it does not fit.
    """

    def __init__(
        self,
        generator: FullGenerator,
        *,
        name: str,
        steps: int = 4,
        stretches: Sequence[int] = STRETCHES,
        prefix: int = PREFIX,
        fade: int = FADE,
        sampler: str = "ddim",
        text: NDArray[np.float32] | None = None,
    ) -> None:
        spec = full_spec(
            generator, name, steps=steps, stretches=stretches, prefix=prefix, fade=fade
        )
        constants = {} if "text" not in generator.family.conditions else {"text": _text(text)}
        if text is not None and not constants:
            raise SettingError(f"{generator.family.title} takes no text context; leave it out.")
        shape = constants["text"].shape[1:] if constants else (1, 1024)
        graphs = {
            n: FullStretchGraph(
                generator,
                n_frames=n,
                steps=steps,
                prefix=prefix,
                fade=fade,
                sampler=sampler,
                text_shape=shape,
            ).eval()
            for n in spec.stretches
        }
        device = next(generator.parameters()).device
        silence = _silence(generator, device)
        super().__init__(spec, graphs, silence, device=device, constants=constants)


def _text(text: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if text is None:
        raise SettingError(
            "AudioLDM 2 needs the context of a text beside the tokens. Give FLAN-T5's output for "
            "an empty text, an array of shape (1, length, 1024)."
        )
    if text.ndim != 3 or text.shape[0] != 1 or not np.isfinite(text).all():
        raise SettingError(f"A text context has the shape (1, length, 1024), got {text.shape}.")
    return np.ascontiguousarray(text, np.float32)


@torch.no_grad()
def _silence(generator: FullGenerator, device: torch.device) -> NDArray[np.float32]:
    """Return a latent frame from the middle of encoded silence, (8, 16)."""
    frames = 2 * generator.multiple * MEL_PER_LATENT
    silent = torch.full((1, frames, 64), _FLOOR, device=device)
    latents = generator.encode(silent)
    frame: NDArray[np.float32] = latents[0, :, latents.shape[2] // 2].cpu().numpy()
    return frame
