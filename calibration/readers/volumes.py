"""The volumes of one BOLD run, read block by block: only what lies in the mask is ever kept."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.readers.pieces import Piece
from models.errors import FileError
from stream.readers.checks import as_file_error, check_fetched, collected_log
from stream.readers.nifti import check_size, image_stem, volume_times
from stream.readers.tables import read_json

__all__ = ["BoldImage", "open_bold"]

_BLOCK_BYTES = 64 * 2**20
_MASK_FRACTION = 0.25  # as `stream.readers.nifti.automatic_mask` has it


@dataclass(frozen=True, slots=True, eq=False)
class BoldImage:
    """A run whose header was checked and whose volumes were not read yet."""

    path: Path
    image: Any
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    stamps_s: NDArray[np.float64]  # (n,) start of each volume
    tr_s: float

    def __len__(self) -> int:
        """Return the number of volumes."""
        return len(self.stamps_s)

    def _blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield volumes (n, x * y * z), x fastest, as they lie in the file; then check its end."""
        n_voxels = int(np.prod(self.shape))
        each = max(1, _BLOCK_BYTES // (4 * n_voxels))
        zipped = self.path.name.lower().endswith(".gz")
        kind: Any = type(self.image)
        with (
            as_file_error(self.path, "NIfTI"),
            gzip.open(self.path) if zipped else self.path.open("rb") as file,
        ):
            # One open file: a compressed one would else be unpacked from its start for each block.
            volumes = kind.from_file_map(kind.make_file_map({"image": file})).dataobj
            for start in range(0, len(self), each):
                block = slice(start, min(start + each, len(self)))
                values = np.asarray(volumes[..., block], dtype=np.float32)
                yield block, values.reshape(n_voxels, -1, order="F").T
            while zipped and file.read(1 << 20):
                pass  # the checksum stands at the end

    def automatic_mask(self) -> NDArray[np.bool_]:
        """Return voxels whose mean is above a quarter of the 98th percentile of all means.

        Raises
        ------
        FileError
            If no voxel is.
        """
        total = np.zeros(int(np.prod(self.shape)))
        for _, values in self._blocks():
            with np.errstate(invalid="ignore", over="ignore"):
                total += values.sum(axis=0, dtype=np.float64)
        means = (total / len(self)).reshape(self.shape, order="F")
        finite = np.isfinite(means)
        inside = np.zeros(self.shape, np.bool_)
        if finite.any():
            limit = _MASK_FRACTION * float(np.percentile(means[finite], 98))
            inside = finite & (np.where(finite, means, 0.0) > limit)
        if not inside.any():
            raise FileError(f"{self.path.name} holds no signal: no voxel stands out. Give a mask.")
        return inside

    def read(self, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return (n, n_voxels) in scanner units, voxels in C order.

        Raises
        ------
        FileError
            If the image is damaged, or a voxel in the mask is not finite throughout.
        """
        columns = np.ravel_multi_index(np.nonzero(mask), self.shape, order="F")
        signal = np.empty((len(self), len(columns)), np.float32)
        bad = np.zeros(len(columns), np.bool_)
        for block, values in self._blocks():
            signal[block] = values[:, columns]
            bad |= ~np.isfinite(signal[block]).all(axis=0)
        n_bad = int(bad.sum())
        if n_bad:
            raise FileError(
                f"{self.path.name}: {n_bad} of {signal.shape[1]} voxels in the mask are not finite "
                f"in every volume. Give a mask that leaves them out."
            )
        return signal

    def pieces(self, mask: NDArray[np.bool_]) -> list[Piece]:
        """Return stretches of volumes one TR apart; there is one, but for sparse acquisition."""
        signal = self.read(mask)
        cuts = (np.flatnonzero(np.abs(np.diff(self.stamps_s) - self.tr_s) > 1e-3) + 1).tolist()
        bounds = zip([0, *cuts], [*cuts, len(self)], strict=True)
        return [Piece(signal[a:b], self.stamps_s[a:b]) for a, b in bounds if b - a >= 2]


def open_bold(
    path: Path,
    *,
    warnings: list[str],
    sidecar: dict[str, Any] | None = None,
    tr_s: float | None = None,
) -> BoldImage:
    """Open a 4-D NIfTI image and find out when its volumes were taken.

    Parameters
    ----------
    path : Path
    warnings : list of str
        What the library says of the file is added here.
    sidecar : dict, optional
        What the sidecars say; without it the JSON of the same name is read, if there is one.
    tr_s : float, optional
        Goes before both header and sidecar.

    Raises
    ------
    FileError
        If the image is missing, not fetched, damaged, not 4-D, or its TR is missing or disputed.
    """
    import nibabel

    check_fetched(path)
    with as_file_error(path, "NIfTI"), collected_log("nibabel.global", warnings):
        image: Any = nibabel.load(path)
        if len(image.shape) != 4 or image.shape[3] < 2:
            raise FileError(
                f"{path.name} has the shape {image.shape}; a time series (x, y, z, volumes) of at "
                f"least 2 volumes is expected. Give the functional image, not an anatomical one."
            )
        zoom = float(image.header.get_zooms()[3])
        _space, clock = image.header.get_xyzt_units()
        affine = np.array(image.affine, dtype=np.float64)
        if path.suffix.lower() == ".nii":  # what is compressed is checked as it is read
            check_size(path, image)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        raise FileError(f"{path.name}: its affine is no map from voxels to millimetres; damaged?")
    if sidecar is None:
        beside = path.with_name(image_stem(path) + ".json")
        sidecar = read_json(beside) if beside.exists() else {}
    stamps, tr_s, _even = volume_times(path, image.shape[3], zoom, clock, sidecar, tr_s)
    shape = (int(image.shape[0]), int(image.shape[1]), int(image.shape[2]))
    return BoldImage(path, image, shape, affine, stamps, tr_s)
