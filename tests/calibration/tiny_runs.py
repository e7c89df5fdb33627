"""A brain of a few voxels that answers to known features with a known delay, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.data.dataset import Event, Run

__all__ = ["LatentTargets", "TinyBrain", "hrf"]

_FINE_S = 0.25


def hrf(peak_s: float) -> NDArray[np.float64]:
    """Return a gamma response that peaks at `peak_s`, 2.5 s wide, on the fine grid."""
    t = np.arange(0.0, 30.0, _FINE_S)
    shape = (peak_s / 2.5) ** 2 + 1.0
    values = (t / peak_s) ** (shape - 1) * np.exp((shape - 1) * (1 - t / peak_s))
    return np.asarray(values / values.sum())


@dataclass
class LatentTargets:
    """The mean of the latent features over a stretch of a clip."""

    latents: dict[str, NDArray[np.float64]]  # (n_fine, dim)

    @property
    def dim(self) -> int:
        return int(next(iter(self.latents.values())).shape[1])

    def targets(
        self, stimuli: Sequence[str], starts_s: ArrayLike, stops_s: ArrayLike
    ) -> NDArray[np.float64]:
        rows = []
        for name, start, stop in zip(
            stimuli, np.asarray(starts_s), np.asarray(stops_s), strict=True
        ):
            first, last = round(start / _FINE_S), max(round(stop / _FINE_S), 1)
            rows.append(self.latents[name][min(first, last - 1) : last].mean(axis=0))
        return np.array(rows).reshape(len(rows), self.dim)


class TinyBrain:
    """Voxels that answer to clips of `clip_s` seconds, back to back.

    Parameters
    ----------
    peaks_s : sequence of float
        Peak of the response of each group of voxels; voxels are dealt out evenly.
    snr : float
        Standard deviation of the answer relative to that of the noise; 0: noise only.
    """

    def __init__(
        self,
        seed: int,
        *,
        peaks_s: Sequence[float] = (5.0,),
        n_voxels: int = 60,
        dim: int = 6,
        snr: float = 1.0,
        tr_s: float = 1.5,
        clip_s: float = 15.0,
        group_dims: bool = False,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.tr_s, self.clip_s, self.snr = tr_s, clip_s, snr
        self.dim, self.n_voxels = dim, n_voxels
        self.group = np.arange(n_voxels) % len(peaks_s)
        self.peaks_s = tuple(peaks_s)
        self.weights = self.rng.standard_normal((dim, n_voxels))
        if group_dims:  # each group of voxels knows features that the others do not
            self.weights *= (np.arange(dim) % len(peaks_s))[:, None] == self.group
        self.latents: dict[str, NDArray[np.float64]] = {}

    @property
    def targets(self) -> LatentTargets:
        return LatentTargets(self.latents)

    def latent(self, clip: str) -> NDArray[np.float64]:
        """Return what a clip is made of: one level, and slow changes about it."""
        if clip not in self.latents:
            n = round(self.clip_s / _FINE_S)
            steps = self.rng.standard_normal((n, self.dim))
            change = np.array([np.convolve(s, np.ones(12) / 12**0.5, "same") for s in steps.T]).T
            self.latents[clip] = self.rng.standard_normal(self.dim) + change
        return self.latents[clip]

    def run(
        self, name: str, clips: Sequence[str], *, session: str = "", first_onset_s: float = 0.0
    ) -> Run:
        """Return a run in which clips are heard one after another."""
        heard = np.concatenate([self.latent(clip) for clip in clips])
        heard = np.concatenate([np.zeros((round(first_onset_s / _FINE_S), self.dim)), heard])
        n = int(np.ceil((len(heard) * _FINE_S + 12.0) / self.tr_s))
        # A volume is taken over its TR: what it shows is the middle of it.
        at = ((np.arange(n) + 0.5) * self.tr_s / _FINE_S).astype(int)
        answers = np.zeros((n, self.n_voxels))
        for group, peak in enumerate(self.peaks_s):
            mine = self.group == group
            full = np.array([np.convolve(h, hrf(peak)) for h in heard.T]).T
            answers[:, mine] = full[np.minimum(at, len(full) - 1)] @ self.weights[:, mine]
        noise = self.rng.standard_normal(answers.shape)
        scale = self.snr / max(float(answers.std()), 1e-9)
        signal = 1000.0 + 10.0 * (answers * scale + noise)
        events = tuple(
            Event(first_onset_s + k * self.clip_s, self.clip_s, clip, clip[0])
            for k, clip in enumerate(clips)
        )
        return Run(
            "sub-01",
            session,
            name,
            "train",
            signal.astype(np.float32),
            1.0 / self.tr_s,
            np.asarray(np.arange(n) * self.tr_s, np.float64),
            events,
        )

    def runs(self, n_runs: int, n_clips: int, *, prefix: str = "a") -> tuple[Run, ...]:
        """Return runs of different clips."""
        return tuple(
            self.run(f"run-{k}", [f"{prefix}{k * n_clips + i}" for i in range(n_clips)])
            for k in range(n_runs)
        )
