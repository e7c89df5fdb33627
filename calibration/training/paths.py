"""The teacher's ways from noise to sound, laid down once on disk, for the student to learn from.

A path costs dozens of passes of the teacher, a step of regression three of the student: so the
paths are made once and used many times. What a window was given is not stored: it is drawn again
from the seed and the window's number.

    DERIVED/paths.npy     (chunks, 8, 5, 64, 32) float16: noise, three states on the way, the sound
            paths.json    what they were made with, and how many chunks are done
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration.training.generator import FRAMES, LENGTHS, Windows, draw_windows, guided
from calibration.training.loop import autocast
from calibration.training.material import Material
from calibration.training.settings import TrainingSettings
from calibration.whole_file import write_whole
from models.nets.dit import Denoiser
from models.nets.samplers import heun, uniform_times
from models.nets.sizes import LATENT
from models.nets.stretch import PREFIX

__all__ = ["MOMENTS", "TeacherPaths", "heun_path", "windows_given"]

MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where the steps of a student begin and end that takes one, two or four at uniform times."""

_CHUNK = 8  # windows of one kind that are drawn together
_TOGETHER = 8
_FORMAT = 3


class TeacherPaths:
    """The kept paths of a run's teacher.

    Parameters
    ----------
    material : Material
    run : TrainingSettings
    teacher : str
        A digest of the teacher's weights; paths of another one are not used.
    together : int
        Chunks of a length that go through the teacher before they are written.
    """

    def __init__(
        self,
        material: Material,
        run: TrainingSettings,
        *,
        teacher: str,
        together: int = _TOGETHER,
    ) -> None:
        self._material, self._run = material, run
        needed = -(-run.distill.paths // (_CHUNK * len(LENGTHS)))
        self._together = min(together, needed)
        # Whole blocks: in each, as many chunks of every length.
        self._block = self._together * len(LENGTHS)
        self.chunks = -(-needed // self._together) * self._block
        self._kinds = self._grouped(range(self.chunks))
        self._note = {
            "format": _FORMAT,
            "chunks": self.chunks,
            "seed": run.seed,
            "teacher": teacher,
            "steps": run.distill.teacher_steps,
            "guidance": run.distill.guidance,
            "windows": _shares(run),
        }

    def windows(self, chunk: int) -> Windows:
        """Return what the windows of a chunk were given; see `_kind` for their lengths."""
        rng = np.random.default_rng([zlib.crc32(b"paths"), self._run.seed, chunk])
        frames, known = self._kind(chunk)
        return draw_windows(
            self._material, self._run.generator, rng, _CHUNK, frames=frames, known=known
        )

    def _kind(self, chunk: int) -> tuple[int, int]:
        """Return how long a chunk's windows are, and how much of them is known.

        Chunks take turns: an even share of them is made as a whole, the others of each length.
        """
        turn, place = divmod(chunk, len(LENGTHS))
        whole = 1.0 - self._run.generator.prefixed
        if math.floor((turn + 1) * whole + 1e-9) > math.floor(turn * whole + 1e-9):
            return FRAMES, 0
        return LENGTHS[place], PREFIX

    def make(
        self,
        teacher: Denoiser,
        *,
        ended: Callable[[], bool] = lambda: False,
        progress: Callable[[str, int, int], None] | None = None,
        write: bool = True,
    ) -> bool:
        """Lay down what is missing; return whether all are there.

        Parameters
        ----------
        teacher : Denoiser
            The denoiser that the digest is of.
        ended : callable
            Whether to leave the rest for the next call; asked after each block.
        progress : callable, optional
            Called with words, the number of paths done, and of all.
        write : bool
            False in a process beside the one that writes: it only goes along.

        Raises
        ------
        FileError
            If the folder cannot be written.
        """
        done = self._done()
        if done == self.chunks:
            return True
        shape = (self.chunks, _CHUNK, len(MOMENTS), FRAMES, LATENT)
        kept = self._material.derive("paths", shape, again=done == 0) if write else None
        for first in range(done, self.chunks, self._block):
            if ended():
                return False
            if kept is None:
                continue
            for chunks in self._grouped(range(first, first + self._block)).values():
                made = self._lay(teacher, chunks)
                kept[chunks, :, :, : made.shape[3]] = made
            kept.flush()
            if first + self._block == self.chunks:
                self._material.derive_done("paths")
            self._write_note(first + self._block)
            if progress is not None:
                all_of_them = self.chunks * _CHUNK
                progress("paths of the teacher", (first + self._block) * _CHUNK, all_of_them)
        return True

    def draw(self, rng: np.random.Generator, n: int) -> tuple[Windows, Tensor]:
        """Draw windows of one kind, and their paths.

        Parameters
        ----------
        rng : numpy.random.Generator
        n : int
            Windows.

        Returns
        -------
        windows : Windows
        states : Tensor of shape (n, 5, frames, 32)
            At `MOMENTS`; the last is the sound.
        """
        frames, known = self._kind(int(rng.integers(self.chunks)))
        chunks = rng.choice(self._kinds[frames, known], -(-n // _CHUNK))
        kept = self._material.derived("paths")
        states = np.concatenate([kept[chunk, :, :, :frames] for chunk in chunks])[:n]
        windows = _joined([self.windows(int(chunk)) for chunk in chunks], n)
        return windows, torch.from_numpy(states.astype(np.float32))

    def kept_and_fresh(
        self, teacher: Denoiser, n: int
    ) -> tuple[tuple[Windows, Tensor], tuple[Windows, Tensor]]:
        """Return paths that are kept, and others of the same kind that were never learnt from.

        Parameters
        ----------
        teacher : Denoiser
            It makes the others.
        n : int
            Windows of each, fewer where fewer are kept.

        Returns
        -------
        kept, fresh : tuple of Windows and Tensor
            As `draw` returns them.
        """
        frames, known = self._kind(0)
        ours = self._kinds[frames, known][: -(-n // _CHUNK)]
        theirs = self._grouped(range(self.chunks, 2 * self.chunks))[frames, known][: len(ours)]
        states = self._material.derived("paths")[ours, :, :, :frames].astype(np.float32)
        made = self._lay(teacher, theirs).astype(np.float32)
        kept, fresh = (
            (
                _joined([self.windows(chunk) for chunk in chunks], n),
                torch.from_numpy(laid.reshape(-1, *laid.shape[2:])[:n]),
            )
            for chunks, laid in ((ours, states), (theirs, made))
        )
        return kept, fresh

    def _lay(self, teacher: Denoiser, chunks: list[int]) -> np.ndarray[tuple[int, ...], Any]:
        """Return the states of chunks of one kind, (chunks, 8, 5, frames, 32), float16."""
        device = torch.device(self._run.device)
        windows = _joined([self.windows(chunk) for chunk in chunks], len(chunks) * _CHUNK)
        frames = windows.latents.shape[1]
        starts = []
        for chunk in chunks:
            source = torch.Generator().manual_seed(
                zlib.crc32(f"paths {self._run.seed} {chunk}".encode())
            )
            starts.append(torch.randn(_CHUNK, frames, LATENT, generator=source))
        with torch.no_grad(), autocast(self._run):
            states = heun_path(
                teacher,
                torch.cat(starts).to(device),
                windows_given(windows, device),
                steps=self._run.distill.teacher_steps,
                guidance=self._run.distill.guidance,
            )
        held = states.reshape(len(chunks), _CHUNK, *states.shape[1:])
        return held.cpu().numpy().astype(np.float16)

    def _grouped(self, chunks: range) -> dict[tuple[int, int], list[int]]:
        """Group chunks by their windows' kind."""
        groups: dict[tuple[int, int], list[int]] = {}
        for chunk in chunks:
            groups.setdefault(self._kind(chunk), []).append(chunk)
        return groups

    def _done(self) -> int:
        """Return the number of chunks that are there and are this teacher's."""
        path = self._material.folder / "paths.json"
        try:
            note = json.loads(path.read_text("utf-8"))
            done = int(note.pop("done"))
        except (OSError, ValueError, KeyError):
            return 0
        if note != json.loads(json.dumps(self._note)):
            return 0
        whole = done == self.chunks
        file = self._material.folder / ("paths.npy" if whole else "paths.part")
        return done if file.exists() else 0

    def _write_note(self, done: int) -> None:
        path = self._material.folder / "paths.json"
        write_whole(path, json.dumps({**self._note, "done": done}, indent=1).encode())


def heun_path(
    denoiser: Denoiser, x: Tensor, given: Mapping[str, Any], *, steps: int, guidance: float
) -> Tensor:
    """Return the states at `MOMENTS` on the way from noise to sound, (batch, 5, frames, 32).

    Parameters
    ----------
    denoiser : Denoiser
    x : Tensor of shape (batch, frames, 32)
        Noise.
    given : mapping
        What the denoiser takes by name.
    steps : int
        Of Heun's method, a multiple of 4.
    guidance : float
        1 is none.
    """
    velocity = guided(denoiser, dict(given), guidance)
    states, times = [x], uniform_times(steps)
    each = steps // (len(MOMENTS) - 1)
    for first in range(0, steps, each):
        states.append(heun(velocity, states[-1], times[first : first + each + 1]))
    return torch.stack(states, dim=1)


def windows_given(windows: Windows, device: torch.device) -> dict[str, Any]:
    """Return what the denoiser takes of windows, by name."""
    return {
        "condition": windows.condition.to(device),
        "tokens": windows.tokens.to(device),
        "clean": windows.latents.to(device),
        "known": windows.known,
    }


def _shares(run: TrainingSettings) -> dict[str, float]:
    """Return what the drawing of windows depends on."""
    names = ("prefixed", "switched", "without_condition", "with_tokens", "noisy_condition")
    return {name: getattr(run.generator, name) for name in names}


def _joined(parts: list[Windows], n: int) -> Windows:
    """Put windows of one kind into one batch of n."""

    def whole(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])[:n]

    return Windows(
        latents=whole("latents"),
        known=parts[0].known,
        condition=whole("condition"),
        tokens=whole("tokens"),
        vectors=whole("vectors"),
        numbers=np.concatenate([part.numbers for part in parts])[:n],
    )
