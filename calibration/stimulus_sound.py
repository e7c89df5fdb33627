"""The sound of a stimulus: its excerpt of a file, mono, at the rate that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Stimulus
from calibration.embedders.base import at_rate
from models.errors import FileError, SettingError
from stream.safe_file import say_why

__all__ = ["check_inside", "find_stimulus", "stimulus_sound"]

# Clips are a little shorter than their timetable says: 14.99 s of 15 s in ds003720.
_SHORT_S = 0.1


def stimulus_sound(stimulus: Stimulus, *, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return the excerpt of a sound file that a stimulus is.

    The file is converted with a margin around the excerpt, so that its edges are not those of a
    resampling filter.

    Parameters
    ----------
    stimulus : Stimulus
    sample_rate_hz : int

    Returns
    -------
    pcm : array of shape (n,), float32, read-only
        Channels averaged; full scale 1.0. At most 0.1 s shorter than `duration_s`.

    Raises
    ------
    FileError
        If there is no file, it is not a sound file, is damaged, silent for want of samples, or
        ends before the excerpt does.
    """
    path = stimulus.path
    if path is None:
        raise FileError(
            f"There is no sound file for stimulus {stimulus.id!r}. Give the folder of the stimuli, "
            "or decode classes instead of sounds."
        )
    wave, rate, begin, n = _read_around(path, stimulus)
    if not np.isfinite(wave).all():
        raise FileError(
            f"The sound file {path.name} holds samples that are not finite. Replace it."
        )
    pcm = at_rate(wave.mean(axis=1), rate, sample_rate_hz)
    first = round(begin / rate * sample_rate_hz)
    pcm = np.array(pcm[first : first + round(n / rate * sample_rate_hz)])
    pcm.setflags(write=False)
    return pcm


def find_stimulus(stimuli: Mapping[str, Stimulus], name: str) -> Stimulus:
    """Return a stimulus by the name that the events give it.

    Raises
    ------
    FileError
        If there is none.
    """
    if name not in stimuli:
        raise FileError(
            f"The events name the stimulus {name!r}, of which no sound is known. Give the folder "
            "of the stimuli, or decode classes instead of sounds."
        )
    return stimuli[name]


def check_inside(name: str, stop_s: float, duration_s: float) -> None:
    """Refuse a stretch that ends well after its sound.

    Raises
    ------
    SettingError
        If it does.
    """
    # Half a volume of a slow scanner is no reason to stop; a table of the wrong sounds is.
    if stop_s > duration_s + 0.25:
        raise SettingError(
            f"A stretch of {name!r} ends {stop_s:g} s into it, but its sound has "
            f"{duration_s:g} s. The durations in the events and the sound files do not fit."
        )


def _read_around(path: Path, stimulus: Stimulus) -> tuple[NDArray[np.float32], int, int, int]:
    """Return samples (n, n_channels), their rate, where the excerpt begins in them, its length."""
    import soundfile

    if not path.is_file():
        raise FileError(
            f"The sound file of stimulus {stimulus.id!r} is missing: {path}. Copy it there, or "
            "give the folder that holds it."
        )
    try:
        with soundfile.SoundFile(path) as file:
            rate, n_frames = int(file.samplerate), int(file.frames)
            first = round(stimulus.start_s * rate)
            end = n_frames
            if stimulus.duration_s is not None:
                end = first + round(stimulus.duration_s * rate)
            if first < 0 or first >= n_frames or end > n_frames + _SHORT_S * rate:
                raise FileError(_too_short(path, stimulus, n_frames / rate))
            end = min(end, n_frames)
            margin = rate // 10
            start = max(0, first - margin)
            file.seek(start)
            wave: Any = file.read(
                min(end + margin, n_frames) - start, dtype="float32", always_2d=True
            )
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise FileError(
            f"The sound file {path} cannot be read: {_why(error)}. Copy it again; WAV, FLAC, "
            "OGG and MP3 are read."
        ) from error
    # A damaged file may say it is longer than what can be decoded.
    if len(wave) < end - start - _SHORT_S * rate or end <= first:
        raise FileError(_too_short(path, stimulus, (start + len(wave)) / rate))
    return np.asarray(wave, np.float32), rate, first - start, min(end, start + len(wave)) - first


def _why(error: Exception) -> str:
    return say_why(error) if isinstance(error, OSError) else str(error).rstrip(".")


def _too_short(path: Path, stimulus: Stimulus, duration_s: float) -> str:
    length = "" if stimulus.duration_s is None else f" for {stimulus.duration_s:g} s"
    return (
        f"Stimulus {stimulus.id!r} is the sound from {stimulus.start_s:g} s on{length}, but "
        f"{path.name} has {duration_s:g} s that can be read. Replace the file, or correct the "
        "excerpt in the table of stimuli."
    )
