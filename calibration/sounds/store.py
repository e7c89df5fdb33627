"""Sounds rendered once and kept on disk, so that training never waits for them.

    STORE/store.json            the source's settings, number and length of the sounds
          0000.pcm.npy          (sounds, samples) int16, 16 kHz
          0000.mel.npy          (sounds, frames, 64) float16, natural log mel as AudioLDM's
          0000.json             label, caption and factors of each

A shard is written under another name and renamed when it is whole: what was interrupted goes on
where it stopped.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.sounds.source import SoundSource
from calibration.stimuli import Factors
from calibration.whole_file import write_whole
from models.errors import FileError, SettingError
from models.mel import MelSpec, log_mel

__all__ = ["MEL", "Annotation", "SoundStore", "render_store"]

MEL = MelSpec()
_FORMAT = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is known of a stored sound."""

    label: str
    caption: str
    factors: Factors


def render_store(
    source: SoundSource,
    folder: Path,
    *,
    count: int,
    shard: int = 200,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SoundStore:
    """Render sounds 0 to count - 1 of a source into a folder, or what is missing of them.

    Parameters
    ----------
    source : SoundSource
        Where the sounds come from; it must pickle, for it goes to the worker processes.
    folder : Path
        Made if need be.
    count : int
        Sounds, at least 1.
    shard : int
        Sounds in a file.
    workers : int
        Processes; 0 or 1 renders in this one.
    progress : callable, optional
        Called with the number of sounds done and of all.

    Raises
    ------
    SettingError
        If the count is not positive.
    FileError
        If the folder holds other sounds, or cannot be written.
    """
    if count < 1 or shard < 1:
        raise SettingError(f"Expected at least one sound and one in a shard, got {count}, {shard}.")
    described = {"format": _FORMAT, "count": count, "shard": shard, "from": source.describe()}
    described = json.loads(json.dumps(described))  # tuples as JSON returns them
    about = folder / "store.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not about.exists():
            write_whole(about, json.dumps(described, indent=1).encode())
        elif json.loads(about.read_text("utf-8")) != described:
            raise FileError(
                f"{folder} holds other sounds than the settings ask for. Give another folder, or "
                "remove this one."
            )
        starts = range(0, count, shard)
        missing = [i for i, _ in enumerate(starts) if not (folder / f"{i:04d}.json").exists()]
        jobs = [(source, folder, i, starts[i], min(starts[i] + shard, count)) for i in missing]
        done = count - sum(stop - start for *_, start, stop in jobs)
        for made in _run(jobs, workers):
            done += made
            if progress is not None:
                progress(done, count)
    except (OSError, ValueError) as error:
        if isinstance(error, SettingError):
            raise
        raise FileError(f"Cannot render sounds into {folder}: {error}.") from error
    return SoundStore(folder)


def _run(jobs: list[tuple[SoundSource, Path, int, int, int]], workers: int) -> Iterator[int]:
    if workers < 2 or len(jobs) < 2:
        yield from map(_render_shard, jobs)
        return
    # spawn: a fork of a process that has torch's threads running can hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(_render_shard, jobs)


def _render_shard(job: tuple[SoundSource, Path, int, int, int]) -> int:
    """Render one shard; return how many sounds it has."""
    source, folder, number, start, stop = job
    pcm, mel, notes = [], [], []
    for index in range(start, stop):
        sound = source.sound(index)
        pcm.append(np.round(np.clip(sound.pcm, -1.0, 1.0) * 32_767.0).astype(np.int16))
        frames = log_mel(pcm[-1] / 32_767.0, MEL)
        mel.append(frames[: len(sound.pcm) // MEL.hop].astype(np.float16))
        notes.append(
            {"label": sound.label, "caption": sound.caption, "factors": asdict(sound.factors)}
        )
    for kind, arrays in (("pcm", pcm), ("mel", mel)):
        _write_array(folder / f"{number:04d}.{kind}.npy", np.stack(arrays))
    part = folder / f"{number:04d}.json.part"
    part.write_text(json.dumps(notes), "utf-8")
    os.replace(part, folder / f"{number:04d}.json")  # last: it says that the shard is whole
    return stop - start


def _write_array(path: Path, values: NDArray[np.generic]) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, values)
    os.replace(part, path)


class SoundStore:
    """Rendered sounds, read from disk as they are asked for.

    Parameters
    ----------
    folder : Path
        What `render_store` made.

    Raises
    ------
    FileError
        If the folder is no store, or is not complete.
    """

    def __init__(self, folder: Path) -> None:
        try:
            about = json.loads((folder / "store.json").read_text("utf-8"))
            self.count, self._shard = int(about["count"]), int(about["shard"])
            self.described: dict[str, object] = about
            numbers = range(-(-self.count // self._shard))
            notes = [json.loads((folder / f"{i:04d}.json").read_text("utf-8")) for i in numbers]
            self._pcm, self._mel = (
                [np.load(folder / f"{i:04d}.{kind}.npy", mmap_mode="r") for i in numbers]
                for kind in ("pcm", "mel")
            )
        except (OSError, ValueError, KeyError) as error:
            raise FileError(
                f"{folder} is not a complete store of sounds ({error}). Render it again."
            ) from error
        self.folder = folder
        self.annotations = [
            Annotation(item["label"], item["caption"], Factors(**item["factors"]))
            for shard in notes
            for item in shard
        ]
        self.n_frames = int(self._mel[0].shape[1])

    def __len__(self) -> int:
        return self.count

    def pcm(self, index: int, first: int, n: int) -> NDArray[np.float32]:
        """Return n samples of sound `index` from sample `first`, full scale 1.0."""
        shard, row = divmod(index, self._shard)
        pcm: NDArray[np.int16] = self._pcm[shard][row, first : first + n]
        return pcm.astype(np.float32) / np.float32(32_767.0)

    def mel(self, index: int, first: int, n: int) -> NDArray[np.float32]:
        """Return n natural-log mel frames of sound `index` from frame `first`, shape (n, 64)."""
        shard, row = divmod(index, self._shard)
        mel: NDArray[np.float16] = self._mel[shard][row, first : first + n]
        return mel.astype(np.float32)
