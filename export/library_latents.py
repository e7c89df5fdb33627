"""The sounds of a library as a generator's latents, so that it can begin from them.

One float32 array, (frames, *latent): the whole frames of each sound, one sound after another in the
order of the library. A sound of n samples has n // samples_per_frame frames, and at least one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from export.bundle import Bundle
from export.library import LibraryItem
from export.npy import read_npy, write_npy
from models.errors import BundleError, SettingError

__all__ = ["LibraryLatents", "frames_of_sound", "latents_file"]

_MAX_BYTES = 8 << 30


def frames_of_sound(n_samples: int, *, samples_per_frame: int) -> int:
    """Return how many latent frames of a sound are kept: the whole ones, and at least one."""
    return max(1, n_samples // samples_per_frame)


def latents_file(latents: Sequence[NDArray[np.floating]]) -> bytes:
    """Return the file of a library's latents, ready for `save_bundle`.

    Parameters
    ----------
    latents : sequence of arrays of shape (n_frames, *latent)
        One for each sound, in the order of the library, with `frames_of_sound` frames.

    Raises
    ------
    SettingError
        If there is none, they differ in the shape of a frame, or one is empty or not finite.
    """
    if not latents:
        raise SettingError("Latents of at least one sound are needed, got none.")
    shape = latents[0].shape[1:]
    for number, frames in enumerate(latents):
        if frames.shape[1:] != shape or not len(frames) or not np.isfinite(frames).all():
            raise SettingError(
                f"Latents of a sound must be finite, of shape (n, {', '.join(map(str, shape))}) "
                f"with n > 0; those of sound {number} have shape {frames.shape}."
            )
    return write_npy(np.concatenate(latents).astype("<f4"))


class LibraryLatents:
    """The latents of a library's sounds, each looped for as long as it is wanted.

    Parameters
    ----------
    bundle : Bundle
    name : str
        Of the file.
    items : sequence of LibraryItem
        Of the library.
    latent : tuple of int
        Shape of one frame, as the generator has it.
    samples_per_frame : int

    Raises
    ------
    BundleError
        If the file does not fit the library or the generator.
    """

    def __init__(
        self,
        bundle: Bundle,
        name: str,
        *,
        items: Sequence[LibraryItem],
        latent: tuple[int, ...],
        samples_per_frame: int,
    ) -> None:
        counts = [
            frames_of_sound(item.n_samples, samples_per_frame=samples_per_frame) for item in items
        ]
        self._stops = [0, *accumulate(counts)]
        expected = (self._stops[-1], *latent)
        where = f"Bundle {bundle.path.name!r}: {name}"
        data = bundle.read(name, max_bytes=_MAX_BYTES)
        try:
            values = read_npy(data, dtype=np.dtype("<f4"), ndim=len(expected))
        except ValueError as error:
            raise BundleError(f"{where} should be float32 {expected}: {error}.") from error
        if values.shape != expected:
            raise BundleError(
                f"{where} should have shape {expected} (frames of all sounds, latent) but has "
                f"{values.shape}. Export the bundle again."
            )
        if not np.isfinite(values).all():
            raise BundleError(f"{where} holds values that are not finite. Export the bundle again.")
        self._values = values

    def __len__(self) -> int:
        """Return the number of sounds."""
        return len(self._stops) - 1

    def read(self, item: int, position: int, n_frames: int) -> NDArray[np.float32]:
        """Return frames of a sound that repeats for ever.

        Parameters
        ----------
        item : int
            Index of the sound.
        position : int
            First frame, counted from its beginning, 0 or more.
        n_frames : int

        Returns
        -------
        frames : array of shape (n_frames, *latent), float32

        Raises
        ------
        SettingError
            If there is no such sound.
        """
        if not 0 <= item < len(self):
            raise SettingError(
                f"The library holds sounds 0 to {len(self) - 1}; a decoder chose {item}. Decoder "
                "and library belong to different bundles."
            )
        start, stop = self._stops[item], self._stops[item + 1]
        frames: NDArray[np.float32] = self._values[
            start + (position + np.arange(n_frames)) % (stop - start)
        ]
        return frames
