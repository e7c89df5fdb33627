"""From the BOLD images of a data set to its runs: the part that all such formats share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from calibration.data.dataset import Dataset, Event, Run, Stimulus, VoxelSpace
from calibration.readers.options import ReadOptions
from calibration.readers.pieces import split_run
from calibration.readers.regions import make_space, read_mask, read_regions
from calibration.readers.stimuli import StimulusFiles
from calibration.readers.volumes import BoldImage, open_bold
from models.errors import FileError

__all__ = ["BoldRun", "Timetable", "read_bold_runs"]

Part = Literal["train", "test", ""]
# What was presented in a run, given its opened image: events, on the clock of its volumes, and the
# stimuli that they name.
Timetable = Callable[["BoldRun", BoldImage], tuple[list[Event], dict[str, Stimulus]]]


@dataclass(frozen=True, slots=True)
class BoldRun:
    """One image, and whose it is."""

    path: Path
    participant: str
    session: str
    run: str
    part: Part
    sidecar: dict[str, Any] | None = None
    # Found in the data set; what a person gives goes before it.
    mask: Path | None = None
    labels: tuple[Path, ...] = ()


def read_bold_runs(
    path: Path,
    listed: Sequence[BoldRun],
    options: ReadOptions,
    *,
    form: str,
    timetable: Timetable,
    files: StimulusFiles,
    warnings: Sequence[str] = (),
) -> Dataset:
    """Read all runs of a list; each person's runs must lie in one space.

    Parameters
    ----------
    path : Path
        Of the data set.
    listed : sequence of BoldRun
        In the order in which they are to be.
    options : ReadOptions
    form : str
        Name of the format.
    timetable : callable
    files : StimulusFiles
        Asked at the end what it did not find.
    warnings : sequence of str

    Raises
    ------
    FileError
        If an image cannot be read, or a person's images differ in space or TR.
    """
    said = list(warnings)
    runs: list[Run] = []
    stimuli: dict[str, Stimulus] = {}
    spaces: dict[str, VoxelSpace] = {}
    first: dict[str, BoldImage] = {}
    for number, item in enumerate(listed):
        options.told(number, len(listed))
        image = open_bold(item.path, warnings=said, sidecar=item.sidecar, tr_s=options.tr_s)
        known = first.setdefault(item.participant, image)
        _same(image, known)
        events, named = timetable(item, image)
        if item.participant not in spaces:
            # No test run may have a say, not even in which voxels stand out.
            mine = [other for other in listed if other.participant == item.participant]
            chosen = next((other for other in mine if other.part != "test"), item)
            if chosen is not item:
                image_of_mask = open_bold(
                    chosen.path, warnings=said, sidecar=chosen.sidecar, tr_s=options.tr_s
                )
                _same(image_of_mask, known)
            else:
                image_of_mask = image
            spaces[item.participant] = _space(chosen, image_of_mask, options, said)
        pieces = image.pieces(spaces[item.participant].mask)
        if not pieces:
            raise FileError(
                f"{item.path.name}: no two volumes follow each other after one TR; its timing "
                f"cannot be used. Check VolumeTiming."
            )
        run = Run(
            participant=item.participant,
            session=item.session,
            run=item.run,
            part=item.part,
            signal=pieces[0].samples,
            sfreq_hz=1.0 / image.tr_s,
            stamps_s=pieces[0].stamps_s,
            events=(),
        )
        if len(pieces) > 1:
            said.append(f"{item.path.name}: pauses between its volumes cut it into {len(pieces)}.")
        runs += split_run(run, pieces, events)
        stimuli.update(named)
    options.told(len(listed), len(listed))
    return Dataset(
        path=path,
        format=form,
        modality="bold",
        channels=(),
        runs=tuple(runs),
        stimuli=stimuli,
        space=_common(spaces),
        unit="a.u.",
        warnings=(*said, *files.lost()),
        spaces=spaces,
    )


def _same(image: BoldImage, first: BoldImage) -> None:
    if image.shape != first.shape or not np.allclose(image.affine, first.affine, atol=1e-2):
        raise FileError(
            f"{image.path.name} {image.shape} does not lie in the space of {first.path.name} "
            f"{first.shape}: one person's runs must be aligned. Choose the aligned images (select)."
        )
    if abs(image.tr_s - first.tr_s) > 1e-3:
        raise FileError(
            f"{image.path.name} has a TR of {image.tr_s:g} s, {first.path.name} one of "
            f"{first.tr_s:g} s. Choose runs of one protocol (runs, tasks)."
        )


def _space(item: BoldRun, image: BoldImage, options: ReadOptions, said: list[str]) -> VoxelSpace:
    given = options.place(options.mask, item.participant)
    mask = None
    if given is not None:
        mask = read_mask(given, shape=image.shape, affine=image.affine)
    elif item.mask is not None:
        try:
            mask = read_mask(item.mask, shape=image.shape, affine=image.affine)
        except FileError as error:
            said.append(f"A mask that was found is not used. {error}")
        else:
            said.append(f"{item.participant}: the mask {item.mask.name} was found and is used.")
    if mask is None:
        mask = image.automatic_mask()
        said.append(
            f"{item.participant}: no mask was given; the {int(mask.sum())} voxels that stand out "
            f"in {item.path.name} are taken. For a live session, give the same mask to its sender."
        )
    space = make_space(mask, image.affine)
    if options.labels:
        places = [options.place(label, item.participant) for label in options.labels]
        names = options.place(options.label_names, item.participant)
        return read_regions([p for p in places if p is not None], space, names=names)
    if item.labels:
        try:
            return read_regions(item.labels, space)
        except FileError as error:
            said.append(f"Regions that were found are not used. {error}")
    return space


def _common(spaces: dict[str, VoxelSpace]) -> VoxelSpace | None:
    """Return the space of all participants, or None where they differ."""
    items = list(spaces.values())
    same = all(
        item.mask_sha256 == items[0].mask_sha256
        and np.allclose(item.affine, items[0].affine, atol=1e-2)
        and item.rois.keys() == items[0].rois.keys()
        and all(np.array_equal(item.rois[name], items[0].rois[name]) for name in item.rois)
        for item in items
    )
    return items[0] if items and same else None
