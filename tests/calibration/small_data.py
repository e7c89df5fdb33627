"""Recordings in memory, small enough for a test of any part of a calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from calibration.data.dataset import Dataset, Event, Run, Stimulus

__all__ = ["eeg_dataset"]

_RATE_HZ = 64.0


def eeg_dataset(
    *,
    seed: int = 0,
    n_runs: int = 4,
    n_trials: int = 16,
    snr: float = 2.0,
    participant: str = "ann",
) -> Dataset:
    """Return runs in which a fast or a slow wave is heard, one second each, in random order.

    All runs are called alike, in sessions of two: only together the names tell them apart.
    """
    rng = np.random.default_rng(seed)
    runs = []
    for number in range(n_runs):
        kinds = rng.permutation(np.arange(n_trials) % 2)
        n = int((2 * n_trials + 2) * _RATE_HZ)
        signal = rng.standard_normal((n, 3))
        events = []
        for k, kind in enumerate(kinds):
            onset = 1.0 + 2.0 * k
            t = np.arange(round(_RATE_HZ)) / _RATE_HZ
            wave = snr * np.sin(2 * np.pi * (10.0, 20.0)[kind] * t)
            first = round(onset * _RATE_HZ)
            signal[first : first + len(t), :2] += wave[:, None]
            name = ("low", "high")[kind]
            events.append(Event(onset, 1.0, name, name))
        runs.append(
            Run(
                participant=participant,
                session=f"ses-{number // 2}",
                run=f"run-{number % 2}",
                part="",
                signal=(signal * 1e-5).astype(np.float32),
                sfreq_hz=_RATE_HZ,
                stamps_s=np.arange(n) / _RATE_HZ,
                events=tuple(events),
            )
        )
    stimuli = {name: Stimulus(name, name) for name in ("low", "high")}
    return Dataset(Path("data"), "memory", "eeg", ("c1", "c2", "c3"), tuple(runs), stimuli)
