"""Stage `encoder`: sounds and captions to one space; stage `judge`: the same, of another seed.

Contrastive between sound and caption and between two stretches of one sound (CLAP,
arXiv:2211.06687, eq. 2), and the known factors must be readable, so that a generator that follows
the vector can follow pitch, tempo, brightness and loudness. What is scored is scored by the judge.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from calibration.sounds.procedural import SILENCE
from calibration.training.loop import Stage, autocast
from calibration.training.material import FACTORS, WINDOW, WINDOW_STARTS, Material, mel_batch
from calibration.training.settings import TrainingSettings
from models.nets.encoder import (
    EMBEDDING_DIM,
    AudioEncoder,
    CaptionEncoder,
    caption_words,
    word_ids,
)
from models.nets.readout import Readout

__all__ = ["EncoderStage", "make_vocabulary"]

_LENGTHS = (128, 256, 512)  # mel frames: 1.28, 2.56, 5.12 s
_SHARES = (0.45, 0.45, 0.1)


def make_vocabulary(captions: list[str]) -> list[str]:
    """Return the words of captions that occur at least twice, in alphabetical order."""
    counts = Counter(word for caption in captions for word in set(caption_words(caption)))
    return sorted(word for word, count in counts.items() if count > 1)


class EncoderStage(Stage):
    """Train the two encoders and the readout.

    Parameters
    ----------
    name : "encoder" or "judge"
    run : TrainingSettings
    material : Material
    """

    def __init__(self, name: str, run: TrainingSettings, material: Material) -> None:
        super().__init__(name, run, run.encoder)
        self.options = run.encoder
        self.material = material
        self.vocabulary = make_vocabulary(material.captions[: material.n_train])
        self.words = word_ids(material.captions, self.vocabulary)
        self.notes["vocabulary"] = self.vocabulary
        self.train_network("audio", AudioEncoder())
        self.train_network("caption", CaptionEncoder(vocabulary=len(self.vocabulary)))
        self.notes["labels"] = list(material.labels)
        readout = Readout(len(material.labels), len(FACTORS), temperature=self.options.temperature)
        self.train_network("readout", readout)
        labels = material.labels
        self.silence = labels.index(SILENCE) if SILENCE in labels else None

    def advance(
        self, step: int, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Any]:
        """One step; two stretches of each sound, each of its own length."""
        material, device = self.material, self.device
        # Each sound once: of two that are the same, one would be called a wrong answer.
        count = min(self.batch, material.n_train)
        numbers = rng.choice(material.n_train, count, replace=False)
        stretches = []
        for _ in range(2):
            frames = int(rng.choice(_LENGTHS, p=_SHARES))
            firsts = rng.integers(0, material.clips.n_frames - frames + 1, len(numbers))
            stretches.append(mel_batch(material.clips, numbers, firsts, frames).to(device))
        words = self.words[torch.from_numpy(numbers)].to(device)
        with autocast(self.run):
            first, second = (self.networks["audio"](mel) for mel in stretches)
            spoken = self.networks["caption"](words)
        classes, factors = self.networks["readout"](torch.cat([first, second]))
        scale = self.networks["readout"].scale()  # type: ignore[operator]
        # Sounds with the same words are no counter-examples of each other.
        same = (words.unsqueeze(0) == words.unsqueeze(1)).all(-1)
        caption_loss = _contrast(first, spoken, scale, same)
        silent = torch.from_numpy(material.classes[numbers] == self.silence).to(device)
        alike = torch.eye(len(numbers), dtype=torch.bool, device=device) | (
            silent.unsqueeze(0) & silent.unsqueeze(1)
        )
        pair_loss = _contrast(first, second, scale, alike)
        labels = torch.from_numpy(material.classes[numbers]).to(device).repeat(2)
        # Sounds of no class (-1) say nothing here, nor do factors that are not known.
        class_loss = functional.cross_entropy(classes, labels, ignore_index=-1, reduction="sum")
        class_loss = class_loss / (labels >= 0).sum().clamp(min=1)
        wanted = torch.from_numpy(material.factors[numbers]).to(device).repeat(2, 1)
        known = torch.isfinite(wanted)
        off = functional.smooth_l1_loss(
            factors, torch.nan_to_num(wanted), reduction="none", beta=0.25
        )
        factor_loss = (off * known).sum() / known.sum().clamp(min=1)
        options = self.options
        loss = (
            caption_loss
            + options.pair_weight * pair_loss
            + options.factor_weight * factor_loss
            + options.class_weight * class_loss
        )
        self.update(loss, "audio", "caption", "readout")
        return {
            "loss": loss,
            "caption": caption_loss,
            "pair": pair_loss,
            "factor": factor_loss,
            "class": class_loss,
        }

    @torch.no_grad()
    def embed(self, mel: Tensor) -> Tensor:
        """Return the averaged encoder's unit vectors, (batch, 512), on the CPU."""
        vectors: Tensor = self.averages["audio"](mel.to(self.device))
        return vectors.cpu()

    def derive(self) -> None:
        """Embed every window of the clips (encoder only)."""
        if self.name != "encoder":
            return
        material = self.material
        shape = (len(material.clips), len(WINDOW_STARTS), EMBEDDING_DIM)
        vectors = material.derive("vectors", shape)
        for number in range(len(material.clips)):
            vectors[number] = self.embed(_windows(material, number)).numpy()
        vectors.flush()
        material.derive_done("vectors")

    @torch.no_grad()
    def finish(self, out: Path) -> dict[str, float]:
        """Embed every window of the clips (encoder only); score on sounds never trained on."""
        self.derive()
        material = self.material
        held = np.array(material.held_out)
        mel = mel_batch(material.clips, held, np.full(len(held), 128), WINDOW)
        sounds = torch.cat([self.embed(part) for part in torch.split(mel, 64)])
        spoken = self.averages["caption"](self.words[torch.from_numpy(held)].to(self.device)).cpu()
        classes, factors = (part.cpu() for part in self.averages["readout"](sounds.to(self.device)))
        named = material.classes[held] >= 0
        right = classes.argmax(-1).numpy()[named] == material.classes[held][named]
        scores = {"class_accuracy": float(right.mean())} if named.any() else {}
        # Of 32 sounds, one of which is meant: the caption's nearest.
        groups = min(len(held) // 32, 20)
        top = [
            float(
                (spoken[i::groups] @ sounds[i::groups].T)
                .argmax(-1)
                .eq(torch.arange(len(sounds[i::groups])))
                .float()
                .mean()
            )
            for i in range(groups)
        ]
        if top:
            scores["caption_top1_of_32"] = float(np.mean(top))
        from scipy.stats import spearmanr

        for i, name in enumerate(FACTORS):
            known = np.isfinite(material.factors[held, i])
            if known.sum() > 2:
                pair = (material.factors[held, i][known], factors[:, i].numpy()[known])
                scores[f"{name}_rank_r"] = float(spearmanr(*pair).statistic)
        return scores


def _windows(material: Material, number: int) -> Tensor:
    mel = material.clips.mel(number, 0, material.clips.n_frames)
    return torch.from_numpy(np.stack([mel[first : first + WINDOW] for first in WINDOW_STARTS]))


def _contrast(a: Tensor, b: Tensor, scale: Tensor, same: Tensor) -> Tensor:
    """Cross-entropy both ways, the probability shared among those that are the same."""
    logits = scale * a @ b.T
    wanted = same.float() / same.float().sum(-1, keepdim=True)
    return 0.5 * (
        functional.cross_entropy(logits, wanted) + functional.cross_entropy(logits.T, wanted)
    )
