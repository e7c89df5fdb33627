"""What passes between the stages of the live path: one frozen dataclass per message.

All times are seconds on the local LSL clock (`pylsl.local_clock`). Arrays are read-only. Messages
hold arrays, so they compare by identity (`eq=False`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Chunk",
    "Command",
    "Condition",
    "FeatureWindow",
    "Gap",
    "GapReason",
    "Played",
    "Sound",
    "SourceState",
    "StateChange",
    "TimelineEvent",
]


class GapReason(StrEnum):
    """Why samples or volumes are missing, surplus or out of time."""

    SOURCE_LOST = "source lost"  # the sender died; what it made meanwhile never came
    DROPPED = "dropped"  # the stream's own count or stamps jumped while it was connected
    OVERFLOW = "queue overflow"  # our inlet's queue was full: the process was stopped too long
    DUPLICATE = "duplicate"  # came twice; the second was left out
    LATE = "late"  # came, but long after it was due
    READER = "reader overrun"  # a reader of the history was slower than the history is long
    INVALID = "invalid"  # NaN or infinite values came


class SourceState(StrEnum):
    """How the source is, as far as can be told now."""

    CONNECTED = "connected"
    STALLED = "stalled"  # connected, but nothing has come for too long
    LOST = "lost"  # the connection is gone; trying to get it back
    ENDED = "ended"  # closed on purpose: end of file, end of session


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive samples (EEG) or volumes (BOLD) without a gap between them."""

    samples: NDArray[np.float32]  # (n, n_channels); V for EEG, scanner units for BOLD
    stamps: NDArray[np.float64]  # (n,) s, LSL clock of this machine, never backwards
    raw_stamps: NDArray[np.float64]  # (n,) s, as the sender wrote them
    first: int  # index of samples[0] in the stream's own count; lost samples are counted too
    segment: int  # a gap starts a new segment
    arrived: float  # s, when the chunk became visible to readers

    @property
    def stop(self) -> int:
        """Index one past the last sample."""
        return self.first + len(self.stamps)


@dataclass(frozen=True, slots=True, eq=False)
class Gap:
    """A place where the stream is not whole: how many, from when to when, and why."""

    reason: GapReason
    first: int  # index of the first sample concerned
    n_lost: int  # samples that will never come; 0 for `LATE` and `DUPLICATE`
    t_start: float  # s, when the first sample concerned was, or would have been, taken
    t_stop: float  # s, when the first good sample after it was taken
    raised: float  # s, when this event was raised
    n_extra: int = 0  # samples left out because they had come before, or were invalid
    counted: bool = True  # False: no sample counter in the stream, number told from the stamps


@dataclass(frozen=True, slots=True, eq=False)
class StateChange:
    """The source was lost, stalled, or is back."""

    state: SourceState
    since: float  # s, last sign of life, or first sample after it is back
    raised: float  # s
    detail: str = ""


TimelineEvent: TypeAlias = Chunk | Gap | StateChange


@dataclass(frozen=True, slots=True, eq=False)
class FeatureWindow:
    """Features of one window of brain signal, as the decoder takes them."""

    values: NDArray[np.float32]  # (n_features,), standardised as the bundle says
    seq: int  # gapless at the source, so a loss shows
    start: int  # sample index, first of the window
    stop: int  # sample index, one past the last
    t_start: float  # s, first sample
    t_stop: float  # s, one sample past the last
    n_filled: int = 0  # samples of the window that were interpolated across a short gap


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """What a window was decoded to: a mel stretch, or an embedding with all that goes with it."""

    values: NDArray[np.float32]  # direct: (n_frames, n_mels) ln mel; others: (dim,) unit vector
    window: FeatureWindow
    item: int = -1  # with a library: index of the nearest sound in it
    confidence: float = float("nan")  # with a library: cosine to that sound
    tokens: NDArray[np.float32] | None = None  # coarse-to-fine: (8 steps, 768) from the window's
    # beginning on, in order of time, then of band


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """A stretch of sound and which stretch of stimulus time it renders."""

    pcm: NDArray[np.float32]  # (n, n_channels), full scale 1.0
    sample_rate_hz: int
    window: FeatureWindow  # the newest window behind it
    stimulus_start: float  # s, LSL clock: window.t_stop - lag_s - duration
    stimulus_stop: float  # s


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """A stretch of sound that was really heard (or written), and when."""

    seq: int  # window behind it; -1: silence or concealment
    t_heard: float  # s, first of these samples leaves the loudspeaker
    n_samples: int
    offset: int  # first of these samples within the window's sound
    brain_stop: float = float("nan")  # s, newest brain sample behind it


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """A wish of the operator, from the keyboard, MQTT or a signal."""

    name: str  # "pause", "resume", "abort", "prompt"
    argument: str = ""
    origin: str = "keyboard"
    at: float = field(default=float("nan"))  # s, LSL clock
