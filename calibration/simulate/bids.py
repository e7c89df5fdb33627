"""Files of a simulated data set as BIDS has them: tables, sidecars, images, BrainVision."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Run, VoxelSpace
from calibration.simulate.settings import SimulationSettings
from calibration.simulate.timetable import PlannedRun

__all__ = [
    "EVENT_COLUMNS",
    "run_stem",
    "write_bold",
    "write_brainvision",
    "write_description",
    "write_eeg_sidecars",
    "write_events",
    "write_image",
    "write_json",
    "write_regions",
    "write_table",
]

EVENT_COLUMNS: dict[str, str] = {
    "trial_type": "Class of the sound.",
    "stim_file": "Sound file, in the folder stimuli.",
    "genre": "Class of the sound, in quotes as the events of ds003720 have their genres.",
    "track": "Number of the sound within its class.",
    "start": "Where the excerpt that was heard begins in the sound file, s.",
    "end": "Where it ends, s.",
    "stimulus": "Id of the sound; heard again, it has the same.",
    "dummy": "1 for a row that repeats another run's last clip (training) or its own run's last "
    "clip (test) and is not to be used, as in ds003720.",
}
_BIDS_VERSION = "1.9.0"


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a sidecar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table of tab-separated values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(columns), *("\t".join(str(value) for value in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_description(folder: Path, *, name: str, derivative: bool = False) -> None:
    """Write `dataset_description.json`."""
    write_json(
        folder / "dataset_description.json",
        {
            "Name": name,
            "BIDSVersion": _BIDS_VERSION,
            "DatasetType": "derivative" if derivative else "raw",
            "License": "CC0",
            "Authors": ["hearback simulate"],
            "GeneratedBy": [{"Name": "hearback", "Description": "hearback simulate"}],
        },
    )


def run_stem(root: Path, run: Run | PlannedRun, participant: str, kind: str) -> Path:
    """Return the path of a run without the suffix that says what it is.

    Parameters
    ----------
    root : Path
    run : Run or PlannedRun
    participant : str
    kind : {"func", "eeg"}
        Folder.
    """
    names = [participant, run.session, run.run]
    folder = root / participant / run.session / kind
    return folder / "_".join(name for name in names if name)


def write_events(stem: Path, run: PlannedRun, *, ending: str | None) -> None:
    """Write what was presented in a run.

    Parameters
    ----------
    stem : Path
        See `run_stem`.
    run : PlannedRun
    ending : str or None
        Of sound files, with its dot; None: there are none.
    """
    rows = []
    for item in run.presentations:
        clip = item.clip
        rows.append(
            (
                f"{item.onset_s:g}",
                f"{clip.duration_s:g}",
                clip.label,
                "n/a" if ending is None else f"{clip.id}{ending}",
                f"'{clip.label}'",
                clip.track,
                0,
                f"{clip.duration_s:g}",
                clip.id,
                int(item.dummy),
            )
        )
    table = stem.with_name(f"{stem.name}_events.tsv")
    write_table(table, ("onset", "duration", *EVENT_COLUMNS), rows)


def write_image(
    path: Path, values: NDArray[Any], affine: NDArray[np.float64], *, tr_s: float | None = None
) -> None:
    """Write a NIfTI image, the same bytes for the same values."""
    import nibabel

    make: Any = nibabel.Nifti1Image  # its constructor has no types
    image = make(values, affine)
    image.header.set_xyzt_units("mm", "sec" if tr_s is not None else "unknown")
    image.header.set_sform(affine, code=1)
    image.header.set_qform(affine, code=1)
    if tr_s is not None:
        image.header["pixdim"][4] = tr_s
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 3, raw, mtime=0) as file:
        file.write(image.to_bytes())


def write_bold(stem: Path, run: Run, space: VoxelSpace, settings: SimulationSettings) -> None:
    """Write the volumes of a run and their sidecar; whole scanner units, 0 outside the mask."""
    low, high = float(run.signal.min(initial=0.0)), float(run.signal.max(initial=0.0))
    fits = np.iinfo(np.int16).min <= low and high <= np.iinfo(np.int16).max
    volumes = np.zeros((*space.shape, len(run.signal)), np.int16 if fits else np.int32)
    volumes[space.mask] = run.signal.T
    path = stem.with_name(f"{stem.name}_bold.nii.gz")
    write_image(path, volumes, space.affine, tr_s=settings.tr_s)
    write_json(
        stem.with_name(f"{stem.name}_bold.json"),
        {
            "TaskName": run.run.split("_")[0].removeprefix("task-"),
            "RepetitionTime": settings.tr_s,
            "TaskDescription": "Listening to sounds (simulated)",
            "Manufacturer": "hearback simulate",
        },
    )


def write_regions(folder: Path, participant: str, space: VoxelSpace) -> None:
    """Write the mask, the label image and the names of the regions of a person."""
    place = folder / participant / "func"
    write_image(
        place / f"{participant}_desc-brain_mask.nii.gz", space.mask.astype(np.uint8), space.affine
    )
    columns = np.zeros(int(space.mask.sum()), np.int16)
    for number, voxels in enumerate(space.rois.values(), start=1):
        columns[voxels] = number
    labels = np.zeros(space.shape, np.int16)
    labels[space.mask] = columns
    write_image(place / f"{participant}_desc-regions_dseg.nii.gz", labels, space.affine)
    rows = list(enumerate(space.rois, start=1))
    write_table(place / f"{participant}_desc-regions_dseg.tsv", ("index", "name"), rows)


_HEADER = """Brain Vision Data Exchange Header File Version 1.0
; Written by hearback simulate

