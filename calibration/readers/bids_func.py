"""BIDS functional images, raw or derived: `*_bold.nii.gz` with their events tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

from calibration.data.dataset import Dataset, Event, Stimulus
from calibration.readers.bids_files import (
    BidsRun,
    bids_participants,
    bids_runs,
    events_table,
    stimuli_folder,
)
from calibration.readers.bold_runs import BoldRun, read_bold_runs
from calibration.readers.events import table_events
from calibration.readers.options import ReadOptions, part_of
from calibration.readers.stimuli import StimulusFiles
from calibration.readers.volumes import BoldImage
from stream.readers.bids import entities, inherited_json

__all__ = ["bold_list", "matches", "participants", "read"]

FORMAT = "bids-func"


def matches(path: Path) -> bool:
    """Tell whether a folder holds BIDS functional images, or their sidecars."""
    return path.is_dir() and any(
        any(path.rglob(pattern)) for pattern in ("sub-*_bold.nii*", "sub-*_bold.json")
    )


def participants(path: Path, options: ReadOptions) -> tuple[str, ...]:
    """Return the participants."""
    return bids_participants(path, kind="bold")


def read(path: Path, options: ReadOptions) -> Dataset:
    """Read runs with their events.

    Raises
    ------
    FileError
        If somebody or something that is wanted is not there, or cannot be read.
    SettingError
        If a choice fits nothing, or too much.
    """
    warnings: list[str] = []
    listed = bids_runs(path, options, kind="bold", warnings=warnings)
    by_path = {item.path: item for item in listed}
    files = StimulusFiles(stimuli_folder(path, options))

    def timetable(run: BoldRun, image: BoldImage) -> tuple[list[Event], dict[str, Stimulus]]:
        table = events_table(by_path[run.path], path, options)
        if table is None:
            warnings.append(
                f"{run.path.name} has no events table: nothing says what was presented."
            )
            return [], {}
        stop_s = float(image.stamps_s[-1]) + image.tr_s
        return table_events(table, options, files, stop_s=stop_s)

    dataset = read_bold_runs(
        path,
        bold_list(listed, path, options),
        options,
        form=FORMAT,
        timetable=timetable,
        files=files,
        warnings=(),
    )
    from dataclasses import replace

    return replace(dataset, warnings=(*warnings, *dataset.warnings))


def bold_list(listed: list[BidsRun], root: Path, options: ReadOptions) -> list[BoldRun]:
    """Return what `read_bold_runs` needs to know of each image."""
    return [
        BoldRun(
            path=item.path,
            participant=item.participant,
            session=item.session,
            run=item.run,
            part=_part(item, root, options),
            sidecar=inherited_json(item.path, "bold.json"),
            mask=_mask_of(item.path, root),
            labels=_labels_of(item.path, root),
        )
        for item in listed
    ]


def _part(item: BidsRun, root: Path, options: ReadOptions) -> Literal["train", "test", ""]:
    """Return what the task, the session or the events table says a run is for."""
    found = part_of(item.task, item.session, item.run)
    if not found and (table := events_table(item, root, options)) is not None:
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t")
            column = next((c for c in ("split", "part") if c in (rows.fieldnames or ())), None)
            said = {part_of(row[column] or "") for row in rows} if column else set()
        found = said.pop() if len(said) == 1 else ""
    return "train" if found == "train" else "test" if found == "test" else ""


def _made_from(path: Path, root: Path, ending: str) -> list[Path]:
    """Return images that a pipeline made of a run's space: beside it, or in the derivatives."""
    known = entities(path.name)
    below = path.parent.relative_to(root) if path.is_relative_to(root) else Path()
    folders = [path.parent, *sorted(root.glob(f"derivatives/*/{below.as_posix()}"))]
    found = []
    for folder in folders:
        for image in sorted(folder.glob(f"*_{ending}")):
            its = {k: v for k, v in entities(image.name).items() if k != "desc"}
            same = its.get("space") == known.get("space") and its.get("res") == known.get("res")
            if same and its.items() <= known.items():
                found.append(image)
    return found


def _mask_of(path: Path, root: Path) -> Path | None:
    return next(iter(_made_from(path, root, "desc-brain_mask.nii*")), None)


def _labels_of(path: Path, root: Path) -> tuple[Path, ...]:
    """Return label images whose labels have names."""
    found = _made_from(path, root, "dseg.nii*")
    return tuple(
        image for image in found if image.with_name(f"{image.name.split('.')[0]}.tsv").exists()
    )
