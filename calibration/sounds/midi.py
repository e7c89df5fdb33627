"""A folder of standard MIDI files as a source for training, played by a small synthesiser.

Sounds are stretches of files. Each note is a sum of partials with an envelope; the family of its
General MIDI programme says which. Drums (channel 10) are a few filtered noises. So pitch, tempo
and density of every stretch are known from the notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.sounds.captions import caption_with_factors
from calibration.sounds.files import FileSource
from calibration.sounds.source import Sound, measured
from calibration.stimuli import Factors
from calibration.synthesis import (
    SAMPLE_RATE_HZ,
    Wave,
    decay,
    fade_edges,
    harmonics,
    place,
    set_rms,
    shaped_noise,
    swell,
)
from models.errors import FileError, SettingError

__all__ = ["MidiSource", "Note", "read_notes", "render_notes"]

_DRUMS = 9  # channel 10, counted from 0
_LEVELS_DBFS = (-34.0, -18.0)


@dataclass(frozen=True, slots=True)
class Note:
    """One note of a file."""

    start_s: float
    stop_s: float
    pitch: int  # MIDI number; 69 is A at 440 Hz
    velocity: int  # 1 to 127
    program: int  # General MIDI, from 0; -1: drums


@dataclass(frozen=True, slots=True)
class _Voice:
    """How a family of instruments sounds."""

    name: str
    partials: tuple[float, ...]
    half_s: float = 0.0  # of the decay of something struck; 0: held as long as the note
    attack_s: float = 0.01


# By eights of General MIDI programmes: pianos, chromatic percussion, organs, guitars, ...
_VOICES = (
    _Voice("piano", (1.0, 0.5, 0.3, 0.18, 0.1, 0.06, 0.03), half_s=0.35),
    _Voice("bells", (1.0, 0.1, 0.05, 0.35, 0.02, 0.0, 0.12), half_s=0.5),
    _Voice("organ", (1.0, 0.8, 0.1, 0.6, 0.05, 0.05, 0.02, 0.3)),
    _Voice("guitar", (1.0, 0.6, 0.45, 0.25, 0.2, 0.1, 0.08), half_s=0.22),
    _Voice("bass", (1.0, 0.4, 0.2, 0.08), half_s=0.3),
    _Voice("strings", (1.0, 0.7, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15), attack_s=0.08),
    _Voice("ensemble", (1.0, 0.6, 0.35, 0.3, 0.15, 0.12), attack_s=0.12),
    _Voice("brass", (0.8, 1.0, 0.9, 0.7, 0.5, 0.35, 0.25, 0.15), attack_s=0.04),
    _Voice("reed", (1.0, 0.15, 0.7, 0.12, 0.45, 0.1, 0.25), attack_s=0.03),
    _Voice("flute", (1.0, 0.25, 0.08, 0.03), attack_s=0.06),
    _Voice("lead", (1.0, 0.5, 0.33, 0.25, 0.2, 0.17, 0.14, 0.12)),
    _Voice("pad", (1.0, 0.5, 0.25, 0.12), attack_s=0.25),
    _Voice("effects", (1.0, 0.3, 0.5, 0.1, 0.3), attack_s=0.1),
    _Voice("plucked", (1.0, 0.7, 0.2, 0.3, 0.1), half_s=0.15),
    _Voice("percussion", (1.0, 0.0, 0.4, 0.0, 0.2), half_s=0.08),
    _Voice("effects", (1.0, 0.6, 0.4, 0.3), half_s=0.1),
)


@dataclass(frozen=True)
class MidiSource(FileSource):
    """Stretches of MIDI files, rendered.

    `.mid` files, in sub-folders named by class if there are classes; without, the class is the
    family of instruments that plays most of the notes. Parameters are those of `FileSource`.

    Raises
    ------
    SettingError
        If a number is out of range, or mido is not installed.
    FileError
        If there are fewer than two files.
    """

    name: ClassVar[str] = "midi"
    suffixes: ClassVar[tuple[str, ...]] = (".mid", ".midi")
    what: ClassVar[str] = "MIDI files"

    def __post_init__(self) -> None:
        super().__post_init__()
        _mido()

    def sound(self, index: int) -> Sound:
        """Return sound number `index`: file and place follow from seed and index.

        Raises
        ------
        FileError
            If the file is no MIDI file, or has no notes.
        """
        label, path, rng = self.drawn(index)
        notes, tempo_bpm = read_notes(path)
        end = max(note.stop_s for note in notes)
        first_s = float(rng.uniform(0.0, max(end - self.duration_s, 0.0)))
        heard = tuple(
            Note(
                max(note.start_s - first_s, 0.0),
                note.stop_s - first_s,
                note.pitch,
                note.velocity,
                note.program,
            )
            for note in notes
            if note.stop_s > first_s and note.start_s < first_s + self.duration_s
        )
        n = round(self.duration_s * SAMPLE_RATE_HZ)
        wave = render_notes(heard, n, rng)
        if np.any(wave):
            wave = np.asarray(set_rms(fade_edges(wave), float(rng.uniform(*_LEVELS_DBFS))), float)
        pcm = wave.astype(np.float32)
        known = _known(heard, tempo_bpm, self.duration_s)
        factors = measured(pcm, known)
        family = _family(heard)
        return Sound(pcm, label or family, caption_with_factors(family, factors, rng), factors)


def render_notes(notes: tuple[Note, ...], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return notes as sound, n samples at 16 kHz.

    Parameters
    ----------
    notes : tuple of Note
        Times from the first sample.
    n : int
    rng : numpy.random.Generator
        Of the drums' noises.
    """
    grains = []
    for note in notes:
        level = (note.velocity / 127.0) ** 1.5  # loudness grows faster than velocity
        length_s = min(max(note.stop_s - note.start_s, 0.05), n / SAMPLE_RATE_HZ)
        if note.program < 0:
            grains.append((note.start_s, 0.5 * level * _drum(note.pitch, rng)))
            continue
        voice = _VOICES[note.program // 8]
        f0 = 440.0 * 2.0 ** ((note.pitch - 69) / 12.0)
        samples = round((length_s + 0.05) * SAMPLE_RATE_HZ)
        if voice.half_s:
            envelope: Wave = decay(samples, voice.half_s) * swell(samples, 0.0, 0.05)
        else:
            envelope = swell(samples, voice.attack_s, 0.05)
        tone = harmonics(f0, voice.partials, samples) / sum(voice.partials)
        grains.append((note.start_s, level * envelope * tone))
    return np.asarray(place(n, grains), np.float64)


@lru_cache(maxsize=64)
def read_notes(path: Path) -> tuple[tuple[Note, ...], float]:
    """Return the notes of a MIDI file, by their start, and its first tempo, beats a minute.

    Raises
    ------
    FileError
        If it cannot be read, or has no notes.
    """
    mido = _mido()
    notes: list[Note] = []
    held: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
    programs = [0] * 16
    now, tempo_bpm = 0.0, float("nan")
    try:
        for message in mido.MidiFile(path, clip=True):
            now += message.time
            if message.type == "set_tempo" and np.isnan(tempo_bpm):
                tempo_bpm = float(mido.tempo2bpm(message.tempo))
            elif message.type == "program_change":
                programs[message.channel] = message.program
            elif message.type in ("note_on", "note_off"):
                key = (message.channel, message.note)
                if message.type == "note_on" and message.velocity > 0:
                    program = -1 if message.channel == _DRUMS else programs[message.channel]
                    held.setdefault(key, []).append((now, message.velocity, program))
                elif held.get(key):
                    start, velocity, program = held[key].pop(0)
                    notes.append(Note(start, now, message.note, velocity, program))
    except (OSError, ValueError, EOFError, KeyError, IndexError) as error:
        raise FileError(f"{path} cannot be read as a MIDI file: {error}. Remove it.") from error
    for (_, pitch), open_notes in held.items():  # never ended
        notes += [Note(start, now, pitch, v, p) for start, v, p in open_notes]
    notes = [note for note in notes if note.stop_s > note.start_s]
    if not notes:
        raise FileError(f"{path} has no notes. Remove it.")
    # Standard MIDI files without a tempo are at 120.
    tempo_bpm = 120.0 if np.isnan(tempo_bpm) else tempo_bpm
    return tuple(sorted(notes, key=lambda note: (note.start_s, note.pitch))), tempo_bpm


def _known(notes: tuple[Note, ...], tempo_bpm: float, seconds: float) -> Factors:
    """Pitch as the middle of those that sound, weighted by their length; density in onsets."""
    nothing = float("nan")
    pitched = [note for note in notes if note.program >= 0]
    pitch = nothing
    if pitched:
        order = sorted(pitched, key=lambda note: note.pitch)
        lengths = np.cumsum([note.stop_s - note.start_s for note in order])
        middle = order[int(np.searchsorted(lengths, lengths[-1] / 2.0))].pitch
        pitch = float(440.0 * 2.0 ** ((middle - 69) / 12.0))
    onsets = {round(note.start_s, 2) for note in notes}
    return Factors(pitch, tempo_bpm if notes else nothing, nothing, nothing, len(onsets) / seconds)


def _family(notes: tuple[Note, ...]) -> str:
    """Return the name of the instruments that play most of the notes."""
    names = ["drums" if n.program < 0 else _VOICES[n.program // 8].name for n in notes]
    return max(sorted(set(names)), key=names.count) if names else "silence"


def _drum(pitch: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return one stroke: low numbers are bass drums, then snares and toms, then cymbals."""
    n = round(0.25 * SAMPLE_RATE_HZ)
    if pitch in (35, 36):
        glide = 50.0 + 90.0 * 0.5 ** (np.arange(n) / (0.02 * SAMPLE_RATE_HZ))
        return np.asarray(harmonics(glide, (1.0, 0.2), n) * decay(n, 0.06))
    if pitch in (42, 44, 46, 49, 51, 57, 59):
        noise = shaped_noise(n, rng, gain=lambda f: (f / 4_000.0) ** 2 / (1.0 + (f / 4_000.0) ** 2))
        return np.asarray(0.3 * noise * decay(n, 0.15 if pitch >= 46 else 0.025))
    noise = shaped_noise(n, rng, gain=lambda f: 1.0 / (1.0 + ((f - 1_800.0) / 1_500.0) ** 2))
    return np.asarray((0.4 * noise + 0.5 * harmonics(180.0, (1.0,), n)) * decay(n, 0.05))


def _mido() -> Any:
    try:
        import mido  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise SettingError(
            "MIDI files need mido. Install it with: pip install mido, or choose another source."
        ) from error
    return mido
