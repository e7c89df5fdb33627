"""Fine-tuning of a full-size checkpoint on brain data: its UNet, by additions or as a whole.

Mel decoder and vocoder stay frozen. How decoded tokens enter a checkpoint that pools them, or that
reads those of 10.24 s, is not published and an option; so is the input for what came before.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from calibration.acoustic.network import AcousticTransformer
from calibration.acoustic.settings import AcousticSettings
from calibration.finetune.full_prefix import PrefixInput, continue_windows
from calibration.finetune.lora import Additions
from calibration.finetune.settings import FinetuneSettings, FullSettings
from calibration.finetune.stage import BrainStage
from calibration.finetune.windows import BrainWindows
from calibration.generated.entering import POOL, WHOLE
from calibration.training.loop import autocast
from calibration.training.settings import TrainingSettings
from models.errors import SettingError
from models.nets.full.generator import FullGenerator
from models.nets.full.prefix import clean_channels
from models.stretch import TOKENS_PER_STEP

if TYPE_CHECKING:
    from torch import Tensor

    from models.nets.full.schedule import NoiseSchedule

__all__ = ["FullFinetune", "enter_tokens"]

_CHECKS = (100, 300, 500, 700, 900)  # thousandths of the levels at which windows are checked


class FullFinetune(BrainStage):
    """Train a checkpoint's UNet further under decoded conditions (C2F-LDM, equation 4).

    Parameters
    ----------
    run, options, acoustic, windows, decoder, train, check
        See `BrainStage`; latents are (full.prefix + frames, 8, 16) each.
    full : FullSettings
        With a prefix the checkpoint gets an input for clean latents of what came before, and a
        share of windows (`options.prefixed`) goes on from them; without it stays as published.
    generator : FullGenerator
        Frozen, in float32.
    text : Tensor of shape (1, length, 1024), optional
        For AudioLDM 2.
    """

    def __init__(
        self,
        run: TrainingSettings,
        options: FinetuneSettings,
        acoustic: AcousticSettings,
        windows: BrainWindows,
        *,
        full: FullSettings,
        generator: FullGenerator,
        decoder: AcousticTransformer | None,
        train: NDArray[np.int64],
        check: NDArray[np.int64],
        text: Tensor | None = None,
    ) -> None:
        by_vector = generator.family.conditions == ("vector",)
        super().__init__(
            run,
            options,
            acoustic,
            windows,
            decoder=None if by_vector else decoder,
            train=train,
            check=check,
        )
        sizes = (windows.prefix, windows.frames)
        if windows.prefix != full.prefix or any(size % generator.multiple for size in sizes):
            raise SettingError(
                f"{generator.family.title} needs latents of a multiple of {generator.multiple} "
                f"frames after a prefix of {full.prefix}, got {windows.frames} after "
                f"{windows.prefix}."
            )
        if "text" in generator.family.conditions and text is None:
            raise SettingError(
                "AudioLDM 2 is also conditioned on FLAN-T5's states, and there are none. Give "
                "full.text, an .npy of shape (length, 1024): those of an empty text will do."
            )
        self.full, self.by_vector = full, by_vector
        self.generator = generator.to(self.device).requires_grad_(False)
        self.text = None if text is None else text.to(self.device)
        self.schedule: NoiseSchedule = generator.schedule
        self._alphas = torch.from_numpy(self.schedule.alphas()).float().to(self.device)
        unet = generator.denoiser.unet
        rank = full.lora_rank if full.adapt == "lora" else 0
        width = 512 if by_vector else 768
        self.none = Additions(unet, rank=0)
        if rank or full.adapter:
            condition = width if full.adapter else None
            self.train_network("additions", Additions(unet, rank=rank, condition=condition))
        if full.adapt == "all":
            self.train_network("unet", unet.requires_grad_(True))
        if full.prefix:
            self.train_network("prefix", PrefixInput(unet))

    def learn(self, step: int, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Any]:
        """One step at random levels of noise."""
        rows = rng.choice(self.train_rows, self.batch)
        conditions = self.conditions(rows, rng)
        vector, tokens = self.dropped(len(rows), rng)
        # Where the vector is all there is, it is dropped alone; else the tokens, alike.
        kept = vector[:, None] if self.by_vector else tokens[:, None, None]
        given = conditions.vector if self.by_vector else conditions.tokens
        x, known, counted = self._windows(rows, rng)
        eps = torch.randn(x.shape, generator=noise, device=self.device)
        levels = len(self._alphas)
        times = torch.randint(levels, (len(x),), generator=noise, device=self.device)
        with autocast(self.run):
            loss = self._loss(self.networks, x, eps, times, given, kept, known, counted).mean()
        losses = {name: self.options.acoustic_weight * v for name, v in conditions.losses.items()}
        total = loss + sum(losses.values())
        self.update(total, *self.networks)
        return {"loss": loss, **losses}

    def held_out_loss(self) -> float:
        """Return the denoising loss on the windows that select, under decoded conditions."""
        source = torch.Generator().manual_seed(self.run.seed + 5)
        rows = self.check_rows[: self.options.check_windows]
        total, count = 0.0, 0
        for first in range(0, len(rows), 16):
            part = rows[first : first + 16]
            conditions = self.decoded(part)
            given = conditions.vector if self.by_vector else conditions.tokens
            x, known, counted = self._windows(part, None)
            kept = torch.ones((), device=self.device)
            for thousandth in _CHECKS:
                eps = torch.randn(x.shape, generator=source).to(self.device)
                level = thousandth * len(self._alphas) // 1000
                times = torch.full((len(x),), level, device=self.device)
                with autocast(self.run):
                    loss = self._loss(self.averages, x, eps, times, given, kept, known, counted)
                total += float(loss.sum())
                count += len(part)
        return total / count

    @torch.no_grad()
    def tuned(self) -> FullGenerator:
        """Return the generator with all that was trained inside its own weights."""
        additions = self._additions(self.averages)
        unet = self.generator.denoiser.unet
        if "unet" in self.averages:
            unet.load_state_dict(self.averages["unet"].state_dict())
        additions.fold(unet, tokens=not self.by_vector)
        made, prefix = self.generator, self.averages.get("prefix")
        if isinstance(prefix, PrefixInput):
            made = made.with_unet(prefix.folded(unet))
        return made.requires_grad_(False).eval()

    def _additions(self, networks: dict[str, nn.Module]) -> Additions:
        additions = networks.get("additions", self.none)
        assert isinstance(additions, Additions)
        return additions

    def _windows(
        self, rows: NDArray[np.int64], rng: np.random.Generator | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return latents (batch, 8, frames, 16), which frames are told, and which count.

        The last two, (batch, 1, frames, 1), are None without a prefix: all frames are made.
        """
        if not self.full.prefix:
            return self._tensor(self.windows.latents[rows].swapaxes(1, 2)), None, None
        made = continue_windows(
            self.windows, rows, self.options, rng, others=None if rng is None else self.train_rows
        )
        known, counted = (self._tensor(v[:, None, :, None]) for v in (made.known, made.counted))
        return self._tensor(made.latents.swapaxes(1, 2)), known, counted

    def _tensor(self, values: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def _loss(
        self,
        networks: dict[str, nn.Module],
        x: Tensor,
        eps: Tensor,
        times: Tensor,
        given: Tensor,
        kept: Tensor,
        known: Tensor | None,
        counted: Tensor | None,
    ) -> Tensor:
        """Return the squared error of what the network predicts, window by window."""
        alpha = self._alphas[times][:, None, None, None]
        sigma = (1.0 - alpha.square()).sqrt()
        wanted = {
            "epsilon": eps,
            "v_prediction": alpha * eps - sigma * x,
            "sample": x,
        }[self.schedule.prediction]
        clean = None if known is None else clean_channels(x, known)
        predicted = self._predict(networks, alpha * x + sigma * eps, times, given, kept, clean)
        error = (predicted.float() - wanted).square()
        if counted is None:
            return error.flatten(1).mean(1)
        frames = (error * counted).mean((1, 3)).sum(1)  # (batch,), of the frames that are made
        return frames / counted.flatten(1).sum(1)

    def _predict(
        self,
        networks: dict[str, nn.Module],
        x: Tensor,
        times: Tensor,
        given: Tensor,
        kept: Tensor,
        clean: Tensor | None,
    ) -> Tensor:
        additions = self._additions(networks)
        if not self.by_vector:
            given = enter_tokens(
                given,
                pooled=self.generator.family.name == "audioldm2",
                pooling=self.full.pooling,
                fill=self.full.fill,
            )
        parts = [additions.adapted(given) * kept]
        if self.text is not None:
            parts.append(self.text.expand(len(x), -1, -1))
        denoiser: Any = self.generator.denoiser
        kept_unet = denoiser.unet
        try:
            denoiser.unet = networks.get("unet", kept_unet)
            prefix = networks.get("prefix")
            with additions.on(denoiser.unet), ExitStack() as stack:
                if isinstance(prefix, PrefixInput) and clean is not None:
                    stack.enter_context(prefix.on(denoiser.unet, clean))
                    if self.generator.prefixed:  # it had learnt it before
                        x = torch.cat([x, clean], dim=1)
                predicted: Tensor = denoiser(x, times, *parts)
        finally:
            denoiser.unet = kept_unet
        return predicted


def enter_tokens(tokens: Tensor, *, pooled: bool, pooling: str, fill: str) -> Tensor:
    """Return decoded tokens as a checkpoint takes them.

    Parameters
    ----------
    tokens : Tensor of shape (batch, 8 m, 768)
        Time-major.
    pooled : bool
        8 tokens, each of 8 steps and 8 bands (AudioLDM 2); else all 512 of 10.24 s (speech).
    pooling : {"mean", "mean-max"}
    fill : {"zeros", "last"}
        What stands for the steps after the stretch.

    Returns
    -------
    tokens : Tensor of shape (batch, 8 or 512, 768)
    """
    steps = tokens.unflatten(1, (-1, TOKENS_PER_STEP))[:, :WHOLE]  # type: ignore[no-untyped-call]
    missing = WHOLE - steps.shape[1]
    more = steps[:, -1:].expand(-1, missing, -1, -1)
    whole: Tensor = torch.cat([steps, torch.zeros_like(more) if fill == "zeros" else more], dim=1)
    if not pooled:
        return whole.flatten(1, 2)
    # (batch, 8 groups of 8 steps, 64 tokens, 768)
    groups = whole.reshape(len(whole), WHOLE // POOL, POOL * TOKENS_PER_STEP, -1)
    mean = groups.mean(2)
    return mean if pooling == "mean" else 0.5 * (mean + groups.amax(2))
