"""From recordings of streams (EEG, or BOLD as it was streamed) to runs: what all formats share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from calibration.data.dataset import Dataset, Event, Run, Stimulus, VoxelSpace
from calibration.readers.bold_runs import Part
from calibration.readers.options import ReadOptions
from calibration.readers.pieces import signal_pieces, split_run
from calibration.readers.regions import make_space, read_mask, read_regions
from calibration.readers.stimuli import StimulusFiles
from models.errors import FileError
from stream.recordings import RecordedSignal, Recording, read_recording

__all__ = ["Presentation", "RecordedRun", "read_recorded_runs"]

# What was presented in a run: events on the clock of the recording's stamps, and their stimuli.
Presentation = Callable[
    ["RecordedRun", Recording, RecordedSignal], tuple[list[Event], dict[str, Stimulus]]
]


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One recording, and whose it is."""

    path: Path
    participant: str
    session: str
    run: str
    part: Part


def read_recorded_runs(
    path: Path,
    listed: Sequence[RecordedRun],
    options: ReadOptions,
    *,
    form: str,
    presentation: Presentation,
    files: StimulusFiles,
    warnings: Sequence[str] = (),
) -> Dataset:
    """Read one signal of each recording; all must have the same channels, unit and rate.

    Raises
    ------
    FileError
        If a recording cannot be read, or does not fit the others.
    SettingError
        If a recording has several signals that could be meant.
    """
    said = list(warnings)
    runs: list[Run] = []
    stimuli: dict[str, Stimulus] = {}
    spaces: dict[str, VoxelSpace] = {}
    first: RecordedSignal | None = None
    for number, item in enumerate(listed):
        options.told(number, len(listed))
        recording = read_recording(
            item.path,
            kind=options.signal_type,
            channels=options.channels,
            unit=options.unit,
            tr_s=options.tr_s,
        )
        signal = recording.choose()
        first = first or signal
        _same(signal, first, item, listed[0])
        said += [text for text in recording.warnings if text not in said]
        if signal.bold is not None and item.participant not in spaces:
            spaces[item.participant] = _space(signal, item, options)
        if signal.bads:
            said.append(f"{item.path.name}: called bad in the file: {', '.join(signal.bads)}.")
        what = item.path.name
        pieces = signal_pieces(signal, fill_max_s=options.fill_max_s, what=what)
        if len(pieces) > 1:
            said.append(
                f"{what}: gaps longer than {options.fill_max_s:g} s cut it into {len(pieces)} runs."
            )
        events, named = presentation(item, recording, signal)
        run = Run(
            participant=item.participant,
            session=item.session,
            run=item.run,
            part=item.part,
            signal=pieces[0].samples,
            sfreq_hz=1.0 / signal.period_s,
            stamps_s=pieces[0].stamps_s,
            events=(),
        )
        runs += split_run(run, pieces, events)
        stimuli.update(named)
    options.told(len(listed), len(listed))
    assert first is not None
    modality: Literal["eeg", "bold"] = "eeg" if first.bold is None else "bold"
    one = {space.mask_sha256 for space in spaces.values()}
    return Dataset(
        path=path,
        format=form,
        modality=modality,
        channels=first.labels if modality == "eeg" else (),
        runs=tuple(runs),
        stimuli=stimuli,
        space=next(iter(spaces.values())) if len(one) == 1 else None,
        unit=first.unit,
        warnings=(*said, *files.lost()),
        spaces=spaces,
    )


def _same(
    signal: RecordedSignal, first: RecordedSignal, item: RecordedRun, other: RecordedRun
) -> None:
    name = other.path.name
    if (signal.bold is None) != (first.bold is None):
        raise FileError(f"{item.path.name} and {name} are not of one kind (EEG and BOLD).")
    if signal.bold is None and signal.labels != first.labels:
        differ = sorted(set(signal.labels) ^ set(first.labels)) or ["their order"]
        raise FileError(
            f"{item.path.name} has other channels than {name} (they differ in "
            f"{', '.join(differ[:8])}). Choose the channels that all recordings have (channels)."
        )
    if abs(signal.period_s / first.period_s - 1.0) > 2e-3:
        raise FileError(
            f"{item.path.name} runs at {1 / signal.period_s:g} Hz, {name} at "
            f"{1 / first.period_s:g} Hz. Recordings of one rate are expected; leave out the others."
        )
    if signal.unit != first.unit:
        raise FileError(
            f"{item.path.name} is in {signal.unit!r}, {name} in {first.unit!r}. Say the unit."
        )


def _space(signal: RecordedSignal, item: RecordedRun, options: ReadOptions) -> VoxelSpace:
    """Return where streamed voxels lie; a mask that is given must be the sender's."""
    bold = signal.bold
    assert bold is not None
    given = options.place(options.mask, item.participant)
    if given is None:
        if options.labels:
            raise FileError(
                f"{item.path.name} tells the digest of its mask only; regions need the mask that "
                f"its sender had. Give it (mask)."
            )
        return VoxelSpace(bold.shape, bold.affine, np.zeros(bold.shape, bool), {}, bold.mask_sha256)
    space = make_space(read_mask(given, shape=bold.shape, affine=bold.affine), bold.affine)
    if bold.mask_sha256 and bold.mask_sha256 != space.mask_sha256:
        raise FileError(
            f"The mask {given.name} ({int(space.mask.sum())} voxels) is not the one with which "
            f"{item.path.name} was sent ({signal.n_channels} voxels). Give the sender's mask."
        )
    if int(space.mask.sum()) != signal.n_channels:
        raise FileError(
            f"The mask {given.name} has {int(space.mask.sum())} voxels, {item.path.name} "
            f"{signal.n_channels}. Give the sender's mask."
        )
    if options.labels:
        places = [options.place(label, item.participant) for label in options.labels]
        names = options.place(options.label_names, item.participant)
        space = read_regions([p for p in places if p is not None], space, names=names)
    return replace(space, mask_sha256=bold.mask_sha256 or space.mask_sha256)