[Common Infos]
Codepage=UTF-8
DataFile={name}.eeg
MarkerFile={name}.vmrk
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels={n}
SamplingInterval={interval:.12g}

[Binary Infos]
BinaryFormat=IEEE_FLOAT_32

[Channel Infos]
{channels}
"""
_MARKERS = """Brain Vision Data Exchange Marker File, Version 1.0
; Written by hearback simulate

[Common Infos]
Codepage=UTF-8
DataFile={name}.eeg

[Marker Infos]
Mk1=New Segment,,1,1,0,20000101000000000000
{markers}
"""


def write_brainvision(stem: Path, run: Run, channels: Sequence[str]) -> None:
    """Write the samples of a run as BrainVision, float32 in microvolts, with stimulus markers."""
    name = f"{stem.name}_eeg"
    stem.parent.mkdir(parents=True, exist_ok=True)
    (run.signal * np.float32(1e6)).astype("<f4").tofile(stem.with_name(f"{name}.eeg"))
    lines = [f"Ch{k}={channel},,1,µV" for k, channel in enumerate(channels, start=1)]
    header = _HEADER.format(
        name=name, n=len(channels), interval=1e6 / run.sfreq_hz, channels="\n".join(lines)
    )
    stem.with_name(f"{name}.vhdr").write_text(header, encoding="utf-8")
    marks = [
        f"Mk{k}=Comment,{event.label},{round(event.onset_s * run.sfreq_hz) + 1},1,0"
        for k, event in enumerate(run.events, start=2)
    ]
    text = _MARKERS.format(name=name, markers="\n".join(marks))
    stem.with_name(f"{name}.vmrk").write_text(text, encoding="utf-8")


def write_eeg_sidecars(stem: Path, run: Run, channels: Sequence[str]) -> None:
    """Write the sidecar of a run of EEG and the table of its channels."""
    write_json(
        stem.with_name(f"{stem.name}_eeg.json"),
        {
            "TaskName": run.run.split("_")[0].removeprefix("task-"),
            "TaskDescription": "Listening to sounds (simulated)",
            "SamplingFrequency": run.sfreq_hz,
            "PowerLineFrequency": 50,
            "EEGReference": "n/a",
            "SoftwareFilters": "n/a",
            "EEGChannelCount": len(channels),
            "RecordingDuration": len(run.signal) / run.sfreq_hz,
            "RecordingType": "continuous",
            "Manufacturer": "hearback simulate",
        },
    )
    rows = [(channel, "EEG", "µV", f"{run.sfreq_hz:g}") for channel in channels]
    table = stem.with_name(f"{stem.name}_channels.tsv")
    write_table(table, ("name", "type", "units", "sampling_frequency"), rows)
