"""One stretch of the small generator as one graph of tensors, and a generator around it.

The window that the denoiser sees is 24 frames of what was heard, the frames of the stretch, and
those that are made beyond it and held back. What was heard is read once, the others are made in a
few steps. The first frames of a stretch are blended with what the last one held back for them. Both
are made of the same noise, so they nearly agree: the mean of two that differ is a duller and
quieter sound than either. All go through the codec's decoder and the vocoder, whose memory goes in
and out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.errors import SettingError
from models.nets.codec import Codec
from models.nets.dit import TOKEN_DIM, Denoiser
from models.nets.graph_generator import GraphGenerator
from models.nets.samplers import SAMPLERS, Moment, SamplerName, secant_moment
from models.nets.sizes import LATENT, SizeName, make_codec, make_denoiser, make_vocoder
from models.nets.vocoder import HOP, N_FFT, Vocoder, unit_phases
from models.stretch import (
    CONDITION_DIM,
    GeneratorSpec,
)

__all__ = [
    "PREFIX",
    "PROBES",
    "STRETCHES",
    "WINDOW",
    "GeneratorNets",
    "StretchGraph",
    "TorchGenerator",
    "random_nets",
    "randomise",
    "small_spec",
]

WINDOW = 64  # latent frames that the denoiser was trained on, at most
PREFIX = 24  # of which so many are known: .96 s
STRETCHES = (2, 4, 16)  # each graph is some 400 kB beside the weights that all share
_CARRIED = ("prefix", "begun", "held", "noise")  # of the state; memories come after them
PROBES = ("velocity", "made", "latents", "mel", "pulled")


@dataclass(frozen=True, slots=True, eq=False)
class GeneratorNets:
    """The networks that take a condition to sound."""

    size: SizeName
    codec: Codec
    denoiser: Denoiser
    vocoder: Vocoder


def small_spec(
    size: SizeName,
    *,
    steps: int,
    stretches: Sequence[int] = STRETCHES,
    held: int = 4,
) -> GeneratorSpec:
    """Return what a small generator is.

    Parameters
    ----------
    size : {"tiny", "small"}
    steps : int
    stretches : sequence of int
        Lengths, latent frames.
    held : int
        Frames held back.

    Raises
    ------
    SettingError
        If a stretch and what is held back do not fit into the window beside one known frame.
    """
    if max(stretches, default=0) + held >= WINDOW:
        raise SettingError(
            f"The longest stretch and what is held back have at most {WINDOW - 1} frames, got "
            f"{max(stretches)} and {held}."
        )
    return GeneratorSpec(
        family="small",
        size=size,
        steps=steps,
        stretches=tuple(stretches),
        held=held,
        conditions=("vector", "tokens"),
        startable=True,
        latent=(LATENT,),
        delay_samples=Vocoder.lookahead * HOP,
    )


class StretchGraph(nn.Module):
    """Condition, noise and state to sound and the state after it; everything else is fixed.

    Inputs, float32, batch 1: `vector` (1, 512); `tokens` (1, n + held, 768), one for each new
    frame; `noise` (draws, 1, n + held, 32); `start` (1, n + held, 32); `times` (steps + 1,), rising
    to 1; then the state in the order of `state_names`. Outputs: `sound` (1, 640 n), then the state.

    Before the first stretch silence was heard: `prefix` is full of it, as in training. `begun` is 0
    then and 1 after it. `noise` is what the frames that were held back were made of; it stands in
    the place of the first `held` frames of the noise that is given.

    Parameters
    ----------
    nets : GeneratorNets
    n_frames : int
        Of the stretch.
    steps : int
        Network evaluations.
    held : int
        Frames held back.
    sampler : {"secants", "ping_pong", "euler"}
        See `models.nets.samplers`; the second draws noise for each step.
    guidance : float
        Classifier-free guidance (arXiv:2207.12598, eq. 6); 1 is none, others cost twice the time.
        A distilled denoiser has it built in.
    probes : bool
        Give what stands between the stages too, after the state, as `probe.*`: the velocity at the
        first moment, the latents that the sampler made, those of the stretch after blending, their
        mel frames on the networks' scale, and the phases of the vocoder's frames before their
        length is made 1. For comparing stage by stage.
    """

    def __init__(
        self,
        nets: GeneratorNets,
        *,
        n_frames: int,
        steps: int,
        held: int = 4,
        sampler: SamplerName = "secants",
        guidance: float = 1.0,
        probes: bool = False,
    ) -> None:
        super().__init__()
        self.codec, self.denoiser, self.vocoder = nets.codec, nets.denoiser, nets.vocoder
        self.n_frames, self.steps, self.held = n_frames, steps, held
        self.prefix = min(PREFIX, WINDOW - n_frames - held)
        self.draws = steps if sampler == "ping_pong" else 1
        self.guidance, self.probes = guidance, probes
        self._sampler, self._secants = SAMPLERS[sampler], sampler == "secants"
        self._n_decoder = len(self.codec.decoder.convolutions())
        self.noise_shape: tuple[int, ...] = (self.draws, 1, n_frames + held, self.codec.latent)
        self.state_names = [
            *_CARRIED,
            *(f"decoder{i}" for i in range(self._n_decoder)),
            *(f"vocoder{i}" for i in range(len(self.vocoder.initial_state()))),
        ]
        self.input_names = [
            *("vector", "tokens", "noise", "start", "times"),
            *(f"state.{name}" for name in self.state_names),
        ]
        between = [f"probe.{name}" for name in PROBES] if probes else []
        self.output_names = ["sound", *(f"next.{name}" for name in self.state_names), *between]
        # Rising shares of the new frames where both the old and the new stretch made one.
        rise = torch.arange(1, held + 1, dtype=torch.float32) / (held + 1)
        self.register_buffer("rise", rise.reshape(1, held, 1), persistent=False)
        self.rise: Tensor

    def initial_state(self) -> list[Tensor]:
        """Return the state before the first stretch: silence was heard."""
        silence = self.codec.silence
        return [
            silence.expand(1, PREFIX, -1).clone(),
            torch.zeros(1, 1, device=silence.device),
            torch.zeros(1, self.held, self.codec.latent, device=silence.device),
            torch.zeros(self.draws, 1, self.held, self.codec.latent, device=silence.device),
            *self._after_silence(),
        ]

    def example(self) -> tuple[Tensor, ...]:
        """Return inputs of the right shapes: no condition, no noise, the first state."""
        latent, made = self.codec.latent, self.n_frames + self.held
        device = self.codec.silence.device
        return (
            torch.zeros(1, CONDITION_DIM, device=device),
            torch.zeros(1, made, TOKEN_DIM, device=device),
            torch.zeros(self.draws, 1, made, latent, device=device),
            torch.zeros(1, made, latent, device=device),
            torch.linspace(0.0, 1.0, self.steps + 1, device=device),
            *self.initial_state(),
        )

    def forward(
        self,
        vector: Tensor,
        tokens: Tensor,
        noise: Tensor,
        start: Tensor,
        times: Tensor,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return the sound of the stretch and the state after it."""
        return self._stretch((vector, tokens, noise, start, times), state)

    def _stretch(
        self, given: Sequence[Tensor], state: Sequence[Tensor], *, phases: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        prefix, begun, waiting, carried, *rest = state
        vector, tokens, noise, start, times = given
        # Nothing is held back before the first stretch.
        begun = begun.unsqueeze(-1)
        again = begun * carried + (1.0 - begun) * noise[:, :, : self.held]
        noise = torch.cat([again, noise[:, :, self.held :]], dim=2)
        made, velocity = self.latents(vector, tokens, noise, start, times, prefix=prefix)
        share = 1.0 - begun * (1.0 - self.rise)
        head = share * made[:, : self.held] + (1.0 - share) * waiting
        whole = torch.cat([head, made[:, self.held :]], dim=1)
        new, after = whole[:, : self.n_frames], whole[:, self.n_frames :]
        mel, decoder = self.codec.step(new, rest[: self._n_decoder])
        sound, pulled, vocoder = self.sound(mel, rest[self._n_decoder :], phases=phases)
        outputs = (
            sound,
            torch.cat([prefix, new], dim=1)[:, -PREFIX:],
            torch.ones_like(state[1]),
            after,
            noise[:, :, self.n_frames :],
            *decoder,
            *vocoder,
        )
        return (*outputs, velocity, made, new, mel, pulled) if self.probes else outputs

    def latents(
        self,
        vector: Tensor,
        tokens: Tensor,
        noise: Tensor,
        start: Tensor,
        times: Tensor,
        *,
        prefix: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return what the sampler makes of the frames of the stretch and those held back.

        Returns
        -------
        made : Tensor of shape (1, n + held, 32)
        velocity : Tensor of shape (1, n + held, 32)
            At the first moment.
        """
        first = times[0]
        x = (1.0 - first) * noise[0] + first * start
        given = {"condition": vector, "tokens": tokens, "clean": prefix[:, -self.prefix :]}
        moments: list[Moment] = [times[i] for i in range(self.steps)]
        velocity = self._velocity(given, times)
        seen: list[Tensor] = []

        def noted(x: Tensor, time: Moment) -> Tensor:
            seen.append(velocity(x, len(seen)))
            return seen[-1]

        x = self._sampler(noted, x, [*moments, 1.0], noise=[*noise[1:].unbind()])
        return x, seen[0]

    def beside(
        self, inputs: Mapping[str, Tensor], found: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        """Return the outputs that those of another backend are to be compared with.

        Phases run on from frame to frame, and where what pulls a phase cancels it, the last bit
        decides which way it goes on, in any two backends. So phases are taken from there, and what
        is compared is how those of each frame were turned and pulled, before their length is made
        1, and the sound.

        Parameters
        ----------
        inputs : mapping of str to Tensor
            By `input_names`.
        found : mapping of str to Tensor
            The outputs, by name, of the other backend for these inputs; with probes.
        """
        given, state = [*inputs.values()][: -len(self.state_names)], self._state(inputs)
        return self._stretch(given, state, phases=unit_phases(found["probe.pulled"]))

    def isolated(
        self, inputs: Mapping[str, Tensor], found: Mapping[str, Tensor]
    ) -> dict[str, tuple[str, Tensor]]:
        """Return what each later stage gives for what the stage before it gave elsewhere.

        Parameters are those of `beside`.

        Returns
        -------
        stages : dict
            The output that is to be compared, and what it is here, by stage.
        """
        memory = self._state(inputs)[len(_CARRIED) :]
        mel, _ = self.codec.step(found["probe.latents"], memory[: self._n_decoder])
        sound, pulled, _ = self.sound(
            found["probe.mel"],
            memory[self._n_decoder :],
            phases=unit_phases(found["probe.pulled"]),
        )
        return {
            "codec": ("probe.mel", mel),
            "phases": ("probe.pulled", pulled),
            "vocoder": ("sound", sound),
        }

    def _state(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        return [inputs[f"state.{name}"] for name in self.state_names]

    def sound(
        self, mel: Tensor, memory: Sequence[Tensor], *, phases: Tensor | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the sound, (1, 160 m), of scaled mel (1, m, 64), pulled phases and the memory.

        See `Vocoder.synthesise`.
        """
        blocks, pulled, after = self.vocoder.traced(mel, list(memory), phases=phases)
        return blocks.flatten(1), pulled, after

    def _velocity(self, given: dict[str, Tensor], times: Tensor) -> Callable[[Tensor, int], Tensor]:
        """Return the velocity of the frames to be made in each step."""
        denoiser = self.denoiser
        asked = secant_moment(times[:-1], times[1:]) if self._secants else times[:-1]
        if self.guidance == 1.0:
            alone = {name: value[0] for name, value in given.items()}
            clean, condition = alone.pop("clean"), alone["condition"]
            moments = torch.cat([asked, torch.ones_like(times[:1])])
            *acting, at_rest = denoiser.modulations(moments, condition)
            memory = denoiser.read(clean, at_rest, condition)

            def plain(x: Tensor, step: int) -> Tensor:
                velocity = denoiser.velocity(x[0], acting[step], **alone, memory=memory)
                return velocity.unsqueeze(0)

            return plain
        # With the condition and without it side by side: one call for both.
        both = {
            name: torch.cat([value, value if name == "clean" else torch.zeros_like(value)])
            for name, value in given.items()
        }
        clean, condition = both.pop("clean"), both["condition"]
        at_rest = denoiser.modulated(torch.ones_like(condition[:, 0]), condition)
        memory = denoiser.read(clean, at_rest, condition)

        def guided(x: Tensor, step: int) -> Tensor:
            moment = asked[step].reshape(1).expand(2)
            modulation = denoiser.modulated(moment, condition)
            pair = denoiser.velocity(torch.cat([x, x]), modulation, **both, memory=memory)
            with_it, without = pair.chunk(2)
            velocity: Tensor = without + self.guidance * (with_it - without)
            return velocity

        return guided

    def _after_silence(self) -> list[Tensor]:
        """Return the memory of decoder and vocoder after a second of silence."""
        silence = self.codec.silence.expand(1, 25, -1)
        with torch.no_grad():
            mel, decoder = self.codec.step(silence, self.codec.decoder.initial_state())
            return [*decoder, *self.sound(mel, self.vocoder.initial_state())[-1]]


class TorchGenerator(GraphGenerator):
    """A small generator run by torch: the reference that exported graphs are compared with.

    Parameters
    ----------
    nets : GeneratorNets
    steps, held, sampler, guidance
        See `StretchGraph`.
    stretches : sequence of int
        Lengths that it makes.
    """

    def __init__(
        self,
        nets: GeneratorNets,
        *,
        steps: int = 4,
        stretches: Sequence[int] = STRETCHES,
        held: int = 4,
        sampler: SamplerName = "secants",
        guidance: float = 1.0,
    ) -> None:
        spec = small_spec(nets.size, steps=steps, stretches=stretches, held=held)
        graphs = {
            n: StretchGraph(
                nets, n_frames=n, steps=steps, held=held, sampler=sampler, guidance=guidance
            ).eval()
            for n in spec.stretches
        }
        silence = nets.codec.silence
        super().__init__(spec, graphs, silence.cpu().numpy(), device=silence.device)


def random_nets(size: SizeName = "tiny", *, seed: int = 0) -> GeneratorNets:
    """Return networks that have learnt nothing; see `randomise`.

    Parameters
    ----------
    size : {"tiny", "small"}
    seed : int
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        nets = GeneratorNets(size, make_codec(size), make_denoiser(size), make_vocoder(size))
    randomise(nets, seed=seed)
    return nets


def randomise(nets: GeneratorNets, *, seed: int = 0) -> None:
    """Bring untrained networks to outputs of the order of 1, for latency, export and parity.

    Layers that begin as zeros are filled: they would hide errors of everything before them.

    Parameters
    ----------
    nets : GeneratorNets
        Changed in place; frozen, in evaluation mode.
    seed : int
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in (nets.codec, nets.denoiser, nets.vocoder):
            for value in module.parameters():
                rows = value if value.ndim > 1 else value.unsqueeze(0)
                empty = ~rows.flatten(1).any(dim=1)
                filling = torch.randn_like(rows) * 0.5 * rows[0].numel() ** -0.5
                rows[empty] = filling[empty]
            module.eval().requires_grad_(False)
        _scale(nets)


def _scale(nets: GeneratorNets) -> None:
    """Bring mel frames to the range of common sounds and velocities to the order of 1."""
    codec, denoiser = nets.codec, nets.denoiser
    x = torch.randn(1, WINDOW, codec.latent)
    vector = nn.functional.normalize(torch.randn(1, CONDITION_DIM), dim=-1)
    velocity = denoiser(
        x,
        torch.full((1,), 0.5),
        condition=vector,
        tokens=torch.zeros(1, WINDOW, TOKEN_DIM),
        clean=x,
        known=PREFIX,
    )[:, PREFIX:]
    denoiser.leave.weight.div_(velocity.std())
    mel = codec.decoder(x)
    codec.decoder.leave.weight.mul_(0.5 / mel.std())
    codec.decoder.leave.bias.fill_(1.2)  # of a span where 3 is loud
    vocoder = nets.vocoder
    sound = vocoder.sound(codec.decode(x))
    # The log gains' bias: the sound comes near full scale. And the pull has a direction: of random
    # ones some cancel the phase that runs on, where every rounding error becomes a large one.
    gain = torch.log(0.2 / sound.std()).clamp(-4.0, 3.0)
    bins = N_FFT // 2 + 1
    vocoder.leave.bias[:bins].add_(gain)
    vocoder.leave.bias[2 * bins : 3 * bins].add_(2.0)
