"""Recordings of one or several participants in one form: runs, what was heard when, and who it was.

Readers (`calibration.readers`) make it, everything after them takes it. Times of a run are seconds
from the start of its first sample or volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import FileError

__all__ = ["Dataset", "Epochs", "Event", "Run", "Stimulus", "VoxelSpace"]


@dataclass(frozen=True, slots=True)
class Event:
    """One stimulus as it was presented once."""

    onset_s: float  # s, from the start of the run's first sample or volume
    duration_s: float
    stimulus: str  # id of what was presented; presented again, it is the same id (a repetition)
    label: str = ""  # its class: genre, category, marker


@dataclass(frozen=True, slots=True)
class Stimulus:
    """What can be presented: a named excerpt of a sound file, or a class without a sound."""

    id: str
    label: str = ""  # genre, category
    path: Path | None = None  # sound file; None: not at hand
    start_s: float = 0.0  # of the excerpt, in the file
    duration_s: float | None = None  # of the excerpt; None: to the end of the file
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class VoxelSpace:
    """Where the columns of BOLD runs lie in the brain."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]  # (4, 4) voxel to mm
    # `shape`; its true voxels in C order are the columns. All false where a recording of a stream
    # tells the digest of its mask and not the mask.
    mask: NDArray[np.bool_]
    rois: Mapping[str, NDArray[np.intp]] = field(default_factory=dict)  # name -> columns
    mask_sha256: str = ""  # as `stream.source_info` has it


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Samples or volumes without a break, and what was presented meanwhile."""

    participant: str
    session: str
    run: str  # unique within the session
    part: Literal["train", "test", ""]  # as the data set itself says; "": it does not
    signal: NDArray[np.float32]  # (n, n_channels); V for EEG, scanner units for BOLD
    sfreq_hz: float  # 1 / TR for BOLD
    stamps_s: NDArray[np.float64]  # (n,) s; the first is 0
    events: tuple[Event, ...]

    @property
    def key(self) -> str:
        """The run's name within the data set."""
        return "/".join(part for part in (self.participant, self.session, self.run) if part)

    @property
    def tr_s(self) -> float:
        """Time from one sample or volume to the next, s."""
        return 1.0 / self.sfreq_hz


@dataclass(frozen=True, slots=True, eq=False)
class Epochs:
    """Samples of one person that somebody cut out of the runs already: no lag or window is left.

    Each row is the whole answer to one stretch of a stimulus. Rows of the same stimulus and
    stretch are repetitions; `calibration.data.repetitions` makes a dimension of them.
    """

    participant: str
    values: NDArray[np.float32]  # (n, n_voxels)
    stimulus: NDArray[np.str_]  # (n,) id of what was heard
    start_s: NDArray[np.float64]  # (n,) the stretch in the stimulus; NaN: all of it
    stop_s: NDArray[np.float64]  # (n,)
    session: NDArray[np.str_]  # (n,) "" where the file does not say
    run: NDArray[np.str_]  # (n,)
    part: NDArray[np.str_]  # (n,) "train", "test" or ""

    def __post_init__(self) -> None:
        n = len(self.values)
        columns = (self.stimulus, self.start_s, self.stop_s, self.session, self.run, self.part)
        if self.values.ndim != 2 or any(len(column) != n for column in columns):
            raise FileError(
                f"Epochs need as many rows in every column, got values {self.values.shape} and "
                f"{[len(column) for column in columns]}."
            )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.values)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """The runs that were read, and the stimuli that they mention.

    Voxels of several people rarely agree: `space` is that of all of them or None, `spaces` names
    each person's. A data set holds runs, or `epochs` where only averaged samples were published.
    """

    path: Path
    format: str
    modality: Literal["eeg", "bold"]
    channels: tuple[str, ...]  # of EEG; empty for BOLD
    runs: tuple[Run, ...]
    stimuli: Mapping[str, Stimulus]
    space: VoxelSpace | None = None
    unit: str = "V"
    warnings: tuple[str, ...] = ()
    epochs: tuple[Epochs, ...] = ()  # one a person
    spaces: Mapping[str, VoxelSpace] = field(default_factory=dict)  # by participant

    @property
    def participants(self) -> tuple[str, ...]:
        """Names of the participants, in order."""
        names = [run.participant for run in self.runs] + [e.participant for e in self.epochs]
        return tuple(dict.fromkeys(names))

    def space_of(self, participant: str) -> VoxelSpace | None:
        """Return where one person's columns lie; None for EEG, or where nobody said."""
        return self.spaces.get(participant, self.space)

    def of(self, participant: str) -> tuple[Run, ...]:
        """Return the runs of one participant; "01" is found as "sub-01" too.

        There are none where only averaged samples were published: see `epochs`.

        Raises
        ------
        FileError
            If the participant is not there.
        """
        names = (participant, f"sub-{participant}")
        runs = tuple(run for run in self.runs if run.participant in names)
        if not runs and not any(item.participant in names for item in self.epochs):
            raise FileError(
                f"Participant {participant!r} is not in {self.path.name}, which has "
                f"{', '.join(map(repr, self.participants)) or 'nobody'}. Name one of them."
            )
        return runs
