"""Small data sets of the true layouts, written by the tests themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AFFINE",
    "ds003720",
    "ds003720_rows",
    "events_text",
    "volumes",
    "write_bdata",
    "write_image",
    "write_sound",
]

AFFINE = np.diag([3.0, 3.0, 3.5, 1.0])
GENRES = tuple("blues classical country disco hiphop jazz metal pop reggae rock".split())


def volumes(
    shape: tuple[int, int, int] = (4, 3, 2), n: int = 12, *, seed: int = 0
) -> NDArray[np.int16]:
    """Return volumes whose last plane lies outside the brain."""
    rng = np.random.default_rng(seed)
    values = rng.integers(900, 1100, (*shape, n)).astype(np.int16)
    values[-1] = 0
    return values


def write_image(
    path: Path,
    values: NDArray[np.generic],
    *,
    tr_s: float = 1.5,
    affine: NDArray[np.float64] = AFFINE,
) -> Path:
    """Write a NIfTI image, 3-D or 4-D."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image: Any = nibabel.Nifti1Image(values, affine)  # type: ignore[no-untyped-call]
    if values.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
        image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def events_text(header: str, rows: Sequence[Sequence[object]]) -> str:
    """Return a table as BIDS has it."""
    lines = ["\t".join(header.split()), *("\t".join(str(v) for v in row) for row in rows)]
    return "\n".join(lines) + "\n"


def ds003720_rows(part: str, number: int) -> list[tuple[str, int, float, float]]:
    """Return 41 rows of the design: a repeat, then 40 clips, or 10 clips four times."""

    def clip(k: int) -> tuple[str, int, float, float]:
        start = round(0.5 + (k % 29) * 0.5, 2)
        return GENRES[k % 10], k // 10, start, start + 15.0

    if part == "Training":
        own = [clip(40 * (number - 1) + k) for k in range(40)]
        before = clip((40 * (number - 1) - 1) % 480)
        return [before, *own]
    cycle = [clip(480 + 10 * (number - 1) + k) for k in range(10)]
    return [cycle[-1], *cycle * 4]


def ds003720(
    root: Path,
    *,
    n_volumes: int = 410,
    tr_s: float = 1.5,
    rows: Mapping[tuple[str, int], list[tuple[str, int, float, float]]] | None = None,
    shape: tuple[int, int, int] = (2, 2, 2),
    images: bool = True,
) -> Path:
    """Write one participant of the music genre data set with few voxels."""
    func = root / "sub-001" / "func"
    func.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "Music Genre fMRI Dataset"}')
    for part, count in (("Training", 12), ("Test", 6)):
        for number in range(1, count + 1):
            stem = f"sub-001_task-{part}_run-{number:02d}"
            table = (rows or {}).get((part, number), ds003720_rows(part, number))
            lines = [
                (15 * k, 15, f"'{genre}'", track, f"{start:g}", f"{stop:g}")
                for k, (genre, track, start, stop) in enumerate(table)
            ]
            text = events_text("onset duration genre track start end", lines)
            (func / f"{stem}_events.tsv").write_text(text)
            (func / f"{stem}_bold.json").write_text(json.dumps({"RepetitionTime": tr_s}))
            if images:
                values = volumes((*shape[:2], shape[2]), n_volumes, seed=number)
                write_image(func / f"{stem}_bold.nii.gz", values, tr_s=tr_s)
    return root


def write_sound(path: Path, seconds: float, *, sample_rate_hz: int = 8_000) -> Path:
    """Write a quiet tone."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * 440 * t), sample_rate_hz)
    return path


def write_bdata(
    path: Path,
    data: NDArray[np.float64],
    names: Sequence[str],
    rois: Mapping[str, Sequence[int]],
    *,
    key: str = "sample_name",
) -> Path:
    """Write voxels, then the columns Session, Run and the label, as bdpy lays them out."""
    import h5py

    n, n_voxels = data.shape
    unique = sorted(set(names))
    label = np.array([unique.index(name) + 1.0 for name in names])
    columns = np.column_stack([data, np.ones(n), np.arange(n) // 2 + 1.0, label])
    flags: dict[str, NDArray[np.float64]] = {}

    def flag(name: str, where: Sequence[int]) -> None:
        values = np.full(n_voxels + 3, np.nan)
        values[list(where)] = 1.0
        flags[name] = values

    flag("VoxelData", range(n_voxels))
    for number, name in enumerate(("Session", "Run", key)):
        flag(name, [n_voxels + number])
    flags["voxel_x"] = np.concatenate([np.linspace(-60, 60, n_voxels), np.full(3, np.nan)])
    for name, where in rois.items():
        values = np.concatenate([np.zeros(n_voxels), np.full(3, np.nan)])
        values[list(where)] = 1.0
        flags[name] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("/dataset", data=columns)
        file.create_dataset("/metadata/key", data=list(flags))
        file.create_dataset("/metadata/description", data=["" for _ in flags])
        file.create_dataset("/metadata/value", data=np.stack(list(flags.values())))
        for number, name in enumerate(unique, start=1):
            file.create_dataset(f"/vmap/{key}/{float(number)}", data=name)
    return path
