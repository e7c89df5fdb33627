"""The stimuli of a data set: a folder of sound files, or a table that says what each id is.

A table (CSV or TSV) has the column `id` and any of `file`, `start_s`, `duration_s`, `label` and
`caption`; files are relative to the table's folder.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from calibration.data.dataset import Stimulus
from models.errors import FileError
from stream.readers.checks import check_fetched

__all__ = ["SOUND_ENDINGS", "StimulusFiles"]

SOUND_ENDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".au")


class StimulusFiles:
    """Finds the sound of each stimulus that events name.

    Parameters
    ----------
    path : Path, optional
        Folder of sound files, or table; nothing is found without one.

    Raises
    ------
    FileError
        If the path is not there, or the table has no usable column.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._rows: dict[str, Stimulus] = {}
        self._files: dict[str, Path] = {}
        self._lost: list[str] = []
        if path is None:
            return
        if not path.exists():
            raise FileError(f"No stimuli at {path}. Give a folder of sound files, or a table.")
        if path.is_dir():
            self._index(path)
        else:
            self._rows = _table(path)

    def _index(self, folder: Path) -> None:
        """Know each file by its path in the folder, by its name, and by its name's beginning."""
        names: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SOUND_ENDINGS:
                self._files[path.relative_to(folder).as_posix()] = path
                for name in {path.name, path.stem}:
                    names.setdefault(name, []).append(path)
        # A name that two folders have stands for neither of them.
        self._files.update(
            {n: paths[0] for n, paths in names.items() if len(paths) == 1 and n not in self._files}
        )

    def __bool__(self) -> bool:
        """Tell whether a person gave any stimuli."""
        return self.path is not None

    def file(self, name: str) -> Path | None:
        """Return the sound file of a name: a path in the folder, a file name, or its stem."""
        plain = PurePosixPath(name.replace("\\", "/")).as_posix().removeprefix("./")
        shorter = plain.removeprefix("stimuli/")
        for key in (plain, shorter):
            if key in self._files:
                return self._files[key]
        return None

    def stimulus(self, name: str, *, label: str = "", file: str | None = None) -> Stimulus:
        """Return what is known of a stimulus.

        Parameters
        ----------
        name : str
            Its id.
        label : str
            Its class, where the table says none.
        file : str, optional
            Name of its file, where that is not its id.
        """
        row = self._rows.get(name)
        if row is not None:
            return row if row.label else replace(row, label=label)
        path = self.file(file if file is not None else name)
        if path is None and self:
            self._lost.append(name)
        return Stimulus(name, label=label, path=path)

    def lost(self) -> tuple[str, ...]:
        """Return a sentence on the stimuli without a sound, or none."""
        lost = list(dict.fromkeys(self._lost))
        if not lost or self.path is None:
            return ()
        listed = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
        return (
            f"{len(lost)} stimuli have no sound in {self.path} ({listed}); sounds are found by "
            f"file name, or by a table with the columns id and file.",
        )


def _table(path: Path) -> dict[str, Stimulus]:
    check_fetched(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path} cannot be read as a table of text: {error}.") from error
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = list(csv.DictReader(text.splitlines(), delimiter=delimiter))
    if not rows or "id" not in rows[0]:
        found = ", ".join(str(name) for name in rows[0]) if rows else "no row"
        raise FileError(
            f"{path.name} has {found}; a table of stimuli needs the column 'id' and may have "
            f"file, start_s, duration_s, label and caption."
        )
    stimuli: dict[str, Stimulus] = {}
    for number, row in enumerate(rows, start=2):
        values = {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        name = values["id"]
        caption = (values["caption"],) if values.get("caption") else ()
        if name in stimuli and not caption:
            raise FileError(f"{path.name}, row {number}: the id {name!r} comes twice.")
        if name in stimuli:  # one more caption of the same stimulus
            old = stimuli[name]
            stimuli[name] = replace(old, captions=old.captions + caption)
            continue
        file = _file(path, values.get("file", ""))
        start = _number(path, number, values, "start_s")
        stimuli[name] = Stimulus(
            name,
            label=values.get("label", ""),
            path=file,
            start_s=0.0 if math.isnan(start) else start,
            duration_s=None
            if math.isnan(length := _number(path, number, values, "duration_s"))
            else length,
            captions=caption,
        )
    _check_files(path, stimuli.values())
    return stimuli


def _file(table: Path, name: str) -> Path | None:
    return table.parent / name if name else None


def _number(path: Path, row: int, values: dict[str, str], name: str) -> float:
    text = values.get(name, "")
    if not text or text.lower() == "n/a":
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise FileError(f"{path.name}, row {row}: {name} is {text!r}, expected seconds >= 0.")
    return value


def _check_files(path: Path, stimuli: Iterable[Stimulus]) -> None:
    missing = [item for item in stimuli if item.path is not None and not item.path.exists()]
    if missing:
        listed = ", ".join(item.path.name for item in missing[:5] if item.path is not None)
        raise FileError(
            f"{path.name} names {len(missing)} sound files that are not there ({listed}). "
            f"Files are looked up from {path.parent}; correct the table or get the files."
        )
