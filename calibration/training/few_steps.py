"""How near few steps of a student come to many steps of its teacher, by the judge of another seed.

Both make sounds from the vectors of held-out windows, the teacher with the guidance that the
student has built in. Compared are the cosine to the vector, the judge's class accuracy, and the
Frechet distance of the judge's features to those of the real windows. Then the student goes on
from its own sound a dozen times: what a long stream keeps of what was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.honest.audio_metrics import frechet_distance
from calibration.training.generator import FRAMES, free_windows, guided, load_scorers
from calibration.training.loop import autocast
from calibration.training.material import WINDOW_STARTS, Material
from calibration.training.settings import TrainingSettings
from models.nets.codec import FRAMES_PER_LATENT, Codec
from models.nets.dit import Denoiser
from models.nets.encoder import AudioEncoder
from models.nets.readout import Readout
from models.nets.samplers import Sampler, Velocity, euler, uniform_times
from models.nets.stretch import PREFIX

__all__ = ["score_few_steps"]

_BATCH = 65
_FEATURES = 64  # principal directions of the judge's vectors of real windows
_CHAIN = 12  # continuations


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Held-out windows: what is asked for, and what is real."""

    vectors: Tensor  # (n, 512)
    labels: Tensor  # (n,)
    latents: Tensor  # (n, 64, 32)


