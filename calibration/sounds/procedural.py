"""The procedural library as a source for training: every class in turn, spread in level and colour.

`calibration.stimuli` makes the sounds; here they get a random moment of beginning, brightness and
loudness over a wider range than an experiment would use, and silence joins them as a class.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.sounds.captions import caption_with_factors
from calibration.sounds.source import Sound, measured
from calibration.stimuli import LABELS, Factors, make_stimulus
from calibration.synthesis import SAMPLE_RATE_HZ, fade_edges, set_rms
from models.errors import SettingError

__all__ = ["CLASSES", "SILENCE", "ProceduralSource", "tilt"]

SILENCE = "silence"
CLASSES = (*LABELS, SILENCE)

_LEVELS_DBFS = (-38.0, -16.0)
_TILT_DB_PER_OCTAVE = 4.0  # at most, up or down
_LEAD_S = 0.64  # a clip begins somewhere in this stretch: no onset is always at its start


@dataclass(frozen=True, slots=True)
class ProceduralSource:
    """Sounds of each class in turn.

    Parameters
    ----------
    seed : int
        At least 0; sources of different seeds share no sound.
    duration_s : float
        Length of each sound, s; at least 0.5.
    classes : tuple of str
        Which of `CLASSES` take part; class i % len(classes) is that of sound i.
    """

    seed: int
    duration_s: float = 5.12
    classes: tuple[str, ...] = CLASSES

    def __post_init__(self) -> None:
        unknown = [label for label in self.classes if label not in CLASSES]
        if self.seed < 0 or not self.duration_s >= 0.5 or not self.classes or unknown:
            raise SettingError(
                "A procedural source needs a seed >= 0, sounds of at least 0.5 s and classes from "
                f"{', '.join(CLASSES)}, got {self}."
            )

    @property
    def name(self) -> str:
        """What the source is called in logs and records."""
        return "procedural"

    def describe(self) -> dict[str, object]:
        """Return all settings that the sounds depend on, as JSON takes them."""
        return {"source": self.name, "version": 1, **asdict(self)}

    def sound(self, index: int) -> Sound:
        """Return sound number `index`: class, pitch, tempo and the rest follow from seed and index.

        Parameters
        ----------
        index : int
            At least 0.
        """
        label = self.classes[index % len(self.classes)]
        rng = np.random.default_rng([zlib.crc32(b"procedural"), self.seed, index])
        n = round(self.duration_s * SAMPLE_RATE_HZ)
        if label == SILENCE:
            return _silence(n, rng)
        whole = make_stimulus(label, int(rng.integers(2**31)), self.duration_s + _LEAD_S)
        first = int(rng.integers(round(_LEAD_S * SAMPLE_RATE_HZ)))
        slope = float(rng.uniform(-_TILT_DB_PER_OCTAVE, _TILT_DB_PER_OCTAVE))
        wave = tilt(whole.pcm[first : first + n], slope)
        pcm = set_rms(fade_edges(wave), float(rng.uniform(*_LEVELS_DBFS))).astype(np.float32)
        factors = measured(pcm, whole.factors)
        return Sound(pcm, label, caption_with_factors(whole.caption, factors, rng), factors)


def tilt(wave: NDArray[np.float32], db_per_octave: float) -> NDArray[np.float64]:
    """Return a sound made brighter (above 0) or darker (below 0); 1 kHz keeps its level.

    The slope ends at 60 Hz and at the Nyquist frequency. The phase is left as it is.
    """
    frequency = np.fft.rfftfreq(len(wave), 1.0 / SAMPLE_RATE_HZ)
    octaves = np.log2(np.maximum(frequency, 60.0) / 1_000.0)
    spectrum = np.fft.rfft(wave) * 10.0 ** (db_per_octave * octaves / 20.0)
    return np.fft.irfft(spectrum, len(wave))


def _silence(n: int, rng: np.random.Generator) -> Sound:
    """Digital silence, or in one of two cases a hiss of -90 to -75 dBFS, as converters leave."""
    pcm = np.zeros(n, np.float32)
    if rng.uniform() < 0.5:
        level = 10.0 ** (rng.uniform(-90.0, -75.0) / 20.0)
        pcm = (level * rng.standard_normal(n)).astype(np.float32)
    nothing = float("nan")
    factors = measured(pcm, Factors(nothing, nothing, nothing, nothing, 0.0))
    # Neither how bright nor how busy silence is means anything.
    factors = Factors(nothing, nothing, nothing, factors.loudness_dbfs, 0.0)
    return Sound(pcm, SILENCE, str(rng.choice(["silence", "no sound", "nothing, silent"])), factors)
