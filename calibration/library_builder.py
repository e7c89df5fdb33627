"""A library of sounds from a folder of sound files, for bundles that play the nearest one."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Stimulus
from calibration.embedders.base import Embedder, even_starts
from calibration.embedders.cache import EmbeddingCache
from calibration.stimulus_sound import stimulus_sound
from export.library import LibrarySound, library_files
from export.manifest import LibraryFiles
from models.errors import FileError, HearbackError, SettingError
from stream.safe_file import say_why

__all__ = ["SoundLibrary", "library_from_folder"]

logger = logging.getLogger(__name__)

_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64".split()
)
# All sounds are in memory while the bundle is written: 4.5 hours at 16 kHz.
_MAX_SAMPLES = 1 << 28
_PEAK = 0.999  # what is louder would be clipped in 16 bits


@dataclass(frozen=True, slots=True, eq=False)
class SoundLibrary:
    """Sounds with their embeddings, ready for a bundle."""

    sounds: tuple[LibrarySound, ...]
    embeddings: NDArray[np.float32]  # (n, dim), unit length
    captions: tuple[str, ...]  # one for each sound; "" where there is none
    sample_rate_hz: int
    embedder: str
    warnings: tuple[str, ...] = ()

    def files(self, names: LibraryFiles | None = None) -> dict[str, bytes]:
        """Return the files of the library for `export.bundle.save_bundle`."""
        return library_files(
            self.sounds, self.embeddings, sample_rate_hz=self.sample_rate_hz, names=names
        )


def library_from_folder(
    folder: Path,
    embedder: Embedder,
    *,
    sample_rate_hz: int = 16_000,
    window_s: float = 10.0,
    windows_per_file: int | None = None,
    cache: EmbeddingCache | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SoundLibrary:
    """Make a library of all sound files in a folder and the folders in it.

    A file that is not longer than a window is one sound. A longer one is cut into the fewest
    windows that cover it evenly (`even_starts`): fixed ones, nothing is drawn. The embedding of a
    sound is that of exactly the stretch that will be played. Files that cannot be used are left out
    with a warning.

    Labels are the names of the folders in which files lie ("" for those in `folder` itself), and
    captions come from nowhere, unless there is a table `sounds.tsv` in the folder, with the column
    `file` (path in the folder) and any of `label`, `caption`, `start_s`, `duration_s`. Then only
    the files in the table are taken; start and duration choose an excerpt.

    Parameters
    ----------
    folder : Path
    embedder : Embedder
    sample_rate_hz : int
        Of the library, so of what is played.
    window_s : float
        Longest sound, s.
    windows_per_file : int, optional
        At most so many from one file, from its beginning on; Brain2Music takes the first 15 s.
    cache : EmbeddingCache, optional
    progress : callable, optional
        Called with the number of files done and of all.

    Returns
    -------
    library : SoundLibrary

    Raises
    ------
    SettingError
        If a number is not usable, or there is more sound than fits into one library.
    FileError
        If there is no folder, no usable sound, or the table is not usable.
    """
    if not window_s > 0 or (windows_per_file is not None and windows_per_file < 1):
        raise SettingError(
            f"A library needs windows above 0 s and at least 1 for each file, got {window_s} s and "
            f"{windows_per_file}."
        )
    entries = _entries(Path(folder))
    sounds: list[LibrarySound] = []
    captions: list[str] = []
    rows: list[NDArray[np.float32]] = []
    warnings: list[str] = []
    n_samples = 0
    for number, entry in enumerate(entries):
        try:
            found = list(_cut(entry, sample_rate_hz, window_s, windows_per_file))
            vectors = [_embedded(embedder, sound.pcm, sample_rate_hz, cache) for sound in found]
        except HearbackError as error:
            warnings.append(f"{entry.id} is left out: {error}")
            logger.warning("%s", warnings[-1])
            continue
        finally:
            if progress is not None:
                progress(number + 1, len(entries))
        n_samples += sum(len(sound.pcm) for sound in found)
        if n_samples > _MAX_SAMPLES:
            raise SettingError(
                f"The sounds of {folder} are more than {_MAX_SAMPLES / sample_rate_hz / 3600:.1f} "
                "hours, more than one library holds. Take fewer files or windows_per_file = 1."
            )
        sounds += found
        rows += vectors
        captions += [" ".join(entry.captions)] * len(found)
    if not sounds:
        raise FileError(
            f"None of the {len(entries)} sound files in {folder} can be used. The first: "
            f"{warnings[0]}"
        )
    return SoundLibrary(
        tuple(sounds),
        np.stack(rows),
        tuple(captions),
        sample_rate_hz,
        embedder.name,
        tuple(warnings),
    )


def _entries(folder: Path) -> list[Stimulus]:
    """Return the files to take, named by their paths in the folder, sorted."""
    if not folder.is_dir():
        raise FileError(f"{folder} is not a folder. Give the folder that holds the sound files.")
    table = folder / "sounds.tsv"
    if table.exists():
        return _table_entries(table)
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise FileError(
            f"There is no sound file in {folder}. WAV, FLAC, OGG, MP3 and AIFF are read."
        )
    return [
        Stimulus(
            path.relative_to(folder).as_posix(),
            label="" if path.parent == folder else path.parent.name,
            path=path,
        )
        for path in files
    ]


def _table_entries(table: Path) -> list[Stimulus]:
    """Return the files that a table lists."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as opened:
            lines = list(csv.DictReader(opened, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = say_why(error) if isinstance(error, OSError) else str(error)
        raise FileError(f"The table {table} cannot be read: {why}.") from error
    if not lines or "file" not in lines[0]:
        raise FileError(
            f"The table {table} needs tab-separated columns, one of them named file, and a line "
            "for each sound."
        )
    return [_table_entry(table, number, line) for number, line in enumerate(lines, start=2)]


def _table_entry(table: Path, number: int, line: Mapping[str, str | None]) -> Stimulus:
    name = (line.get("file") or "").strip()
    path = (table.parent / name).resolve()
    if not name or not path.is_relative_to(table.parent.resolve()):
        raise FileError(f"{table}, line {number}: {name!r} is not a file in this folder.")
    start_s = _seconds(table, number, line.get("start_s"))
    duration_s = _seconds(table, number, line.get("duration_s"))
    caption = (line.get("caption") or "").strip()
    return Stimulus(
        name if start_s is None else f"{name}@{start_s:g}s",
        label=(line.get("label") or "").strip(),
        path=path,
        start_s=start_s or 0.0,
        duration_s=duration_s,
        captions=(caption,) if caption else (),
    )


def _seconds(table: Path, number: int, text: str | None) -> float | None:
    """Return a time of the table; None where there is none (empty, or n/a as in BIDS)."""
    if text is None or text.strip() in ("", "n/a"):
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < np.inf:
        raise FileError(f"{table}, line {number}: {text!r} is not a time in seconds.")
    return value


def _cut(
    entry: Stimulus, sample_rate_hz: int, window_s: float, windows_per_file: int | None
) -> Iterator[LibrarySound]:
    """Yield the windows of a file as they will be played."""
    length = max(1, round(window_s * sample_rate_hz))
    if windows_per_file is not None:
        entry = _shortened(entry, windows_per_file * window_s)
    pcm = stimulus_sound(entry, sample_rate_hz=sample_rate_hz)
    loudest = float(np.abs(pcm).max(initial=0.0))
    if loudest == 0.0:
        raise SettingError("it is silent.")
    if loudest > _PEAK:
        pcm = np.asarray(pcm * (_PEAK / loudest), np.float32)
    starts = even_starts(len(pcm), length).tolist()
    for start in starts:
        at = "" if len(starts) == 1 else f"+{start / sample_rate_hz:.1f}s"
        yield LibrarySound(f"{entry.id}{at}", pcm[start : start + length], entry.label)


def _shortened(entry: Stimulus, most_s: float) -> Stimulus:
    """Return an entry that is not longer than `most_s`."""
    import soundfile

    if entry.path is None or not entry.path.is_file():
        return entry  # whoever reads it says so
    try:
        info = soundfile.info(str(entry.path))
    except (soundfile.SoundFileError, OSError):
        return entry
    rest_s = info.frames / info.samplerate - entry.start_s
    wanted_s = rest_s if entry.duration_s is None else entry.duration_s
    return replace(entry, duration_s=most_s) if wanted_s > most_s else entry


def _embedded(
    embedder: Embedder,
    pcm: NDArray[np.float32],
    sample_rate_hz: int,
    cache: EmbeddingCache | None,
) -> NDArray[np.float32]:
    if cache is None:
        return embedder.embed(pcm, sample_rate_hz)
    return cache.embed(embedder, pcm, sample_rate_hz=sample_rate_hz)
