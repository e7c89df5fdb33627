"""Sources by their names in a configuration: `procedural`, `folder:PATH`, `midi:PATH`, or more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calibration.sounds.midi import MidiSource
from calibration.sounds.procedural import ProceduralSource
from calibration.sounds.recordings import RecordingsSource
from calibration.sounds.source import Sound, SoundSource
from models.errors import SettingError

__all__ = ["MixedSource", "choose_source"]


@dataclass(frozen=True, slots=True)
class MixedSource:
    """Sounds of several sources in turn.

    Parameters
    ----------
    sources : tuple of SoundSource
        Sound i is number i of one of them, so that what is held out is held out in each.
    """

    sources: tuple[SoundSource, ...]

    @property
    def name(self) -> str:
        """What the source is called in logs and records."""
        return "+".join(source.name for source in self.sources)

    def describe(self) -> dict[str, object]:
        """Return all settings that the sounds depend on, as JSON takes them."""
        return {"source": "mixture", "of": [source.describe() for source in self.sources]}

    def source_of(self, index: int) -> SoundSource:
        """Return whose sound number `index` is, from 0."""
        # Each round begins with another source: one that goes through its classes by the number
        # would else give only some of them.
        turn = index + index // len(self.sources)
        return self.sources[turn % len(self.sources)]

    def sound(self, index: int) -> Sound:
        """Return sound number `index`, from 0."""
        return self.source_of(index).sound(index)


def choose_source(text: str, *, seed: int, n_train: int) -> SoundSource:
    """Return the source that a configuration names.

    Parameters
    ----------
    text : str
        `procedural`, `folder:PATH` or `midi:PATH`; several with '+' between them take turns.
    seed : int
    n_train : int
        Sounds below this number are trained on; the others come from other files.

    Raises
    ------
    SettingError
        If it names no source.
    FileError
        If a folder does not hold what it should.
    """
    sources = tuple(_one(part.strip(), seed=seed, n_train=n_train) for part in text.split("+"))
    return sources[0] if len(sources) == 1 else MixedSource(sources)


def _one(text: str, *, seed: int, n_train: int) -> SoundSource:
    kind, _, path = text.partition(":")
    if kind == "procedural" and not path:
        return ProceduralSource(seed)
    if kind == "folder" and path:
        return RecordingsSource(Path(path), seed, n_train)
    if kind == "midi" and path:
        return MidiSource(Path(path), seed, n_train)
    raise SettingError(
        f"Expected sounds from procedural, folder:PATH or midi:PATH, or several with '+' between "
        f"them, got {text!r}."
    )
