"""A folder of a person's own recordings as a source for training.

Each sound is a stretch of a file, at another place each time. The class is the name of the folder
that the file lies in; files that lie directly in the folder have none. Whole files are held out,
never stretches of files that are trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Stimulus
from calibration.sounds.captions import caption_with_factors
from calibration.sounds.files import SHORTEST_S, FileSource
from calibration.sounds.source import Sound, measured
from calibration.stimuli import Factors
from calibration.stimulus_sound import stimulus_sound
from calibration.synthesis import SAMPLE_RATE_HZ, fade_edges
from models.errors import FileError
from models.mel import MelSpec, log_mel

__all__ = ["RecordingsSource", "onsets_per_s"]


@dataclass(frozen=True)
class RecordingsSource(FileSource):
    """Stretches of recordings, every class in turn.

    WAV, FLAC, Ogg or MP3 files of any rate, in sub-folders named by class if there are classes. A
    file that is shorter than a sound stands somewhere in silence. Parameters are those of
    `FileSource`.
    """

    name: ClassVar[str] = "folder"
    suffixes: ClassVar[tuple[str, ...]] = (".wav", ".flac", ".ogg", ".mp3")
    what: ClassVar[str] = "sound files"

    def sound(self, index: int) -> Sound:
        """Return sound number `index`: file and place follow from seed and index.

        Raises
        ------
        FileError
            If the file cannot be read or is too short.
        """
        label, path, rng = self.drawn(index)
        pcm = self._stretch(path, rng)
        nothing = float("nan")
        known = Factors(nothing, nothing, nothing, nothing, onsets_per_s(pcm))
        factors = measured(pcm, known)
        words = (label or path.stem).replace("_", " ").replace("-", " ")
        return Sound(pcm, label, caption_with_factors(words, factors, rng), factors)

    def _stretch(self, path: Path, rng: np.random.Generator) -> NDArray[np.float32]:
        n = round(self.duration_s * SAMPLE_RATE_HZ)
        length_s = _seconds(path)
        if length_s < SHORTEST_S:
            raise FileError(
                f"{path} lasts {length_s:.2f} s; expected at least {SHORTEST_S} s. Remove it."
            )
        start_s = float(rng.uniform(0.0, max(length_s - self.duration_s, 0.0)))
        excerpt = Stimulus(
            id=path.name,
            path=path,
            start_s=start_s,
            duration_s=min(self.duration_s, length_s - start_s),
        )
        wave = fade_edges(stimulus_sound(excerpt, sample_rate_hz=SAMPLE_RATE_HZ)[:n])
        pcm = np.zeros(n, np.float32)
        first = int(rng.integers(n - len(wave) + 1))
        pcm[first : first + len(wave)] = np.clip(wave, -1.0, 1.0)
        return pcm


def onsets_per_s(pcm: NDArray[np.float32]) -> float:
    """Return how many events begin a second: jumps of the mel spectrum upwards, by their peaks.

    Spectral flux (Dixon 2006, DAFx, eq. 1) of log mel frames; a peak counts if it is 1.5 times the
    mean around it and at least .1 nat per band.

    Parameters
    ----------
    pcm : array of shape (n,)
        16 kHz, at least 0.1 s.
    """
    spec = MelSpec()
    frames = np.maximum(log_mel(pcm, spec), np.log(1e-3))  # what is quieter is no event
    flux = np.maximum(frames[2:] - frames[:-2], 0.0).mean(axis=1)
    if len(flux) < 3:
        return 0.0
    around = np.convolve(flux, np.full(31, 1.0 / 31.0), mode="same")
    middle = flux[1:-1]
    peaks = (middle > flux[:-2]) & (middle >= flux[2:])
    peaks &= (middle > 1.5 * around[1:-1]) & (middle > 0.1)
    places = np.flatnonzero(peaks)
    apart = np.concatenate([[True], np.diff(places) > 4]) if len(places) else places
    return float(np.sum(apart)) * SAMPLE_RATE_HZ / len(pcm)


def _seconds(path: Path) -> float:
    import soundfile

    try:
        return float(soundfile.info(path).duration)
    except (OSError, soundfile.LibsndfileError) as error:
        raise FileError(f"{path} cannot be read as a sound: {error}. Remove it.") from error
