"""The recent past of one source: a ring of samples, what happened when, and who has read what.

One thread writes, any number of readers follow, each with a cursor of its own. The ring is
allocated once and never moved, so its length costs memory but no time.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import SettingError
from stream.messages import Chunk, Gap, GapReason, SourceState, StateChange
from stream.timeline_reader import Reader

__all__ = ["Accounting", "Timeline"]

_MAX_BYTES = 16 * 2**30
_MIN_CAPACITY = 64  # samples
_IRREGULAR_HZ = 100.0  # assumed of a stream that names no rate
_TRIM_EVERY = 256  # entries


@dataclass(frozen=True, slots=True)
class Accounting:
    """What became of every sample so far: sent = delivered + lost, where the stream counts."""

    sent: int | None  # by the stream's own count, from the first that came; None: it does not count
    delivered: int
    lost: int  # the sum of `n_lost` over all gaps
    duplicates: int  # came again, left out
    late: int  # came after they had been listed as lost, left out
    invalid: int  # delivered, but with a NaN or an infinite value in them
    gaps: int  # gap events of all kinds


class Entry(NamedTuple):
    """From `position` on: how positions become indices, and what happened just before."""

    position: int  # in delivered samples
    offset: int  # index in the stream's own count, less the position
    segment: int
    event: Gap | StateChange | None


class Log(NamedTuple):
    """The entries since number `base`, and the state before the first of them."""

    base: int
    before: Entry
    entries: list[Entry]


class Timeline:
    """The last `history_s` seconds of a source, with its gaps and changes of state.

    Parameters
    ----------
    n_channels : int
        Values in a sample.
    sfreq_hz : float
        Nominal rate; 0 for an irregular stream.
    history_s : float
        What a reader may fall behind before it loses samples (and is told so).

    Raises
    ------
    SettingError
        If the ring would be empty or larger than 16 GiB.
    """

    def __init__(self, n_channels: int, *, sfreq_hz: float, history_s: float) -> None:
        if n_channels < 1 or not 0 < history_s < math.inf or sfreq_hz < 0:
            raise SettingError(
                f"A timeline needs channels and a finite history, got n_channels={n_channels}, "
                f"sfreq_hz={sfreq_hz}, history_s={history_s}."
            )
        capacity = max(_MIN_CAPACITY, math.ceil((sfreq_hz or _IRREGULAR_HZ) * history_s))
        if capacity * n_channels * 4 > _MAX_BYTES:
            raise SettingError(
                f"{history_s:g} s of {n_channels} channels at {sfreq_hz:g} Hz do not fit into "
                f"{_MAX_BYTES // 2**30} GiB. Ask for a shorter history."
            )
        self.n_channels = n_channels
        self.sfreq_hz = sfreq_hz
        self.capacity = capacity
        self.counts_samples = False  # set by the writer of a stream that counts
        self._samples = np.zeros((capacity, n_channels), np.float32)
        self._times = np.zeros((3, capacity))  # stamps, raw stamps, arrival
        # `_reserved` runs ahead of `_written` while samples are copied in: what a reader has
        # copied is good if it was not yet reserved again afterwards. No lock is needed.
        self._reserved = self._written = 0
        self._log = Log(0, Entry(0, 0, 0, None), [])
        self._last = self._log.before
        self._readers: tuple[Reader, ...] = ()
        self._lock = threading.Lock()  # guards `_readers` only
        self._ended = False
        self._sent = self._lost = self._duplicates = self._late = self._invalid = self._gaps = 0
        self.state_now: StateChange | None = None

    # ---------------------------------------------------------------- the one writer

    def append(
        self,
        samples: NDArray[np.generic],
        stamps: NDArray[np.float64],
        raw_stamps: NDArray[np.float64],
        first: int,
        *,
        segment: int = 0,
        arrived: float,
        scale: ArrayLike = 1.0,
    ) -> None:
        """Add consecutive samples and wake the readers that wait.

        Parameters
        ----------
        samples : array of shape (n, n_channels)
            As they came, in any number format; stored as float32, times `scale`.
        stamps, raw_stamps : arrays of shape (n,), float64
            Local LSL time, and as the sender wrote them, s.
        first : int
            Index of the first sample in the stream's own count.
        segment : int
            Number of the stretch without gaps.
        arrived : float
            Local LSL time now, s.
        scale : float or array of shape (n_channels,)
            Factor to SI units.
        """
        n = len(stamps)
        if n > self.capacity // 2:  # a piece must never overwrite itself
            for start in range(0, n, self.capacity // 2):
                part = slice(start, start + self.capacity // 2)
                self.append(
                    samples[part],
                    stamps[part],
                    raw_stamps[part],
                    first + start,
                    segment=segment,
                    arrived=arrived,
                    scale=scale,
                )
            return
        if n == 0:
            return
        position = self._written
        last = self._last
        if first - position != last.offset or segment != last.segment:
            self._note(Entry(position, first - position, segment, None))
        self._reserved = position + n
        start = position % self.capacity
        stop = min(start + n, self.capacity)
        head = stop - start
        self._fill(start, samples[:head], stamps[:head], raw_stamps[:head], arrived, scale)
        if head < n:
            self._fill(0, samples[head:], stamps[head:], raw_stamps[head:], arrived, scale)
        self._written = position + n
        self._wake()

    def gap(self, gap: Gap) -> None:
        """Raise a gap event before the sample that will be appended next."""
        self._gaps += 1
        self._lost += gap.n_lost
        if gap.reason is GapReason.DUPLICATE:
            self._duplicates += gap.n_extra
        elif gap.reason is GapReason.LATE:
            self._late += gap.n_extra
        elif gap.reason is GapReason.INVALID:
            self._invalid += gap.n_extra
        # The index goes on after the lost ones already here, so that a reader that has seen the
        # gap, but no sample after it yet, knows where it is.
        offset = self._last.offset + gap.n_lost
        self._note(self._last._replace(position=self._written, offset=offset, event=gap))
        self._wake()

    def state(self, change: StateChange) -> None:
        """Raise a change of state before the sample that will be appended next."""
        self.state_now = change
        self._note(self._last._replace(position=self._written, event=change))
        if change.state is SourceState.ENDED:
            self._ended = True
        self._wake()

    def count_sent(self, n: int) -> None:
        """Note that the stream's own count went on by `n`."""
        self.counts_samples = True
        self._sent += n

    def _fill(
        self,
        start: int,
        samples: NDArray[np.generic],
        stamps: NDArray[np.float64],
        raw_stamps: NDArray[np.float64],
        arrived: float,
        scale: ArrayLike,
    ) -> None:
        stop = start + len(stamps)
        np.multiply(samples, scale, out=self._samples[start:stop], casting="unsafe")
        times = self._times
        times[0, start:stop] = stamps
        times[1, start:stop] = raw_stamps
        times[2, start:stop] = arrived

    def _note(self, entry: Entry) -> None:
        """Put an entry into the log; now and then forget what nobody can reach any more."""
        log = self._log
        log.entries.append(entry)
        self._last = entry
        if len(log.entries) % _TRIM_EVERY == 0:
            oldest = self._reserved - self.capacity
            keep = next(
                (k for k, item in enumerate(log.entries) if item.position >= oldest),
                len(log.entries) - 1,
            )
            if keep:
                # A new object: a reader goes on with the one that it has in hand.
                self._log = Log(log.base + keep, log.entries[keep - 1], log.entries[keep:])

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()

    # ---------------------------------------------------------------- everyone else

    @property
    def ended(self) -> bool:
        """Whether the source has ended on purpose: nothing more will come."""
        return self._ended

    @property
    def newest_stamp(self) -> float:
        """Stamp of the newest sample, s; NaN before the first."""
        written = self._written
        return float(self._times[0, (written - 1) % self.capacity]) if written else math.nan

    def reader(self, name: str, *, since: Literal["start", "now"] = "start") -> Reader:
        """Return a new cursor, at the oldest sample that is still here or at the newest."""
        reader = Reader(self, name, since=since)
        with self._lock:
            self._readers = (*self._readers, reader)
        return reader

    def forget(self, reader: Reader) -> None:
        """Stop waking a reader that will not read again."""
        with self._lock:
            self._readers = tuple(item for item in self._readers if item is not reader)

    def accounting(self) -> Accounting:
        """Return the counts so far."""
        return Accounting(
            self._sent if self.counts_samples else None,
            self._written,
            self._lost,
            self._duplicates,
            self._late,
            self._invalid,
            self._gaps,
        )

    def span(self) -> tuple[int, int]:
        """Positions of the oldest sample that is still here and one past the newest."""
        return max(0, self._reserved - self.capacity), self._written

    def view(self) -> tuple[int, Log]:
        """Position one past the newest sample, and the log; in this order (see `Reader.read`)."""
        written = self._written
        return written, self._log

    def copy(self, position: int, stop: int, *, first: int, segment: int) -> Chunk | None:
        """Return the samples between two positions, or None if they were overwritten."""
        start = position % self.capacity
        n = stop - position
        if start + n <= self.capacity:
            samples = self._samples[start : start + n].copy()
            times = self._times[:, start : start + n].copy()
        else:
            rows = np.arange(position, stop) % self.capacity
            samples = self._samples[rows]
            times = self._times[:, rows]
        if position < self._reserved - self.capacity:
            return None
        samples.setflags(write=False)
        times.setflags(write=False)
        return Chunk(samples, times[0], times[1], first, segment, float(times[2, -1]))
