"""Mixtures for what must carry any sound, not only the classes: codec and vocoder.

Sounds of the library are played faster or slower (which moves formants and beats alike), filtered,
given a room and laid over each other. There is no class, caption or pitch of such a sound.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.sounds.procedural import tilt
from calibration.sounds.source import Sound, measured
from calibration.stimuli import LABELS, Factors, make_stimulus
from calibration.synthesis import SAMPLE_RATE_HZ, fade_edges, set_rms, shaped_noise
from models.errors import SettingError

__all__ = ["BlendSource"]

_SPEEDS = (0.6, 1.7)
_LEVELS_DBFS = (-38.0, -14.0)


@dataclass(frozen=True, slots=True)
class BlendSource:
    """One to three sounds of the library, changed and mixed.

    Parameters
    ----------
    seed : int
        At least 0.
    duration_s : float
        Length of each sound, s; at least 0.5.
    """

    seed: int
    duration_s: float = 5.12

    def __post_init__(self) -> None:
        if self.seed < 0 or not self.duration_s >= 0.5:
            raise SettingError(f"Blends need a seed >= 0 and at least 0.5 s, got {self}.")

    @property
    def name(self) -> str:
        """What the source is called in logs and records."""
        return "blends"

    def describe(self) -> dict[str, object]:
        """Return all settings that the sounds depend on, as JSON takes them."""
        return {"source": self.name, "version": 1, **asdict(self)}

    def sound(self, index: int) -> Sound:
        """Return mixture number `index`, from 0."""
        rng = np.random.default_rng([zlib.crc32(b"blends"), self.seed, index])
        n = round(self.duration_s * SAMPLE_RATE_HZ)
        mix = np.zeros(n)
        for _ in range(int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2]))):
            mix += set_rms(self._part(n, rng), float(rng.uniform(-32.0, -18.0)), peak=4.0)
        if rng.uniform() < 0.4:
            mix = _in_a_room(mix, rng)
        if rng.uniform() < 0.3:  # a hiss or hum underneath, as recordings have
            level = float(rng.uniform(-65.0, -40.0))
            corner = float(np.exp(rng.uniform(np.log(300.0), np.log(6_000.0))))
            noise = shaped_noise(n, rng, gain=lambda f: 1.0 / (1.0 + (f / corner) ** 2))
            mix += 10.0 ** (level / 20.0) * noise
        pcm = set_rms(fade_edges(mix), float(rng.uniform(*_LEVELS_DBFS))).astype(np.float32)
        nothing = float("nan")
        factors = measured(pcm, Factors(nothing, nothing, nothing, nothing, nothing))
        return Sound(pcm, "", "", factors)

    def _part(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """One sound of the library at another speed and of another colour."""
        low, high = np.log(_SPEEDS)
        speed = float(np.exp(rng.uniform(low, high)))
        needed = int(np.ceil(n * speed)) + 2
        label = str(rng.choice(LABELS))
        seconds = needed / SAMPLE_RATE_HZ
        source = make_stimulus(label, int(rng.integers(2**31)), max(seconds, 0.5)).pcm
        if speed > 1.0:  # or what lies above the new Nyquist frequency would fold back
            spectrum = np.fft.rfft(source)
            spectrum[int(len(spectrum) / speed) :] = 0.0
            source = np.fft.irfft(spectrum, len(source)).astype(np.float32)
        played = np.interp(np.arange(n) * speed, np.arange(len(source)), source)
        return tilt(played.astype(np.float32), float(rng.uniform(-6.0, 6.0)))


def _in_a_room(wave: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the sound with an exponentially dying noise tail (Moorer 1979's room)."""
    from scipy.signal import fftconvolve

    seconds = float(rng.uniform(0.1, 0.8))  # until -60 dB
    length = round(seconds * SAMPLE_RATE_HZ)
    response = rng.standard_normal(length) * 10.0 ** (-3.0 * np.arange(length) / length)
    response *= float(rng.uniform(0.05, 0.6)) / np.sqrt(np.sum(response**2))
    response[0] += 1.0
    return np.asarray(fftconvolve(wave, response)[: len(wave)])
