"""What a calibration plays: the sounds of a folder or table, in balanced blocks of random order."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Stimulus
from calibration.readers.stimuli import SOUND_ENDINGS, StimulusFiles
from calibration.stimulus_sound import stimulus_sound
from models.errors import FileError, SettingError
from stream.safe_file import say_why

__all__ = ["Programme", "duration_text", "load_programme", "presentation_order"]

_RATES_HZ = (16_000, 48_000)  # what is played at: the highest rate of the files, within these
_BELOW_CEILING = 0.98  # so that the limiter has nothing to do
_SHORTEST_S = 0.05
_MAX_SAMPLES = 1 << 29  # all sounds are in memory while they are played: 3 hours at 48 kHz


@dataclass(frozen=True, slots=True, eq=False)
class Programme:
    """The sounds of a session, ready to be played."""

    stimuli: tuple[Stimulus, ...]
    pcm: tuple[NDArray[np.float32], ...]  # (n,) each, mono, read-only, below the ceiling
    sample_rate_hz: int
    gain_db: float  # what all sounds were lowered by, alike; 0 or less

    @property
    def durations_s(self) -> tuple[float, ...]:
        """Length of each sound, s."""
        return tuple(len(pcm) / self.sample_rate_hz for pcm in self.pcm)


def load_programme(stimuli: Path, *, ceiling_dbfs: float) -> Programme:
    """Read every sound before the first one is played.

    All sounds are lowered by one common gain if the loudest would exceed the ceiling: how loud they
    are relative to each other stays, and no limiter distorts them.

    Parameters
    ----------
    stimuli : Path
        Folder of sound files (and folders of them: then their names are the classes), or a table
        as `calibration.readers.stimuli` reads it.
    ceiling_dbfs : float
        Peak that is never exceeded.

    Raises
    ------
    FileError
        If there is no folder or table, no sound, or one that cannot be read.
    SettingError
        If a sound is silent or too short, there are fewer than two, or too much for the memory.
    """
    listed = _listed(stimuli)
    if len(listed) < 2:
        raise SettingError(
            f"{stimuli} has one sound; a decoder needs at least two to tell apart. Add sounds."
        )
    rate = _rate(listed)
    sounds: list[NDArray[np.float32]] = []
    for stimulus in listed:
        pcm = stimulus_sound(stimulus, sample_rate_hz=rate)
        if len(pcm) < _SHORTEST_S * rate or not np.abs(pcm).max(initial=0.0) > 0.0:
            raise SettingError(
                f"The sound {stimulus.id!r} is silent or shorter than {_SHORTEST_S:g} s. Replace "
                "it, or take it out of the stimuli."
            )
        sounds.append(pcm)
        if sum(map(len, sounds)) > _MAX_SAMPLES:
            raise SettingError(
                f"{stimuli} holds more than {_MAX_SAMPLES / rate / 3600:.1f} hours of sound. Take "
                "fewer sounds for one session."
            )
    loudest = max(float(np.abs(pcm).max()) for pcm in sounds)
    gain = min(1.0, _BELOW_CEILING * 10.0 ** (ceiling_dbfs / 20.0) / loudest)
    lowered = []
    for pcm in sounds:
        wave = np.asarray(pcm * np.float32(gain), np.float32)
        wave.setflags(write=False)
        lowered.append(wave)
    return Programme(tuple(listed), tuple(lowered), rate, 20.0 * float(np.log10(gain)))


def _listed(stimuli: Path) -> list[Stimulus]:
    """Return the stimuli with their files, named as the reader of the recording will find them."""
    files = StimulusFiles(stimuli)
    if stimuli.is_file():
        names = list(dict.fromkeys(_ids(stimuli)))
        listed = [files.stimulus(name) for name in names]
        without = [stimulus.id for stimulus in listed if stimulus.path is None]
        if without:
            raise FileError(
                f"{stimuli.name} names no file for {len(without)} stimuli ({without[0]}, ...). "
                "Fill the column 'file'."
            )
        return listed
    listed = [
        Stimulus(
            path.relative_to(stimuli).as_posix(),
            label="" if path.parent == stimuli else path.parent.name,
            path=path,
        )
        for path in sorted(stimuli.rglob("*"))
        if path.suffix.lower() in SOUND_ENDINGS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(stimuli).parts)
    ]
    if not listed:
        raise FileError(
            f"There is no sound file in {stimuli} ({', '.join(SOUND_ENDINGS)}). Give the folder "
            "that holds the sounds to present."
        )
    return listed


def _ids(table: Path) -> list[str]:
    """Return the ids of a table that `StimulusFiles` has read without complaint."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = say_why(error) if isinstance(error, OSError) else str(error)
        raise FileError(f"{table} cannot be read: {why}.") from error
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    return [
        (row["id"] or "").strip() for row in csv.DictReader(text.splitlines(), delimiter=delimiter)
    ]


def _rate(listed: Sequence[Stimulus]) -> int:
    """Return the highest rate of the files, within what is played; a damaged file says nothing."""
    import soundfile

    rates = [_RATES_HZ[0]]
    for stimulus in listed:
        try:
            rates.append(int(soundfile.info(str(stimulus.path)).samplerate))
        except (soundfile.SoundFileError, OSError, RuntimeError):
            continue  # whoever reads the sound says what is wrong with it
    return min(max(rates), _RATES_HZ[1])


def presentation_order(n: int, repeats: int, *, seed: int) -> tuple[tuple[int, ...], ...]:
    """Return the order of the sounds: each block holds every sound once, none follows itself.

    Parameters
    ----------
    n : int
        Sounds, at least 2.
    repeats : int
        Blocks.
    seed : int

    Returns
    -------
    blocks : tuple of tuples of int
        Indices of sounds.

    Raises
    ------
    SettingError
        If there are fewer than 2 sounds or no block.
    """
    if n < 2 or repeats < 1 or seed < 0:
        raise SettingError(
            f"A session needs at least 2 sounds, 1 repeat and a seed of 0 or more, got {n}, "
            f"{repeats} and {seed}."
        )
    rng = np.random.default_rng(seed)
    blocks: list[tuple[int, ...]] = []
    for _ in range(repeats):
        order = [int(k) for k in rng.permutation(n)]
        if blocks and blocks[-1][-1] == order[0]:
            other = int(rng.integers(1, n))  # uniform among the orders that may follow
            order[0], order[other] = order[other], order[0]
        blocks.append(tuple(order))
    return tuple(blocks)


def duration_text(seconds: float) -> str:
    """Return a length of time in words: "8 min 20 s"."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
