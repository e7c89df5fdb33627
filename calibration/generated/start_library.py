"""Sounds that a generator can begin from: their places in its space, and their latents."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.generated.networks import FRAMES_PER_LATENT, MelNetwork
from export.chains import LibraryFiles
from export.library import LibrarySound, library_files
from export.library_latents import frames_of_sound, latents_file
from models.errors import SettingError

__all__ = ["StartLibrary", "sound_latents", "start_library"]

_RATE_HZ = 16_000
_PER_FRAME = 640


@dataclass(frozen=True, slots=True, eq=False)
class StartLibrary:
    """A library with the latents of its sounds."""

    sounds: tuple[LibrarySound, ...]
    vectors: NDArray[np.float32]  # (n, 512), unit length, not centred
    latents: tuple[NDArray[np.float32], ...]  # (frames, 32) of each sound

    def __len__(self) -> int:
        """Return the number of sounds."""
        return len(self.sounds)

    def nearest(self, vector: NDArray[np.floating], *, without: Collection[str] = ()) -> int:
        """Return the sound nearest to an embedding by cosine, as a live session finds it.

        Parameters
        ----------
        vector : array of shape (512,)
        without : collection of str
            Names of sounds that must not be found: those that are held out.

        Raises
        ------
        SettingError
            If that leaves nothing.
        """
        allowed = np.array([sound.name not in without for sound in self.sounds])
        if not allowed.any():
            raise SettingError(
                "No sound of the library is left when those that are held out are taken away. "
                "Give a folder of other sounds (library.folder)."
            )
        cosines = np.where(allowed, self.vectors @ np.asarray(vector, np.float32), -np.inf)
        return int(np.argmax(cosines))

    def read(self, item: int, position: int, n_frames: int) -> NDArray[np.float32]:
        """Return latents of a sound that repeats for ever, as `export.library_latents` has it."""
        frames = self.latents[item]
        return frames[(position + np.arange(n_frames)) % len(frames)]

    def files(self, *, latents: str, names: LibraryFiles | None = None) -> dict[str, bytes]:
        """Return the files for a bundle."""
        made = library_files(self.sounds, self.vectors, sample_rate_hz=_RATE_HZ, names=names)
        return {**made, latents: latents_file(self.latents)}


def start_library(
    folder: Path, sounds: Sequence[LibrarySound], vectors: NDArray[np.floating]
) -> StartLibrary:
    """Return a library whose sounds a generator can begin from.

    Parameters
    ----------
    folder : Path
        Of the generator.
    sounds : sequence of LibrarySound
        At 16 kHz.
    vectors : array of shape (n, 512)
        Their embeddings by the generator's encoder.
    """
    codec = MelNetwork(folder, "codec_encoder.onnx")
    return StartLibrary(
        tuple(sounds),
        np.asarray(vectors, np.float32),
        tuple(sound_latents(codec, sound.pcm) for sound in sounds),
    )


def sound_latents(codec: MelNetwork, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the latents of a sound at 16 kHz: as many frames as `frames_of_sound` says."""
    frames = codec.whole(pcm, _RATE_HZ, per_step=FRAMES_PER_LATENT)
    wanted = frames_of_sound(len(pcm), samples_per_frame=_PER_FRAME)
    return np.asarray(frames[:wanted], np.float32)
