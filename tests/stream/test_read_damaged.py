"""Cut and changed files of every format give one clear error, or a whole and sane recording."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mne
import nibabel as _nibabel
import numpy as np
import pytest

from models.errors import FileError
from stream.recordings import Recording, read_recording
from tests.data import shared
from tests.stream.recording_files import write_brainvision, write_edf, write_eeglab

nibabel: Any = _nibabel  # half of it has types


def an_edf(folder: Path) -> Path:
    counts = np.random.default_rng(1).integers(-900, 900, (5, 2, 100)).astype(np.int16)
    write_edf(folder / "x.edf", counts, [0, 1, 2, 7, 8], events=[(1, 1.5, "a")], reserved="EDF+D")
    return folder / "x.edf"


def a_brainvision(folder: Path) -> Path:
    counts = np.random.default_rng(1).integers(-900, 900, (600, 3)).astype(np.int16)
    return write_brainvision(
        folder, counts, sfreq_hz=100.0, markers=["New Segment,,1,1,0", "Stimulus,S  1,500,1,0"]
    )


def an_eeglab(folder: Path) -> Path:
    microvolts = np.random.default_rng(1).normal(0, 20, (3, 600)).astype(np.float32)
    write_eeglab(folder / "x.set", microvolts, sfreq_hz=200.0)
    return folder / "x.set"


def a_fif(folder: Path) -> Path:
    info = mne.create_info(3, 100.0, "eeg")
    data = np.random.default_rng(1).normal(0, 2e-5, (3, 900))
    raw = mne.io.RawArray(data, info, verbose="ERROR")
    raw.set_annotations(mne.Annotations([1.0], [0.0], ["a"]))
    raw.save(folder / "x_raw.fif", verbose="ERROR")
    return folder / "x_raw.fif"


def a_nifti(folder: Path, ending: str = ".nii") -> Path:
    image = nibabel.Nifti1Image(np.full((4, 4, 2, 6), 700, np.int16), np.eye(4))
    image.header.set_zooms((1, 1, 1, 2))
    nibabel.save(image, folder / f"x{ending}")
    return folder / f"x{ending}"


def a_packed_nifti(folder: Path) -> Path:
    return a_nifti(folder, ".nii.gz")


def a_csv(folder: Path) -> Path:
    rows = [f"{k / 200},{k % 7},{k % 5},{int(k == 50)}" for k in range(400)]
    (folder / "x.csv").write_text("\n".join(["timestamps,A,B,Marker0", *rows]) + "\n")
    return folder / "x.csv"


def an_xdf(folder: Path) -> Path:
    return Path(shutil.copy(shared("xdf/muse/sub-P050.xdf"), folder))


def damage(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    place = rng.randrange(len(data))
    match rng.choice(["cut", "bytes", "head", "zeros", "insert"]):
        case "cut":
            return data[:place]
        case "bytes":
            for _ in range(rng.choice([1, 5, 50])):
                changed[rng.randrange(len(data))] = rng.randrange(256)
        case "head":
            changed[rng.randrange(min(600, len(data)))] = rng.randrange(256)
        case "zeros":
            changed[place : place + 800] = bytes(len(changed[place : place + 800]))
        case _:
            changed[place:place] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 20)))
    return bytes(changed)


def check_sane(recording: Recording) -> None:
    for signal in recording.signals:
        assert signal.samples.shape == (len(signal.stamps), len(signal.labels))
        assert (np.diff(signal.stamps) > 0).all()
        assert signal.segments[0].start == 0
        assert signal.segments[-1].stop == len(signal.stamps)
    for series in recording.markers:
        assert len(series.texts) == len(series.stamps)
        assert (np.diff(series.stamps) >= 0).all()


@pytest.mark.parametrize(
    "make",
    [
        an_edf,
        a_brainvision,
        an_eeglab,
        a_fif,
        a_nifti,
        a_packed_nifti,
        a_csv,
        pytest.param(an_xdf, marks=pytest.mark.data),
    ],
)
def test_damage_is_a_file_error_or_does_no_harm(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    check_sane(read_recording(path))
    whole = {file: file.read_bytes() for file in tmp_path.iterdir()}
    refusals: list[str] = []
    for seed in range(40):
        rng = random.Random(seed)
        for file, data in whole.items():
            file.chmod(0o644)
            file.write_bytes(data)
        victim = rng.choice(sorted(whole))
        victim.write_bytes(damage(whole[victim], rng))
        try:
            check_sane(read_recording(path))
        except FileError as error:
            refusals.append(str(error))
    assert refusals
    assert all(len(text) > 30 and "Traceback" not in text for text in refusals)