@dataclass(frozen=True, slots=True, eq=False)
class _Judges:
    codec: Codec
    encoder: AudioEncoder
    judge: AudioEncoder
    readout: Readout

    def hear(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the encoder's and the judge's vectors, and the classes heard, on the CPU."""
        parts = []
        for part in torch.split(latents, _BATCH):
            mel = self.codec.decode(part)
            judged = self.judge(mel)
            parts.append((self.encoder(mel), judged, self.readout(judged)[0].argmax(-1)))
        own, judged, heard = (torch.cat(rows).cpu() for rows in zip(*parts, strict=True))
        return own, judged, heard


@torch.no_grad()
def score_few_steps(
    student: Denoiser,
    teacher: Denoiser,
    material: Material,
    out: Path,
    run: TrainingSettings,
    *,
    sampler: Sampler = euler,
    steps: Sequence[int] = (1, 2, 4),
    many: int = 32,
    count: int = 1_040,
) -> dict[str, float]:
    """Score a student beside its teacher, and beside the teacher in as few steps.

    Parameters
    ----------
    student, teacher : Denoiser
    material : Material
    out : Path
        Folder of the run, with codec, encoder and judge.
    run : TrainingSettings
        `distill.guidance` is the teacher's.
    sampler : callable
        How the student's steps follow one another.
    steps : sequence of int
        Of the student.
    many : int
        Of the teacher, by `euler`.
    count : int
        Held-out windows, at most.

    Returns
    -------
    scores : dict
        `NAME_K_steps` for the student, `NAME_undistilled_K` for the teacher in K steps without
        guidance and `NAME_teacher` for its many; NAME is `cosine`, `accuracy` or `frechet`.
        `frechet_real` is one half of the real windows against the other, `accuracy_real` the
        judge's on all. `accuracy_stretch_N` is that of the student's N-th stretch of a chain.
    """
    judges = _Judges(*load_scorers(out, run))
    asked = _held_out(material, count)
    device = torch.device(run.device)
    _, real, heard = judges.hear(asked.latents.to(device))
    basis = _directions(real)
    half = len(real) // 2
    rng = np.random.default_rng(run.seed)
    order = torch.from_numpy(rng.permutation(len(real)))
    scores = {
        "accuracy_real": _share(heard, asked.labels),
        "frechet_real": _distance(real[order[:half]], real[order[half:]], basis),
    }

    def score(name: str, latents: Tensor) -> None:
        own, judged, heard = judges.hear(latents)
        scores[f"cosine_{name}"] = float((own * asked.vectors).sum(-1).mean())
        scores[f"accuracy_{name}"] = _share(heard, asked.labels)
        scores[f"frechet_{name}"] = _distance(real, judged, basis)

    made = _sample(teacher, asked, run, steps=many, guidance=run.distill.guidance)
    score("teacher", made)
    for k in steps:
        score(f"{k}_steps", _sample(student, asked, run, steps=k, sampler=sampler))
        score(f"undistilled_{k}", _sample(teacher, asked, run, steps=k))
    first, last = _chain(student, asked, run, steps=max(steps), sampler=sampler)
    for number, latents in ((1, first), (_CHAIN, last)):
        scores[f"accuracy_stretch_{number}"] = _share(
            judges.hear(latents)[2], asked.labels[: len(latents)]
        )
    return scores


def _held_out(material: Material, count: int) -> _Asked:
    clips = np.arange(material.n_train, len(material.clips))
    places = [(clip, place) for place in (2, 0, 4, 1, 3) for clip in clips.tolist()][:count]
    vectors = np.stack([material.derived("vectors")[clip, place] for clip, place in places])
    vectors = vectors.astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kept = material.derived("latents")
    firsts = [WINDOW_STARTS[place] // FRAMES_PER_LATENT for _, place in places]
    latents = np.stack(
        [kept[clip, at : at + FRAMES] for (clip, _), at in zip(places, firsts, strict=True)]
    )
    return _Asked(
        vectors=torch.from_numpy(vectors),
        labels=torch.from_numpy(material.classes[[clip for clip, _ in places]]),
        latents=torch.from_numpy(latents.astype(np.float32)),
    )


def _sample(
    denoiser: Denoiser,
    asked: _Asked,
    run: TrainingSettings,
    *,
    steps: int,
    guidance: float = 1.0,
    sampler: Sampler = euler,
) -> Tensor:
    """Return latents, (n, 64, 32), made of nothing but the vectors."""
    device, source = torch.device(run.device), torch.Generator().manual_seed(run.seed + 1)
    made = []
    for vectors in torch.split(asked.vectors, _BATCH):
        given = free_windows(vectors.to(device))
        velocity = guided(denoiser, given, guidance)
        made.append(_windows(velocity, given, source, run, steps, sampler))
    return torch.cat(made)


def _chain(
    student: Denoiser, asked: _Asked, run: TrainingSettings, *, steps: int, sampler: Sampler
) -> tuple[Tensor, Tensor]:
    """Return the windows that end with the first and with the last continuation."""
    device, source = torch.device(run.device), torch.Generator().manual_seed(run.seed + 2)
    vectors = asked.vectors[: 2 * _BATCH]
    given = free_windows(vectors.to(device))
    made = _windows(guided(student, given, 1.0), given, source, run, steps, sampler)
    first = made
    given["known"] = PREFIX
    for _ in range(_CHAIN - 1):
        clean = torch.zeros_like(made)
        clean[:, :PREFIX] = made[:, -PREFIX:]
        given["clean"] = clean
        new = _windows(guided(student, given, 1.0), given, source, run, steps, sampler)
        made = torch.cat([clean[:, :PREFIX], new[:, PREFIX:]], dim=1)
    return first, made


def _windows(
    velocity: Velocity,
    given: dict[str, Any],
    source: torch.Generator,
    run: TrainingSettings,
    steps: int,
    sampler: Sampler,
) -> Tensor:
    shape, device = given["clean"].shape, given["clean"].device
    times = uniform_times(steps)
    # Noise from the CPU: the same on every device.
    x = torch.randn(shape, generator=source).to(device)
    fresh = [torch.randn(shape, generator=source).to(device) for _ in times[2:]]
    with autocast(run):
        return sampler(velocity, x, times, noise=fresh)


def _directions(vectors: Tensor) -> NDArray[np.float64]:
    """Return the directions in which real vectors vary most, (512, 64)."""
    centred = vectors.double().numpy() - vectors.double().numpy().mean(axis=0)
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    return np.asarray(rows[:_FEATURES].T)


def _distance(real: Tensor, made: Tensor, basis: NDArray[np.float64]) -> float:
    return frechet_distance(*(part.double().numpy() @ basis for part in (real, made)))


def _share(heard: Tensor, labels: Tensor) -> float:
    return float((heard == labels).float().mean())
