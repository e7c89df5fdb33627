"""A generator in NumPy for tests: every word of `models.stretch.Generator`, and known sound.

A tone whose pitch the condition gives, without a jump of phase, over soft noise. The pitch glides
over the first frame of a stretch, so that a stretch of a new condition can be told from an old one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.stretch import GeneratorInput, GeneratorSpec, GeneratorState
from models.stretch_inputs import check_noise, stretch_arrays

__all__ = ["LATENT", "Call", "ToneGenerator", "pitched", "tokens_of"]

LATENT = 3
FRAME = 640
RATE_HZ = 16_000


def pitched(hz: float) -> NDArray[np.float32]:
    """Return the condition of a pitch: the angle of the first two values, 0 to 90 degrees."""
    vector = np.zeros(512, np.float32)
    angle = hz / 2000.0 * np.pi / 2
    vector[:2] = np.cos(angle), np.sin(angle)
    return vector


def tokens_of(levels: list[float]) -> NDArray[np.float32]:
    """Return tokens whose steps can be told apart: all values of step i are levels[i]."""
    return np.repeat(np.asarray(levels, np.float32), 8)[:, None].repeat(768, axis=1)


@dataclass(frozen=True)
class Call:
    """What one stretch was asked for with."""

    n_frames: int
    given: GeneratorInput
    noise: NDArray[np.float32]


@dataclass
class ToneGenerator:
    """Loudness .1, or what the tokens say, plus noise 60 dB below; counts its calls."""

    stretches: tuple[int, ...] = (4, 8, 16, 28)
    held: int = 4
    noise_level: float = 1e-4
    startable: bool = True
    delay_samples: int = 0
    calls: list[Call] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)  # numbers of calls that give NaN

    @property
    def spec(self) -> GeneratorSpec:
        return GeneratorSpec(
            family="small",
            size="tiny",
            steps=2,
            stretches=self.stretches,
            held=self.held,
            conditions=("vector", "tokens"),
            startable=self.startable,
            latent=(LATENT,),
            delay_samples=self.delay_samples,
        )

    def noise_shape(self, n_frames: int) -> tuple[int, ...]:
        return 2, 1, n_frames + self.held, LATENT

    def initial_state(self) -> GeneratorState:
        # Starts at its peak: the worst that can be joined to what was before.
        return {"phase": np.full(1, np.pi / 2, np.float32), "hz": np.full(1, -1.0, np.float32)}

    def stretch(
        self,
        given: GeneratorInput,
        state: GeneratorState,
        noise: NDArray[np.float32],
        *,
        n_frames: int,
    ) -> tuple[NDArray[np.float32], GeneratorState]:
        arrays = stretch_arrays(
            given, self.spec, n_frames=n_frames, silence=np.zeros(LATENT, np.float32)
        )
        noise = check_noise(noise, self.noise_shape(n_frames))
        self.calls.append(Call(n_frames, given, noise))
        n = n_frames * FRAME
        first, second = arrays["vector"][0, :2]
        hz = float(np.arctan2(second, first)) / (np.pi / 2) * 2000.0
        before = float(state["hz"][0])
        glide = np.full(n, hz)
        if before >= 0:
            glide[:FRAME] = np.linspace(before, hz, FRAME)
        phase = float(state["phase"][0]) + 2 * np.pi * np.cumsum(glide) / RATE_HZ
        level = 0.1 if given.tokens is None else float(arrays["tokens"][0, 0, 0])
        soft = np.interp(np.arange(n) / FRAME, np.arange(n_frames), noise[0, 0, :n_frames, 0])
        pcm = (level * np.sin(phase) + self.noise_level * soft).astype(np.float32)
        if len(self.calls) - 1 in self.broken:
            pcm[n // 2] = np.nan
        after = {
            "phase": np.full(1, np.remainder(phase[-1], 2 * np.pi), np.float32),
            "hz": np.full(1, hz, np.float32),
        }
        return pcm, after
