"""Folders of 4-D NIfTI runs with a `*_events.tsv` beside each, as many data sets are handed on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calibration.data.dataset import Dataset, Event, Stimulus
from calibration.readers.bold_runs import BoldRun, Part, read_bold_runs
from calibration.readers.events import table_events
from calibration.readers.options import ReadOptions, chosen_participants, part_of, wanted
from calibration.readers.stimuli import StimulusFiles
from calibration.readers.volumes import BoldImage
from models.errors import FileError, SettingError
from stream.readers.checks import as_file_error, check_fetched
from stream.readers.nifti import events_beside, image_stem

__all__ = ["matches", "participants", "read"]

FORMAT = "nifti"


def matches(path: Path) -> bool:
    """Tell whether a path is a NIfTI file, or a folder that has one in it, or one level below."""
    if path.is_file():
        return path.name.lower().endswith((".nii", ".nii.gz"))
    return any(any(path.glob(f"{level}*.nii*")) for level in ("", "*/"))


def participants(path: Path, options: ReadOptions) -> tuple[str, ...]:
    """Return the participants: subfolders with images, or else the folder itself is one's."""
    if path.is_file():
        return (image_stem(path),)
    below = tuple(
        sorted(item.name for item in path.iterdir() if item.is_dir() and any(item.glob("*.nii*")))
    )
    return below or (path.resolve().name,)


def read(path: Path, options: ReadOptions) -> Dataset:
    """Read runs with their events.

    A folder of one person's images may be called by any one name; that is then the participant's.

    Raises
    ------
    FileError
        If an image cannot be read, or none has an events table.
    SettingError
        If several images could be meant by one run.
    """
    files = StimulusFiles(options.stimuli)
    folders = _folders(path, options)
    listed: list[BoldRun] = []
    tables: dict[Path, Path] = {}
    for person, images in folders.items():
        chosen = _choose(images, options, path)
        for image in chosen:
            table = options.events or events_beside(image)
            name = image_stem(image)
            if table is not None and options.events is None:
                name = table.name.removesuffix("_events.tsv")
            if not (wanted(name, options.runs) or wanted(image_stem(image), options.runs)):
                continue
            if table is not None:
                tables[image] = table
            said = part_of(name)
            part: Part = "train" if said == "train" else "test" if said == "test" else ""
            listed.append(BoldRun(image, person, "", name, part))
    if not listed:
        raise FileError(f"{path} has no run that was asked for. Correct runs or select.")
    without = [item.path.name for item in listed if item.path not in tables]
    if len(without) == len(listed):
        raise FileError(
            f"None of the {len(without)} images in {path} ({', '.join(without[:3])}) has an events "
            f"table; expected e.g. {image_stem(Path(without[0]))}_events.tsv beside it, with "
            f"onset, duration and trial_type."
        )

    def timetable(run: BoldRun, image: BoldImage) -> tuple[list[Event], dict[str, Stimulus]]:
        if run.path not in tables:
            return [], {}
        stop_s = float(image.stamps_s[-1]) + image.tr_s
        return table_events(tables[run.path], options, files, stop_s=stop_s)

    warnings = [f"{name} has no events table: nothing says what was presented." for name in without]
    return read_bold_runs(
        path,
        listed,
        options,
        form=FORMAT,
        timetable=timetable,
        files=files,
        warnings=warnings,
    )


def _folders(path: Path, options: ReadOptions) -> dict[str, list[Path]]:
    """Return the 4-D images of each participant who is wanted."""
    there = participants(path, options)
    if path.is_file():
        check_fetched(path)
        alone = {there[0]: [path]}
    else:
        alone = {there[0]: _series(path)} if any(path.glob("*.nii*")) else {}
    if len(there) == 1 and alone:
        name = (options.participants or there)[0]
        if options.participants is not None and len(options.participants) > 1:
            chosen_participants(there, options, path=path)
        return {name: alone[there[0]]}
    return {name: _series(path / name) for name in chosen_participants(there, options, path=path)}


def _series(folder: Path) -> list[Path]:
    """Return the 4-D images of a folder; masks and anatomical images have 3 dimensions."""
    import nibabel

    found = []
    for path in sorted(folder.glob("*.nii*")):
        check_fetched(path)
        with as_file_error(path, "NIfTI"):
            image: Any = nibabel.load(path)
        shape = image.shape
        if len(shape) == 4 and shape[3] > 1:
            found.append(path)
    if not found:
        raise FileError(
            f"{folder} holds no functional image: a 4-D NIfTI series (x, y, z, volumes) is "
            f"expected for each run."
        )
    return found


def _choose(images: Sequence[Path], options: ReadOptions, path: Path) -> list[Path]:
    """Return one image a run, or refuse with a list."""
    chosen = [i for i in images if options.select is None or options.select in i.name]
    if not chosen:
        raise SettingError(
            f"No image in {path.name} has {options.select!r} in its name; there are "
            f"{', '.join(i.name for i in images[:8])}."
        )
    by_table: dict[Path, list[Path]] = {}
    for image in chosen:
        table = events_beside(image)
        if table is not None:
            by_table.setdefault(table, []).append(image)
    for table, several in by_table.items():
        if len(several) > 1:
            kinds = ", ".join(repr(_rest(image, table)) for image in several)
            raise SettingError(
                f"{path.name} has {len(several)} images for one run ({table.name}): "
                f"{', '.join(i.name for i in several)}. Choose with select, one of {kinds}."
            )
    return chosen


def _rest(image: Path, table: Path) -> str:
    return image_stem(image).removeprefix(table.name.removesuffix("_events.tsv")).strip("_")
