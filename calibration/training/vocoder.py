"""Stage `vocoder`: first spectra and phase steps that are right, then a small adversarial phase.

Live, a mel comes out of the codec, which blurs it. So most stretches are trained from such copies,
towards the sound as it was: what the codec always loses in the same way is put back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.sounds.store import MEL, SoundStore
from calibration.training.checkpoint import load_tensors, load_weights
from calibration.training.codec import mel_correlation
from calibration.training.loop import Stage, autocast
from calibration.training.material import Material
from calibration.training.settings import TrainingSettings
from models.mel import mel_basis
from models.nets.codec import FRAMES_PER_LATENT, from_log
from models.nets.discriminators import SoundDiscriminator
from models.nets.sizes import make_codec, make_vocoder
from models.nets.vocoder import AHEAD, HOP, LATE, N_FFT, Vocoder

__all__ = ["VocoderStage", "batch_log_mel"]

_BEFORE = 12  # mel frames that the network gets before a stretch
_MARGIN = 16  # mel frames that the codec gets before and, at least, after those
_RESOLUTIONS = ((2048, 512), (1024, 160), (512, 128), (256, 64))  # n_fft, hop
_FLOOR = 5e-3  # of an STFT magnitude; -100 dB below a sine at full scale


class VocoderStage(Stage):
    """Train the vocoder on mel and sound of clips and blends.

    Parameters
    ----------
    run : TrainingSettings
    material : Material
    out : Path
        Folder of the run, where the codec is.
    """

    def __init__(self, run: TrainingSettings, material: Material, out: Path) -> None:
        super().__init__("vocoder", run, run.vocoder)
        self.options = run.vocoder
        self.material = material
        self.codec = make_codec(run.size)
        tensors, _ = load_tensors(out / "codec" / "final.safetensors")
        load_weights(self.codec, tensors, "codec")
        self.codec.to(self.device).eval().requires_grad_(False)
        self.train_network("vocoder", make_vocoder(run.size))
        self.train_network("discriminator", SoundDiscriminator())

    def advance(
        self, step: int, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Any]:
        """One step on stretches of clips (one in three) and blends."""
        sound, x = self._stretches(rng)
        made, wanted, mel, turns = self._copies(sound, x)
        losses: dict[str, Tensor] = {"mel": (batch_log_mel(made) - mel).abs().mean()}
        losses["stft"], losses["phase"] = spectral_losses(made, wanted, self.options.phase_weight)
        losses["turn"] = turn_loss(turns, sound)
        loss = losses["mel"] + losses["stft"] + self.options.phase_weight * losses["phase"]
        loss = loss + self.options.turn_weight * losses["turn"]
        if step >= self.options.plain * self.settings.steps:
            loss = loss + self._adversarial(made, wanted, losses)
        losses["loss"] = loss
        self.update(loss, "vocoder")
        return losses

    def _stretches(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return sounds of the frames before, of and after each stretch, and their scaled mels."""
        n, material, vocoder = self.batch, self.material, self.networks["vocoder"]
        assert isinstance(vocoder, Vocoder)
        inner = _BEFORE + self.options.frames + vocoder.lookahead
        whole = _MARGIN + inner + _MARGIN
        samples = (whole + -whole % FRAMES_PER_LATENT) * HOP
        sounds = np.zeros((n, samples), np.float32)
        for row in range(n):
            from_clips = row < n // 3
            store: SoundStore = material.clips if from_clips else material.blends
            number = int(rng.integers(material.n_train if from_clips else material.n_blends))
            first = int(rng.integers(store.n_frames * HOP - samples + 1))
            gain = 10.0 ** (rng.uniform(-1.0, 1.0) * self.options.gain_db / 20.0)
            sounds[row] = gain * store.pcm(number, first, samples)
        copied = torch.from_numpy(rng.uniform(size=n) < self.options.copied)
        sound = torch.from_numpy(sounds).to(self.device)
        with torch.no_grad():
            mel = batch_log_mel(sound)
            if copied.any():
                mel[copied] = self._through_codec(mel[copied])
        x = from_log(mel[:, _MARGIN : _MARGIN + inner])
        return sound[:, _MARGIN * HOP : (_MARGIN + inner) * HOP], x

    def _through_codec(self, mel: Tensor) -> Tensor:
        """Return log mel frames as the codec gives them back."""
        with autocast(self.run):
            copies: Tensor = self.codec.decode(self.codec.encode(mel))
        return copies

    def _copies(self, sound: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the copies of the inner stretches, those stretches, their mel, and all turns."""
        vocoder = self.networks["vocoder"]
        assert isinstance(vocoder, Vocoder)
        state = vocoder.initial_state(len(x))
        with autocast(self.run):
            correction, _ = vocoder.corrections(x, state[:-LATE])
        blocks, *_ = vocoder.synthesise(x, correction, state[-LATE:])
        late = _BEFORE + vocoder.lookahead
        stop = _BEFORE + self.options.frames
        made = blocks[:, late : stop + vocoder.lookahead].flatten(1)
        wanted = sound[:, _BEFORE * HOP : stop * HOP]
        return made, wanted, batch_log_mel(wanted), vocoder.turns(correction)

    def _adversarial(self, made: Tensor, wanted: Tensor, losses: dict[str, Tensor]) -> Tensor:
        """Train the discriminator (least squares, HiFi-GAN eq. 1); return the vocoder's loss."""
        judge = self.networks["discriminator"]
        with autocast(self.run):
            real, _ = judge(wanted)
            false, _ = judge(made.detach())
        losses["judge"] = torch.stack(
            [
                (1.0 - a.float()).square().mean() + b.float().square().mean()
                for a, b in zip(real, false, strict=True)
            ]
        ).mean()
        self.update(losses["judge"], "discriminator")
        judge.requires_grad_(False)
        with autocast(self.run):
            false, features = judge(made)
            with torch.no_grad():
                _, model = judge(wanted)
        judge.requires_grad_(True)
        losses["fool"] = torch.stack([(1.0 - a.float()).square().mean() for a in false]).mean()
        losses["match"] = torch.stack(
            [
                (a.float() - b.float()).abs().mean() / b.float().abs().mean().clamp(min=1e-3)
                for a, b in zip(features, model, strict=True)
            ]
        ).mean()
        return (
            self.options.adversarial_weight * losses["fool"]
            + self.options.match_weight * losses["match"]
        )

    @torch.no_grad()
    def finish(self, out: Path) -> dict[str, float]:
        """Score copies of held-out sounds, from their mel and from what the codec makes of it."""
        vocoder, material = self.averages["vocoder"], self.material
        assert isinstance(vocoder, Vocoder)
        scores: dict[str, float] = {}
        for name, store, first in (
            ("clips", material.clips, material.n_train),
            ("blends", material.blends, material.n_blends),
        ):
            pairs: dict[str, list[tuple[Tensor, Tensor]]] = {"": [], "codec_": []}
            for number in range(first, min(first + 65, len(store))):
                sound = torch.from_numpy(store.pcm(number, 0, store.n_frames * HOP))[None]
                mel = batch_log_mel(sound.to(self.device))
                for way, given in (("", mel), ("codec_", self._through_codec(mel))):
                    pairs[way].append((mel, batch_log_mel(vocoder.sound(given))))
            for way, made in pairs.items():
                a, b = (torch.cat(part).cpu() for part in zip(*made, strict=True))
                scores[f"{name}_{way}mel_pcc"] = mel_correlation(a, b)
                scores[f"{name}_{way}mel_l1"] = float((a - b).abs().mean())
        return scores


def batch_log_mel(sound: Tensor) -> Tensor:
    """Return log mel frames, (batch, samples / 160, 64), differentiably; see `models.mel.log_mel`.

    Parameters
    ----------
    sound : Tensor of shape (batch, samples)
        A whole number of hops.
    """
    window = torch.hann_window(MEL.n_fft, device=sound.device)
    spectrum = torch.stft(sound, MEL.n_fft, MEL.hop, window=window, return_complex=True)
    magnitude = (spectrum.real.square() + spectrum.imag.square() + 1e-14).sqrt()
    basis = torch.from_numpy(mel_basis(MEL).astype(np.float32)).to(sound.device)
    mel = torch.log((basis @ magnitude).clamp(min=MEL.floor))
    return mel[..., : sound.shape[1] // MEL.hop].transpose(1, 2)


def spectral_losses(made: Tensor, wanted: Tensor, phase_weight: float) -> tuple[Tensor, Tensor]:
    """Return how far magnitudes and steps of phase are from those wanted.

    Magnitudes: spectral convergence and log distance (Parallel WaveGAN, arXiv:1910.11480, eq. 4-6)
    at four resolutions. Phase: group delay and instantaneous frequency as in APNet
    (arXiv:2305.07952, eq. 10-11), by 1 - cos of the error, which has no wrapping, weighted by the
    root of the wanted magnitude. Phase itself is not in a mel and is left free.
    """
    stft = made.new_zeros(())
    for size, hop in _RESOLUTIONS:
        a, b = (_magnitude(_spectrum(sound, size, hop)) for sound in (made, wanted))
        convergence = (a - b).norm(dim=(1, 2)) / b.norm(dim=(1, 2)).clamp(min=1.0)
        logs = (a.clamp(min=_FLOOR).log() - b.clamp(min=_FLOOR).log()).abs().mean()
        stft = stft + (convergence.clamp(max=10.0).mean() + logs) / len(_RESOLUTIONS)
    if phase_weight == 0.0:
        return stft, made.new_zeros(())
    a, b = (_spectrum(sound, N_FFT, HOP) for sound in (made, wanted))
    product = a * b.conj()
    error = product / (_magnitude(product) + 1e-4)
    weight = _magnitude(b).sqrt()
    phase = made.new_zeros(())
    for near, far, w in (
        (error[:, :-1], error[:, 1:], weight[:, :-1] * weight[:, 1:]),  # across frequency
        (error[..., :-1], error[..., 1:], weight[..., :-1] * weight[..., 1:]),  # across time
    ):
        step = far * near.conj()
        phase = phase + (w * (1.0 - step.real)).sum() / w.sum().clamp(min=1e-3)
    return stft, phase


def turn_loss(turns: Tensor, sound: Tensor) -> Tensor:
    """Return how far the turns of phases are from those of the sound itself, 0 to 2.

    Each weighs as much as the root of the magnitudes that it lies between.

    Parameters
    ----------
    turns : Tensor of shape (batch, frames, 321)
        Of all frames of the sound, as late as the vocoder gives them.
    sound : Tensor of shape (batch, samples)
    """
    frames = turns.shape[1]
    spectrum = _spectrum(sound, N_FFT, HOP).transpose(1, 2)[:, _BEFORE : frames - AHEAD]
    late = turns[:, _BEFORE + AHEAD + 1 :]
    step = spectrum[:, 1:] * spectrum[:, :-1].conj()
    size = _magnitude(step)
    along = (step.real * torch.cos(late) + step.imag * torch.sin(late)) / (size + 1e-4)
    weight = size.sqrt()
    return (weight * (1.0 - along)).sum() / weight.sum().clamp(min=1e-3)


def _spectrum(sound: Tensor, size: int, hop: int) -> Tensor:
    window = torch.hann_window(size, device=sound.device)
    return torch.stft(sound, size, hop, window=window, return_complex=True)


def _magnitude(spectrum: Tensor) -> Tensor:
    # abs() of a complex zero has no finite gradient.
    return (spectrum.real.square() + spectrum.imag.square() + 1e-10).sqrt()
