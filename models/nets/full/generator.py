"""One interface to the full-size generators: condition + noise + steps -> mel -> sound.

All randomness comes in as arguments and all memory goes in and out as a state, so that the same
call repeats exactly, in torch as in an exported graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.errors import SettingError
from models.nets.full.audioldm2 import AudioLdm2Denoiser, AudioLdm2SpeechDenoiser
from models.nets.full.decoder import HOP, MEL_PER_LATENT, MelDecoder, MelVocoder
from models.nets.full.musicldm import MusicLdmDenoiser
from models.nets.full.prefix import has_room, told
from models.nets.full.published import FAMILIES, Family, FamilyName
from models.nets.full.sampler import LevelSampler, as_denoiser, ddim, keep_known
from models.nets.full.schedule import Level, NoiseSchedule, Spacing

__all__ = ["Condition", "FullGenerator", "Stretch", "StretchState"]

SAMPLE_RATE_HZ = 16_000
_Denoiser = MusicLdmDenoiser | AudioLdm2Denoiser | AudioLdm2SpeechDenoiser
_DENOISERS: dict[FamilyName, Callable[[nn.Module], _Denoiser]] = {
    "musicldm": MusicLdmDenoiser,
    "audioldm2": AudioLdm2Denoiser,
    "audioldm2-speech": AudioLdm2SpeechDenoiser,
}
_UNIT = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """What a generator is to sound like; each family takes its own part of it."""

    vector: Tensor | None = None  # (batch, 512), unit length: MusicLDM
    tokens: Tensor | None = None  # (batch, n, 768): 8 pooled, or 512 for speech
    text: Tensor | None = None  # (batch, length, 1024), FLAN-T5: AudioLDM 2 full


class StretchState(NamedTuple):
    """What the next stretch begins from."""

    latents: Tensor  # (batch, 8, prefix, 16), clean
    tail: Tensor  # (batch, fade), the sound that is still to be blended; empty before the first
    n_known: int  # frames of the prefix that are real


class Stretch(NamedTuple):
    """One stretch of sound."""

    sound: Tensor  # (batch, 640 * new frames), 16 kHz
    mel: Tensor  # (batch, 4 * window, 64), of prefix and stretch
    state: StretchState


class FullGenerator(nn.Module):
    """Denoiser, mel decoder and vocoder of one checkpoint.

    Parameters
    ----------
    family : {"musicldm", "audioldm2", "audioldm2-speech"}
    unet : diffusers UNet
    vae : diffusers.AutoencoderKL
    vocoder : transformers.SpeechT5HifiGan
    schedule : NoiseSchedule
        Of the checkpoint: levels, and what is predicted.
    """

    def __init__(
        self,
        family: FamilyName,
        *,
        unet: nn.Module,
        vae: nn.Module,
        vocoder: nn.Module,
        schedule: NoiseSchedule | None = None,
    ) -> None:
        super().__init__()
        self.family: Family = FAMILIES[family]
        self.schedule = schedule or NoiseSchedule()
        denoiser = _DENOISERS[family](unet)
        self.denoiser = denoiser
        self.decoder = MelDecoder(vae)
        self.vocoder = MelVocoder(vocoder)
        config: Any = denoiser.unet.config
        self._unet_config = config
        self.prefixed = has_room(unet)  # whether it learnt to go on from a clean beginning
        self.channels = int(config.out_channels)
        self.bands = int(self.vocoder.vocoder.config.model_in_dim) // MEL_PER_LATENT
        # The network halves time at each of its blocks but the last, and joins the halves again.
        self.multiple = 2 ** (len(config.block_out_channels) - 1)

    def with_unet(self, unet: nn.Module, *, schedule: NoiseSchedule | None = None) -> FullGenerator:
        """Return a generator with another denoising network; decoder and vocoder are shared.

        Parameters
        ----------
        unet : diffusers UNet
            Of the same family.
        schedule : NoiseSchedule, optional
            If it predicts something else.
        """
        return FullGenerator(
            self.family.name,
            unet=unet,
            vae=self.decoder.vae,
            vocoder=self.vocoder.vocoder,
            schedule=schedule or self.schedule,
        ).eval()

    def latent_shape(self, n_frames: int, *, batch: int = 1) -> tuple[int, int, int, int]:
        """Return the shape of latents, hence of noise, of so many frames of 40 ms.

        Raises
        ------
        SettingError
            If the network cannot work on so many frames.
        """
        if n_frames < 1 or n_frames % self.multiple:
            raise SettingError(
                f"{self.family.title} works on a multiple of {self.multiple} latent frames "
                f"({self.multiple * MEL_PER_LATENT * HOP / SAMPLE_RATE_HZ:g} s), got {n_frames}."
            )
        return batch, self.channels, n_frames, self.bands

    def latents(
        self,
        condition: Condition,
        noise: Sequence[Tensor],
        *,
        n_steps: int,
        sampler: LevelSampler = ddim,
        spacing: Spacing = "trailing",
        guidance: float = 1.0,
        unconditional: Condition | None = None,
        start: Tensor | None = None,
        strength: float = 1.0,
        known: Tensor | None = None,
        known_mask: Tensor | None = None,
    ) -> Tensor:
        """Return clean latents for a condition.

        Parameters
        ----------
        condition : Condition
            Checked by `checked`.
        noise : sequence of Tensor
            Unit variance, each of `latent_shape`, float32: the first is where the sampler begins;
            `ping_pong` takes one more for each further step.
        n_steps : int
            Network evaluations; twice as many with guidance.
        sampler : LevelSampler
        spacing, strength
            See `NoiseSchedule.levels`.
        guidance : float
            1: none. Few-step students have it built in.
        unconditional : Condition, optional
            What guidance leads away from; needed when guidance is not 1.
        start : Tensor, optional
            Clean latents of a sound to begin from (`encode`); needed when strength is below 1.
        known, known_mask : Tensor, optional
            Clean latents and 1 where they are known; see `keep_known`. A network that learnt to go
            on from a beginning is told them too.

        Returns
        -------
        latents : Tensor like noise[0], float32

        Raises
        ------
        SettingError
            If an option is out of range or lacks its companion.
        """
        levels = self.schedule.levels(n_steps, spacing=spacing, strength=strength)
        before = None if known is None or known_mask is None else (known, known_mask)
        denoise = as_denoiser(
            self._network(condition, before),
            self.schedule,
            guidance=guidance,
            unconditional=None if unconditional is None else self._network(unconditional, before),
        )
        if before is not None:
            denoise = keep_known(denoise, *before)
        x = noise[0].float()
        if strength < 1.0:
            if start is None:
                raise SettingError(
                    f"A strength of {strength} begins from a sound, and none is given. Give its "
                    "latents as start, or set strength to 1."
                )
            x = _noised(start.float(), x, levels[0])
        return sampler(denoise, x, levels, noise=noise[1:])

    def mel(self, latents: Tensor) -> Tensor:
        """Return the log mel of latents: (batch, 8, n, 16) to (batch, 4 n, 64)."""
        mel: Tensor = self.decoder(latents.to(self._dtype))
        return mel

    def sound(self, mel: Tensor) -> Tensor:
        """Return the sound of a log mel: (batch, n, 64) to (batch, 160 n), float32, 16 kHz."""
        sound: Tensor = self.vocoder(mel.to(self._dtype))
        return sound.float()

    def encode(self, mel: Tensor) -> Tensor:
        """Return the latents of a log mel, float32: what `start` and a first state are made of."""
        return self.decoder.encode(mel.to(self._dtype)).float()

    def forward(
        self,
        condition: Condition,
        noise: Sequence[Tensor],
        *,
        n_steps: int,
        guidance: float = 1.0,
        unconditional: Condition | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the log mel and the sound of a condition; see `latents`."""
        latents = self.latents(
            condition, noise, n_steps=n_steps, guidance=guidance, unconditional=unconditional
        )
        mel = self.mel(latents)
        return mel, self.sound(mel)

    def initial_state(self, *, n_prefix: int, fade: int = 320, batch: int = 1) -> StretchState:
        """Return the state before the first stretch: nothing is known.

        Parameters
        ----------
        n_prefix : int
            Frames of 40 ms that each stretch sees of what came before.
        fade : int
            Samples over which a stretch is blended into the next; the sound is late by them.
        batch : int

        Raises
        ------
        SettingError
            If the fade does not fit.
        """
        if n_prefix < 1 or not 1 <= fade <= n_prefix * MEL_PER_LATENT * HOP:
            raise SettingError(
                f"A stretch needs a prefix of at least 1 frame and a fade of at most its "
                f"{n_prefix * MEL_PER_LATENT * HOP} samples, got {n_prefix} and {fade}."
            )
        like = next(self.parameters())
        shape = batch, self.channels, n_prefix, self.bands
        latents = torch.zeros(shape, device=like.device)
        return StretchState(latents, torch.zeros((batch, fade), device=like.device), 0)

    def stretch(
        self,
        condition: Condition,
        state: StretchState,
        noise: Sequence[Tensor],
        *,
        n_steps: int,
        sampler: LevelSampler = ddim,
        guidance: float = 1.0,
        unconditional: Condition | None = None,
    ) -> Stretch:
        """Return the next stretch of a continuous sound, and the state after it.

        The last latents are kept at every step while new ones are made behind them, all are decoded
        together, and the sound is joined by a short fade. The published checkpoints never learnt to
        continue a beginning, so joins are heard more than with one that did (`prefixed`).

        Parameters
        ----------
        condition : Condition
        state : StretchState
            From `initial_state` or the last stretch.
        noise : sequence of Tensor
            Each of `latent_shape(n_prefix + n_new)`.
        n_steps, sampler, guidance, unconditional
            See `latents`.

        Raises
        ------
        SettingError
            If the noise is not longer than the prefix.
        """
        n_prefix, fade = state.latents.shape[2], state.tail.shape[1]
        n_new = noise[0].shape[2] - n_prefix
        if n_new < 1:
            raise SettingError(
                f"The noise of a stretch covers the prefix of {n_prefix} frames and the new ones, "
                f"got {noise[0].shape[2]} frames."
            )
        known = torch.cat([state.latents, torch.zeros_like(noise[0][:, :, n_prefix:])], dim=2)
        mask = torch.zeros_like(known[:1, :1, :, :1])
        mask[:, :, n_prefix - state.n_known : n_prefix] = 1.0
        made = self.latents(
            condition,
            noise,
            n_steps=n_steps,
            sampler=sampler,
            guidance=guidance,
            unconditional=unconditional,
            known=known,
            known_mask=mask,
        )
        mel = self.mel(made)
        first = n_prefix * MEL_PER_LATENT * HOP - fade
        sound = self.sound(mel)[:, first:]  # fade + new samples
        # Both are the sound of the same latents, so their shares add up to 1, not their powers.
        rise = torch.sin(torch.linspace(0.0, torch.pi / 2, fade, device=sound.device)) ** 2
        head = rise * sound[:, :fade] + (1.0 - rise) * state.tail
        whole = torch.cat([head, sound[:, fade:]], dim=1)
        sound, tail = whole[:, :-fade], whole[:, -fade:]
        n_known = min(n_prefix, state.n_known + n_new)
        return Stretch(sound, mel, StretchState(made[:, :, -n_prefix:], tail, n_known))

    def checked(self, condition: Condition, *, free: bool = False) -> Condition:
        """Return the parts of a condition that this family takes, in its precision and place.

        Parameters
        ----------
        condition : Condition
        free : bool
            Whether it is the unconditional branch, whose vector may be zeros.

        Raises
        ------
        SettingError
            If a part is missing, has another width or length, or is not of unit length.
        """
        like = next(self.parameters())
        taken: dict[str, Tensor] = {}
        for name in self.family.conditions:
            value: Tensor | None = getattr(condition, name)
            expected = self._expected(name)
            if value is None:
                raise SettingError(
                    f"{self.family.title} is conditioned on {' and '.join(self.family.conditions)},"
                    f" and {name} is missing. Decode it, or choose a generator that does without."
                )
            got = tuple(value.shape)
            if len(got) != len(expected) or any(
                e not in (g, -1) for e, g in zip(expected, got, strict=True)
            ):
                wanted = ", ".join("any" if size < 0 else str(size) for size in expected)
                raise SettingError(
                    f"{self.family.title} takes {name} of shape ({wanted}), got {got}."
                )
            if not bool(torch.isfinite(value).all()):
                raise SettingError(f"{name} of the condition has values that are not finite.")
            taken[name] = value.to(device=like.device, dtype=like.dtype)
        if "vector" in taken:
            length = taken["vector"].float().norm(dim=1)
            unit = (length - 1.0).abs() < _UNIT
            if not bool((unit | ((length == 0.0) & free)).all()):
                raise SettingError(
                    f"{self.family.title} takes a vector of length 1, got {length.tolist()}. "
                    "Divide it by its length, after every mapping that it goes through."
                )
        return Condition(**taken)

    def random_condition(
        self, source: torch.Generator, *, batch: int = 1, text_length: int = 32
    ) -> Condition:
        """Return a condition of the right shapes and no meaning, for timing and comparing.

        Parameters
        ----------
        source : torch.Generator
            On the CPU.
        batch : int
        text_length : int
            Of the context that stands for FLAN-T5's.
        """
        drawn: dict[str, Tensor] = {}
        for name in self.family.conditions:
            _, *rest = self._expected(name)
            sizes = [text_length if size < 0 else size for size in rest]
            value = torch.randn((batch, *sizes), generator=source)
            drawn[name] = value / value.norm(dim=1, keepdim=True) if name == "vector" else value
        return self.checked(Condition(**drawn))

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def _expected(self, name: str) -> tuple[int, ...]:
        """Return the shape of a part of the condition; -1: any."""
        config = self._unet_config
        if name == "vector":
            return -1, int(config.projection_class_embeddings_input_dim)
        widths = [width for width in config.cross_attention_dim[-1] if width is not None]
        if name == "text":
            return -1, -1, widths[1]
        return -1, 512 if self.family.name == "audioldm2-speech" else 8, widths[0]

    def _network(self, condition: Condition, before: tuple[Tensor, Tensor] | None) -> _Network:
        parts = [getattr(condition, name) for name in self.family.conditions]
        given = [part for part in parts if part is not None]
        return _Network(self.denoiser, given, before if self.prefixed else None)


class _Network:
    """The denoiser under one condition, in the precision of its weights."""

    def __init__(
        self,
        denoiser: nn.Module,
        parts: Sequence[Tensor],
        before: tuple[Tensor, Tensor] | None,  # clean latents and where they are known
    ) -> None:
        self._denoiser = denoiser
        self._parts = parts
        self._before = before

    def __call__(self, x: Tensor, timestep: int) -> Tensor:
        at = torch.full((), timestep, dtype=torch.int64, device=x.device)
        x = x.to(self._parts[0].dtype)
        if self._before is not None:
            x = told(x, *self._before)
        predicted: Tensor = self._denoiser(x, at, *self._parts)
        return predicted


def _noised(clean: Tensor, noise: Tensor, level: Level) -> Tensor:
    return level.alpha * clean + level.sigma * noise
