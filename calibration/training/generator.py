"""Stage `generator`: flow matching on windows of latents, most of which go on from known frames.

The windows of a batch all go on from as many known frames, or all from none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.training.checkpoint import START, load_tensors, load_weights
from calibration.training.loop import Stage, autocast
from calibration.training.material import FACTORS, WINDOW, WINDOW_STARTS, Material
from calibration.training.settings import GeneratorSettings, TrainingSettings
from models.errors import DeviceError
from models.nets.codec import FRAMES_PER_LATENT, Codec
from models.nets.dit import FRAMES_PER_TOKEN, TOKEN_DIM, Denoiser
from models.nets.encoder import AudioEncoder
from models.nets.readout import Readout
from models.nets.samplers import euler, uniform_times
from models.nets.sizes import LATENT, make_codec, make_denoiser
from models.nets.stretch import PREFIX

__all__ = [
    "FADE",
    "FRAMES",
    "LENGTHS",
    "GeneratorStage",
    "Windows",
    "draw_windows",
    "guided",
    "judge_conditions",
    "load_scorers",
]

FRAMES = WINDOW // FRAMES_PER_LATENT  # latent frames of a window: 64
# That windows are cut to: what was heard, then stretches of 2, 8 and 16 frames and the 4 held back.
LENGTHS = (PREFIX + 6, PREFIX + 12, PREFIX + 20, FRAMES)
FADE = (1.0 / 3.0, 2.0 / 3.0)  # share of the new sound in the first frames after a switch
_HEARD_ALL = 0.6  # share of the others that go on from sound alone


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """A batch of windows, as the denoiser takes them."""

    latents: Tensor  # (batch, frames, 32), the sound
    known: int  # frames that are given
    condition: Tensor  # (batch, 512), zeros where there is none
    tokens: Tensor  # (batch, frames, 768), zeros where there are none
    vectors: Tensor  # (batch, 512), of the sound, whatever `condition` says
    numbers: np.ndarray[tuple[int, ...], Any]  # which clips


def draw_windows(
    material: Material,
    options: GeneratorSettings,
    rng: np.random.Generator,
    n: int,
    *,
    frames: int | None = None,
    known: int | None = None,
) -> Windows:
    """Draw windows of clips, and what of them is known, given as condition, or blurred.

    All of them go on from `PREFIX` known frames, or all are made as a whole. Of what was heard
    before them some know nothing or little but silence, as streams that have just begun.

    Parameters
    ----------
    material : Material
    options : GeneratorSettings
        The shares.
    rng : numpy.random.Generator
    n : int
        Windows.
    frames : int, optional
        Their length, one of `LENGTHS`; drawn if not given.
    known : int, optional
        0 or `PREFIX`; drawn if not given. Windows of which nothing is known are `FRAMES` long.
    """
    latents, vectors, tokens = (material.derived(k) for k in ("latents", "vectors", "tokens"))
    if known is None:
        known = PREFIX if rng.uniform() < options.prefixed else 0
    if not known:
        frames = FRAMES
    elif frames is None:
        frames = int(rng.choice(LENGTHS))
    numbers = rng.integers(0, material.n_train, n)
    places = rng.integers(0, len(WINDOW_STARTS), n)
    x = _cut(latents, numbers, places)
    if known:
        _begin(x, latents, material, options, rng)
    own = vectors[numbers, places].astype(np.float32)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    given = own.copy()
    blurred = rng.uniform(size=n) < options.noisy_condition
    given[blurred] = _blurred(given[blurred], rng)
    given[rng.uniform(size=n) < options.without_condition] = 0.0
    words = np.zeros((n, FRAMES, tokens.shape[-1]), np.float32)
    for row in np.flatnonzero(rng.uniform(size=n) < options.with_tokens):
        # What is asked for is known for the frames to be made only.
        made = np.repeat(tokens[numbers[row], places[row]], FRAMES_PER_TOKEN, axis=0)
        words[row, known:] = made[known:]
    return Windows(
        latents=torch.from_numpy(x[:, :frames]),
        known=known,
        condition=torch.from_numpy(given),
        tokens=torch.from_numpy(words[:, :frames]),
        vectors=torch.from_numpy(own),
        numbers=numbers,
    )


def _begin(
    x: np.ndarray[tuple[int, ...], Any],
    latents: np.ndarray[tuple[int, ...], Any],
    material: Material,
    options: GeneratorSettings,
    rng: np.random.Generator,
) -> None:
    """Put other sounds, or silence, where a share of the windows x, changed in place, begin."""
    n = len(x)
    switched = rng.uniform(size=n) < options.switched
    other = _cut(latents, rng.integers(0, material.n_train, n), rng.integers(0, 5, n))
    x[switched, :PREFIX] = other[switched, :PREFIX]
    for i, share in enumerate(FADE, start=PREFIX):
        x[switched, i] = share * x[switched, i] + (1.0 - share) * other[switched, i]
    heard = np.where(rng.uniform(size=n) < 0.5, 0, rng.integers(1, PREFIX, n))
    heard[switched | (rng.uniform(size=n) < _HEARD_ALL)] = PREFIX
    silent = np.arange(PREFIX) < PREFIX - heard[:, None]
    x[:, :PREFIX][silent] = material.derived("silence")


def _cut(
    latents: np.ndarray[tuple[int, ...], Any],
    numbers: np.ndarray[tuple[int, ...], Any],
    places: np.ndarray[tuple[int, ...], Any],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    firsts = np.array(WINDOW_STARTS)[places] // FRAMES_PER_LATENT
    pairs = zip(numbers.tolist(), firsts.tolist(), strict=True)
    cut = np.stack([latents[number, first : first + FRAMES] for number, first in pairs])
    return np.asarray(cut, np.float32)


def _blurred(
    vectors: np.ndarray[tuple[int, ...], Any], rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], Any]:
    """Turn unit vectors away by a random angle, to a cosine of .6 to 1."""
    r = rng.uniform(0.6, 1.0, (len(vectors), 1))
    aside = rng.standard_normal(vectors.shape)
    aside -= (aside * vectors).sum(1, keepdims=True) * vectors
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    return np.asarray(r * vectors + np.sqrt(1.0 - r**2) * aside, np.float32)


class GeneratorStage(Stage):
    """Train the denoiser by conditional flow matching (arXiv:2210.02747, eq. 23).

    Parameters
    ----------
    run : TrainingSettings
    material : Material
    out : Path
        Folder of the run, for the codec and the encoders that score.
    """

    def __init__(self, run: TrainingSettings, material: Material, out: Path) -> None:
        super().__init__("generator", run, run.generator)
        self.options = run.generator
        self.material = material
        self.run_folder = out
        denoiser = make_denoiser(run.size)
        if (out / "generator" / START).exists():
            tensors, _ = load_tensors(out / "generator" / START)
            load_weights(denoiser, tensors, "denoiser")
        self.train_network("denoiser", denoiser)
        if run.compiled:
            _need_compiler(run.device)
            # For each length by itself: shapes that are left open make it slower than it was.
            self.networks["denoiser"].compile(dynamic=False)

    def advance(
        self, step: int, rng: np.random.Generator, noise: torch.Generator
    ) -> dict[str, Any]:
        """One step; moments are logit-normal (arXiv:2403.03206, eq. 19)."""
        windows = draw_windows(self.material, self.options, rng, self.batch)
        x = windows.latents.to(self.device)
        known = windows.known
        start = torch.randn(x.shape, generator=noise, device=self.device)
        time = torch.sigmoid(torch.randn(len(x), generator=noise, device=self.device))
        at = time[:, None, None]
        with autocast(self.run):
            velocity = self.networks["denoiser"](
                (1.0 - at) * start + at * x,
                time,
                condition=windows.condition.to(self.device),
                tokens=windows.tokens.to(self.device),
                clean=x,
                known=known,
            )
        error = (velocity - (x - start)).square().mean(-1)
        loss = error[:, known:].mean()
        self.update(loss, "denoiser")
        return {"loss": loss}

    @torch.no_grad()
    def finish(self, out: Path) -> dict[str, float]:
        """Score sounds made of held-out conditions in 32 steps."""
        denoiser = self.averages["denoiser"]
        assert isinstance(denoiser, Denoiser)
        return judge_conditions(denoiser, self.material, self.run_folder, self.run, steps=32)


def _need_compiler(device: str) -> None:
    """Check that torch.compile finds what makes code for this device out of its C++.

    Raises
    ------
    DeviceError
    """
    names = ("g++", "clang++", *filter(None, (os.environ.get("CXX"),)))
    if device == "cpu" and not any(shutil.which(name) for name in names):
        raise DeviceError(
            "Compiling the network needs a C++ compiler, and none of "
            f"{', '.join(names)} is there. Install g++, or leave --compile out."
        )


def free_windows(condition: Tensor) -> dict[str, Any]:
    """Return what `guided` takes for windows that are made as a whole of conditions alone.

    Parameters
    ----------
    condition : Tensor of shape (n, 512)
        Unit vectors.
    """
    n, device = len(condition), condition.device
    return {
        "condition": condition,
        "tokens": torch.zeros(n, FRAMES, TOKEN_DIM, device=device),
        "clean": torch.zeros(n, FRAMES, LATENT, device=device),
        "known": 0,
    }


def guided(
    denoiser: Denoiser, windows: Mapping[str, Any], strength: float
) -> Callable[[Tensor, Tensor | float], Tensor]:
    """Return the velocity with classifier-free guidance (arXiv:2207.12598, eq. 6) for a sampler.

    What is known is read once, at the first call.

    Parameters
    ----------
    denoiser : Denoiser
    windows : mapping
        `condition`, `tokens`, `clean`, `known`.
    strength : float
        1 is none.
    """
    given = dict(windows)
    if strength != 1.0:  # both in one pass: a batch of twice the size costs less than two
        for name in ("condition", "tokens"):  # what guidance leaves out
            given[name] = torch.cat([windows[name], torch.zeros_like(windows[name])])
        given["clean"] = windows["clean"].repeat(2, 1, 1)
    parts = {name: given[name] for name in ("condition", "clean", "known")}

    def velocity(x: Tensor, time: Tensor | float) -> Tensor:
        if "memory" not in given:
            given["memory"] = denoiser.remember(**parts)
        moment = torch.as_tensor(time, device=x.device).expand(len(x))
        if strength == 1.0:
            plain: Tensor = denoiser(x, moment, **given)
            return plain
        with_it, without = denoiser(x.repeat(2, 1, 1), moment.repeat(2), **given).chunk(2)
        guided_velocity: Tensor = without + strength * (with_it - without)
        return guided_velocity

    return velocity


def judge_conditions(
    denoiser: Denoiser,
    material: Material,
    out: Path,
    run: TrainingSettings,
    *,
    steps: int,
    count: int = 260,
    guidance: Sequence[float] = (1.0, 2.0),
) -> dict[str, float]:
    """Score sounds made from the vectors of held-out clips.

    The judge says of which class they are, the training encoder how near they come to the vector.

    Parameters
    ----------
    denoiser : Denoiser
    material : Material
    out : Path
        Folder of the run.
    run : TrainingSettings
    steps : int
        Of the sampler.
    count : int
        Clips, at most.
    guidance : sequence of float
        Strengths to score.

    Returns
    -------
    scores : dict
        For each guidance w `accuracy_w`, `cosine_w` (of the training encoder) and `loudness_r_w`;
        `real` is the judge's accuracy on the clips themselves.
    """
    device = torch.device(run.device)
    codec, encoder, judge, readout = load_scorers(out, run)
    numbers = np.arange(material.n_train, min(material.n_train + count, len(material.clips)))
    vectors = np.asarray(material.derived("vectors")[numbers, 2], np.float32)
    condition = torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    labels = torch.from_numpy(material.classes[numbers])
    noise = torch.randn(len(numbers), FRAMES, 32, generator=torch.Generator().manual_seed(run.seed))
    scores: dict[str, float] = {}

    def judged(mel: Tensor) -> float:
        return float((readout(judge(mel))[0].argmax(-1).cpu() == labels).float().mean())

    real = np.asarray(material.derived("latents")[numbers, 32:96], np.float32)
    scores["real"] = judged(codec.decode(torch.from_numpy(real).to(device)))
    for strength in guidance:
        velocity = guided(denoiser, free_windows(condition.to(device)), strength)
        mel = codec.decode(euler(velocity, noise.to(device), uniform_times(steps)))
        scores[f"accuracy_{strength:g}"] = judged(mel)
        cosine = (encoder(mel).cpu() * condition).sum(-1)
        scores[f"cosine_{strength:g}"] = float(cosine.mean())
        # Loudness: decibels of the summed power of all bands, silence at -60.
        power = torch.exp(2.0 * mel).sum(-1).mean(-1).cpu().clamp(min=1e-8).log10() * 10.0
        wanted = torch.from_numpy(material.factors[numbers, 3])
        scores[f"loudness_r_{strength:g}"] = float(
            torch.corrcoef(torch.stack([power, wanted]))[0, 1]
        )
    return scores


def load_scorers(
    out: Path, run: TrainingSettings
) -> tuple[Codec, AudioEncoder, AudioEncoder, Readout]:
    """Return the trained codec, the training encoder, the judge's encoder and its readout."""
    device = torch.device(run.device)
    codec, encoder, judge = make_codec(run.size), AudioEncoder(), AudioEncoder()
    judged, _ = load_tensors(out / "judge" / "final.safetensors")
    n_classes = len(judged["readout.classes.bias"]) if "readout.classes.bias" in judged else 0
    readout = Readout(n_classes, len(FACTORS))
    load_weights(judge, judged, "audio")
    load_weights(readout, judged, "readout")
    for stage, key, network in (("codec", "codec", codec), ("encoder", "audio", encoder)):
        tensors, _ = load_tensors(out / stage / "final.safetensors")
        load_weights(network, tensors, key)
    for each in (codec, encoder, judge, readout):
        each.to(device).eval().requires_grad_(False)
    return codec, encoder, judge, readout
