"""4-D NIfTI images as BOLD streams: one sample is one volume's voxels inside a mask."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError
from stream.readers.build import Scaled, build_signal
from stream.readers.checks import as_file_error, check_fetched, collected_log
from stream.readers.tables import events_markers, read_json
from stream.recordings import Recording, Segment
from stream.source_info import BoldInfo

__all__ = [
    "automatic_mask",
    "check_size",
    "events_beside",
    "image_stem",
    "mask_digest",
    "read_nifti",
    "volume_times",
]

_MASK_FRACTION = 0.25  # of the 98th percentile of the voxels' means
_PER_SECOND = {"sec": 1.0, "msec": 1e3, "usec": 1e6}
_LONGEST_TR_S = 60.0


def mask_digest(mask: NDArray[np.bool_]) -> str:
    """Return the SHA-256 of a voxel mask: its sizes, then its bits in C order.

    Parameters
    ----------
    mask : array of shape (x, y, z), bool
    """
    sizes = " ".join(str(size) for size in mask.shape).encode()
    return hashlib.sha256(sizes + b"\n" + np.packbits(mask.ravel(order="C")).tobytes()).hexdigest()


def automatic_mask(volumes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return voxels whose mean over time is above a quarter of the 98th percentile of all means.

    Parameters
    ----------
    volumes : array of shape (x, y, z, n)
        Voxels that are not finite at every time are left out.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        means = volumes.mean(axis=3, dtype=np.float64)
    finite = np.isfinite(means)
    if not finite.any():
        return np.zeros(means.shape, dtype=np.bool_)
    limit = _MASK_FRACTION * float(np.percentile(means[finite], 98))
    mask: NDArray[np.bool_] = finite & (np.where(finite, means, 0.0) > limit)
    return mask


def read_nifti(
    path: Path,
    *,
    mask: str | Path | None = None,
    tr_s: float | None = None,
    events: str | Path | None = None,
    sidecar: dict[str, Any] | None = None,
) -> Recording:
    """Read a 4-D image as a BOLD signal; stamps are the starts of the volumes, from 0 s.

    The TR comes from the sidecar (`RepetitionTime`, or `VolumeTiming` for sparse acquisition) and
    from the header, which must agree. Events are taken from a table whose name is that of the
    image, or its beginning, with `_events.tsv`.

    Parameters
    ----------
    path : Path
    mask : path, optional
        3-D image of the same size; voxels other than 0 are kept. Without one see `automatic_mask`.
    tr_s : float, optional
        Goes before both file and sidecar.
    events : path, optional
    sidecar : dict, optional
        What the sidecars say; without it the JSON of the same name is read, if there is one.

    Raises
    ------
    FileError
        If the image is damaged, not 4-D, empty inside the mask, or its TR is missing or disputed.
    """
    import nibabel

    warnings: list[str] = []
    with as_file_error(path, "NIfTI"), collected_log("nibabel.global", warnings):
        image: Any = nibabel.load(path)
        if len(image.shape) != 4 or image.shape[3] < 2:
            raise FileError(
                f"{path.name} has the shape {image.shape}; a time series (x, y, z, volumes) of at "
                f"least 2 volumes is expected. Give the functional image, not an anatomical one."
            )
        zooms = image.header.get_zooms()
        _space, clock = image.header.get_xyzt_units()
        affine = np.array(image.affine, dtype=np.float64)
        check_size(path, image)
    stem = image_stem(path)
    if sidecar is None:
        beside = path.with_name(stem + ".json")
        sidecar = read_json(beside) if beside.exists() else {}
    n = image.shape[3]
    stamps, tr_s, regular = volume_times(
        path, n, float(zooms[3]) if len(zooms) > 3 else 0.0, clock, sidecar, tr_s
    )
    with as_file_error(path, "NIfTI"):
        volumes = np.asarray(image.dataobj, dtype=np.float32)
    inside = automatic_mask(volumes) if mask is None else _read_mask(Path(mask), image)
    if not inside.any():
        with np.errstate(invalid="ignore"):
            alive = np.isfinite(volumes).any() and np.nan_to_num(volumes).any()
        raise FileError(
            f"{path.name}: no voxel lies inside the mask"
            + ("; give one with --mask." if alive else ", and the image holds no signal at all.")
        )
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        raise FileError(f"{path.name}: its affine is no map from voxels to millimetres; damaged?")
    # Boolean indexing goes through the voxels in C order: x slowest, z fastest.
    samples = np.ascontiguousarray(volumes[inside].T)
    shape = (int(image.shape[0]), int(image.shape[1]), int(image.shape[2]))
    affine.flags.writeable = False
    signal = build_signal(
        name=stem,
        kind="BOLD",
        labels=[f"v{i}" for i in range(samples.shape[1])],
        scaled=Scaled(samples, "a.u.", 1.0, ()),
        sfreq_hz=1.0 / tr_s if regular else 0.0,
        stamps=stamps,
        segments=(Segment(0, n, 0),),
        bold=BoldInfo(shape, affine, tr_s, mask_digest(inside)),
        what=path.name,
    )
    table = Path(events) if events is not None else events_beside(path)
    markers = () if table is None else (events_markers(table, name=f"{stem}-markers"),)
    return Recording(
        path, "NIfTI", (signal,), tuple(m for m in markers if len(m.stamps)), tuple(warnings)
    )


def check_size(path: Path, image: Any) -> None:
    """Refuse an image whose size, or checksum, is not what it should be."""
    if path.suffix.lower() != ".nii":
        # nibabel stops at the last voxel and so never gets to the checksum at the end.
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass
        return
    proxy = image.dataobj
    expected = int(proxy.offset) + int(np.prod(proxy.shape)) * int(proxy.dtype.itemsize)
    held = path.stat().st_size
    if held != expected:
        raise FileError(
            f"{path.name}: the header says {expected:,} bytes, the file has {held:,}. It was cut "
            f"short, or changed on the way; get the whole file."
        )


def image_stem(path: Path) -> str:
    """Return the name of an image without .nii or .nii.gz."""
    name = path.name
    for ending in (".nii.gz", ".nii"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return path.stem


def volume_times(
    path: Path,
    n: int,
    zoom: float,
    clock: str,
    sidecar: dict[str, Any],
    tr_s: float | None,
) -> tuple[NDArray[np.float64], float, bool]:
    """Return the start of each volume, the TR, and whether the volumes are evenly spaced.

    Parameters
    ----------
    path : Path
        For messages.
    n : int
        Volumes.
    zoom : float
        Time from volume to volume as the header has it; 0 if it says nothing.
    clock : str
        Unit of `zoom`: "sec", "msec", "usec" or "unknown".
    sidecar : dict
        Its RepetitionTime or VolumeTiming goes before the header.
    tr_s : float, optional
        Goes before both.

    Raises
    ------
    FileError
        If the TR is missing or disputed, or VolumeTiming does not fit.
    """
    timing = sidecar.get("VolumeTiming")
    if timing is not None and tr_s is None:
        return _sparse(path, n, timing)
    header = zoom / _PER_SECOND.get(clock, 1.0)
    if clock == "unknown" and header > _LONGEST_TR_S:
        header /= 1e3  # milliseconds are the other unit that is written without saying so
    said = sidecar.get("RepetitionTime")
    if tr_s is None:
        if said is not None and (not isinstance(said, (int, float)) or isinstance(said, bool)):
            raise FileError(f"{path.name}: the sidecar's RepetitionTime is {said!r}, no number.")
        if said is not None and header > 0 and abs(header - said) > max(1e-3, 5e-3 * said):
            raise FileError(
                f"{path.name}: the header says a TR of {header:g} s, the sidecar "
                f"{float(said):g} s. Correct one of them, or say which with --tr."
            )
        tr_s = float(said) if said is not None else round(header, 6)
    if not 0 < tr_s <= _LONGEST_TR_S:
        raise FileError(
            f"{path.name}: the TR is {tr_s:g} s; expected above 0 and at most "
            f"{_LONGEST_TR_S:g} s. Say it with --tr, or write RepetitionTime into the sidecar."
        )
    return tr_s * np.arange(n, dtype=np.float64), tr_s, True


def _sparse(path: Path, n: int, timing: Any) -> tuple[NDArray[np.float64], float, bool]:
    try:
        stamps = np.asarray(timing, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FileError(f"{path.name}: VolumeTiming holds something that is no number.") from error
    if stamps.shape != (n,):
        raise FileError(
            f"{path.name}: VolumeTiming lists {stamps.size} volumes, the image has {n}. "
            f"Correct the sidecar."
        )
    steps = np.diff(stamps)
    if not np.isfinite(stamps).all() or not (steps > 0).all() or steps.max() > 3600:
        raise FileError(f"{path.name}: VolumeTiming does not go forward. Correct the sidecar.")
    tr_s = float(np.median(steps))
    return stamps, tr_s, bool(np.allclose(steps, tr_s, rtol=0, atol=1e-3))


def _read_mask(path: Path, image: Any) -> NDArray[np.bool_]:
    import nibabel

    check_fetched(path)
    with as_file_error(path, "NIfTI"):
        other: Any = nibabel.load(path)
        values = np.asarray(other.dataobj)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.shape != image.shape[:3]:
        raise FileError(
            f"The mask {path.name} has the shape {values.shape}, the image {image.shape[:3]}. "
            f"Give a mask in the space of the image."
        )
    if not np.allclose(other.affine, image.affine, rtol=1e-3, atol=1e-2):
        raise FileError(
            f"The mask {path.name} lies elsewhere than the image (their affines differ). "
            f"Give a mask in the space of the image."
        )
    inside: NDArray[np.bool_] = np.nan_to_num(values) != 0
    return inside


def events_beside(path: Path) -> Path | None:
    """Return the events table named as the image is, or as the longest beginning of its name."""
    parts = image_stem(path).split("_")
    while parts:
        table = path.with_name("_".join([*parts, "events.tsv"]))
        if table.is_symlink() or table.exists():
            return table
        parts.pop()
    return None
