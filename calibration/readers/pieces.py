"""From a recorded signal to runs without a break: short gaps filled as live, long ones cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.data.dataset import Event, Run
from models.errors import FileError
from models.gapfill import fill_linear
from stream.recordings import RecordedSignal

__all__ = ["Piece", "signal_pieces", "split_run"]

_SHORTEST = 2  # samples


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Samples without a break."""

    samples: NDArray[np.float32]  # (n, n_channels)
    stamps_s: NDArray[np.float64]  # (n,) s, on the clock of the recording


def signal_pieces(signal: RecordedSignal, *, fill_max_s: float, what: str) -> list[Piece]:
    """Return the stretches between gaps longer than `fill_max_s`.

    Shorter gaps, and samples that are not finite, are filled by a straight line, as
    `hearback live` does.

    Parameters
    ----------
    signal : RecordedSignal
    fill_max_s : float
        Longest gap that is filled, s.
    what : str
        Name for messages.

    Raises
    ------
    FileError
        If the signal is irregular, or no stretch of it has 2 samples.
    """
    if signal.sfreq_hz <= 0 and signal.bold is None:
        raise FileError(
            f"{what}: the stream {signal.name!r} is irregular; a signal with an even sampling rate "
            f"is expected. Choose another stream by its type."
        )
    first = _counts(signal)
    good = np.flatnonzero(np.isfinite(signal.samples).all(axis=1))
    sfreq = 1.0 / signal.period_s
    missing = np.diff(first[good]) - 1
    cuts = np.flatnonzero(missing > fill_max_s * sfreq + 1e-6) + 1
    pieces = []
    for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(good)], strict=True):
        if stop - start >= _SHORTEST:
            pieces.append(_filled(signal, good[start:stop], first))
    if not pieces:
        raise FileError(f"{what} has no two good samples in a row. The recording is of no use.")
    return pieces


def _counts(signal: RecordedSignal) -> NDArray[np.int64]:
    """Return each row's number in the stream's own count, in which lost samples are counted too."""
    first = np.empty(len(signal.samples), np.int64)
    for segment in signal.segments:
        first[segment.start : segment.stop] = segment.first + np.arange(
            segment.stop - segment.start
        )
    if signal.sfreq_hz <= 0:  # volumes with pauses between them: the stamps tell
        steps = np.maximum(np.rint(np.diff(signal.stamps) / signal.period_s), 1)
        uneven = np.abs(np.diff(signal.stamps) - signal.period_s) > 1e-3
        steps = np.where(uneven, np.maximum(steps, 2), steps)
        first = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    return first


def _filled(signal: RecordedSignal, rows: NDArray[np.intp], first: NDArray[np.int64]) -> Piece:
    if rows[-1] - rows[0] + 1 == len(rows) == first[rows[-1]] - first[rows[0]] + 1:
        kept = slice(int(rows[0]), int(rows[-1]) + 1)
        return Piece(signal.samples[kept], signal.stamps[kept])
    place = first[rows] - first[rows[0]]
    n = int(place[-1]) + 1
    samples = np.empty((n, signal.n_channels), np.float32)
    samples[place] = signal.samples[rows]
    for gap in np.flatnonzero(np.diff(place) > 1):
        left, right = int(place[gap]), int(place[gap + 1])
        samples[left + 1 : right] = fill_linear(samples[left], samples[right], right - left - 1)
    stamps = np.interp(np.arange(n), place, signal.stamps[rows])
    return Piece(samples, stamps)


def split_run(run: Run, pieces: Sequence[Piece], events: Sequence[Event]) -> list[Run]:
    """Return one run a piece, each with the events that reach into it.

    Parameters
    ----------
    run : Run
        Gives all but the samples.
    pieces : sequence of Piece
    events : sequence of Event
        Onsets on the clock of the pieces' stamps. An event that began before a piece keeps its
        onset, below 0 there: where in its stimulus the piece begins is then still known.
    """
    runs = []
    for number, piece in enumerate(pieces, start=1):
        begin = float(piece.stamps_s[0])
        end = float(piece.stamps_s[-1]) + run.tr_s
        inside = tuple(
            replace(event, onset_s=event.onset_s - begin)
            for event in events
            if event.onset_s < end and event.onset_s + event.duration_s > begin
        )
        name = run.run
        if len(pieces) > 1:
            name = f"{name}.{number}" if name else f"piece-{number}"
        stamps = piece.stamps_s - begin
        runs.append(replace(run, run=name, signal=piece.samples, stamps_s=stamps, events=inside))
    return runs
